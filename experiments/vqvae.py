"""VQ-VAE, and two other bottlenecks in the same networks.

An encoder makes a map of vectors, a few pixels wide; the decoder sees that map through
a bottleneck and gives each pixel a logistic distribution over its levels. All losses
are in nats an image, summed over its pixels and over the places of the map.

- "vq" (van den Oord et al. 2017, arXiv:1711.00937): each vector h becomes the nearest
  of K codes, e. With sg = stop_gradient, the paper's eq. 3 less its second term:

    loss(x) = -log p(x|z) + commitment sum |h - sg(e)|^2,   z = e, straight through.

  That term is replaced by moving averages (appendix A.1), which start at k-means of the
  first batch; codes that nobody uses start again at vectors of the batch.
- "fsq" (Mentzer et al. 2023, arXiv:2309.15505): each vector is rounded to a fixed grid:
  loss(x) = -log p(x|z), with nothing to keep alive. Ours is made from features brought
  to mean 0 and variance 1 at each place: without, MNIST ends at a single code.
- "gaussian", the continuous baseline: each vector gives a diagonal Gaussian q(z|x), and
  p(z) is standard normal: loss(x) = -ELBO(x), by one draw of z (Kingma & Welling 2014,
  arXiv:1312.6114, eq. 10).

The likelihood is a lower bound. Of log p(x) = log sum_z p(z) p(x|z) the discrete ones
count only the term of the encoder's z, under a prior that is uniform over all maps of
codes: log p(x) >= log p(x|z) - (places) log K. An autoregressive prior, which the paper
trains afterwards on the codes, would cost less; it is not here, so `sample` draws codes
independently, and its images show what the prior has yet to learn.
"""

import dataclasses
import functools
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp

from genjax.axes import sum_over_dims
from genjax.choices import images_only
from genjax.experiment import Experiment, LogLikelihood
from genjax.fields import Count, NonNegative, Range
from genjax.models.vqvae import MapNetworks, Model, make_networks
from genjax.objectives import bottlenecks, pixels
from genjax.objectives.bottlenecks import Bottleneck, Coded, Kept, Upkeep
from genjax.objectives.codes import as_experiment, unit_scale
from genjax.objectives.pixels import PixelLikelihood, PixelSampler
from genjax.objectives.quantize import Codebook
from genjax.state import TrainState
from genjax.training.learner import Optim
from genjax.typing import Array, Batch, DataSpec, Key, Metrics, Params, UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """Which bottleneck, and its numbers."""

    bottleneck: Literal["vq", "fsq", "gaussian"] = "vq"  # codes, a grid, or a density
    num_codes: Count = 128  # vq: K, the number of codes
    commitment: NonNegative = 0.25  # vq: weight of the distance to the codes
    codebook: Upkeep = Upkeep()  # vq; fsq uses usage_steps alone
    levels: tuple[Annotated[int, Range(3)], ...] = (8, 4, 4)  # fsq: per dimension

    def __post_init__(self) -> None:
        if not self.levels:
            raise UserError("method.levels must hold numbers, not (): try (8, 4, 4)")

    def make(self, code_dim: int) -> Bottleneck:
        """The bottleneck. code_dim: length of its vectors; fsq ignores it."""
        if self.bottleneck == "fsq":
            return bottlenecks.fsq(self.levels)
        if self.bottleneck == "gaussian":
            return bottlenecks.gaussian(code_dim)
        return bottlenecks.vq(self.num_codes, code_dim, commitment=self.commitment)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The sections of a config for this file."""

    model: Model
    method: Method = Method()
    optim: Optim = Optim(learning_rate=2e-3)
    sampler: PixelSampler = PixelSampler()


class State(NamedTuple):
    """Everything that a restart needs."""

    net: TrainState
    kept: Kept  # the codebook, and how it is used


def make_experiment(config: Config, spec: DataSpec) -> Experiment[State]:
    """VQ-VAE on images. Raises UserError for what does not fit."""
    images_only("the VQ-VAE", spec)
    neck = config.method.make(config.model.get("code_dim", 16))
    nets = make_networks(spec, **{**config.model, **neck.widths})
    model = VQVAE(nets, neck, pixels.logistic(spec.num_levels))
    upkeep, learner = config.method.codebook, config.optim.learner()
    to_model = unit_scale(spec).to_model

    def init(key: Key) -> State:
        *net_keys, book_key = jax.random.split(key, 4)
        net = learner.init(nets.parts.init(net_keys))
        return State(net, upkeep.init(book_key, neck))

    def loss_fn(book: Codebook | None, params: Params, x: Array, key: Key):
        h = nets.encode(params, x)
        nats, coded = model.terms(params, book, x, h, key)
        terms = {
            "reconstruction_nats": nats.mean(),
            "rate_nats": coded.rate.mean(),
            "commitment_loss": coded.penalty.mean(),
        }
        # the rate of discrete codes is a constant: it has no gradient
        return sum(terms.values(), jnp.zeros(())), ({}, (terms, h, coded.chosen))

    def train_step(state: State, batch: Batch, key: Key) -> tuple[State, Metrics]:
        loss_key, restart_key = jax.random.split(key)
        start_key, z_key = jax.random.split(loss_key)
        x, step, book = to_model(batch["image"]), state.net.step, state.kept.book
        encode = functools.partial(nets.encode, state.net.params, x)
        book = upkeep.start(book, encode, step, start_key)
        loss = functools.partial(loss_fn, book)
        net, descent, (terms, h, chosen) = learner.descend(loss, state.net, x, z_key)
        kept = state.kept._replace(book=book)
        kept, use = upkeep.follow(kept, h, chosen, step, restart_key)
        return State(net, kept), {**descent._asdict(), **terms, **use}

    def log_prob(state: State, batch: Batch, key: Key) -> Array:
        nats, rate = model.bound(state, to_model(batch["image"]), key)
        return -nats - rate

    def evaluate(state: State, batch: Batch, key: Key) -> Metrics:
        x = to_model(batch["image"])
        nats, rate = model.bound(state, x, key)
        left = model.decode(state, model.encode(state, x)) - x
        error = sum_over_dims(jnp.square(left))
        return {"reconstruction_nats": nats, "rate_nats": rate, "squared_error": error}

    likelihood = LogLikelihood(log_prob=log_prob, kind="lower_bound", note=model.note)
    return as_experiment(
        spec,
        init=init,
        train_step=train_step,
        encode=lambda state, x, key: model.encode(state, x),
        decode=model.decode,
        evaluate=evaluate,
        sample=lambda state, key, num: model.sample(state, key, num, config.sampler),
        likelihood=likelihood,
        raw_weights=learner.raw,
    )


class VQVAE(NamedTuple):
    """The networks, what lies between them, and p(x|z)."""

    nets: MapNetworks
    neck: Bottleneck
    family: PixelLikelihood

    @property
    def note(self) -> str:
        """How the likelihood is taken."""
        height, width = self.nets.place
        return f"{self.neck.note(height * width)}; {self.family.note}"

    def terms(
        self, params: Params, book: Codebook | None, x: Array, h: Array, key: Key
    ) -> tuple[Array, Coded]:
        """(-log p(x|z), z and its rate) of each example; h: what its encoder says."""
        coded = self.neck.code(h, book, key)
        return -self.family.log_mass(x, self.nets.decode(params, coded.z)), coded

    def bound(self, state: State, x: Array, key: Key) -> tuple[Array, Array]:
        """(-log p(x|z), rate), whose sum is at least -log p(x)."""
        params, _ = state.net.averaged
        h = self.nets.encode(params, x)
        nats, coded = self.terms(params, state.kept.book, x, h, key)
        return nats, coded.rate

    def encode(self, state: State, x: Array) -> Array:
        """The decoder's map without chance, in a row: codes, or the mean of q(z|x)."""
        h = self.nets.encode(state.net.averaged[0], x)
        return self.neck.mean(h, state.kept.book).reshape(len(x), -1)

    def decode(self, state: State, code: Array) -> Array:
        """The expected pixels, of any vectors, not only codes."""
        z = code.reshape(-1, *self.nets.place, self.neck.code_dim)
        return self.family.mean(self.nets.decode(state.net.averaged[0], z))

    def sample(self, state: State, key: Key, num: int, sampler: PixelSampler) -> Array:
        """Images of codes drawn one by one."""
        code_key, pixel_key = jax.random.split(key)
        z = self.neck.draw(code_key, (num, *self.nets.place), state.kept.book)
        out = self.nets.decode(state.net.averaged[0], z)
        return sampler(pixel_key, self.family, out)

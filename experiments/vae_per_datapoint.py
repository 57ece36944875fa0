"""A VAE without an encoder: the posterior of each training image is a row of a table.

Before amortisation, variational inference optimised q_n(z) = N(mean_n, exp(logvar_n))
for each example n by itself (stochastic variational inference, Hoffman et al. 2013,
arXiv:1206.7051). A step of training is variational EM on a minibatch, with the ELBO of
`genjax.objectives.elbo` (1), in nats an image:

  E  the rows of the minibatch's examples climb the ELBO for a few steps of their Adam
  M  the decoder takes one step at the rows' new place

N examples cost 2 N D numbers (and Adam's twice as many), which no encoder shares; a new
image's posterior must first be optimised from the prior. `experiments/vae.py` has the
other side, and measures the gap between the two.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec

from genjax.choices import images_only
from genjax.experiment import Experiment
from genjax.fields import Count, Positive
from genjax.models.vae import Model, make_networks
from genjax.objectives import elbo, pixels
from genjax.objectives.codes import as_vae, unit_scale
from genjax.objectives.elbo import Gaussian, ImportanceSampling
from genjax.objectives.pixels import PixelModel, PixelSampler
from genjax.state import TrainState
from genjax.training.learner import Optim
from genjax.training.optim import make_optimizer, maximize
from genjax.typing import Array, Batch, DataSpec, Key, Metrics, Params

ROWS_DIVIDE = 256  # the table is padded to a multiple of it: to share among devices


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """What is left open."""

    likelihood: pixels.Family = "bernoulli"  # of pixels given a code
    num_samples: Count = 1  # draws of the code for each image
    local_steps: Count = 5  # updates in the E step
    local_learning_rate: Positive = 0.1  # learning rate of the E step


@dataclasses.dataclass(frozen=True, kw_only=True)
class Likelihood(ImportanceSampling):
    """Importance sampling from the posteriors of new images."""

    local_steps: Count = 200  # updates that fit a posterior, from the prior


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The sections of a config for this file."""

    model: Model
    method: Method = Method()
    optim: Optim = Optim(learning_rate=1e-3)
    sampler: PixelSampler = PixelSampler()
    likelihood: Likelihood = Likelihood()


class Rows(NamedTuple):
    """Posteriors, and the optimizer's moments of each."""

    q: Gaussian
    moments: Any


class State(NamedTuple):
    """Everything that a restart needs."""

    decoder: TrainState
    table: Rows  # one for each training example


def make_experiment(config: Config, spec: DataSpec) -> Experiment[State]:
    """Per-datapoint inference on images. Raises UserError for what does not fit."""
    images_only("the VAE", spec)
    method, latent_dim = config.method, config.model["latent_dim"]
    family = pixels.family(method.likelihood, spec.num_levels)
    networks = make_networks(spec, family.spread, **config.model).only("decoder")
    model = PixelModel(
        family=family,
        scale=unit_scale(spec),
        decode=lambda params, z: networks(params, "decoder", z),
    )
    learner, rate = config.optim.learner(), method.local_learning_rate
    optimizer = per_row(make_optimizer(rate))

    def elbo_of(params: Params, x: Array) -> Callable[[Gaussian, Key], Array]:
        log_px = model.log_prob(params, x)
        return lambda q, key: elbo.drawn_elbo(log_px, q, key, method.num_samples)

    def init(key: Key) -> State:
        q = prior(padded(spec.num_train), latent_dim)
        decoder = learner.init(networks.init(key[None]))
        return State(decoder, Rows(q, optimizer.init(q)))

    def m_loss(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
        q = Gaussian(batch["mean"], batch["logvar"])
        log_px = model.log_prob(params, batch["x"])
        return elbo.elbo_loss(log_px, q, key, method.num_samples)

    def train_step(state: State, batch: Batch, key: Key) -> tuple[State, Metrics]:
        pixel_key, local_key, z_key = jax.random.split(key, 3)
        x, index = model.see(pixel_key, batch["image"]), batch["index"]
        rows = jax.tree.map(lambda leaf: leaf[index], state.table)
        keys = jax.random.split(local_key, method.local_steps)
        rows, norm = climb(elbo_of(state.decoder.params, x), rows, keys, optimizer)
        seen = {"x": x, **rows.q._asdict()}
        decoder, metrics = learner.train_step(m_loss)(state.decoder, seen, z_key)
        metrics = {**metrics, "local_grad_norm": norm}
        return State(decoder, write(state.table, index, rows)), metrics

    def infer(params: Params, x: Array, key: Key) -> Gaussian:
        """The posteriors of new images, climbed from the prior."""
        q, num = prior(len(x), latent_dim), config.likelihood.local_steps
        return maximize(elbo_of(params, x), q, key, learning_rate=rate, num_steps=num)

    return as_vae(
        spec,
        model,
        latent_dim=latent_dim,
        init=init,
        train_step=train_step,
        params_of=lambda state: state.decoder.averaged[0],
        infer=infer,
        num_samples=method.num_samples,
        sampler=config.sampler,
        likelihood=config.likelihood,
        note=f" from posteriors after {config.likelihood.local_steps} local steps",
        raw_weights=learner.raw,
        sharding_rules=((r"^table", PartitionSpec("data")),),
        training_only=("table/",),
    )


def padded(num: int) -> int:
    """The next multiple of ROWS_DIVIDE."""
    return -(-num // ROWS_DIVIDE) * ROWS_DIVIDE


def prior(num: int, dim: int) -> Gaussian:
    """Where every posterior starts."""
    return Gaussian(jnp.zeros((num, dim)), jnp.zeros((num, dim)))


def per_row(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Of rows on their own: Adam's count of steps differs from one to another."""
    return optax.GradientTransformation(
        jax.vmap(optimizer.init),
        jax.vmap(optimizer.update),  # pyright: ignore[reportArgumentType]
    )


def climb(
    elbo_of: Callable[[Gaussian, Key], Array],
    rows: Rows,
    keys: Key,
    optimizer: optax.GradientTransformation,
) -> tuple[Rows, Array]:
    """The E step: (rows, the last gradient's norm) after a step for each key.

    elbo_of: (q, key) -> (B,). rows: those of the minibatch.
    """

    def step(rows: Rows, key: Key) -> tuple[Rows, Array]:
        q, moments = rows
        # summed: each row is on its own
        grads = jax.grad(lambda q: -elbo_of(q, key).sum())(q)
        updates, moments = optimizer.update(grads, moments, q)
        norm = optax.tree.norm(grads) / len(q.mean)
        return Rows(jax.tree.map(jnp.add, q, updates), moments), norm

    rows, norms = jax.lax.scan(step, rows, keys)
    return rows, norms[-1]


def write(table: Rows, index: Array, rows: Rows) -> Rows:
    """The table with these rows in the places `index`; the first of equal ones."""
    at = first_of_each(index, len(table.q.mean))
    return jax.tree.map(lambda t, r: t.at[at].set(r, mode="drop"), table, rows)


def first_of_each(index: Array, nowhere: int) -> Array:
    """`index`, with `nowhere` for what already stands further to the front.

    A batch that crosses the end of an epoch can hold an example twice, and a scatter of
    two values to one place has no defined result.
    """
    earlier = jnp.tril(index[:, None] == index[None, :], k=-1)
    return jnp.where(earlier.any(axis=1), nowhere, index)

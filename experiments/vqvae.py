"""VQ-VAE, and two other bottlenecks in the same networks.

An encoder makes a map of vectors, a few pixels wide; the decoder sees that map through
a bottleneck and says of each pixel a logistic distribution over its levels. All losses
are in nats an image, summed over its pixels and over the places of the map.

- "vq" (van den Oord et al. 2017, arXiv:1711.00937): each vector h becomes the nearest
  of K codes, e. With sg = stop_gradient, the paper's eq. 3 less its second term:

    loss(x) = -log p(x|z) + commitment sum |h - sg(e)|^2,   z = e, straight through.

  That term is replaced by moving averages (appendix A.1), which start at k-means of the
  first batch; codes that nobody uses start again at vectors of the batch.
- "fsq" (Mentzer et al. 2023, arXiv:2309.15505): each vector is rounded to a fixed grid:
  loss(x) = -log p(x|z), with nothing to keep alive. Ours is made from features brought
  to mean 0 and variance 1 at each place: without, MNIST ends at a single code.
- "gaussian", the continuous baseline: each vector says a diagonal Gaussian q(z|x), and
  p(z) is standard normal: loss(x) = -ELBO(x), by one draw of z (Kingma & Welling 2014,
  arXiv:1312.6114, eq. 10).

The likelihood is a lower bound. Of log p(x) = log sum_z p(z) p(x|z) the discrete ones
count only the term of the encoder's z, under a prior that is uniform over all maps of
codes: log p(x) >= log p(x|z) - (places) log K. An autoregressive prior, which the paper
trains afterwards on the codes, would pay less; it is not here, so `sample` draws codes
independently, and its images show what the prior has yet to learn.

`codes_in_use` is the share of the K codes that were chosen at least once in the last
`method.usage_steps` steps, however rarely; the configs let these see as many images as
the test set has. A code that was restarted counts from its first real choice. Read it
beside `perplexity`, that of the mean frequencies of the codes over those steps: codes
chosen a few times each raise the one, not the other.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from genjax.choices import images_only, no_labels, one_of
from genjax.distributions import standard_normal_kl
from genjax.experiment import Experiment
from genjax.models.convnet import Downsampler, Upsampler, map_size
from genjax.models.mlp import ACTIVATIONS
from genjax.nn.conv import Conv
from genjax.objectives import pixels, quantize
from genjax.objectives.quantize import Codebook, CodeUse
from genjax.train.optim import make_optimizer
from genjax.typing import (
    Array,
    Batch,
    Config,
    DataSpec,
    Key,
    Metrics,
    Params,
    UserError,
)


class State(NamedTuple):
    """Everything that a restart needs."""

    params: Params
    opt_state: optax.OptState
    codebook: Codebook | None  # "vq" only
    use: CodeUse | None  # not "gaussian"
    step: Array


class Coded(NamedTuple):
    """What a bottleneck makes of the encoder's map."""

    z: Array  # (B, h, w, d), what the decoder sees
    rate: Array  # (B,) nats that z costs under the prior
    penalty: Array  # (B,) what else training minimises
    chosen: Array | None = None  # (B, h, w) numbers of the codes


def make_experiment(config: Config, spec: DataSpec) -> Experiment[State]:
    """VQ-VAE on images. Raises UserError for a choice that does not exist."""
    check(config, spec)
    method, model = config.method, config.model
    is_vq, is_fsq = method.bottleneck == "vq", method.bottleneck == "fsq"
    levels = tuple(method.levels)
    num_codes = quantize.fsq_num_codes(levels) if is_fsq else method.num_codes
    code_dim = len(levels) if is_fsq else model.code_dim
    height, width = map_size(spec.shape, len(model.channels))
    likelihood = pixels.logistic(spec.num_levels)
    optimizer = make_optimizer(**config.optim.to_dict())

    # --- data and networks ------------------------------------------------------------

    common = (tuple(model.channels), model.num_res_blocks, model.activation)
    rows, columns, channels = spec.shape
    encoder = Downsampler(*common)
    # two outputs for each value: a mean and a log scale
    decoder = Upsampler(common[0], (rows, columns, 2 * channels), *common[1:])
    to_code = Conv(code_dim if is_vq or is_fsq else 2 * code_dim, (1, 1))

    def to_unit(image: Array) -> Array:
        return image.astype(jnp.float32) / (spec.num_levels - 1)

    def to_image(x: Array) -> Array:
        return jnp.round(x * (spec.num_levels - 1)).astype(jnp.uint8)

    def encode_map(params: Params, x: Array) -> Array:
        """What the bottleneck gets, (B, h, w, d), for pixels in [0, 1]."""
        features = encoder.apply({"params": params["encoder"]}, 2.0 * x - 1.0)
        assert isinstance(features, jax.Array)
        if is_fsq:  # or all vectors are rounded to one code, and stay there
            features = jax.nn.standardize(features)
        out = to_code.apply({"params": params["to_code"]}, features)
        assert isinstance(out, jax.Array)
        return out

    def decode_map(params: Params, z: Array) -> Array:
        """The mean and log scale of each pixel, as `pixels.logistic` wants them."""
        out = decoder.apply({"params": params["decoder"]}, z)
        assert isinstance(out, jax.Array)
        return out

    def init(key: Key) -> State:
        encoder_key, code_key, decoder_key, book_key = jax.random.split(key, 4)
        features = jnp.zeros((1, height, width, model.channels[-1]))
        z = jnp.zeros((1, height, width, code_dim))
        params = {
            "encoder": encoder.init(encoder_key, jnp.zeros((1, *spec.shape)))["params"],
            "to_code": to_code.init(code_key, features)["params"],
            "decoder": decoder.init(decoder_key, z)["params"],
        }
        book = quantize.random_codebook(book_key, num_codes, code_dim)
        use = quantize.no_use(num_codes, method.usage_steps)
        return State(
            params=params,
            opt_state=optimizer.init(params),
            codebook=book if is_vq else None,
            use=use if is_vq or is_fsq else None,
            step=jnp.zeros((), jnp.int32),
        )

    # --- the bottleneck ---------------------------------------------------------------

    def bottleneck(h: Array, book: Codebook | None, key: Key) -> Coded:
        if is_vq:
            assert book is not None
            return vector_quantized(h, book.codes, commitment=method.commitment)
        return fsq_quantized(h, levels) if is_fsq else gaussian(h, key)

    def code_of(state: State, x: Array) -> Array:
        """The decoder's map without chance: codes, or the mean of q(z|x)."""
        h = encode_map(state.params, x)
        if is_vq or is_fsq:
            return bottleneck(h, state.codebook, jax.random.key(0)).z
        return jnp.split(h, 2, axis=-1)[0]

    # --- training ---------------------------------------------------------------------

    def started(book: Codebook | None, h: Array, step: Array, key: Key):
        """The codebook before its first step: k-means of the first batch."""
        if book is None or not method.kmeans_iterations:
            return book
        rows = jax.lax.stop_gradient(h.reshape(-1, code_dim))
        return jax.lax.cond(
            step == 0,
            lambda: quantize.kmeans(
                key,
                rows,
                num_codes=num_codes,
                num_iterations=method.kmeans_iterations,
            ),
            lambda: book,
        )

    def followed(book: Codebook | None, h: Array, index: Array | None, key: Key):
        """The codebook after the batch, and the share of it that was restarted."""
        if book is None or index is None:
            return book, {}
        rows = h.reshape(-1, code_dim)
        book = quantize.ema_update(
            book,
            rows,
            index.ravel(),
            decay=method.codebook_decay,
            smoothing=method.smoothing,
        )
        book, unused = quantize.restart_unused(
            book, rows, key, below=method.restart_below
        )
        return book, {"codes_restarted": jnp.mean(unused.astype(jnp.float32))}

    def noted(use: CodeUse | None, index: Array | None, step: Array):
        """The counts of use with this step's, and what they say."""
        if use is None or index is None:
            return use, {}
        window = method.usage_steps
        use = quantize.note_use(use, index.ravel(), step, window=window)
        return use, {
            "perplexity": quantize.perplexity(use.share),
            "codes_in_use": quantize.share_in_use(use, step, window=window),
        }

    def loss_fn(params: Params, book: Codebook | None, x: Array, step: Array, key: Key):
        start_key, z_key = jax.random.split(key)
        h = encode_map(params, x)
        book = started(book, h, step, start_key)
        coded = bottleneck(h, book, z_key)
        nats = -likelihood.log_prob(x, decode_map(params, coded.z))
        terms = {
            "reconstruction_nats": nats.mean(),
            "rate_nats": coded.rate.mean(),
            "commitment_loss": coded.penalty.mean(),
        }
        # the rate of discrete codes is a constant: it has no gradient
        return sum(terms.values()), (terms, book, h, coded.chosen)

    def train_step(state: State, batch: Batch, key: Key) -> tuple[State, Metrics]:
        loss_key, restart_key = jax.random.split(key)
        grad_fn = jax.value_and_grad(loss_fn, has_aux=True)
        (loss, (terms, book, h, index)), grads = grad_fn(
            state.params, state.codebook, to_unit(batch["image"]), state.step, loss_key
        )
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        book, restarts = followed(book, h, index, restart_key)
        use, usage = noted(state.use, index, state.step)
        state = State(params, opt_state, book, use, state.step + 1)
        metrics = {"loss": loss, "grad_norm": optax.tree.norm(grads)}
        return state, metrics | terms | restarts | usage

    # --- what the model can do --------------------------------------------------------

    def bound(state: State, batch: Batch, key: Key) -> tuple[Array, Array]:
        """(-log p(x|z), rate), nats of each example."""
        x = to_unit(batch["image"])
        coded = bottleneck(encode_map(state.params, x), state.codebook, key)
        out = decode_map(state.params, coded.z)
        return -likelihood.log_mass(x, out), coded.rate

    def log_likelihood(state: State, batch: Batch, key: Key) -> Array:
        nats, rate = bound(state, batch, key)
        return -nats - rate

    def reconstruct(state: State, x: Array) -> Array:
        """The decoder's mean, in [0, 1]."""
        return likelihood.mean(decode_map(state.params, code_of(state, x)))

    def evaluate(state: State, batch: Batch, key: Key) -> Metrics:
        """squared_error: of `reconstruct`, summed over pixels in [0, 1]."""
        x = to_unit(batch["image"])
        nats, rate = bound(state, batch, key)
        error = jnp.square(reconstruct(state, x) - x)
        return {
            "reconstruction_nats": nats,
            "rate_nats": rate,
            "squared_error": jnp.sum(error, axis=(1, 2, 3)),
        }

    def draw_codes(state: State, key: Key, num: int) -> Array:
        """Maps from the prior: independent codes, uniform or standard normal."""
        shape = (num, height, width)
        if not (is_vq or is_fsq):
            return jax.random.normal(key, (*shape, code_dim))
        index = jax.random.randint(key, shape, 0, num_codes)
        if is_fsq:
            return quantize.fsq_code(index, levels)
        assert state.codebook is not None
        return state.codebook.codes[index]

    def sample(state: State, key: Key, num: int, label: Array | None = None) -> Array:
        """Raises UserError for labels, which this model does not know."""
        no_labels(label)
        code_key, pixel_key = jax.random.split(key)
        out = decode_map(state.params, draw_codes(state, code_key, num))
        noisy = config.sampler.pixels == "draw"
        return to_image(
            likelihood.draw(pixel_key, out) if noisy else likelihood.mean(out)
        )

    def encode(state: State, batch: Batch, key: Key) -> Array:
        code = code_of(state, to_unit(batch["image"]))
        return code.reshape(len(code), -1)

    def decode(state: State, code: Array, key: Key) -> Array:
        """Any vectors, not only codes."""
        z = code.reshape(-1, height, width, code_dim)
        return to_image(likelihood.mean(decode_map(state.params, z)))

    def images(state: State, batch: Batch, key: Key) -> Metrics:
        """Each original with its reconstruction on its right."""
        image = batch["image"]
        pairs = jnp.stack([image, to_image(reconstruct(state, to_unit(image)))], axis=1)
        return {"reconstructions": pairs.reshape(-1, *spec.shape)}

    return Experiment(
        init=init,
        train_step=train_step,
        sample=sample,
        log_likelihood=log_likelihood,
        likelihood_kind="lower_bound",
        likelihood_note=likelihood_note(
            method.bottleneck, height * width, num_codes, likelihood.note
        ),
        encode=encode,
        decode=decode,
        evaluate=evaluate,
        images=images,
    )


# --- bottlenecks ----------------------------------------------------------------------


def vector_quantized(h: Array, codes: Array, *, commitment: float) -> Coded:
    """The nearest code of each vector; penalty: the third term of the paper's eq. 3."""
    index = quantize.nearest_codes(h.reshape(-1, h.shape[-1]), codes)
    index = index.reshape(h.shape[:-1])
    z = jax.lax.stop_gradient(codes)[index]
    penalty = commitment * total(jnp.square(h - z))
    rate = uniform_rate(index, len(codes))
    return Coded(quantize.straight_through(h, z), rate, penalty, index)


def fsq_quantized(h: Array, levels: quantize.Levels) -> Coded:
    """The grid point of each vector."""
    z = quantize.fsq(h, levels)
    index = quantize.fsq_index(z, levels)
    rate = uniform_rate(index, quantize.fsq_num_codes(levels))
    return Coded(z, rate, jnp.zeros(len(h)), index)


def gaussian(h: Array, key: Key) -> Coded:
    """A draw of q(z|x); rate: its KL divergence from the standard normal."""
    mean, logvar = jnp.split(h, 2, axis=-1)
    z = mean + jnp.exp(0.5 * logvar) * jax.random.normal(key, mean.shape)
    return Coded(z, total(standard_normal_kl(mean, logvar)), jnp.zeros(len(h)))


def uniform_rate(index: Array, num_codes: int) -> Array:
    """(places) log K for each example."""
    return jnp.full(len(index), index[0].size * jnp.log(num_codes))


def total(values: Array) -> Array:
    """The sum over a map, (B, h, w, d) -> (B,)."""
    return jnp.sum(values, axis=(1, 2, 3))


# --- what a user may get wrong --------------------------------------------------------


def check(config: Config, spec: DataSpec) -> None:
    """Raises UserError for the first choice that does not exist or does not fit."""
    method = config.method
    one_of("method.bottleneck", method.bottleneck, ["vq", "fsq", "gaussian"])
    one_of("model.activation", config.model.activation, ACTIVATIONS)
    one_of("sampler.pixels", config.sampler.pixels, ["mean", "draw"])
    images_only("the VQ-VAE", spec)
    if min(method.levels, default=0) < 3:
        raise UserError(
            f"method.levels must be numbers of 3 or more, not {method.levels}: try "
            "(8, 4, 4)"
        )
    if method.num_codes < 1 or method.usage_steps < 1:
        raise UserError(
            "method.num_codes and method.usage_steps must be 1 or more, not "
            f"{method.num_codes} and {method.usage_steps}"
        )
    if not 0 <= method.restart_below < 1 or not 0 <= method.codebook_decay < 1:
        raise UserError(
            "method.restart_below and method.codebook_decay must be at least 0 and "
            f"below 1, not {method.restart_below} and {method.codebook_decay}"
        )


def likelihood_note(
    bottleneck: str, places: int, num_codes: int, pixels_note: str
) -> str:
    """How log_likelihood is taken, for the protocol of a metric."""
    if bottleneck == "gaussian":
        return f"ELBO by one draw of z; {places} places; {pixels_note}"
    return (
        f"log p(x|z) at the encoder's codes, {places} of {num_codes}, under a uniform "
        f"prior, no draw; {pixels_note}"
    )

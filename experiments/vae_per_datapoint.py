"""A VAE without an encoder: the posterior of each training image is a row of a table.

Before amortisation, variational inference optimised q_n(z) = N(mean_n, exp(logvar_n))
for each example n by itself (stochastic variational inference, Hoffman et al. 2013,
arXiv:1206.7051). A step of training is variational EM on a minibatch, with the ELBO of
`genjax.objectives.elbo` (1), in nats an image:

  E  the rows of the minibatch's examples climb the ELBO for a few steps of their Adam
  M  the decoder takes one step at the rows' new place

N examples cost 2 N D numbers (and Adam's twice as many), which no encoder shares; and
nothing is known of a new image until its own posterior has been optimised from the
prior. `experiments/vae.py` has the other side, and measures the gap between the two.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec

from genjax.choices import images_only, no_labels, one_of
from genjax.distributions import standard_normal_kl
from genjax.experiment import Experiment
from genjax.models.vae import PixelDecoder
from genjax.objectives import elbo, pixels
from genjax.train.optim import make_optimizer, maximize
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

ROWS_DIVIDE = 256  # the table is padded to a multiple of it: to share among devices


class Posterior(NamedTuple):
    """Diagonal Gaussians, one a row: (R, D) each."""

    mean: Array
    logvar: Array


class State(NamedTuple):
    """Everything that a restart needs."""

    params: Params  # of the decoder
    opt_state: optax.OptState
    table: Posterior  # a row for each training example
    table_opt_state: optax.OptState  # the optimizer's moments, a row for each too
    step: Array


def make_experiment(config: Config, spec: DataSpec) -> Experiment[State]:
    """Per-datapoint inference on images. Raises UserError for what does not exist."""
    check(config, spec)
    method = config.method
    top_level = spec.num_levels - 1
    binary = method.likelihood == "bernoulli"
    num_rows = -(-spec.num_train // ROWS_DIVIDE) * ROWS_DIVIDE

    model = config.model.to_dict()
    latent_dim = model.pop("latent_dim")
    likelihood = pixels.family(method.likelihood, spec.num_levels)
    decoder = PixelDecoder(spec.shape, spread=likelihood.spread, **model)
    optimizer = make_optimizer(**config.optim)
    # Adam's count of steps differs from row to row
    row_optimizer = make_optimizer(learning_rate=method.local_learning_rate)
    init_rows, update_rows = (
        jax.vmap(row_optimizer.init),
        jax.vmap(row_optimizer.update),
    )

    # --- data and network -------------------------------------------------------------

    def to_model(image: Array, key: Key) -> Array:
        """Pixels in [0, 1]; for binary pixels a draw with the grey as probability."""
        grey = image.astype(jnp.float32) / top_level
        if binary:
            return jax.random.bernoulli(key, grey).astype(jnp.float32)
        return grey

    def to_data(x: Array) -> Array:
        return jnp.round(x * top_level).astype(jnp.uint8)

    def decode_from(params: Params, z: Array) -> Array:
        """What p(x|z) is made of, (*batch, H, W, O), for z (*batch, D)."""
        out = decoder.apply({"params": params}, z)
        assert isinstance(out, jax.Array)
        return out

    def bound(params: Params, q: Posterior, x: Array, key: Key) -> tuple[Array, Array]:
        """The two terms of (1), (B,) each: E_q[log p(x|z)] and the KL."""
        z = elbo.reparameterize(key, q.mean, q.logvar, method.num_samples)
        log_px = likelihood.log_prob(x[None], decode_from(params, z)).mean(axis=0)
        return log_px, standard_normal_kl(q.mean, q.logvar).sum(axis=-1)

    def elbo_of(params: Params, q: Posterior, x: Array, key: Key) -> Array:
        log_px, kl = bound(params, q, x, key)
        return log_px - kl

    def prior(num: int) -> Posterior:
        """Where every posterior starts."""
        return Posterior(jnp.zeros((num, latent_dim)), jnp.zeros((num, latent_dim)))

    def init(key: Key) -> State:
        params = decoder.init(key, jnp.zeros((1, latent_dim)))["params"]
        table = prior(num_rows)
        return State(
            params=params,
            opt_state=optimizer.init(params),
            table=table,
            table_opt_state=init_rows(table),
            step=jnp.zeros((), jnp.int32),
        )

    # --- training ---------------------------------------------------------------------

    def climb(params: Params, x: Array, rows, key: Key):
        """The E step: (q, moments) of the minibatch after local_steps steps of Adam."""

        def step(rows, key: Key):
            q, moments = rows

            def loss_fn(q: Posterior) -> Array:  # summed: each row is on its own
                return -elbo_of(params, q, x, key).sum()

            grads = jax.grad(loss_fn)(q)
            updates, moments = update_rows(grads, moments, q)
            norm = optax.tree.norm(grads) / len(x)
            return (jax.tree.map(jnp.add, q, updates), moments), norm

        rows, norms = jax.lax.scan(
            step, rows, jax.random.split(key, method.local_steps)
        )
        return rows, norms[-1]

    def train_step(state: State, batch: Batch, key: Key) -> tuple[State, Metrics]:
        pixel_key, local_key, z_key = jax.random.split(key, 3)
        x, index = to_model(batch["image"], pixel_key), batch["index"]
        everything = state.table, state.table_opt_state
        rows = jax.tree.map(lambda leaf: leaf[index], everything)
        (q, moments), local_norm = climb(state.params, x, rows, local_key)

        def loss_fn(params: Params) -> tuple[Array, tuple[Array, Array]]:
            log_px, kl = bound(params, q, x, z_key)
            return (kl - log_px).mean(), (-log_px.mean(), kl.mean())

        (loss, (reconstruction, kl)), grads = jax.value_and_grad(loss_fn, has_aux=True)(
            state.params
        )
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)

        place = first_of_each(index, num_rows)
        table, table_opt_state = jax.tree.map(
            lambda leaf, new: leaf.at[place].set(new, mode="drop"),
            everything,
            (q, moments),
        )
        state = State(params, opt_state, table, table_opt_state, state.step + 1)
        return state, {
            "loss": loss,
            "elbo": -loss,
            "reconstruction_nats": reconstruction,
            "kl_nats": kl,
            "grad_norm": optax.tree.norm(grads),
            "local_grad_norm": local_norm,
        }

    # --- what the model can do --------------------------------------------------------

    def infer(state: State, x: Array, key: Key) -> Posterior:
        """The posteriors of new images, climbed from the prior."""
        return maximize(
            lambda q, key: elbo_of(state.params, q, x, key),
            prior(len(x)),
            key,
            learning_rate=method.local_learning_rate,
            num_steps=config.eval.local_steps,
        )

    def sample(state: State, key: Key, num: int, label: Array | None = None) -> Array:
        """Images of z ~ N(0, I): the mean of p(x|z), or a draw of its pixels."""
        no_labels(label)
        z_key, pixel_key = jax.random.split(key)
        out = decode_from(state.params, jax.random.normal(z_key, (num, latent_dim)))
        if config.sampler.draw_pixels:
            return to_data(likelihood.draw(pixel_key, out))
        return to_data(likelihood.mean(out))

    def log_likelihood(state: State, batch: Batch, key: Key) -> Array:
        pixel_key, local_key, z_key = jax.random.split(key, 3)
        x = to_model(batch["image"], pixel_key)
        q = infer(state, x, local_key)

        def log_weights(key: Key, num: int) -> Array:
            z = elbo.reparameterize(key, q.mean, q.logvar, num)
            log_px = likelihood.log_mass(x[None], decode_from(state.params, z))
            return elbo.log_weights(log_px, z, *q)

        return elbo.importance_log_likelihood(
            log_weights, z_key, num_samples=config.eval.importance_samples, chunk=50
        )

    def evaluate(state: State, batch: Batch, key: Key) -> Metrics:
        """The two terms of (1) at the posteriors that `infer` finds."""
        pixel_key, local_key, z_key = jax.random.split(key, 3)
        x = to_model(batch["image"], pixel_key)
        q = infer(state, x, local_key)
        log_px, kl = bound(state.params, q, x, z_key)
        grey = batch["image"].astype(jnp.float32) / top_level
        error = likelihood.mean(decode_from(state.params, q.mean)) - grey
        return {
            "elbo": log_px - kl,
            "reconstruction_nats": -log_px,
            "kl_nats": kl,
            "squared_error": jnp.square(error).sum(axis=(1, 2, 3)),
        }

    def encode(state: State, batch: Batch, key: Key) -> Array:
        """The mean of the posterior that `infer` finds."""
        pixel_key, local_key = jax.random.split(key)
        return infer(state, to_model(batch["image"], pixel_key), local_key).mean

    def decode(state: State, code: Array, key: Key) -> Array:
        """The mean of p(x|z)."""
        return to_data(likelihood.mean(decode_from(state.params, code)))

    def images(state: State, batch: Batch, key: Key) -> dict[str, Array]:
        """Each test image and its reconstruction, side by side."""
        pixel_key, _ = jax.random.split(key)
        seen = to_data(to_model(batch["image"], pixel_key))
        again = decode(state, encode(state, batch, key), key)
        pairs = jnp.stack([seen, again], axis=1)
        return {"reconstructions": pairs.reshape(-1, *spec.shape)}

    return Experiment(
        init=init,
        train_step=train_step,
        sample=sample,
        log_likelihood=log_likelihood,
        likelihood_kind="lower_bound",
        likelihood_of="binarized" if binary else "data",
        likelihood_note=(
            f"L_{config.eval.importance_samples} (importance sampling) from posteriors "
            f"after {config.eval.local_steps} local steps; {likelihood.note}"
        ),
        evaluate=evaluate,
        encode=encode,
        decode=decode,
        images=images,
        sharding_rules=((r"^table", PartitionSpec("data")),),
    )


def first_of_each(index: Array, nowhere: int) -> Array:
    """`index`, with `nowhere` for what already stands further to the front.

    A batch that crosses the end of an epoch can hold an example twice, and a scatter of
    two values to one place has no defined result.
    """
    earlier = jnp.tril(index[:, None] == index[None, :], k=-1)
    return jnp.where(earlier.any(axis=1), nowhere, index)


def check(config: Config, spec: DataSpec) -> None:
    """Raises UserError for the first choice that does not exist or does not fit."""
    one_of("model.backbone", config.model.backbone, ["dense", "conv"])
    one_of("method.likelihood", config.method.likelihood, pixels.NAMES)
    images_only("the VAE", spec)
    counts = {
        "method.num_samples": config.method.num_samples,
        "method.local_steps": config.method.local_steps,
        "eval.local_steps": config.eval.local_steps,
        "eval.importance_samples": config.eval.importance_samples,
    }
    for name, count in counts.items():
        if count < 1:
            raise UserError(f"{name} must be at least 1, not {count}")

"""Generative adversarial networks (Goodfellow et al. 2014, arXiv:1406.2661).

A generator g makes samples g(z) of noise z ~ N(0, I); a discriminator, or critic, gives
each example a logit, high for data. In turn each lowers its own loss
(`genjax.objectives.adversarial`):

  (1) the discriminator, `method.critic_steps` times a step, on the mean of
      loss.discriminator(t(x), t(g(z))) + penalty_weight * penalty
  (2) the generator, once, on the mean of loss.generator(t(x), t(g(z)))

each time on new data and noise. What may vary: the loss, the penalty on the
discriminator's gradient, clipped weights (Arjovsky et al. 2017, arXiv:1701.07875), and
how many examples the discriminator sees side by side (PacGAN, Lin et al. 2018,
arXiv:1712.04086). Samples come from the moving average of the generator.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float

from genjax.choices import no_labels, one_of
from genjax.experiment import Experiment
from genjax.models.mlp import ACTIVATIONS, MLP
from genjax.objectives import adversarial
from genjax.train.optim import ema_update, make_optimizer
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

PENALTIES = ("none", "wgan_gp", "dragan", "r1", "r1_r2")


class State(NamedTuple):
    """Everything that a restart needs."""

    g_params: Params
    d_params: Params
    ema_params: Params  # of the generator
    g_opt_state: optax.OptState
    d_opt_state: optax.OptState
    step: Array


def make_experiment(config: Config, spec: DataSpec) -> Experiment[State]:
    """A GAN on points. Raises UserError for a wrong choice, and for images."""
    check(config, spec)
    method, model = config.method, config.model
    loss = adversarial.LOSSES[method.loss]
    packing, latent_dim = method.packing, model.latent_dim

    generator = MLP(tuple(model.g_widths), spec.shape[-1], model.activation)
    discriminator = MLP(tuple(model.d_widths), 1, model.activation)

    optim = config.optim.to_dict()
    ema_decay, d_learning_rate = optim.pop("ema_decay"), optim.pop("d_learning_rate")
    g_optimizer = make_optimizer(**optim)
    if d_learning_rate is not None:
        optim["learning_rate"] = d_learning_rate
    d_optimizer = make_optimizer(**optim)

    # --- data and networks ------------------------------------------------------------

    def to_model(data: Array) -> Array:
        return data / method.point_scale

    def to_data(x: Array) -> Array:
        return x * method.point_scale

    def generate(g_params: Params, key: Key, num: int) -> Array:
        """Samples (num, dim) of new noise."""
        return make(g_params, jax.random.normal(key, (num, latent_dim)))

    def make(g_params: Params, z: Array) -> Array:
        """The samples (num, dim) that the noise z becomes."""
        out = generator.apply({"params": g_params}, z)
        assert isinstance(out, jax.Array)
        return out

    def discriminate(d_params: Params, packs: Array) -> Array:
        """The logit (B,) of each pack (B, packing * dim)."""
        out = discriminator.apply({"params": d_params}, packs)
        assert isinstance(out, jax.Array)
        return out[:, 0]

    def init(key: Key) -> State:
        g_key, d_key = jax.random.split(key)
        g_params = generator.init(g_key, jnp.zeros((1, latent_dim)))["params"]
        packs = jnp.zeros((1, packing * spec.shape[-1]))
        d_params = discriminator.init(d_key, packs)["params"]
        return State(
            g_params=g_params,
            d_params=d_params,
            ema_params=jax.tree.map(jnp.copy, g_params),  # its own memory
            g_opt_state=g_optimizer.init(g_params),
            d_opt_state=d_optimizer.init(d_params),
            step=jnp.zeros((), jnp.int32),
        )

    # --- training ---------------------------------------------------------------------

    def penalty(d_params: Params, key: Key, real: Array, fake: Array) -> Array:
        """What method.penalty takes of each pair of packs, before its weight."""

        def critic(packs: Array) -> Array:
            return discriminate(d_params, packs)

        if method.penalty == "wgan_gp":
            between = adversarial.interpolates(key, real, fake)
            return adversarial.one_centered(critic, between)
        if method.penalty == "dragan":
            around = adversarial.perturbed(key, real)
            return adversarial.one_centered(critic, around)
        if method.penalty == "r1":
            return adversarial.zero_centered(critic, real)
        if method.penalty == "r1_r2":
            at_both = (adversarial.zero_centered(critic, x) for x in (real, fake))
            return sum(at_both, start=jnp.zeros(len(real)))
        return jnp.zeros(len(real))

    def d_loss_fn(
        d_params: Params, g_params: Params, x: Array, key: Key
    ) -> tuple[Array, Metrics]:
        """(1), for the data x (B, dim)."""
        z_key, penalty_key = jax.random.split(key)
        real, fake = pack(x, packing), pack(generate(g_params, z_key, len(x)), packing)
        real_logits, fake_logits = (discriminate(d_params, p) for p in (real, fake))
        d_loss = loss.discriminator(real_logits, fake_logits).mean()
        paid = penalty(d_params, penalty_key, real, fake).mean()
        return d_loss + method.penalty_weight * paid, {
            "d_loss": d_loss,
            "penalty": paid,
            "logit_real": real_logits.mean(),
            "logit_fake": fake_logits.mean(),
        }

    def g_loss_fn(g_params: Params, d_params: Params, x: Array, z_key: Key) -> Array:
        """(2), for the data x (B, dim)."""
        real, fake = pack(x, packing), pack(generate(g_params, z_key, len(x)), packing)
        real_logits, fake_logits = (discriminate(d_params, p) for p in (real, fake))
        return loss.generator(real_logits, fake_logits).mean()

    def train_step(state: State, batch: Batch, key: Key) -> tuple[State, Metrics]:
        d_key, z_key = jax.random.split(key)
        parts = in_turn(to_model(batch["image"]), method.critic_steps)

        def d_step(carry, part) -> tuple[tuple[Params, optax.OptState], Metrics]:
            d_params, d_opt_state = carry
            (total, metrics), grads = jax.value_and_grad(d_loss_fn, has_aux=True)(
                d_params, state.g_params, *part
            )
            updates, d_opt_state = d_optimizer.update(grads, d_opt_state, d_params)
            d_params = clipped(
                optax.apply_updates(d_params, updates), method.clip_weights
            )
            metrics |= {"loss": total, "d_grad_norm": optax.tree.norm(grads)}
            return (d_params, d_opt_state), metrics

        (d_params, d_opt_state), of_steps = jax.lax.scan(
            d_step,
            (state.d_params, state.d_opt_state),
            (parts, jax.random.split(d_key, method.critic_steps)),
        )
        metrics = jax.tree.map(jnp.mean, of_steps)  # a bad step spoils the mean

        g_loss, grads = jax.value_and_grad(g_loss_fn)(
            state.g_params, d_params, parts[-1], z_key
        )
        updates, g_opt_state = g_optimizer.update(
            grads, state.g_opt_state, state.g_params
        )
        g_params = optax.apply_updates(state.g_params, updates)
        ema_params = ema_update(
            state.ema_params, g_params, step=state.step, decay=ema_decay
        )
        metrics |= {"g_loss": g_loss, "g_grad_norm": optax.tree.norm(grads)}
        state = State(
            g_params, d_params, ema_params, g_opt_state, d_opt_state, state.step + 1
        )
        return state, metrics

    # --- what the model can do --------------------------------------------------------

    def sample(state: State, key: Key, num: int, label: Array | None = None) -> Array:
        no_labels(label)
        return to_data(generate(state.ema_params, key, num))

    def evaluate(state: State, batch: Batch, key: Key) -> Metrics:
        """Logits of the test data, and of as many samples.

        At the optimum of (1) under a perfect generator the two are equal on average.
        """
        x = to_model(batch["image"])
        return {
            "test_logit": discriminate(state.d_params, x),
            "sample_logit": discriminate(
                state.d_params, generate(state.ema_params, key, len(x))
            ),
        }

    def discriminate_data(state: State, data: Array) -> Array:
        return discriminate(state.d_params, to_model(data))

    return Experiment(
        init=init,
        train_step=train_step,
        sample=sample,
        decode=lambda state, z, key: to_data(make(state.ema_params, z)),
        # a pack has no logit for each
        evaluate=evaluate if packing == 1 else None,
        discriminate=discriminate_data if packing == 1 else None,
        raw_weights=lambda state: state._replace(ema_params=state.g_params),
    )


# --- the method -----------------------------------------------------------------------


def pack(x: Float[Array, "n d"], size: int) -> Float[Array, "m e"]:
    """(n / size, size * d): so many rows in turn, side by side. size divides n."""
    return x.reshape(len(x) // size, size * x.shape[1])


def in_turn(x: Float[Array, " n *d"], parts: int) -> Float[Array, " p m *d"]:
    """(parts, n / parts, ...): part j holds the rows j, j + parts, j + 2 parts, ...

    So each device works on the rows that it already has. parts divides n.
    """
    return x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1)


def clipped(params: Params, limit: float) -> Params:
    """All weights moved into [-limit, limit]; 0: as they are."""
    if limit == 0:
        return params
    return jax.tree.map(lambda w: jnp.clip(w, -limit, limit), params)


# --- what a user may get wrong --------------------------------------------------------


def check(config: Config, spec: DataSpec) -> None:
    """Raises UserError for the first choice that does not exist or does not fit."""
    method, batch_size = config.method, config.training.batch_size
    if spec.num_levels > 0:
        raise UserError(
            f"{spec.name} has images of shape {spec.shape}, and this GAN's networks "
            "are made for points: choose a 2-D density, like data.name=gaussians25"
        )
    one_of("model.backbone", config.model.backbone, ["mlp"])
    one_of("model.activation", config.model.activation, ACTIVATIONS)
    one_of("method.loss", method.loss, adversarial.LOSSES)
    one_of("method.penalty", method.penalty, PENALTIES)
    for name, value in [
        ("method.critic_steps", method.critic_steps),
        ("method.packing", method.packing),
        ("model.latent_dim", config.model.latent_dim),
    ]:
        if value < 1:
            raise UserError(f"{name} must be at least 1, not {value}")
    for name, value in [
        ("method.penalty_weight", method.penalty_weight),
        ("method.clip_weights", method.clip_weights),
    ]:
        if value < 0:
            raise UserError(f"{name} must not be less than 0 (none), but is {value}")
    if not method.point_scale > 0:
        raise UserError(
            f"method.point_scale must be more than 0, not {method.point_scale}"
        )
    if batch_size % (method.critic_steps * method.packing):
        raise UserError(
            f"training.batch_size={batch_size} does not divide into "
            f"method.critic_steps={method.critic_steps} parts of whole packs of "
            f"method.packing={method.packing}: choose a multiple of "
            f"{method.critic_steps * method.packing}"
        )

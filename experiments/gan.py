"""Generative adversarial networks (Goodfellow et al. 2014, arXiv:1406.2661).

A generator g makes samples g(z) of noise z ~ N(0, I); a discriminator, or critic, gives
each example a logit, high for data. In turn each lowers its own loss
(`genjax.objectives.adversarial`):

  (1) the discriminator, `method.critic_steps` times a step, on the mean of
      loss.discriminator(t(x), t(g(z))) + penalty_weight * penalty
  (2) the generator, once, on the mean of loss.generator(t(x), t(g(z)))

each time on new data and noise. What may vary: the networks, the loss, the penalty on
the discriminator's gradient and how often it is taken, clipped weights (Arjovsky et al.
2017, arXiv:1701.07875), how many examples the discriminator sees side by side (PacGAN,
Lin et al. 2018, arXiv:1712.04086), and what is done to all that it sees
(`method.augment`). Samples come from the moving average of the generator.
`training.batch_size` counts all examples of a step: each turn of the discriminator has
its share of them, and packs share that again (PacGAN's own batches count packs).

With labels (`model.num_classes`) both networks are told the class. A sample then has
the label of the datum beside it: classes come as often as in the data, and a pair of
the two, or a point between them, is of one class.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float, Int, Shaped

from genjax.augment.adaptive import ada_augment, updated_p
from genjax.augment.diff_augment import diff_augment, kinds
from genjax.choices import one_of
from genjax.experiment import Experiment
from genjax.labels import check_labels
from genjax.models.dcgan import DCGANDiscriminator, DCGANGenerator
from genjax.models.dense_gan import DenseDiscriminator, DenseGenerator
from genjax.models.mlp import ACTIVATIONS
from genjax.models.r3gan import R3GANDiscriminator, R3GANGenerator
from genjax.models.sngan import SNGANDiscriminator, SNGANGenerator
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

AUGMENTS = ("none", "diffaugment", "ada")
# losses under which the sign of a logit tells data from samples
SIGNED = ("minimax", "non_saturating", "hinge")


class State(NamedTuple):
    """Everything that a restart needs.

    _stats: the collection "batch_stats" of a network, {} where it has none. Those of
    the averaged generator are averaged like its weights, and so are as old as these.
    """

    g_params: Params
    g_stats: Params
    d_params: Params
    d_stats: Params
    ema_params: Params  # of the generator
    ema_stats: Params
    g_opt_state: optax.OptState
    d_opt_state: optax.OptState
    augment_p: Array  # of method.augment="ada"
    step: Array


def make_experiment(config: Config, spec: DataSpec) -> Experiment[State]:
    """A GAN on images or points. Raises UserError for a wrong choice."""
    check(config, spec)
    method, num_classes = config.method, config.model.num_classes
    loss = adversarial.LOSSES[method.loss]
    latent_dim, is_image = config.model.latent_dim, spec.num_levels > 0
    generator, discriminator = make_networks(config, spec)
    sees_several = check_discriminator(config, discriminator)

    optim = config.optim.to_dict()
    ema_decay, d_learning_rate = optim.pop("ema_decay"), optim.pop("d_learning_rate")
    g_optimizer = make_optimizer(**optim)
    if d_learning_rate is not None:
        optim["learning_rate"] = d_learning_rate
    # Its updates are so many times as many: the schedules end with the training.
    optim["warmup_steps"] *= method.critic_steps
    if optim["decay_steps"] is not None:
        optim["decay_steps"] *= method.critic_steps
    d_optimizer = make_optimizer(**optim)

    # --- data and networks ------------------------------------------------------------

    def to_model(data: Array) -> Array:
        """Pixels to [-1, 1]; points to about unit variance."""
        if is_image:
            return 2.0 * data.astype(jnp.float32) / (spec.num_levels - 1) - 1.0
        return data / method.point_scale

    def to_data(x: Array) -> Array:
        if not is_image:
            return x * method.point_scale
        unit = (jnp.clip(x, -1.0, 1.0) + 1.0) / 2.0
        return jnp.round(unit * (spec.num_levels - 1)).astype(jnp.uint8)

    def label_of(batch: Batch) -> Array | None:
        return batch["label"] if num_classes else None

    def generate(
        g_params: Params, g_stats: Params, z: Array, label: Array | None, *, train: bool
    ) -> tuple[Array, Params]:
        """Samples (B, *shape) of the noise, and the statistics after them."""
        return apply(generator, g_params, g_stats, z, label, train=train)

    def discriminate(
        d_params: Params, d_stats: Params, x: Array, label: Array | None, *, train: bool
    ) -> tuple[Array, Params]:
        """The logit (B,) of each example or pack, and the statistics after them."""
        return apply(discriminator, d_params, d_stats, x, label, train=train)

    def init(key: Key) -> State:
        g_key, d_key = jax.random.split(key)
        label = jnp.zeros(1, jnp.int32) if num_classes else None
        packs = jnp.zeros((1, *spec.shape[:-1], spec.shape[-1] * method.packing))
        z = jnp.zeros((1, latent_dim))
        g, d = (
            network.init(key, x, label, train=False)
            for network, key, x in [
                (generator, g_key, z),
                (discriminator, d_key, packs),
            ]
        )
        g_params, g_stats = g["params"], g.get("batch_stats", {})
        return State(
            g_params=g_params,
            g_stats=g_stats,
            d_params=d["params"],
            d_stats=d.get("batch_stats", {}),
            ema_params=jax.tree.map(jnp.copy, g_params),  # its own memory
            ema_stats=jax.tree.map(jnp.copy, g_stats),
            g_opt_state=g_optimizer.init(g_params),
            d_opt_state=d_optimizer.init(d["params"]),
            augment_p=jnp.zeros(()),
            step=jnp.zeros((), jnp.int32),
        )

    check_networks_fit(init, spec)

    # --- training ---------------------------------------------------------------------

    def shown(x: Array, fake: Array, p: Array, key: Key) -> tuple[Array, Array]:
        """What the discriminator sees of both (B, *shape): augmented, then packed."""
        if method.augment != "none":
            both = jnp.concatenate([x, fake])  # one program: ADA's is slow to compile
            if method.augment == "ada":
                both = ada_augment(key, both, p)
            else:
                both = diff_augment(key, both, method.augment_policy)
            x, fake = jnp.split(both, 2)
        return pack(x, method.packing), pack(fake, method.packing)

    def penalty(
        critic: adversarial.Critic, real: Array, fake: Array, turn: Array, key: Key
    ) -> Array:
        """The mean of method.penalty, or 0 in turns in which it is not taken.

        Lazy regularisation (Karras et al. 2020, arXiv:1912.04958, appendix B): every
        k-th turn k times the penalty, so that the mean over the turns stays the same.
        """
        if method.penalty == "none":
            return jnp.zeros(())
        values, every = adversarial.PENALTIES[method.penalty], method.penalty_every

        def taken() -> Array:
            return every * values(critic, real, fake, key).mean()

        if every == 1:
            return taken()
        return jax.lax.cond(turn % every == 0, taken, lambda: jnp.zeros(()))

    def d_loss_fn(
        d_params: Params,
        state: State,
        shown_pairs: tuple[Array, Array, Array | None],
        turn: Array,
        key: Key,
    ) -> tuple[Array, tuple[Params, Array, Metrics]]:
        """(1); with the new statistics, and the logits of data and samples."""
        real, fake, label = shown_pairs
        stats = state.d_stats
        real_logits, d_stats = discriminate(d_params, stats, real, label, train=True)
        fake_logits, d_stats = discriminate(d_params, d_stats, fake, label, train=True)
        d_loss = loss.discriminator(real_logits, fake_logits).mean()

        def critic(x: Array) -> Array:
            return discriminate(d_params, stats, x, label, train=True)[0]

        paid = penalty(critic, real, fake, turn, key)
        weight = penalty_weight(
            state.step,
            start=method.penalty_weight,
            end=method.penalty_weight_end,
            num_steps=config.training.num_steps,
        )
        metrics = {
            "d_loss": d_loss,
            "penalty": paid,
            "logit_real": real_logits.mean(),
            "logit_fake": fake_logits.mean(),
        }
        return d_loss + weight * paid, (d_stats, real_logits, metrics)

    def d_step(state: State, part: Any) -> tuple[State, Metrics]:
        """The state after one update of the discriminator."""
        (x, label), turn, key = part
        z_key, shown_key, penalty_key = jax.random.split(key, 3)
        z, p = draw_noise(z_key, len(x), latent_dim), state.augment_p
        fake, _ = generate(state.g_params, state.g_stats, z, label, train=True)
        pairs = *shown(x, fake, p, shown_key), label
        (total, (d_stats, real_logits, metrics)), grads = jax.value_and_grad(
            d_loss_fn, has_aux=True
        )(state.d_params, state, pairs, turn, penalty_key)
        updates, d_opt_state = d_optimizer.update(
            grads, state.d_opt_state, state.d_params
        )
        d_params = optax.apply_updates(state.d_params, updates)
        state = state._replace(
            d_params=clipped(d_params, method.clip_weights),
            d_stats=d_stats,
            d_opt_state=d_opt_state,
        )
        metrics |= {"loss": total, "d_grad_norm": optax.tree.norm(grads)}
        if method.augment != "ada":
            return state, metrics
        if method.loss not in SIGNED:
            real_logits -= (metrics["logit_real"] + metrics["logit_fake"]) / 2.0
        p = updated_p(
            p,
            real_logits,
            num_images=len(x),
            target=method.ada_target,
            speed=method.ada_speed,
        )
        return state._replace(augment_p=p), metrics | {"augment_p": p}

    def g_loss_fn(
        g_params: Params, state: State, x: Array, label: Array | None, key: Key
    ) -> tuple[Array, Params]:
        """(2), for the data x (B, *shape); with the new statistics."""
        z_key, shown_key = jax.random.split(key)
        z = draw_noise(z_key, len(x), latent_dim)
        fake, g_stats = generate(g_params, state.g_stats, z, label, train=True)
        logits = (
            discriminate(state.d_params, state.d_stats, packs, label, train=True)[0]
            for packs in shown(x, fake, state.augment_p, shown_key)
        )
        return loss.generator(*logits).mean(), g_stats

    def g_step(
        state: State, x: Array, label: Array | None, key: Key
    ) -> tuple[State, Metrics]:
        """The state after one update of the generator and its average."""
        (g_loss, g_stats), grads = jax.value_and_grad(g_loss_fn, has_aux=True)(
            state.g_params, state, x, label, key
        )
        updates, g_opt_state = g_optimizer.update(
            grads, state.g_opt_state, state.g_params
        )
        g_params = optax.apply_updates(state.g_params, updates)
        ema_params, ema_stats = ema_update(
            (state.ema_params, state.ema_stats),
            (g_params, g_stats),
            step=state.step,
            decay=ema_decay,
        )
        state = state._replace(
            g_params=g_params,
            g_stats=g_stats,
            ema_params=ema_params,
            ema_stats=ema_stats,
            g_opt_state=g_opt_state,
        )
        return state, {"g_loss": g_loss, "g_grad_norm": optax.tree.norm(grads)}

    def train_step(state: State, batch: Batch, key: Key) -> tuple[State, Metrics]:
        flip_key, d_key, g_key = jax.random.split(key, 3)
        x, num = to_model(batch["image"]), method.critic_steps
        if method.flip:
            mirrored = jax.random.bernoulli(flip_key, 0.5, (len(x), 1, 1, 1))
            x = jnp.where(mirrored, x[:, :, ::-1], x)
        parts = jax.tree.map(lambda rows: in_turn(rows, num), (x, label_of(batch)))
        turns = state.step * num + jnp.arange(num)
        state, of_steps = jax.lax.scan(
            d_step, state, (parts, turns, jax.random.split(d_key, num))
        )
        metrics = jax.tree.map(jnp.mean, of_steps)  # a bad step spoils the mean
        x, label = jax.tree.map(lambda rows: rows[-1], parts)
        state, of_generator = g_step(state, x, label, g_key)
        return state._replace(step=state.step + 1), metrics | of_generator

    # --- what the model can do --------------------------------------------------------

    def draw(state: State, z: Array, label: Array | None) -> Array:
        """The averaged generator's samples of the noise."""
        out, _ = generate(state.ema_params, state.ema_stats, z, label, train=False)
        return to_data(out)

    def decode(state: State, code: Array, key: Key) -> Array:
        del key
        return draw(state, code, None)

    def prior(key: Key, num: int) -> Array:
        return draw_noise(key, num, latent_dim, config.sampler.truncation)

    def sample(state: State, key: Key, num: int, label: Array | None = None) -> Array:
        """With labels, and none given, each class is as likely as another."""
        check_labels(label, num, num_classes)
        z_key, label_key = jax.random.split(key)
        if num_classes and label is None:
            label = jax.random.randint(label_key, (num,), 0, num_classes)
        return draw(state, prior(z_key, num), label)

    def evaluate(state: State, batch: Batch, key: Key) -> Metrics:
        """Logits of the test data, and of as many samples with their labels.

        At the optimum of (1) under a perfect generator the two are equal on average.
        """
        x, label = to_model(batch["image"]), label_of(batch)
        z = draw_noise(key, len(x), latent_dim)
        fake, _ = generate(state.ema_params, state.ema_stats, z, label, train=False)
        return {
            name: discriminate(
                state.d_params, state.d_stats, examples, label, train=False
            )[0]
            for name, examples in {"test_logit": x, "sample_logit": fake}.items()
        }

    def discriminate_data(state: State, data: Array) -> Array:
        x = to_model(data)
        return discriminate(state.d_params, state.d_stats, x, None, train=False)[0]

    return Experiment(
        init=init,
        train_step=train_step,
        sample=sample,
        decode=None if num_classes else decode,
        prior=None if num_classes else prior,
        evaluate=None if sees_several else evaluate,
        discriminate=None if sees_several or num_classes else discriminate_data,
        raw_weights=lambda state: state._replace(
            ema_params=state.g_params, ema_stats=state.g_stats
        ),
    )


# --- networks -------------------------------------------------------------------------


BACKBONES = {
    "mlp": (DenseGenerator, DenseDiscriminator),
    "dcgan": (DCGANGenerator, DCGANDiscriminator),
    "sngan": (SNGANGenerator, SNGANDiscriminator),
    "r3gan": (R3GANGenerator, R3GANDiscriminator),
}


def make_networks(config: Config, spec: DataSpec) -> tuple[nn.Module, nn.Module]:
    """The generator and the discriminator.

    Of config.model g_<field> is a field of the generator, d_<field> one of the
    discriminator, and what is left belongs to both.
    """
    model = config.model.to_dict()
    generator, discriminator = BACKBONES[model.pop("backbone")]
    del model["latent_dim"]
    both = {name: value for name, value in model.items() if name[:2] not in PREFIXES}
    g, d = (
        both | {name[2:]: v for name, v in model.items() if name[:2] == prefix}
        for prefix in PREFIXES
    )
    return generator(spec.shape, **g), discriminator(**d)


PREFIXES = ("g_", "d_")


def apply(
    network: nn.Module, params: Params, stats: Params, *inputs: Any, train: bool
) -> tuple[Array, Params]:
    """(output, statistics): in training those of the batch are used, and gathered."""
    out, updated = network.apply(
        {"params": params, "batch_stats": stats},
        *inputs,
        train=train,
        mutable=["batch_stats"] if train else [],
    )
    assert isinstance(out, jax.Array)
    return out, updated.get("batch_stats", stats)


# --- the method -----------------------------------------------------------------------


def draw_noise(
    key: Key, num: int, dim: int, limit: float | None = None
) -> Float[Array, "n d"]:
    """N(0, I), its numbers drawn anew until they lie within the limit, if there is one.

    BigGAN's truncation trick (Brock et al. 2019, arXiv:1809.11096, section 3.1): the
    lower the limit, the likelier and the more alike are the samples.
    """
    if limit is None:
        return jax.random.normal(key, (num, dim))
    return jax.random.truncated_normal(key, -limit, limit, (num, dim))


def pack(x: Shaped[Array, " n *d"], size: int) -> Shaped[Array, " m *e"]:
    """(n / size, ..., size * c): so many rows in turn, one's channels behind another's.

    size divides n.
    """
    packs = x.reshape(len(x) // size, size, *x.shape[1:])
    side_by_side = jnp.moveaxis(packs, 1, -2)  # (m, ..., size, c)
    return side_by_side.reshape(*side_by_side.shape[:-2], size * x.shape[-1])


def in_turn(x: Shaped[Array, " n *d"], parts: int) -> Shaped[Array, " p m *d"]:
    """(parts, n / parts, ...): part j holds the rows j, j + parts, j + 2 parts, ...

    So each device works on the rows that it already has. parts divides n.
    """
    return x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1)


def clipped(params: Params, limit: float) -> Params:
    """All weights moved into [-limit, limit]; 0: as they are."""
    if limit == 0:
        return params
    return jax.tree.map(lambda w: jnp.clip(w, -limit, limit), params)


def penalty_weight(
    step: Int[Array, ""], *, start: float, end: float | None, num_steps: int
) -> Float[Array, ""]:
    """From start to end by half a cosine over the training; None: start all along.

    R3GAN lowers it so (Huang et al. 2024, arXiv:2501.05441).
    """
    if end is None:
        return jnp.float32(start)
    done = jnp.minimum(step / num_steps, 1.0)
    return end + (start - end) * 0.5 * (1.0 + jnp.cos(jnp.pi * done))


# --- what a user may get wrong --------------------------------------------------------


def check(config: Config, spec: DataSpec) -> None:
    """Raises UserError for the first choice that does not exist or does not fit."""
    method, model, sampler = config.method, config.model, config.sampler
    one_of("model.backbone", model.backbone, BACKBONES)
    if "activation" in model:
        one_of("model.activation", model.activation, ACTIVATIONS)
    one_of("method.loss", method.loss, adversarial.LOSSES)
    one_of("method.penalty", method.penalty, ["none", *adversarial.PENALTIES])
    one_of("method.augment", method.augment, AUGMENTS)
    kinds(method.augment_policy)
    for name, value in [
        ("method.critic_steps", method.critic_steps),
        ("method.packing", method.packing),
        ("method.penalty_every", method.penalty_every),
        ("model.latent_dim", model.latent_dim),
    ]:
        if value < 1:
            raise UserError(f"{name} must be at least 1, not {value}")
    for name, value in [
        ("method.penalty_weight", method.penalty_weight),
        ("method.penalty_weight_end", method.penalty_weight_end or 0.0),
        ("method.clip_weights", method.clip_weights),
    ]:
        if value < 0:
            raise UserError(f"{name} must not be less than 0 (none), but is {value}")
    for name, value in [
        ("method.point_scale", method.point_scale),
        ("sampler.truncation", sampler.truncation),
    ]:
        if value is not None and not value > 0:
            raise UserError(f"{name} must be more than 0, not {value}")
    check_batch(config)
    check_network(config, spec)


def check_batch(config: Config) -> None:
    """Raises UserError for a batch that does not fit the discriminator's steps."""
    method, batch_size = config.method, config.training.batch_size
    if batch_size % (method.critic_steps * method.packing):
        raise UserError(
            f"training.batch_size={batch_size} does not divide into "
            f"method.critic_steps={method.critic_steps} parts of whole packs of "
            f"method.packing={method.packing}: choose a multiple of "
            f"{method.critic_steps * method.packing}"
        )


def check_network(config: Config, spec: DataSpec) -> None:
    """Raises UserError for networks that do not fit the data or the method."""
    method, model = config.method, config.model
    of_images = model.backbone != "mlp" or method.flip or method.augment != "none"
    if spec.num_levels == 0 and of_images:
        raise UserError(
            f"{spec.name} has points of shape {spec.shape}: choose "
            "model.backbone='mlp', method.flip=False and method.augment='none'"
        )
    if model.num_classes not in (0, spec.num_classes):
        raise UserError(
            f"{spec.name} has {spec.num_classes} classes, not model.num_classes="
            f"{model.num_classes}: give {spec.num_classes}, or 0 for no labels"
        )
    if model.num_classes and method.packing > 1:
        raise UserError(
            f"method.packing={method.packing} puts examples of several classes side by "
            "side, of which a discriminator with labels cannot be told: set "
            "model.num_classes=0 or packing=1"
        )


def check_discriminator(config: Config, discriminator: nn.Module) -> bool:
    """Whether one logit is of several examples. Raises UserError where it must not."""
    method = config.method
    if method.penalty != "none" and getattr(discriminator, "norm", "") == "batch":
        raise UserError(
            f"method.penalty={method.penalty!r} is of each example by itself, and "
            "model.d_norm='batch' lets its logit depend on the others: choose another "
            "d_norm, or penalty='none'"
        )
    return method.packing > 1 or getattr(discriminator, "minibatch_std", False)


def check_networks_fit(init: Callable[[Key], State], spec: DataSpec) -> None:
    """Raises UserError for fields of the networks that do not fit the data."""
    try:
        jax.eval_shape(init, jax.random.key(0))
    except ValueError as error:
        raise UserError(f"model.* does not fit {spec.name}: {error}") from error

"""CycleGAN: translation between two domains without pairs (Zhu et al. 2017).

Two generators, F from domain A to B and G from B to A, and a discriminator of each
domain, which gives every patch of an image a number, 1 for real and 0 for translated
(arXiv:1703.10593). A step lowers

  (1) the generators' loss, with the discriminators held:
      (D_B(F(a)) - 1)^2 + (D_A(G(b)) - 1)^2                    least squares adversaries
      + cycle_weight * (|G(F(a)) - a| + |F(G(b)) - b|)         eq. 2, lambda = 10
      + identity_weight * (|F(b) - b| + |G(a) - a|)           section 5.2, 0.5 lambda
  (2) the discriminators', with translations from a pool of the last 50 or so
      (Shrivastava et al. 2017, arXiv:1612.07828):
      ((D_B(b) - 1)^2 + D_B(F(a))^2 + (D_A(a) - 1)^2 + D_A(G(b))^2) / 2

all of them means over examples, patches or pixels, with pixels in [-1, 1]. No term sees
an image of A and one of B, so it does not matter which come in one batch.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float, Int

from genjax.experiment import Experiment
from genjax.models.patchgan import PatchDiscriminator, ResNetGenerator
from genjax.objectives.adversarial import least_squares, least_squares_generator
from genjax.train.optim import ema_update
from genjax.typing import (
    Array,
    Batch,
    Config,
    DataSpec,
    Direction,
    Key,
    Metrics,
    Params,
    UserError,
)


class Pool(NamedTuple):
    """Translations made earlier; the first min(num_seen, size) places are filled."""

    images: Float[Array, "size h w c"]
    num_seen: Int[Array, ""]


class State(NamedTuple):
    """Everything that a restart needs.

    g_params: {"a_to_b", "b_to_a"}; d_params and pools: {"a", "b"}, by domain.
    """

    g_params: Params
    d_params: Params
    ema_params: Params  # of the generators
    g_opt_state: optax.OptState
    d_opt_state: optax.OptState
    pools: dict[str, Pool]
    step: Array


def make_experiment(config: Config, spec: DataSpec) -> Experiment[State]:
    """CycleGAN on pairs of images. Raises UserError for what does not fit."""
    check(config, spec)
    method, optim, model = config.method, config.optim, config.model
    shape = spec.shape[1:]
    generator = ResNetGenerator(model.channels, model.num_downs, model.num_blocks)
    discriminator = PatchDiscriminator(tuple(model.d_channels))
    schedule = optax.linear_schedule(
        optim.learning_rate, 0.0, optim.decay_steps, optim.constant_steps
    )
    g_optimizer = optax.adam(schedule, b1=optim.b1, b2=optim.b2)
    d_optimizer = optax.adam(schedule, b1=optim.b1, b2=optim.b2)

    # --- data and networks ------------------------------------------------------------

    def to_model(image: Array) -> Array:
        """Levels to [-1, 1]."""
        return image.astype(jnp.float32) * (2.0 / (spec.num_levels - 1)) - 1.0

    def to_image(x: Array) -> Array:
        scaled = (x + 1.0) * ((spec.num_levels - 1) / 2.0)
        return jnp.round(scaled).astype(jnp.uint8)

    def generate(params: Params, x: Array) -> Array:
        """The translations (B, H, W, C) by one generator."""
        out = generator.apply({"params": params}, x)
        assert isinstance(out, jax.Array)
        return out

    def discriminate(params: Params, x: Array) -> Array:
        """A number for each patch, (B, h, w)."""
        out = discriminator.apply({"params": params}, x)
        assert isinstance(out, jax.Array)
        return out

    def augment(key: Key, image: Array) -> Array:
        """Images of one domain for training, in [-1, 1]: flipped and jittered."""
        flip_key, crop_key = jax.random.split(key)
        x = to_model(image)
        if method.flip:
            x = flip(flip_key, x)
        if method.resize is not None:
            x = jitter(crop_key, x, method.resize)
        return x

    def init(key: Key) -> State:
        keys = jax.random.split(key, 4)
        x = jnp.zeros((1, *shape))
        g_params = {
            "a_to_b": generator.init(keys[0], x)["params"],
            "b_to_a": generator.init(keys[1], x)["params"],
        }
        d_params = {
            "a": discriminator.init(keys[2], x)["params"],
            "b": discriminator.init(keys[3], x)["params"],
        }
        return State(
            g_params=g_params,
            d_params=d_params,
            ema_params=jax.tree.map(jnp.copy, g_params),  # its own memory
            g_opt_state=g_optimizer.init(g_params),
            d_opt_state=d_optimizer.init(d_params),
            pools={name: empty_pool(method.pool_size, shape) for name in ("a", "b")},
            step=jnp.zeros((), jnp.int32),
        )

    # --- training ---------------------------------------------------------------------

    def g_loss_fn(
        g_params: Params, d_params: Params, a: Array, b: Array
    ) -> tuple[Array, tuple[Metrics, Array, Array]]:
        """(1), and the translations of b to A and of a to B."""
        fake_b, fake_a = (
            generate(g_params["a_to_b"], a),
            generate(g_params["b_to_a"], b),
        )
        # 2: (1) has no half in front of the squares
        adversarial = sum(
            2.0 * least_squares_generator(logits, logits).mean()
            for logits in (
                discriminate(d_params["a"], fake_a),
                discriminate(d_params["b"], fake_b),
            )
        )
        cycle = l1(generate(g_params["b_to_a"], fake_b), a).mean()
        cycle += l1(generate(g_params["a_to_b"], fake_a), b).mean()
        loss = adversarial + method.cycle_weight * cycle
        metrics = {"g_adversarial": adversarial, "cycle": cycle}
        if method.identity_weight > 0:
            identity = l1(generate(g_params["b_to_a"], a), a).mean()
            identity += l1(generate(g_params["a_to_b"], b), b).mean()
            loss += method.identity_weight * identity
            metrics["identity"] = identity
        return loss, (metrics, fake_a, fake_b)

    def d_loss_fn(
        d_params: Params, real: dict[str, Array], fake: dict[str, Array]
    ) -> Array:
        """(2), for images of each domain."""
        of_a, of_b = (
            least_squares(
                discriminate(d_params[name], real[name]),
                discriminate(d_params[name], fake[name]),
            ).mean()
            for name in ("a", "b")
        )
        return of_a + of_b

    def train_step(state: State, batch: Batch, key: Key) -> tuple[State, Metrics]:
        a_key, b_key, pool_a_key, pool_b_key = jax.random.split(key, 4)
        a = augment(a_key, batch["image"][:, 0])
        b = augment(b_key, batch["image"][:, 1])

        (g_loss, (metrics, fake_a, fake_b)), g_grads = jax.value_and_grad(
            g_loss_fn, has_aux=True
        )(state.g_params, state.d_params, a, b)
        updates, g_opt_state = g_optimizer.update(g_grads, state.g_opt_state)
        g_params = optax.apply_updates(state.g_params, updates)

        pool_a, fake_a = query(state.pools["a"], fake_a, pool_a_key)
        pool_b, fake_b = query(state.pools["b"], fake_b, pool_b_key)
        d_loss, d_grads = jax.value_and_grad(d_loss_fn)(
            state.d_params, {"a": a, "b": b}, {"a": fake_a, "b": fake_b}
        )
        updates, d_opt_state = d_optimizer.update(d_grads, state.d_opt_state)
        d_params = optax.apply_updates(state.d_params, updates)

        metrics |= {
            "loss": g_loss,
            "d_loss": d_loss,
            "g_grad_norm": optax.tree.norm(g_grads),
            "d_grad_norm": optax.tree.norm(d_grads),
        }
        state = State(
            g_params=g_params,
            d_params=d_params,
            ema_params=ema_update(
                state.ema_params, g_params, step=state.step, decay=optim.ema_decay
            ),
            g_opt_state=g_opt_state,
            d_opt_state=d_opt_state,
            pools={"a": pool_a, "b": pool_b},
            step=state.step + 1,
        )
        return state, metrics

    # --- what the model can do --------------------------------------------------------

    def translate(state: State, images: Array, direction: Direction) -> Array:
        return to_image(generate(state.ema_params[direction], to_model(images)))

    def there_and_back(state: State, x: Array, direction: Direction) -> list[Array]:
        """What x is translated to, that translated back, and x by that way back."""
        back: Direction = "b_to_a" if direction == "a_to_b" else "a_to_b"
        there_params, back_params = state.ema_params[direction], state.ema_params[back]
        other = generate(there_params, x)
        return [other, generate(back_params, other), generate(back_params, x)]

    def evaluate(state: State, batch: Batch, key: Key) -> Metrics:
        """Mean absolute errors of a pixel, on the scale [0, 1].

        cycle_l1 of there and back, identity_l1 of an image that should stay as it is.
        Where pairs are known also the root mean square error of the translation,
        rmse, and of the image untouched in its place.
        """
        del key
        a, b = (to_model(batch["image"][:, i]) for i in range(2))
        fake_b, cycle_a, same_a = there_and_back(state, a, "a_to_b")
        fake_a, cycle_b, same_b = there_and_back(state, b, "b_to_a")
        values = {
            "cycle_l1_a": l1(cycle_a, a) / 2.0,
            "cycle_l1_b": l1(cycle_b, b) / 2.0,
            "identity_l1_a": l1(same_a, a) / 2.0,
            "identity_l1_b": l1(same_b, b) / 2.0,
        }
        if spec.aligned:
            values |= {
                "rmse_a_to_b": rmse(fake_b, b) / 2.0,
                "rmse_b_to_a": rmse(fake_a, a) / 2.0,
                "rmse_untouched": rmse(a, b) / 2.0,
            }
        return values

    def images(state: State, batch: Batch, key: Key) -> Metrics:
        """Four side by side: an image, translated, back again, and left as it is."""
        del key
        directions: dict[str, Direction] = {"a": "a_to_b", "b": "b_to_a"}
        named = {}
        for i, (name, direction) in enumerate(directions.items()):
            x = to_model(batch["image"][:, i])
            rows = jnp.stack([x, *there_and_back(state, x, direction)], axis=1)
            named[f"from_{name}"] = to_image(rows).reshape(-1, *shape)
        return named

    return Experiment(
        init=init,
        train_step=train_step,
        translate=translate,
        evaluate=evaluate,
        images=images,
        raw_weights=lambda state: state._replace(ema_params=state.g_params),
    )


# --- the method -----------------------------------------------------------------------


def l1(x: Float[Array, "b h w c"], y: Float[Array, "b h w c"]) -> Float[Array, " b"]:
    """The mean absolute difference of two images."""
    return jnp.mean(jnp.abs(x - y), axis=(1, 2, 3))


def rmse(x: Float[Array, "b h w c"], y: Float[Array, "b h w c"]) -> Float[Array, " b"]:
    """The root of the mean squared difference of two images."""
    return jnp.sqrt(jnp.mean(jnp.square(x - y), axis=(1, 2, 3)))


def empty_pool(size: int, shape: tuple[int, ...]) -> Pool:
    """A pool of so many places for images of this shape."""
    return Pool(jnp.zeros((size, *shape)), jnp.zeros((), jnp.int32))


def query(
    pool: Pool, images: Float[Array, "b h w c"], key: Key
) -> tuple[Pool, Float[Array, "b h w c"]]:
    """(the pool afterwards, what the discriminator is shown), image by image.

    Until the pool is full an image is kept and shown. Then, with probability 1/2, it
    takes a random place, and the one that was there is shown; or it is shown and not
    kept. A pool without places shows what it is given.
    """
    size = len(pool.images)
    if size == 0:
        return pool, images

    def one(pool: Pool, given: tuple[Array, Key]) -> tuple[Pool, Array]:
        image, key = given
        coin_key, place_key = jax.random.split(key)
        filling = pool.num_seen < size
        swap = ~filling & jax.random.bernoulli(coin_key)
        place = jnp.where(
            filling, pool.num_seen, jax.random.randint(place_key, (), 0, size)
        )
        old = pool.images[place]
        kept = pool.images.at[place].set(jnp.where(filling | swap, image, old))
        num_seen = jnp.minimum(pool.num_seen + 1, size)
        return Pool(kept, num_seen), jnp.where(swap, old, image)

    return jax.lax.scan(one, pool, (images, jax.random.split(key, len(images))))


def flip(key: Key, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Each image mirrored left to right with probability 1/2."""
    mirrored = jax.random.bernoulli(key, shape=(len(x), 1, 1, 1))
    return jnp.where(mirrored, x[:, :, ::-1], x)


def jitter(key: Key, x: Float[Array, "b h w c"], size: int) -> Float[Array, "b h w c"]:
    """Each image resized to this side, and a random part of the old size cut out."""
    b, height, width, c = x.shape
    larger = jax.image.resize(x, (b, size, size, c), "cubic")
    most = jnp.array([size - height + 1, size - width + 1])
    corners = jax.random.randint(key, (b, 2), jnp.zeros(2, jnp.int32)[None], most[None])

    def crop(image: Array, corner: Array) -> Array:
        start = (corner[0], corner[1], 0)
        return jax.lax.dynamic_slice(image, start, (height, width, c))

    return jnp.clip(jax.vmap(crop)(larger, corners), -1.0, 1.0)  # cubics overshoot


# --- what a user may get wrong --------------------------------------------------------


def check(config: Config, spec: DataSpec) -> None:
    """Raises UserError for the first choice that does not fit."""
    method, model, optim = config.method, config.model, config.optim
    if len(spec.shape) != 4:
        raise UserError(
            f"{spec.name} has examples of shape {spec.shape}, and CycleGAN needs "
            "images of two domains: set data.name=domains, data.a.name and data.b.name"
        )
    for name, value, least in [
        ("model.channels", model.channels, 1),
        ("model.num_downs", model.num_downs, 0),
        ("model.num_blocks", model.num_blocks, 0),
        ("model.d_channels", min(model.d_channels, default=0), 1),
        ("method.cycle_weight", method.cycle_weight, 0),
        ("method.identity_weight", method.identity_weight, 0),
        ("method.pool_size", method.pool_size, 0),
        ("optim.constant_steps", optim.constant_steps, 0),
        ("optim.decay_steps", optim.decay_steps, 1),
    ]:
        if value < least:
            raise UserError(f"{name} must be at least {least}, not {value}")
    if not 0 <= optim.ema_decay < 1:
        raise UserError(
            f"optim.ema_decay must be at least 0 and below 1, not {optim.ema_decay}"
        )
    _, height, width, _ = spec.shape
    factor = 2**model.num_downs
    for side in (height, width):
        if side % factor or side < max(2 * factor, 4):
            raise UserError(
                f"images of {height} x {width} pixels cannot be halved "
                f"model.num_downs={model.num_downs} times and leave 2 pixels: set "
                f"data.image_size to a multiple of {factor}"
            )
    if patches(min(height, width), len(model.d_channels)) < 1:
        raise UserError(
            f"images of {height} x {width} pixels are too small for the "
            f"{len(model.d_channels)} layers of model.d_channels: give fewer"
        )
    if method.resize is not None and (height != width or method.resize < height):
        raise UserError(
            f"method.resize={method.resize} must be None, or the side of a square that "
            f"the images of {height} x {width} pixels fit in"
        )


def patches(side: int, num_layers: int) -> int:
    """How many logits `PatchDiscriminator` gives along this side of an image."""
    for _ in range(num_layers - 1):
        side = side // 2
    return side - 2

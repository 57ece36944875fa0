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

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from genjax.augment.jitter import Crops
from genjax.experiment import Experiment
from genjax.fields import Count, NonNegative, Steps
from genjax.models import traced
from genjax.models.fields import Dtype
from genjax.models.patchgan import PatchDiscriminator, ResNetGenerator, check_fits
from genjax.objectives.adversarial import least_squares, least_squares_generator
from genjax.objectives.cycle import BACK, errors, l1, there_and_back
from genjax.scale import Scale
from genjax.state import TrainState, raw
from genjax.training.image_pool import Pool, empty_pool, query
from genjax.training.learner import Learner, Optim
from genjax.typing import Array, Batch, DataSpec, Direction, Key, Metrics, Params

Images = Float[Array, "b h w c"]
Nets = Mapping[str, Callable[[Images], Array]]
"""Generators {"a_to_b", "b_to_a"}, or discriminators {"a", "b"}, which give logits."""


class State(NamedTuple):
    """Everything that a restart needs: of generators and discriminators; {"a", "b"}."""

    g: TrainState
    d: TrainState
    pools: dict[str, Pool]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """The networks (`genjax.models.patchgan`)."""

    channels: Count = 64  # of the generators; each halving doubles them
    num_downs: Steps = 2  # halvings of height and width
    num_blocks: Steps = 9  # residual blocks, at the smallest size
    d_channels: tuple[Count, ...] = (64, 128, 256, 512)  # default: patches of 70 x 70
    dtype: Dtype = "float32"  # of the arithmetic; parameters and losses are float32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """What the paper leaves open."""

    cycle_weight: NonNegative = 10.0  # of the cycle loss in (1)
    identity_weight: NonNegative = 0.0  # in (1); 5.0 keeps the colours of photographs
    pool_size: Steps = 50  # earlier translations kept for the discriminators


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The sections of a config for this file."""

    model: Model = Model()
    method: Method = Method()
    inputs: Crops = Crops()
    optim: Optim = Optim(b1=0.5, decay="linear")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Game:
    """The players, as functions of their weights, and how they learn."""

    generators: Callable[[Params], Nets]
    discriminators: Callable[[Params], Nets]
    g_learner: Learner
    d_learner: Learner
    method: Method = Method()


def make_experiment(config: Config, spec: DataSpec) -> Experiment[State]:
    """CycleGAN on pairs of images. Raises UserError for what does not fit."""
    model, scale = config.model, Scale(spec.num_levels)
    check_fits(spec, num_downs=model.num_downs, num_layers=len(model.d_channels))
    augment, shape = config.inputs.fitting(spec), spec.shape[1:]
    generator = ResNetGenerator(model.channels, model.num_downs, model.num_blocks)
    discriminator = PatchDiscriminator(model.d_channels)
    game = Game(
        generators=functools.partial(bind, generator, model.dtype),
        discriminators=functools.partial(bind, discriminator, model.dtype),
        g_learner=config.optim.learner(),
        d_learner=config.optim.opponent(),
        method=config.method,
    )

    def init(key: Key) -> State:
        ab, ba, a, b = jax.random.split(key, 4)
        x = jnp.zeros((1, *shape))
        g = {
            n: generator.init(k, x)["params"]
            for n, k in {"a_to_b": ab, "b_to_a": ba}.items()
        }
        d = {n: discriminator.init(k, x)["params"] for n, k in {"a": a, "b": b}.items()}
        pools = {n: empty_pool(config.method.pool_size, shape) for n in d}
        return State(game.g_learner.init(g), game.d_learner.init(d), pools)

    def train_step(state: State, batch: Batch, key: Key) -> tuple[State, Metrics]:
        a_key, b_key, *pool_keys = jax.random.split(key, 4)
        x = scale.to_model(batch["image"])
        real = {"a": augment(a_key, x[:, 0]), "b": augment(b_key, x[:, 1])}
        return play(game, state, real, dict(zip("ab", pool_keys, strict=True)))

    def translators(state: State) -> Nets:
        return game.generators(state.g.averaged[0])

    def translate(state: State, images: Array, direction: Direction) -> Array:
        return scale.to_data(translators(state)[direction](scale.to_model(images)))

    def evaluate(state: State, batch: Batch, key: Key) -> Metrics:
        x = scale.to_model(batch["image"])
        return errors(translators(state), x[:, 0], x[:, 1], aligned=spec.aligned)

    def images(state: State, batch: Batch, key: Key) -> Metrics:
        """Four side by side: an image, translated, back again, and left as it is."""
        nets, named = translators(state), {}
        for i, direction in enumerate(BACK):
            x = scale.to_model(batch["image"][:, i])
            rows = jnp.stack([x, *there_and_back(nets, x, direction)], axis=1)
            named[f"from_{direction[0]}"] = scale.to_data(rows).reshape(-1, *shape)
        return named

    return Experiment(
        init=init,
        train_step=train_step,
        translate=translate,
        evaluate=evaluate,
        images=images,
        raw_weights=game.g_learner.raw and (lambda s: s._replace(g=raw(s.g))),
        training_only=("pools/",),
    )


def bind(module: nn.Module, dtype: Dtype, params: Params) -> Nets:
    """{name: the module with params[name]}, as functions of images."""
    nets: dict[str, Any] = {}
    apply = functools.partial(traced.apply, module, dtype=dtype)
    for name, own in params.items():
        nets[name] = functools.partial(apply, {"params": own})
    return nets


# --- training -------------------------------------------------------------------------


def play(
    game: Game, state: State, real: Mapping[str, Images], keys: Mapping[str, Key]
) -> tuple[State, Metrics]:
    """One step: (1), then (2) with what the pools give for the new translations."""

    def g_loss_fn(params: Params, real: Mapping[str, Images], key: Key) -> Any:
        judge = game.discriminators(state.d.params)
        loss, *aux = g_loss(game.generators(params), judge, real, game.method)
        return loss, ({}, aux)

    none = keys["a"]  # these losses draw nothing
    g, of_g, (metrics, made) = game.g_learner.descend(g_loss_fn, state.g, real, none)
    found = {name: query(state.pools[name], made[name], keys[name]) for name in made}
    fake = {name: images for name, (_, images) in found.items()}

    def d_loss_fn(params: Params, images: tuple[Any, Any], key: Key) -> Any:
        return d_loss(game.discriminators(params), *images), ({}, None)

    d, of_d, _ = game.d_learner.descend(d_loss_fn, state.d, (real, fake), none)
    metrics |= of_g.metrics("g_") | of_d.metrics("d_", loss="d_loss")
    return State(g, d, {name: pool for name, (pool, _) in found.items()}), metrics


def g_loss(
    translate: Nets, judge: Nets, real: Mapping[str, Images], method: Method
) -> tuple[Array, Metrics, dict[str, Images]]:
    """(1), its terms, and the translations to each domain."""
    a, b = real["a"], real["b"]
    to_a, to_b = translate["b_to_a"], translate["a_to_b"]
    fake = {"b": to_b(a), "a": to_a(b)}
    adversarial = jnp.zeros(())
    for name in ("a", "b"):
        logits = judge[name](fake[name])
        # 2: (1) has no half in front of the squares
        adversarial += 2.0 * least_squares_generator(logits, logits).mean()
    cycle = l1(to_a(fake["b"]), a).mean() + l1(to_b(fake["a"]), b).mean()
    loss = adversarial + method.cycle_weight * cycle
    metrics = {"g_adversarial": adversarial, "cycle": cycle}
    if method.identity_weight > 0:
        metrics["identity"] = l1(to_a(a), a).mean() + l1(to_b(b), b).mean()
        loss += method.identity_weight * metrics["identity"]
    return loss, metrics, fake


def d_loss(
    judge: Nets, real: Mapping[str, Images], fake: Mapping[str, Images]
) -> Array:
    """(2), of images of each domain."""
    of_a, of_b = (
        least_squares(judge[name](real[name]), judge[name](fake[name])).mean()
        for name in ("a", "b")
    )
    return of_a + of_b

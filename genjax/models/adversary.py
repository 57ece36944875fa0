"""The networks of a GAN by name: a generator and a discriminator, as pure functions."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from genjax.choices import one_of
from genjax.fields import REQUIRED, Count, Field, Open
from genjax.models import traced
from genjax.models.backbone import CLASSES, check_builds, classes_of
from genjax.models.dcgan import DCGANDiscriminator, DCGANGenerator
from genjax.models.dense_gan import DenseDiscriminator, DenseGenerator
from genjax.models.fields import DTYPE, Dtype, fields_of
from genjax.models.r3gan import R3GANDiscriminator, R3GANGenerator
from genjax.models.sngan import SNGANDiscriminator, SNGANGenerator
from genjax.typing import Array, DataSpec, Key, Params, UserError


class Modules(NamedTuple):
    """A backbone. shared: fields that both modules have, and take the same value."""

    generator: type[nn.Module]
    discriminator: type[nn.Module]
    shared: tuple[str, ...] = ()


BACKBONES = {
    "mlp": Modules(DenseGenerator, DenseDiscriminator, ("activation",)),
    "dcgan": Modules(DCGANGenerator, DCGANDiscriminator),
    "sngan": Modules(SNGANGenerator, SNGANDiscriminator),
    "r3gan": Modules(
        R3GANGenerator,
        R3GANDiscriminator,
        ("widths", "blocks", "expansion", "group_size"),
    ),
}


def fields(stated: Mapping[str, Any]) -> dict[str, Field]:
    """Those of config.model, for its backbone. Raises UserError for an unknown one.

    g_<name> is a field of the generator, d_<name> one of the discriminator.
    """
    one_of("model.backbone", stated.get("backbone", ""), BACKBONES)
    names = Literal["mlp", "dcgan", "sngan", "r3gan"]
    generator, discriminator, shared = BACKBONES[stated["backbone"]]
    of_both = fields_of(generator)
    without = ("shape", "num_classes", *shared)
    return {
        "backbone": Field(names, REQUIRED, "mlp for points, any for images"),
        "latent_dim": Field(Count, REQUIRED, "numbers in the noise z"),
        **{name: of_both[name] for name in shared},
        **fields_of(generator, without=without, prefix="g_"),
        **fields_of(discriminator, without=without, prefix="d_"),
        "num_classes": CLASSES,
        "dtype": DTYPE,
    }


Model = Annotated[Mapping[str, Any], Open(fields)]
"""config.model: a backbone, the size of z, and the fields of both modules."""

Apply = Callable[..., tuple[Array, Params]]
"""(params, stats, input, label, *, train) -> (output, the statistics after it).

stats: flax's batch_stats, {} without. train: use and gather those of the batch.
"""


class Player(NamedTuple):
    """One of the two. init: (key) -> (params, stats)."""

    init: Callable[[Key], tuple[Params, Params]]
    apply: Apply

    def train(
        self, params: Params, stats: Params, x: Array, label: Array | None
    ) -> tuple[Array, Params]:
        """(output, the statistics after it), with those of the batch."""
        return self.apply(params, stats, x, label, train=True)

    def __call__(
        self, params: Params, stats: Params, x: Array, label: Array | None = None
    ) -> Array:
        """The output with the gathered statistics."""
        return self.apply(params, stats, x, label, train=False)[0]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
    """Both: z (B, latent_dim) to examples, and packs of examples to logits (m,)."""

    generator: Player
    discriminator: Player
    latent_dim: int
    num_classes: int = 0

    sees_several: bool = False
    """A logit is of several examples: of a pack, or of one among its batch."""


def make_pair(
    spec: DataSpec,
    *,
    backbone: str,
    latent_dim: int,
    num_classes: int | None = 0,
    packing: int = 1,
    slopes: bool = False,
    parts: int = 1,
    dtype: Dtype = "float32",
    **options: Any,
) -> Pair:
    """The two networks, with the fields that `fields` lists.

    num_classes: None for those of the data. packing: examples that the discriminator
    sees side by side. slopes: its gradient at each of them will be asked for. parts:
    of a batch that are seen one after another. Raises UserError for networks that do
    not fit the data, each other or these.
    """
    one_of("model.backbone", backbone, BACKBONES)
    if spec.num_levels == 0 and backbone != "mlp":
        raise UserError(
            f"{spec.name} has points of shape {spec.shape}, for which "
            f"config.model.backbone={backbone!r} is not made: choose 'mlp'"
        )
    num_classes = classes_of(spec, num_classes)
    if num_classes and packing > 1:
        raise UserError(
            f"config.method.packing={packing} puts examples of several classes side by "
            "side, and a discriminator with labels takes one: set model.num_classes=0 "
            "or packing=1"
        )
    modules = BACKBONES[backbone]
    both = {name: options.pop(name) for name in modules.shared if name in options}
    both |= {"num_classes": num_classes}
    g, d = (
        both | {k.removeprefix(of): v for k, v in options.items() if k.startswith(of)}
        for of in ("g_", "d_")
    )
    discriminator = modules.discriminator(**d)
    if slopes and getattr(discriminator, "norm", "") == "batch":
        raise UserError(
            "config.method.penalty is of each example by itself, and model.d_norm="
            "'batch' lets its logit depend on the others: choose another d_norm, or "
            "penalty.name='none'"
        )
    spread = getattr(discriminator, "minibatch_std", False)
    packs = (*spec.shape[:-1], spec.shape[-1] * packing)
    generator = modules.generator(shape=spec.shape, **g)
    pair = Pair(
        generator=player(generator, (latent_dim,), num_classes, dtype),
        discriminator=player(discriminator, packs, num_classes, dtype),
        latent_dim=latent_dim,
        num_classes=num_classes,
        sees_several=packing > 1 or spread,
    )
    for one in (pair.generator, pair.discriminator):
        check_builds(one.init, spec)
    check_parts(pair, parts, spread)
    return pair


def check_parts(pair: Pair, parts: int, spread: bool) -> None:
    """Raises UserError for parts of a batch in which something is of the whole of it.

    The mean over the parts would be the gradient of another loss. spread: whether the
    discriminator looks at that of the batch.
    """
    normed = any(map(has_batch_norm, (pair.generator, pair.discriminator)))
    if parts > 1 and (normed or spread):
        reason = "model.d_minibatch_std is" if spread else "batch norm is"
        raise UserError(
            f"config.optim.accumulation={parts} takes a batch in parts, and {reason} "
            "of the whole batch: set it to 1, or model.backbone to 'mlp' or 'r3gan', "
            "which do without"
        )


def has_batch_norm(player: Player) -> bool:
    """Whether it keeps a running mean; spectral norm's statistics have none."""
    key = jax.eval_shape(jax.random.key, 0)
    _, stats = jax.eval_shape(player.init, key)
    paths = jax.tree_util.tree_leaves_with_path(stats)
    return any(jax.tree_util.keystr(path).endswith("['mean']") for path, _ in paths)


def player(
    module: nn.Module,
    shape: tuple[int, ...],
    num_classes: int,
    dtype: Dtype = "float32",
) -> Player:
    """A module of inputs of this shape and labels, with batch statistics or without."""

    def init(key: Key) -> tuple[Params, Params]:
        label = jnp.zeros(1, jnp.int32) if num_classes else None
        made = module.init(key, jnp.zeros((1, *shape)), label, train=False)
        return made["params"], made.get("batch_stats", {})

    def apply(
        params: Params, stats: Params, x: Array, label: Array | None, *, train: bool
    ) -> tuple[Array, Params]:
        out, updated = traced.apply(
            module,
            {"params": params, "batch_stats": stats},
            x,
            label,
            train=train,
            mutable=("batch_stats",) if train else (),
            dtype=dtype,
        )
        assert isinstance(out, jax.Array)
        return out, updated.get("batch_stats", stats)

    return Player(init, apply)

"""The networks of (x, t, label) by name, as pure functions."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from genjax.choices import one_of
from genjax.fields import REQUIRED, Field, Open, Steps
from genjax.models import traced
from genjax.models.dit import DiT
from genjax.models.fields import fields_of, module_options
from genjax.models.mlp import TimeMLP
from genjax.models.unet import UNet
from genjax.typing import Array, DataSpec, Key, Net, Params, Tensor, UserError

BACKBONES: dict[str, type[nn.Module]] = {"unet": UNet, "dit": DiT, "mlp": TimeMLP}
"""By name. An experiment with a network of its own adds it: BACKBONES["mine"] = Mine,
with the fields out_channels, num_classes and dtype, and the call that UNet has."""

OF_IMAGES, OF_POINTS = ("unet", "dit"), ("mlp",)
CLASSES = Field(Steps | None, 0, "classes it is told; 0: none, None: those of the data")
GIVEN = ("out_channels", "num_features", "num_augment")  # by the experiment


def fields(stated: Mapping[str, Any]) -> dict[str, Field]:
    """Those of config.model, for its backbone. Raises UserError for an unknown one."""
    one_of("model.backbone", stated.get("backbone", ""), BACKBONES)
    names = Literal[tuple(BACKBONES)]  # pyright: ignore  (its own may be among them)
    backbone = Field(names, REQUIRED, "unet and dit for images, mlp for points")
    module = BACKBONES[stated["backbone"]]
    known = fields_of(module, without=GIVEN)
    return {"backbone": backbone, **known, "num_classes": CLASSES}


Model = Annotated[Mapping[str, Any], Open(fields)]
"""config.model: a backbone and the fields of its module."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """A function of a noisy example, a time and perhaps a label, and its weights."""

    init: Callable[[Key], Params]
    apply: Callable[..., Array]  # (params, x, t, label, dropout_key=None, **more)
    num_classes: int

    def bind(
        self,
        params: Params,
        label: Array | None,
        dropout_key: Key | None = None,
        **more: Any,
    ) -> Net:
        """net(x, t), t a scalar or (B,). A dropout_key means training."""
        return lambda x, t: self.apply(params, x, t, label, dropout_key, **more)


def make_network(
    spec: DataSpec,
    *,
    backbone: str,
    outputs: int = 1,
    see: Callable[[Array, Array], Array] = lambda x, t: x,
    num_classes: int | None = 0,
    **options: Any,
) -> Network:
    """The network with `outputs` numbers for each number of an example.

    see: (x, t) -> the network's input. num_classes: None for those of the data.
    options: fields of the backbone's module.
    Raises UserError for one that does not exist or does not fit the data.
    """
    one_of("model.backbone", backbone, BACKBONES)
    check_fits(spec, backbone)
    classes = classes_of(spec, num_classes)
    module = BACKBONES[backbone](
        out_channels=spec.shape[-1] * outputs,
        num_classes=classes,
        **module_options(options),
    )

    def init(key: Key) -> Params:
        x, t = jnp.zeros((1, *spec.shape)), jnp.ones(1)
        label = jnp.zeros(1, jnp.int32) if classes else None
        return module.init(key, see(x, t), t, label)["params"]

    def apply(
        params: Params,
        x: Array,
        t: Array,
        label: Array | None = None,
        dropout_key: Key | None = None,
        **more: Any,
    ) -> Array:
        t, train = jnp.broadcast_to(t, x.shape[:1]), dropout_key is not None
        streams: dict[str, Any] = {"dropout": dropout_key} if train else {}
        variables = {"params": params}
        out = traced.apply(
            module, variables, see(x, t), t, label, train=train, rngs=streams, **more
        )
        assert isinstance(out, jax.Array)
        return out

    check_builds(init, spec)
    return Network(init=init, apply=apply, num_classes=classes)


def tensor_of(*, backbone: str, num_classes: int | None = 0, **options: Any) -> Tensor:
    """How `mesh.tensor` splits the network of config.model; `Tensor()`: not at all."""
    del num_classes  # makes no difference
    one_of("model.backbone", backbone, BACKBONES)
    module = BACKBONES[backbone](out_channels=1, **module_options(options))
    return getattr(module, "tensor", Tensor())


def check_fits(spec: DataSpec, backbone: str) -> None:
    """Raises UserError for a backbone of other data."""
    is_image = spec.num_levels > 0
    if backbone in (OF_POINTS if is_image else OF_IMAGES):
        fitting = "'unet' or 'dit'" if is_image else "'mlp'"
        raise UserError(
            f"{spec.name} has examples of shape {spec.shape}, for which "
            f"config.model.backbone={backbone!r} is not made: choose {fitting}"
        )


def classes_of(spec: DataSpec, num_classes: int | None) -> int:
    """num_classes, or those of the data for None.

    Raises UserError unless it is 0 or that of the data.
    """
    if num_classes is None:
        return spec.num_classes
    if num_classes in (0, spec.num_classes):
        return num_classes
    fitting = f"{spec.num_classes}, or 0 for no labels" if spec.num_classes else "0"
    raise UserError(
        f"{spec.name} has {spec.num_classes} classes, not "
        f"config.model.num_classes={num_classes}: give {fitting}"
    )


def check_builds(
    init: Callable[[Key], Any], spec: DataSpec, field: str = "model"
) -> None:
    """Raises UserError, with the network's own words, for fields that do not fit.

    field: of the config, which holds the network's size.
    """
    try:
        jax.eval_shape(init, jax.random.key(0))
    except (ValueError, TypeError, ZeroDivisionError, IndexError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"config.{field} does not fit {spec.name}, whose examples have the shape "
            f"{spec.shape}: {reason}"
        ) from error

"""The two networks of an autoencoder, dense or convolutional, of which one mirrors the
other.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from flax import linen as nn

from genjax.choices import one_of
from genjax.fields import REQUIRED, Count, Field, Open
from genjax.models.convnet import ConvDecoder, ConvEncoder
from genjax.models.fields import DTYPE, fields_of
from genjax.models.mlp import MLP
from genjax.models.networks import Networks
from genjax.typing import Array, DataSpec, Params, UserError

ENCODERS = {"dense": MLP, "conv": ConvEncoder}
OUTPUTS = {"linear": lambda x: x, "sigmoid": nn.sigmoid}


def fields(stated: Mapping[str, Any]) -> dict[str, Field]:
    """Those of config.model, for its backbone. Raises UserError for an unknown one."""
    backbone = str(stated.get("backbone"))
    one_of("model.backbone", backbone, ENCODERS)
    return {
        "backbone": Field(Literal["dense", "conv"], REQUIRED, "dense layers, or conv"),
        "code_size": Field(Count, REQUIRED, "numbers in a code"),
        "output": Field(Literal["linear", "sigmoid"], "sigmoid", "of the last layer"),
        **fields_of(ENCODERS[backbone], without=("out_features",)),
        "dtype": DTYPE,
    }


Model = Annotated[Mapping[str, Any], Open(fields)]
"""config.model: a backbone and the fields of its encoder, which the decoder mirrors."""


def is_linear(model: Mapping[str, Any]) -> bool:
    """Whether encoder and decoder are affine maps."""
    no_layers = model["backbone"] == "dense" and not model["widths"]
    return no_layers and model.get("output") == "linear"


class Autoencoder:
    """encode(params, x) and decode(params, z), of pixels x near [0, 1]."""

    def __init__(self, spec: DataSpec, model: Mapping[str, Any]):
        """Raises UserError for fields that do not fit."""
        num_pixels = math.prod(spec.shape)
        options = dict(model)
        backbone, size = options.pop("backbone"), options.pop("code_size")
        dtype = options.pop("dtype", "float32")
        self.output = OUTPUTS[options.pop("output", "sigmoid")]
        self.shape = spec.shape
        if is_linear(model) and size >= num_pixels:
            raise UserError(
                f"model.code_size of a linear autoencoder must lie below the "
                f"{num_pixels} pixels of {spec.name}, where it can copy them, not "
                f"{size}"
            )
        if backbone == "conv":
            channels = options.pop("channels")
            shape = spec.shape
            encoder = ConvEncoder(channels, size, **options)
            decoder = ConvDecoder(channels, shape, **options)
        else:
            widths, shape = options.pop("widths"), (num_pixels,)
            encoder = MLP(widths, size, **options)
            decoder = MLP(widths[::-1], num_pixels, **options)
        self.input_shape = shape
        self.networks = Networks.fitting(
            spec, dtype, encoder=(encoder, shape), decoder=(decoder, (size,))
        )

    def encode(self, params: Params, x: Array) -> Array:
        """Codes (B, code_size)."""
        return self.networks(params, "encoder", x.reshape(len(x), *self.input_shape))

    def decode(self, params: Params, z: Array) -> Array:
        """Images (B, *shape) near [0, 1], which a linear output may leave."""
        x = self.networks(params, "decoder", z)
        return self.output(x).reshape(len(z), *self.shape)

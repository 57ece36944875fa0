"""The networks around a bottleneck: an image to a map of vectors, and back."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

import jax
from jaxtyping import Float

from genjax.fields import Count, Field, Open
from genjax.models.convnet import Downsampler, Upsampler, map_size
from genjax.models.fields import DTYPE, Dtype, fields_of
from genjax.models.networks import Networks
from genjax.nn.conv import Conv
from genjax.typing import Array, DataSpec, Params


def fields(stated: Mapping[str, Any]) -> dict[str, Field]:
    """Those of config.model, which are the encoder's; the decoder mirrors it."""
    del stated  # they do not depend on it
    meaning = "numbers in a vector of the map; of fsq it is one for each of the levels"
    own = {"code_dim": Field(Count, 16, meaning), "dtype": DTYPE}
    return {**fields_of(Downsampler), **own}


Model = Annotated[Mapping[str, Any], Open(fields)]
"""config.model: the fields of `Downsampler`, code_dim and dtype."""


@dataclasses.dataclass(frozen=True)
class MapNetworks:
    """An encoder to maps and a decoder of maps. place: height and width of a map."""

    parts: Networks
    place: tuple[int, int]
    standardize: bool

    def encode(self, params: Params, x: Array) -> Float[Array, "b h w o"]:
        """What a bottleneck gets, for pixels in [0, 1]."""
        features = self.parts(params, "encoder", 2.0 * x - 1.0)
        if self.standardize:
            features = jax.nn.standardize(features)
        return self.parts(params, "to_code", features)

    def decode(self, params: Params, z: Array) -> Float[Array, "b h w o"]:
        """Two numbers for each value of an image, such as a mean and a log scale."""
        return self.parts(params, "decoder", z)


def make_networks(
    spec: DataSpec,
    *,
    channels: tuple[int, ...],
    code_dim: int,
    outputs: int,
    standardize: bool = False,
    dtype: Dtype = "float32",
    **options: Any,
) -> MapNetworks:
    """Of "encoder", "to_code" and "decoder".

    outputs: numbers of a vector that the encoder makes. code_dim: of one that the
    decoder takes. standardize: the features before "to_code" at each place. options:
    fields of `Downsampler`. Raises UserError for what does not fit.
    """
    rows, columns, values = spec.shape
    place = map_size(spec.shape, len(channels))
    decoder = Upsampler(channels, (rows, columns, 2 * values), **options)
    parts = Networks.fitting(
        spec,
        dtype,
        encoder=(Downsampler(channels, **options), spec.shape),
        to_code=(Conv(outputs, (1, 1)), (*place, channels[-1])),
        decoder=(decoder, (*place, code_dim)),
    )
    return MapNetworks(parts, place, standardize)

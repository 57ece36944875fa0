"""Autoencoders: a code of few numbers from which the image can be drawn again.

An encoder and a decoder are trained together on the squared error of the image, summed
over its pixels, with pixels in [0, 1] (the unit of Hinton & Salakhutdinov 2006,
doi:10.1126/science.1127647, whose 784-1000-500-250-30 is `autoencoder_mnist`):

  loss(x) = |x - decode(encode(x))|^2

- Without hidden layers both are affine maps, and the best of them draws the projection
  on the first principal components (Baldi & Hornik 1989, doi:10.1016/0893-6080(89)
  90014-2): the decoder spans the subspace of PCA, though its axes are any basis of it.
  So the truth is known, and `evaluate` says how far off it is; for that alone the first
  epoch also gathers the covariance of the data, as `experiments/pca.py` does.
- With hidden layers, the paper's layers were trained one by one first; Adam and modern
  activations do without.

It has no `sample`: nothing in the loss says which codes are likely, so there is no
distribution to draw a code from. A variational autoencoder adds just that.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from genjax.choices import images_only, one_of
from genjax.evaluation.subspace import largest_principal_angle
from genjax.experiment import Experiment
from genjax.models.convnet import ConvDecoder, ConvEncoder
from genjax.models.mlp import ACTIVATIONS, MLP
from genjax.moments import Moments, standard_moments, update
from genjax.objectives.ppca import principal_components
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

# what config.model holds for each kind of network, beside what all have
FIELDS = {"dense": ("widths",), "conv": ("channels", "num_res_blocks")}
OUTPUTS = {"linear": lambda x: x, "sigmoid": nn.sigmoid}


class State(NamedTuple):
    """Everything that a restart needs."""

    params: Params
    opt_state: optax.OptState
    moments: Moments | None  # of the training set, where PCA is the answer


def make_experiment(config: Config, spec: DataSpec) -> Experiment[State]:
    """Any of the autoencoders. Raises UserError for a choice that does not exist."""
    check(config, spec)
    encoder, decoder, encoder_shape = networks(config, spec)
    num_pixels = math.prod(spec.shape)
    output, is_linear = OUTPUTS[config.model.output], linear(config)
    optimizer = make_optimizer(**config.optim.to_dict())

    # --- data and networks ------------------------------------------------------------

    def to_unit(image: Array) -> Array:
        """Pixels to [0, 1]."""
        return image.astype(jnp.float32) / (spec.num_levels - 1)

    def to_image(x: Array) -> Array:
        scaled = jnp.clip(x, 0.0, 1.0) * (spec.num_levels - 1)
        return jnp.round(scaled).astype(jnp.uint8)

    def encode_x(params: Params, x: Array) -> Array:
        """Code (B, code_size) of images in [0, 1]."""
        x = x.reshape(len(x), *encoder_shape)
        code = encoder.apply({"params": params["encoder"]}, x)
        assert isinstance(code, jax.Array)
        return code

    def decode_z(params: Params, z: Array) -> Array:
        """Images (B, *shape) near [0, 1], which a linear output may leave."""
        x = decoder.apply({"params": params["decoder"]}, z)
        assert isinstance(x, jax.Array)
        return output(x).reshape(len(z), *spec.shape)

    def init(key: Key) -> State:
        encoder_key, decoder_key = jax.random.split(key)
        x, z = jnp.zeros((1, *encoder_shape)), jnp.zeros((1, config.model.code_size))
        params = {
            "encoder": encoder.init(encoder_key, x)["params"],
            "decoder": decoder.init(decoder_key, z)["params"],
        }
        moments = standard_moments(num_pixels) if is_linear else None
        return State(params, optimizer.init(params), moments)

    # --- training ---------------------------------------------------------------------

    def squared_error(params: Params, x: Array) -> Array:
        """The loss of each image, (B,): a sum over its pixels."""
        error = jnp.square(x - decode_z(params, encode_x(params, x)))
        return jnp.sum(error, axis=(1, 2, 3))

    def train_step(state: State, batch: Batch, key: Key) -> tuple[State, Metrics]:
        del key  # nothing is drawn
        x = to_unit(batch["image"])
        loss, grads = jax.value_and_grad(
            lambda params: squared_error(params, x).mean()
        )(state.params)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {"loss": loss, "grad_norm": optax.tree.norm(grads)}
        return State(params, opt_state, gather(state.moments, x)), metrics

    def gather(moments: Moments | None, x: Array) -> Moments | None:
        """The moments with x, in the first epoch."""
        if moments is None:
            return None
        return jax.lax.cond(
            moments.num_rows < spec.num_train,
            lambda: update(moments, x.reshape(-1, num_pixels)),
            lambda: moments,
        )

    # --- what the model can do --------------------------------------------------------

    def encode(state: State, batch: Batch, key: Key) -> Array:
        del key
        return encode_x(state.params, to_unit(batch["image"]))

    def decode(state: State, code: Array, key: Key) -> Array:
        del key
        return to_image(decode_z(state.params, code))

    def evaluate(state: State, batch: Batch, key: Key) -> Metrics:
        """Of the network's output as it is, neither clipped nor rounded."""
        del key
        x = to_unit(batch["image"])
        values = {"squared_error": squared_error(state.params, x)}
        if state.moments is not None:
            values |= beside_pca(state.params, state.moments, x)
        return values

    def beside_pca(params: Params, moments: Moments, x: Array) -> dict[str, Array]:
        """PCA's squared error, and how far the decoder's span is from its subspace.

        pca_angle_degrees: the largest principal angle; the same for every example.
        """
        axes = principal_components(moments.cov, config.model.code_size).axes
        centred = x.reshape(-1, num_pixels) - moments.mean[None, :]
        left = centred - (centred @ axes) @ axes.T
        angle = largest_principal_angle(params["decoder"]["out"]["kernel"].T, axes)
        return {
            "pca_squared_error": jnp.sum(jnp.square(left), axis=1),
            "pca_angle_degrees": jnp.full(len(x), angle),
        }

    def images(state: State, batch: Batch, key: Key) -> Metrics:
        """Each image, and to the right of it what the autoencoder makes of it."""
        drawn = decode(state, encode(state, batch, key), key)
        pairs = jnp.stack([batch["image"], drawn], axis=1)
        return {"reconstructions": pairs.reshape(-1, *spec.shape)}

    return Experiment(
        init=init,
        train_step=train_step,
        encode=encode,
        decode=decode,
        evaluate=evaluate,
        images=images,
    )


def linear(config: Config) -> bool:
    """Whether encoder and decoder are affine maps."""
    model = config.model
    no_layers = model.kind == "dense" and not model.widths
    return no_layers and model.output == "linear"


def networks(
    config: Config, spec: DataSpec
) -> tuple[nn.Module, nn.Module, tuple[int, ...]]:
    """The encoder, the decoder, which mirrors it, and the shape the encoder takes."""
    model = config.model
    if model.kind == "conv":
        height, width, depth = spec.shape
        channels, num_res_blocks = tuple(model.channels), model.num_res_blocks
        options = {"num_res_blocks": num_res_blocks, "activation": model.activation}
        return (
            ConvEncoder(channels, model.code_size, **options),
            ConvDecoder(channels, (height, width, depth), **options),
            spec.shape,
        )
    widths, num_pixels = tuple(model.widths), math.prod(spec.shape)
    return (
        MLP(widths, model.code_size, model.activation),
        MLP(widths[::-1], num_pixels, model.activation),
        (num_pixels,),
    )


# --- what a user may get wrong --------------------------------------------------------


def check(config: Config, spec: DataSpec) -> None:
    """Raises UserError for the first choice that does not exist or does not fit."""
    model = config.model
    one_of("model.kind", model.kind, FIELDS)
    one_of("model.activation", model.activation, ACTIVATIONS)
    one_of("model.output", model.output, OUTPUTS)
    images_only("the autoencoder", spec)
    if model.code_size < 1:
        raise UserError(
            f"model.code_size must be 1 or more numbers, not {model.code_size}"
        )
    if missing := [name for name in FIELDS[model.kind] if name not in model]:
        raise UserError(
            f"model.kind={model.kind!r} needs model.{' and model.'.join(missing)}: "
            "start from a config of that kind"
        )
    num_pixels = math.prod(spec.shape)
    if linear(config) and model.code_size >= num_pixels:
        raise UserError(
            f"model.code_size of a linear autoencoder must lie below the {num_pixels} "
            f"pixels of {spec.name}, where it can copy them, not {model.code_size}"
        )

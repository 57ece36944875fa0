import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.nn.attention import SpatialAttention, attend, why_not_cudnn


def with_identity_output(layer, x):
    """Parameters whose last layer is the identity instead of zero."""
    variables = layer.init(jax.random.key(0), x)
    variables["params"]["out"]["kernel"] = jnp.eye(x.shape[-1])
    return variables


def test_starts_as_the_identity():
    x = jax.random.normal(jax.random.key(1), (2, 3, 3, 8))
    for scale in (1.0, 0.5):
        layer = SpatialAttention(skip_scale=scale)
        out, _ = layer.init_with_output(jax.random.key(0), x)
        np.testing.assert_array_equal(out, scale * x)


@pytest.mark.parametrize("num_heads", [1, 2])
def test_places_are_a_set(num_heads):
    """Attention commutes with any permutation of the places."""
    x = jax.random.normal(jax.random.key(1), (2, 2, 3, 8))
    layer = SpatialAttention(num_heads)
    variables = with_identity_output(layer, x)

    order = np.array([3, 1, 5, 0, 4, 2])

    def permuted(x):
        return x.reshape(2, 6, 8)[:, order].reshape(2, 2, 3, 8)

    np.testing.assert_allclose(
        layer.apply(variables, permuted(x)),
        permuted(layer.apply(variables, x)),
        rtol=1e-5,
        atol=1e-5,
    )


def test_equal_places_return_their_value():
    """The weights sum to 1: values that are all equal come out as they are."""
    row = jax.random.normal(jax.random.key(1), (1, 1, 1, 8))
    x = jnp.broadcast_to(row, (1, 4, 4, 8))
    layer = SpatialAttention()
    variables = with_identity_output(layer, x)
    one = variables["params"]
    normed = (row - row.reshape(2, 4).mean(1).repeat(4).reshape(row.shape)) / jnp.sqrt(
        row.reshape(2, 4).var(1).repeat(4).reshape(row.shape) + 1e-6
    )
    value = normed @ one["value"]["kernel"] + one["value"]["bias"][None, None, None]
    np.testing.assert_allclose(
        layer.apply(variables, x) - x, jnp.broadcast_to(value, x.shape), atol=1e-5
    )


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="8 channels do not divide into 3 heads"):
        SpatialAttention(3).init(jax.random.key(0), jnp.zeros((1, 2, 2, 8)))


# --- cuDNN ----------------------------------------------------------------------------


def heads(dtype=jnp.bfloat16):
    return jnp.ones((1, 4, 2, 8), dtype)


def test_cudnn_is_refused_where_it_cannot_be():
    with pytest.raises(ValueError, match="'cudnn' needs an NVIDIA GPU.*CPU: choose"):
        attend(heads(), heads(), heads(), "cudnn")


def test_auto_is_xla_on_a_cpu():
    q, k, v = jax.random.normal(jax.random.key(0), (3, 2, 4, 2, 8))
    np.testing.assert_array_equal(attend(q, k, v, "auto"), attend(q, k, v, "xla"))


def gpu(capability):
    client = SimpleNamespace(platform_version="PJRT C API\ncuda 12090")
    return SimpleNamespace(platform="gpu", client=client, compute_capability=capability)


@pytest.mark.parametrize(
    ("capability", "dtype", "head_size", "reason"),
    [
        ("9.0", jnp.bfloat16, 64, ""),
        ("9.0", jnp.bfloat16, 256, ""),
        ("8.0", jnp.float16, 128, ""),
        ("10.0", jnp.bfloat16, 72, ""),
        ("8.0", jnp.bfloat16, 256, "up to 128, not 256"),
        ("9.0", jnp.bfloat16, 36, "a multiple of 8 .* not 36"),
        ("9.0", jnp.float32, 64, "dtype='bfloat16', not float32"),
        ("7.5", jnp.bfloat16, 64, "capability 8.0, and this GPU has 7.5"),
    ],
)
def test_cudnn_takes_what_its_kernel_takes(capability, dtype, head_size, reason):
    """The limits of jax 0.10's check_is_flash_attention."""
    said = why_not_cudnn(gpu(capability), jnp.dtype(dtype), head_size)
    assert re.search(reason, said) if reason else said == ""

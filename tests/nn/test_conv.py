import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from genjax.nn.conv import Conv, conv
from genjax.nn.conv_transpose import ConvTranspose, conv_transpose

DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def random(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def value_and_gradients(f, x, w):
    y, vjp = jax.vjp(f, x, w)
    return y, *vjp(jnp.cos(y))


def of_penalties(f, x, w):
    """Gradients of the squares of both gradients of f."""

    def penalty(x, w):
        _, *gradients = value_and_gradients(f, x, w)
        return sum(jnp.mean(jnp.square(g)) for g in gradients)

    return jax.grad(penalty, (0, 1))(x, w)


def assert_equal(compute, ours, theirs, x, w):
    results = jax.jit(lambda x, w: [compute(f, x, w) for f in (ours, theirs)])(x, w)
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [
        ((8, 8), 3, 1, "SAME"),
        ((8, 6), 3, 2, "SAME"),
        ((7, 5), 4, 2, "SAME"),
        ((7, 8), 4, 2, [(1, 1), (2, 0)]),
        ((9, 6), 3, 2, "VALID"),
        ((6, 6), 1, 3, "SAME"),
    ],
)
def test_convolution_and_its_gradients_are_those_of_lax(size, kernel, stride, padding):
    x, w = random(0, 3, *size, 4), random(1, kernel, kernel, 4, 5)
    strides = (stride, stride)

    def ours(x, w):
        return conv(x, w, strides=strides, padding=padding)

    def theirs(x, w):
        return lax.conv_general_dilated(
            x, w, strides, padding, dimension_numbers=DIMENSIONS
        )

    assert_equal(value_and_gradients, ours, theirs, x, w)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [
        (4, 2, "SAME"),
        (3, 2, "SAME"),
        (5, 2, "VALID"),
        (2, 3, "SAME"),
        (2, 3, "VALID"),
        (4, 1, [(3, 3), (3, 3)]),
        (4, 2, [(2, 2), (2, 1)]),
    ],
)
def test_transposed_convolution_and_its_gradients_are_those_of_lax(
    kernel, stride, padding
):
    x, w = random(0, 3, 5, 4, 6), random(1, kernel, kernel, 6, 2)
    strides = (stride, stride)

    def ours(x, w):
        return conv_transpose(x, w, strides=strides, padding=padding)

    def theirs(x, w):
        return lax.conv_transpose(x, w, strides, padding, dimension_numbers=DIMENSIONS)

    assert_equal(value_and_gradients, ours, theirs, x, w)


@pytest.mark.parametrize(
    ("stride", "padding"), [(1, "SAME"), (2, [(1, 1), (2, 0)]), (3, "VALID")]
)
@pytest.mark.parametrize("function", [conv, conv_transpose])
def test_gradients_of_penalties_on_gradients_are_those_of_lax(
    function, stride, padding
):
    x, w = random(0, 2, 5, 6, 3), random(1, 4, 3, 3, 2)
    strides = (stride, stride)
    of_lax = {conv: lax.conv_general_dilated, conv_transpose: lax.conv_transpose}

    def ours(x, w):
        return function(x, w, strides=strides, padding=padding)

    def theirs(x, w):
        return of_lax[function](x, w, strides, padding, dimension_numbers=DIMENSIONS)

    assert_equal(of_penalties, ours, theirs, x, w)


def test_layers_take_the_parameters_of_flax():
    x = random(0, 2, 6, 6, 3)
    pairs = [
        (Conv(5, (3, 3), (2, 2)), nn.Conv(5, (3, 3), (2, 2))),
        (ConvTranspose(5, (4, 4), (2, 2)), nn.ConvTranspose(5, (4, 4), (2, 2))),
    ]
    for ours, theirs in pairs:
        variables = theirs.init(jax.random.key(0), x)
        variables = jax.tree.map(lambda p: p + 0.1, variables)  # a bias that shows
        np.testing.assert_allclose(
            ours.apply(variables, x), theirs.apply(variables, x), rtol=1e-5, atol=1e-5
        )
        assert jax.tree.structure(ours.init(jax.random.key(0), x)) == (
            jax.tree.structure(variables)
        )


@pytest.mark.parametrize(
    ("function", "stride"), [(conv, 1), (conv, 2), (conv_transpose, 2)]
)
def test_gradients_in_a_loop_have_their_axes_in_order(function, stride):
    """XLA:CPU runs a convolution with permuted axes 10-100 times slower in a loop.

    Those of a penalty on the gradient as well.
    """
    x, w = random(0, 8, 8, 8, 4), random(1, 3, 3, 4, 4)

    def loss(w):
        def critic(x):
            return jnp.sum(jnp.square(function(x, w, strides=(stride, stride))))

        value, slope = jax.value_and_grad(critic)(x)
        return value + jnp.sum(jnp.square(slope))

    def step(w, _):
        return w - jax.grad(loss)(w), None

    compiled = jax.jit(lambda w: lax.scan(step, w, length=3)[0]).lower(w).compile()
    lines = [
        line for line in compiled.as_text().splitlines() if " convolution(" in line
    ]
    assert len(lines) >= 5
    assert all("dim_labels=b01f_01io->b01f" in line for line in lines)


def test_groups_are_those_of_lax():
    x, w = random(0, 3, 7, 6, 6), random(1, 3, 3, 3, 8)

    def ours(x, w):
        return conv(x, w, strides=(2, 2), groups=2)

    def theirs(x, w):
        return lax.conv_general_dilated(
            x, w, (2, 2), "SAME", dimension_numbers=DIMENSIONS, feature_group_count=2
        )

    assert_equal(value_and_gradients, ours, theirs, x, w)
    ours, theirs = (
        Conv(8, (3, 3), groups=2),
        nn.Conv(8, (3, 3), feature_group_count=2),
    )
    variables = theirs.init(jax.random.key(0), x)
    np.testing.assert_allclose(
        ours.apply(variables, x), theirs.apply(variables, x), rtol=1e-5, atol=1e-5
    )

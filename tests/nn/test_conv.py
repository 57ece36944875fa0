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
    return y, *vjp(random(9, *y.shape))


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

    results = value_and_gradients(ours, x, w), value_and_gradients(theirs, x, w)
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


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

    results = value_and_gradients(ours, x, w), value_and_gradients(theirs, x, w)
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("function", [conv, conv_transpose])
def test_gradients_of_gradients_for_gradient_penalties(function):
    """Against a finite difference of the penalty along a random direction."""
    x, w = random(0, 2, 4, 4, 3), random(1, 3, 3, 3, 2)

    def penalty(w):
        def critic(x):
            return jnp.sum(jnp.tanh(function(x, w, strides=(2, 2))))

        return jnp.sum(jnp.square(jax.grad(critic)(x)))

    direction = random(2, *w.shape)
    step = 1e-2
    difference = (penalty(w + step * direction) - penalty(w - step * direction)) / (
        2 * step
    )
    slope = jnp.vdot(jax.grad(penalty)(w), direction)
    np.testing.assert_allclose(slope, difference, rtol=2e-2)


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


def test_gradients_in_a_loop_have_their_axes_in_order():
    """XLA:CPU runs a convolution with permuted axes 10-100 times slower in a loop."""
    x, w = random(0, 8, 8, 8, 4), random(1, 3, 3, 4, 4)

    def step(w, _):
        return w - jax.grad(lambda w: jnp.sum(jnp.square(conv(x, w))))(w), None

    compiled = jax.jit(lambda w: lax.scan(step, w, length=3)[0]).lower(w).compile()
    lines = [
        line for line in compiled.as_text().splitlines() if " convolution(" in line
    ]
    assert lines
    assert all("dim_labels=b01f_01io->b01f" in line for line in lines)

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.models.mlp import TimeMLP


def test_starts_at_zero_and_learns_a_function_of_point_time_and_label():
    net = TimeMLP(out_channels=2, width=16, depth=1, num_classes=2)
    x = jax.random.normal(jax.random.key(0), (64, 2))
    t = jax.random.uniform(jax.random.key(1), (64,))
    label = jax.random.randint(jax.random.key(2), (64,), 0, 3)
    variables = net.init(jax.random.key(3), x, t, label)
    np.testing.assert_array_equal(net.apply(variables, x, t, label), jnp.zeros((64, 2)))

    target = x * jnp.cos(3 * t)[:, None] + label[:, None]

    def loss(variables):
        return jnp.mean(jnp.square(net.apply(variables, x, t, label) - target))

    def step(v, _):
        return jax.tree.map(lambda p, g: p - 0.1 * g, v, jax.grad(loss)(v)), None

    learned, _ = jax.jit(lambda v: jax.lax.scan(step, v, length=500))(variables)
    # what is left without any one of the three is over 0.3
    assert loss(learned) < 0.05 < loss(variables)


def test_label_without_classes_is_refused():
    with pytest.raises(ValueError, match="num_classes=0 and a label do not go"):
        TimeMLP(out_channels=2).init(
            jax.random.key(0), jnp.zeros((1, 2)), jnp.zeros(1), jnp.zeros(1, jnp.int32)
        )


def test_a_vector_is_a_label():
    net, a = TimeMLP(out_channels=2, num_features=3), jnp.ones((4, 3))
    x, t = jnp.zeros((4, 2)), jnp.zeros(4)
    params = net.init(jax.random.key(0), x, t, a)["params"]
    params["out"]["kernel"] = jnp.ones_like(params["out"]["kernel"])
    apply = jax.jit(net.apply)
    told = [apply({"params": params}, x, t, value) for value in (a, 2.0 * a)]
    assert np.abs(told[0] - told[1]).min() > 1e-3
    with pytest.raises(ValueError, match="num_features=3 and no label do not go"):
        net.apply({"params": params}, x, t)

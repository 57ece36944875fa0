import jax
import jax.numpy as jnp
import numpy as np

from genjax.objectives.cycle import errors, there_and_back

A, B = jax.random.uniform(jax.random.key(0), (2, 3, 4, 4, 1), minval=-1.0)
NETS = {"a_to_b": lambda x: 0.5 * x, "b_to_a": lambda x: x - 0.2}


def test_errors_by_hand():
    found = errors(NETS, A, B, aligned=True)
    a, b = np.asarray(A), np.asarray(B)
    axes = (1, 2, 3)
    exact = {  # of pixels in [-1, 1], so half of it on the scale [0, 1]
        "cycle_l1_a": np.abs(0.5 * a - 0.2 - a).mean(axes),
        "cycle_l1_b": np.abs(0.5 * (b - 0.2) - b).mean(axes),
        "identity_l1_a": np.full(3, 0.2),
        "identity_l1_b": np.abs(0.5 * b).mean(axes),
        "rmse_a_to_b": np.sqrt(np.square(0.5 * a - b).mean(axes)),
        "rmse_b_to_a": np.sqrt(np.square(b - 0.2 - a).mean(axes)),
        "rmse_untouched": np.sqrt(np.square(a - b).mean(axes)),
    }
    assert set(found) == set(exact)
    for name, values in exact.items():
        np.testing.assert_allclose(found[name], values / 2, rtol=1e-5, err_msg=name)
    assert "rmse_untouched" not in errors(NETS, A, B, aligned=False)


def test_there_and_back_of_inverses_is_nothing():
    nets = {"a_to_b": jnp.negative, "b_to_a": jnp.negative}
    there, again, wrong = there_and_back(nets, A, "a_to_b")
    np.testing.assert_array_equal(there, -A)
    np.testing.assert_array_equal(again, A)
    np.testing.assert_array_equal(wrong, -A)

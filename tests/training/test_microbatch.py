import jax.numpy as jnp
import numpy as np
import pytest

from genjax.training.microbatch import in_turn
from genjax.typing import UserError


def test_the_parts_hold_every_row_once():
    rows, label = jnp.arange(12).reshape(12, 1), None
    parts, nothing = in_turn((rows, label), 3, by="parts")
    assert parts.shape == (3, 4, 1) and nothing is None
    np.testing.assert_array_equal(np.sort(parts.ravel()), np.arange(12))
    np.testing.assert_array_equal(parts[1].ravel(), [1, 4, 7, 10])


@pytest.mark.parametrize("parts, unit", [(5, 1), (0, 1), (3, 8)])
def test_rows_that_do_not_divide(parts, unit):
    with pytest.raises(UserError, match=f"a batch of 12 .* by steps={parts * unit}"):
        in_turn(jnp.zeros(12), parts, by="steps", unit=unit)

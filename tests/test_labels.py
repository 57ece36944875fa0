import jax.numpy as jnp
import numpy as np
import pytest

from genjax.labels import check_labels
from genjax.typing import UserError


def test_labels_that_fit():
    check_labels(None, 2, 0)
    check_labels(jnp.array([0, 2]), 2, 3)
    check_labels(jnp.ones((2, 5)), 2, 0, num_features=5)


@pytest.mark.parametrize(
    ("label", "made_for", "message"),
    [
        (jnp.ones((2, 5)), (0, 0), "trained without labels"),
        (jnp.ones((2, 4)), (0, 5), r"shape \(2, 5\), not \(2, 4\)"),
        (jnp.full((2, 5), np.nan), (0, 5), "finite"),
        (jnp.zeros(2), (3, 0), "whole numbers, not float32"),
        (jnp.array([0, 3]), (3, 0), "from 0 to 2, and 3 does not"),
    ],
)
def test_labels_that_do_not_fit(label, made_for, message):
    with pytest.raises(UserError, match=message):
        check_labels(label, 2, *made_for)

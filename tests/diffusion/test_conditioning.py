import jax.numpy as jnp
import numpy as np
import pytest

from genjax.diffusion.conditioning import check_labels, check_network
from genjax.typing import DataSpec, UserError


def spec(is_image):
    return DataSpec(
        name="some",
        shape=(8, 8, 1) if is_image else (2,),
        dtype="uint8" if is_image else "float32",
        num_levels=256 if is_image else 0,
        num_train=4,
        num_eval=4,
        num_classes=3,
    )


@pytest.mark.parametrize(
    ("is_image", "backbone", "fitting"),
    [
        (True, "unet", None),
        (True, "dit", None),
        (False, "mlp", None),
        (True, "mlp", "choose 'unet' or 'dit'"),
        (False, "dit", "'dit' is not made: choose 'mlp'"),
    ],
)
def test_networks_are_for_images_or_for_points(is_image, backbone, fitting):
    options = {"backbone": backbone, "num_classes": 0, "guidance_scale": 1.0}
    if fitting is None:
        check_network(spec(is_image), **options)
    else:
        with pytest.raises(UserError, match=fitting):
            check_network(spec(is_image), **options)


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

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.augment.seen import Augment, pack
from genjax.typing import UserError

KEY = jax.random.key(0)


def test_packs_have_their_rows_side_by_side():
    rows = jnp.arange(12.0).reshape(6, 2)
    np.testing.assert_array_equal(pack(rows, 3)[1], [6, 7, 8, 9, 10, 11])
    images = jnp.arange(8.0).reshape(4, 1, 2, 1)
    np.testing.assert_array_equal(pack(images, 2)[1], [[[4, 6], [5, 7]]])


def test_without_augmentation_both_are_only_packed():
    real, fake = jax.random.normal(KEY, (2, 6, 2))
    seen = Augment().seen(KEY, real, fake, jnp.zeros(()), packing=2)
    for found, given in zip(seen, (real, fake), strict=True):
        np.testing.assert_array_equal(found, pack(given, 2))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["diffaugment", "ada"])
def test_data_and_samples_are_changed_by_one_law(kind):
    """Of equal images, as many of data as of samples change, and gradients pass."""
    x = jnp.broadcast_to(jnp.linspace(-0.9, 0.9, 64).reshape(1, 8, 8, 1), (64, 8, 8, 1))
    augment, p = Augment(kind=kind), jnp.float32(0.5)
    real, fake = jax.jit(augment.seen)(KEY, x, x, p)
    assert real.shape == fake.shape == x.shape
    assert not np.array_equal(real, fake)  # each image by itself
    assert abs(float(real.mean() - fake.mean())) < 0.15
    slope = jax.grad(lambda fake: augment.seen(KEY, x, fake, p)[1].sum())(x)
    assert np.abs(slope).max() > 0


def test_the_probability_follows_the_logits_of_ada_alone():
    sure, p = jnp.ones(8), jnp.float32(0.5)
    up = Augment(kind="ada", ada_speed=100.0).next_p(p, sure, 8)
    down = Augment(kind="ada", ada_speed=100.0).next_p(p, -sure, 8)
    assert (float(up), float(down)) == pytest.approx((0.58, 0.42))
    assert Augment(kind="diffaugment").next_p(p, sure, 8) == p


def test_an_unknown_policy():
    with pytest.raises(UserError, match="did you mean color"):
        Augment(policy=("colour",))

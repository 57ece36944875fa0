import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.distributions import standard_normal_kl
from genjax.objectives import bottlenecks, quantize
from genjax.objectives.bottlenecks import Kept, Upkeep

KEY = jax.random.key(0)
H = jax.random.normal(KEY, (2, 3, 4, 2))  # two maps of 3 x 4 places
CODES = jnp.array([[1.0, 0.0], [-1.0, 0.0]])
BOOK = quantize.Codebook(CODES, jnp.ones(2), CODES)
ALL = {
    "vq": bottlenecks.vq(2, 2, commitment=0.25),
    "fsq": bottlenecks.fsq((5, 4)),
    "gaussian": bottlenecks.gaussian(1),
}


@pytest.mark.parametrize("name", ALL)
def test_codes_draws_and_means_have_one_shape(name):
    neck = ALL[name]
    coded = neck.code(H, BOOK, KEY)
    assert H.shape[-1] == neck.outputs
    assert coded.z.shape == (2, 3, 4, neck.code_dim)
    assert neck.mean(H, BOOK).shape == coded.z.shape
    assert neck.draw(KEY, (2, 3, 4), BOOK).shape == coded.z.shape
    assert coded.rate.shape == coded.penalty.shape == (2,)
    if neck.num_codes is not None:
        rate = 3 * 4 * math.log(neck.num_codes)
        np.testing.assert_allclose(coded.rate, [rate, rate], rtol=1e-6)
        assert coded.chosen.max() < neck.num_codes
        np.testing.assert_array_equal(neck.mean(H, BOOK), coded.z)


def test_the_commitment_pulls_vectors_to_codes_and_leaves_codes_alone():
    """Its gradient is 2 commitment (h - e), and none goes to e."""

    def penalty(h, codes):
        coded = bottlenecks.vector_quantized(h, codes, commitment=0.25)
        return coded.penalty.sum()

    to_h, to_codes = jax.grad(penalty, argnums=(0, 1))(H, CODES)
    nearest = np.where(H[..., :1] > 0, CODES[0], CODES[1])
    np.testing.assert_allclose(to_h, 0.5 * (H - nearest), rtol=1e-5)
    np.testing.assert_array_equal(to_codes, jnp.zeros((2, 2)))


def test_the_gradient_of_the_decoder_goes_straight_to_the_encoder():
    weight = jax.random.normal(jax.random.key(1), H.shape)

    def seen(h):
        z = bottlenecks.vector_quantized(h, CODES, commitment=0.25).z
        return jnp.sum(weight * z)

    np.testing.assert_allclose(jax.grad(seen)(H), weight)


def test_a_density_costs_its_kl():
    coded = ALL["gaussian"].code(H, None, KEY)
    kl = standard_normal_kl(H[..., :1], H[..., 1:]).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(coded.rate, kl, rtol=1e-5)
    np.testing.assert_array_equal(coded.penalty, jnp.zeros(2))
    np.testing.assert_array_equal(ALL["gaussian"].mean(H, None), H[..., :1])
    draws = jax.vmap(lambda key: ALL["gaussian"].code(H, None, key).z)
    z = draws(jax.random.split(KEY, 4000))
    np.testing.assert_allclose(z.mean(axis=0), H[..., :1], atol=0.3)


@pytest.mark.parametrize("name", ["vq", "fsq"])
def test_draws_are_independent_codes_each_as_likely(name):
    neck = ALL[name]
    z = np.asarray(neck.draw(KEY, (4000, 1, 2), BOOK)).reshape(-1, 2)
    rows, counts = np.unique(z, axis=0, return_counts=True)
    assert len(rows) == neck.num_codes
    np.testing.assert_allclose(counts / len(z), 1 / neck.num_codes, atol=0.02)


def test_notes_tell_how_the_bound_is_taken():
    assert "12 of 20, under a uniform prior" in ALL["fsq"].note(12)
    assert "one draw of z; 12 places" in ALL["gaussian"].note(12)


# --- upkeep ---------------------------------------------------------------------------


def test_only_codes_are_kept():
    kept = {name: Upkeep().init(KEY, neck) for name, neck in ALL.items()}
    assert kept["vq"].book.codes.shape == (2, 2) and kept["vq"].use is not None
    assert kept["fsq"].book is None and kept["fsq"].use.share.shape == (20,)
    assert kept["gaussian"] == Kept(None, None)
    for name in ("fsq", "gaussian"):
        assert Upkeep().start(None, lambda: H, jnp.int32(0), KEY) is None
        chosen = ALL[name].code(H, None, KEY).chosen
        after, metrics = Upkeep().follow(kept[name], H, chosen, jnp.int32(0), KEY)
        assert after.book is None and "codes_restarted" not in metrics
        assert ("perplexity" in metrics) == (name == "fsq")


def test_kmeans_starts_the_codebook_at_step_0_alone():
    upkeep = Upkeep(kmeans_iterations=5)
    start = jax.jit(lambda step: upkeep.start(BOOK, lambda: H, step, KEY))
    first, later = (start(jnp.int32(step)) for step in (0, 1))
    np.testing.assert_array_equal(later.codes, CODES)

    def error(book):
        return bottlenecks.vector_quantized(H, book.codes, commitment=1.0).penalty.sum()

    assert error(first) < 0.9 * error(BOOK)
    unchanged = Upkeep(kmeans_iterations=0).start(BOOK, lambda: H, jnp.int32(0), KEY)
    np.testing.assert_array_equal(unchanged.codes, CODES)


def test_unused_codes_restart():
    """16 codes far from every vector: all but the one nearest come back."""
    upkeep = Upkeep(restart_below=0.5, decay=0.5, usage_steps=10)
    far = 100.0 + jnp.arange(16.0)[:, None] * jnp.ones((1, 2))
    kept = Kept(quantize.Codebook(far, jnp.ones(16), far), quantize.no_use(16, 10))
    neck, shares = bottlenecks.vq(16, 2, commitment=0.25), []
    for i in range(4):
        key = jax.random.fold_in(KEY, i)
        h = jax.random.normal(key, (8, 4, 4, 2))
        chosen = neck.code(h, kept.book, key).chosen
        kept, metrics = upkeep.follow(kept, h, chosen, jnp.int32(i), key)
        shares.append(float(metrics["codes_restarted"]))
    assert max(shares) == 15 / 16
    assert metrics["perplexity"] > 1.5
    assert np.sum(np.abs(kept.book.codes).max(axis=1) < 50) >= 15

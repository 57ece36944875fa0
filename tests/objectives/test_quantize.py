import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from sklearn.cluster import KMeans
from sklearn.metrics import pairwise_distances_argmin

from genjax.objectives import quantize

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
CENTRES = np.array([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0], [6.0, 6.0]], np.float32)


def blobs(num=200, std=0.5):
    """Rows round four far centres, 50 each."""
    noise = std * RNG.normal(size=(num, 2)).astype(np.float32)
    return jnp.asarray(CENTRES[np.arange(num) % 4] + noise)


def sorted_rows(rows):
    return np.asarray(rows)[np.lexsort(np.round(rows, 1).T)]


# --- straight through, perplexity -----------------------------------------------------


def test_the_gradient_goes_straight_through_and_the_value_is_exact():
    z, code = jax.random.normal(KEY, (2, 50, 3)) * jnp.array([[[1e-3]], [[1e3]]])
    weights = jnp.asarray(RNG.normal(size=z.shape))
    value, grads = jax.value_and_grad(
        lambda z, q: jnp.sum(weights * quantize.straight_through(z, q)), argnums=(0, 1)
    )(z, code)
    np.testing.assert_array_equal(grads[0], weights)
    np.testing.assert_array_equal(grads[1], jnp.zeros_like(code))
    np.testing.assert_array_equal(quantize.straight_through(z, code), code)
    np.testing.assert_allclose(value, jnp.sum(weights * code), rtol=1e-5)


@pytest.mark.parametrize("unit", [1.0, 1e-6, 1e6])
def test_perplexity_of_equal_use_is_the_number_of_codes(unit):
    np.testing.assert_allclose(quantize.perplexity(jnp.full(128, unit)), 128, rtol=1e-5)
    one = jnp.zeros(128).at[3].set(unit)
    np.testing.assert_allclose(quantize.perplexity(one), 1.0, rtol=1e-6)
    half = jnp.zeros(128).at[:64].set(unit)
    np.testing.assert_allclose(quantize.perplexity(half), 64.0, rtol=1e-5)


def test_perplexity_is_that_of_scipys_entropy():
    counts = RNG.integers(0, 50, 30).astype(np.float32)
    expected = np.exp(scipy.stats.entropy(counts))
    np.testing.assert_allclose(
        quantize.perplexity(jnp.asarray(counts)), expected, rtol=1e-5
    )


# --- codebook -------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_nearest_codes_are_sklearns(offset):
    z = (RNG.normal(size=(500, 5)) + offset).astype(np.float32)
    codes = (RNG.normal(size=(40, 5)) + offset).astype(np.float32)
    index = quantize.nearest_codes(jnp.asarray(z), jnp.asarray(codes))
    expected = pairwise_distances_argmin(z.astype(np.float64), codes.astype(np.float64))
    assert np.mean(np.asarray(index) != expected) < 0.005  # ties to rounding


def test_assigned_counts_and_sums_by_hand():
    z = jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    count, total = quantize.assigned(z, jnp.array([2, 0, 2]), 3)
    np.testing.assert_array_equal(count, [1, 0, 2])
    np.testing.assert_array_equal(total, [[3, 4], [0, 0], [6, 8]])


def test_averages_of_a_constant_batch_have_a_closed_form():
    """N after t steps: g^t N_0 + (1 - g^t) n, and m alike."""
    decay, steps = 0.9, 7
    book = quantize.random_codebook(KEY, 3, 2)
    z, index = jax.random.normal(KEY, (8, 2)), jnp.array([0, 0, 1, 1, 1, 1, 1, 1])
    count, total = np.array([2.0, 6.0, 0.0]), np.zeros((3, 2))
    total[0], total[1] = np.sum(z[:2], axis=0), np.sum(z[2:], axis=0)
    kept = decay**steps
    now = book
    for _ in range(steps):
        now = quantize.ema_update(now, z, index, decay=decay, smoothing=0.0)
    counts = kept * np.asarray(book.counts) + (1 - kept) * count
    sums = kept * np.asarray(book.sums) + (1 - kept) * total
    np.testing.assert_allclose(now.counts, counts, rtol=1e-5)
    np.testing.assert_allclose(now.sums, sums, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(now.codes, sums / counts[:, None], rtol=1e-4, atol=1e-6)
    # unused and not smoothed: the code stays where it is
    np.testing.assert_allclose(now.codes[2], book.codes[2], rtol=1e-5)


def test_smoothing_keeps_the_sum_of_counts_and_spares_the_division_by_zero():
    empty = quantize.Codebook(jnp.ones((4, 2)), jnp.zeros(4), jnp.zeros((4, 2)))
    z, index = jnp.full((6, 2), 3.0), jnp.zeros(6, jnp.int32)
    now = quantize.ema_update(empty, z, index, decay=0.5, smoothing=0.25)
    # N = (3, 0, 0, 0) -> (3.25, .25, .25, .25) 3 / 4; m_0 = 9
    np.testing.assert_allclose(now.codes[0], 9.0 / (3.25 * 0.75), rtol=1e-6)
    np.testing.assert_array_equal(now.codes[1:], jnp.zeros((3, 2)))


def test_moving_averages_end_at_the_centroids_of_kmeans():
    """Fixed vectors: the fixed points of (2) are those of Lloyd's iterations."""
    z = blobs()
    start = jnp.asarray(CENTRES) + jnp.array([[1.0, -0.8]])

    @jax.jit
    def step(book, _):
        index = quantize.nearest_codes(z, book.codes)
        return quantize.ema_update(book, z, index, decay=0.9), None

    book = quantize.Codebook(start, jnp.ones(4), start)
    book, _ = jax.lax.scan(step, book, length=300)
    fitted = KMeans(4, init=np.asarray(start), n_init=1).fit(np.asarray(z))
    np.testing.assert_allclose(book.codes, fitted.cluster_centers_, atol=1e-4)
    np.testing.assert_allclose(book.counts, jnp.full(4, 50.0), rtol=1e-3)


def test_kmeans_finds_sklearns_centroids():
    z = blobs()
    book = quantize.kmeans(KEY, z, num_codes=4, num_iterations=10)
    fitted = KMeans(4, n_init=10, random_state=0).fit(np.asarray(z))
    np.testing.assert_allclose(
        sorted_rows(book.codes), sorted_rows(fitted.cluster_centers_), atol=1e-5
    )
    np.testing.assert_array_equal(book.counts, jnp.full(4, 50.0))
    np.testing.assert_allclose(book.sums, 50 * book.codes, rtol=1e-5)


def test_kmeans_lowers_the_distance_to_that_of_sklearn():
    """Without clear clusters: within 10 % of the best of ten starts."""
    z = jnp.asarray(RNG.normal(size=(400, 3)), jnp.float32)
    fitted = KMeans(16, n_init=10, random_state=0).fit(np.asarray(z))

    def inertia(centres):
        return np.sum(np.min(np.sum((z[:, None] - centres[None]) ** 2, -1), axis=1))

    values = [
        inertia(quantize.kmeans(KEY, z, num_codes=16, num_iterations=n).codes)
        for n in (1, 20)
    ]
    assert values[1] < values[0] and values[1] < 1.1 * fitted.inertia_


def test_equal_rows_are_drawn_once_while_there_are_others():
    """Five places, one of which holds nearly all rows."""
    places = np.array([[0.0], [1.0], [3.0], [7.0], [20.0]], np.float32)
    z = jnp.asarray(places[np.r_[np.zeros(500, int), 1:5]])
    rows = quantize.spread_rows(KEY, z, 5)
    np.testing.assert_array_equal(sorted_rows(rows), places)
    more = quantize.spread_rows(KEY, z, 8)  # more than there are: no NaN
    assert set(np.asarray(more).ravel()) == set(places.ravel())


def test_an_empty_cluster_keeps_its_centre():
    z = jnp.array([[1.0], [1.0], [2.0]])  # two places for three codes
    book = quantize.kmeans(KEY, z, num_codes=3, num_iterations=5)
    assert set(np.asarray(book.codes).ravel()) == {1.0, 2.0}
    np.testing.assert_array_equal(sorted(np.asarray(book.counts)), [0, 1, 2])


def test_an_unused_code_comes_back():
    """Four blobs and eight codes, seven of them far from all."""
    z = blobs()
    start = jnp.full((8, 2), 100.0).at[0].set(0.0)
    book = quantize.Codebook(start, jnp.full(8, 25.0), 25 * start)

    def run(below):
        def step(book, i):
            index = quantize.nearest_codes(z, book.codes)
            # smoothing would draw unused codes to 0, where one blob lies
            book = quantize.ema_update(book, z, index, decay=0.9, smoothing=0.0)
            key = jax.random.fold_in(KEY, i)
            return quantize.restart_unused(book, z, key, below=below)

        book_, unused = jax.jit(lambda: jax.lax.scan(step, book, jnp.arange(200)))()
        index = quantize.nearest_codes(z, book_.codes)
        error = np.sum((np.asarray(z) - np.asarray(book_.codes[index])) ** 2, axis=1)
        return len(set(np.asarray(index))), error.mean(), int(unused.sum())

    used, error, restarts = run(0.0)
    np.testing.assert_allclose(error, np.var(z, axis=0).sum(), rtol=1e-3)
    assert (used, restarts) == (1, 0)
    used, error, restarts = run(0.1)
    assert used == 8 and restarts >= 7
    assert error < 2 * 0.5**2  # the variance within the blobs, which four codes leave


def test_a_restarted_code_is_a_row_of_the_batch_with_an_equal_share():
    z = blobs()
    counts = jnp.array([40.0, 2.9, 3.1, 14.0])  # the mean is 15
    book = quantize.Codebook(jnp.zeros((4, 2)), counts, jnp.zeros((4, 2)))
    now, unused = quantize.restart_unused(book, z, KEY, below=0.2)
    np.testing.assert_array_equal(unused, [False, True, False, False])
    assert (np.asarray(z) == np.asarray(now.codes[1])).all(axis=1).any()
    np.testing.assert_array_equal(now.counts, [40.0, 15.0, counts[2], 14.0])
    np.testing.assert_allclose(now.sums[1], 15.0 * now.codes[1], rtol=1e-6)
    np.testing.assert_array_equal(now.codes[0], book.codes[0])


# --- use ------------------------------------------------------------------------------


def test_use_is_of_the_last_steps_and_no_longer():
    """Codes 0, 1 in steps 0-4, then 2 alone, of four; a window of 3 steps."""
    use, in_use = quantize.no_use(4, 3), []
    for step in range(10):
        index = jnp.array([0, 1] if step < 5 else [2, 2])
        use = quantize.note_use(use, index, jnp.int32(step), window=3)
        in_use.append(float(quantize.share_in_use(use, jnp.int32(step), window=3)))
        np.testing.assert_allclose(use.share.sum(), 1.0, rtol=1e-6)
    assert in_use == [0.5] * 5 + [0.75, 0.75] + [0.25] * 3
    np.testing.assert_allclose(use.share[0], 0.5 * (2 / 3) ** 5, rtol=1e-5)


def test_shares_are_a_plain_mean_at_first():
    use = quantize.no_use(3, 100)
    for step, index in enumerate([[0, 0], [0, 1], [1, 2], [2, 2]]):
        use = quantize.note_use(use, jnp.array(index), jnp.int32(step), window=100)
    np.testing.assert_allclose(use.share, jnp.array([3, 2, 3]) / 8, rtol=1e-6)


# --- finite scalar quantisation -------------------------------------------------------

LEVELS = [(8, 4, 4), (3, 5), (8, 5, 5, 5), (7,)]


@pytest.mark.parametrize("levels", LEVELS)
def test_every_number_has_its_point_and_every_point_its_number(levels):
    num = quantize.fsq_num_codes(levels)
    index = jnp.arange(num)
    codes = quantize.fsq_code(index, levels)
    np.testing.assert_array_equal(quantize.fsq_index(codes, levels), index)
    axes = [(np.arange(n) - n // 2) / (n // 2) for n in levels]
    grid = {tuple(np.float32(p)) for p in itertools.product(*axes)}
    assert {tuple(p) for p in np.asarray(codes)} == grid and len(grid) == num


@pytest.mark.parametrize("levels", LEVELS)
def test_every_code_is_reached_and_no_other(levels):
    z = jax.random.uniform(KEY, (100_000, len(levels)), minval=-1.6, maxval=1.6)
    codes = quantize.fsq(z, levels)
    index = quantize.fsq_index(codes, levels)
    assert set(np.asarray(index)) == set(range(quantize.fsq_num_codes(levels)))
    np.testing.assert_allclose(codes, quantize.fsq_code(index, levels), atol=1e-6)


def test_zero_stays_and_the_far_ends_are_the_last_levels():
    levels = (8, 5)
    np.testing.assert_allclose(
        quantize.fsq_bound(jnp.zeros((1, 2)), levels), jnp.zeros((1, 2)), atol=1e-6
    )
    huge = quantize.fsq(jnp.array([[50.0, 50.0], [-50.0, -50.0]]), levels)
    np.testing.assert_allclose(huge, jnp.array([[0.75, 1.0], [-1.0, -1.0]]))


def test_the_gradient_of_fsq_is_that_of_its_bound():
    levels, z = (8, 4, 3), jax.random.normal(KEY, (5, 3))
    grads = [
        jax.grad(lambda z, f=f: jnp.sum(jnp.sin(jnp.arange(15.0).reshape(5, 3)) * f(z)))
        for f in (
            lambda z: quantize.fsq(z, levels),
            lambda z: quantize.fsq_bound(z, levels) / jnp.array([[4.0, 2.0, 1.0]]),
        )
    ]
    np.testing.assert_allclose(grads[0](z), grads[1](z), rtol=1e-6)

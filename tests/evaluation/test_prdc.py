import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from genjax.evaluation import neighbors
from genjax.evaluation.prdc import expected_coverage, prdc


def normal(n, shift=0.0, seed=0, dim=16):
    return (shift + np.random.default_rng(seed).normal(size=(n, dim))).astype("f4")


def levels(n, seed, dim=4):
    """Rows of few values: a third are copies of others and most distances are ties."""
    return np.random.default_rng(seed).integers(0, 4, (n, dim)).astype(np.uint8)


PAIRS = {
    "normal": (normal(300), normal(200, 0.3, seed=1)),
    "ties": (levels(300, seed=2), levels(200, seed=3)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_density_and_coverage_are_those_of_the_authors(name):
    # prdc takes `<` everywhere, so that only density and coverage are ours in ties.
    # Whole numbers in float64 keep its distances free of rounding.
    package = pytest.importorskip("prdc")
    real, fake = (x.astype(np.float64) for x in PAIRS[name])
    ours, theirs = prdc(*PAIRS[name]), package.compute_prdc(real, fake, nearest_k=5)
    for metric in ("density", "coverage"):
        assert ours[metric] == pytest.approx(theirs[metric], rel=1e-12)
    if name == "normal":
        theirs = package.compute_prdc(real, fake, nearest_k=3)
        for metric in ("precision", "recall"):
            assert ours[metric] == pytest.approx(theirs[metric], rel=1e-12)


def in_balls(centers, rows):
    """By scikit-learn: rows on the edge of a ball are in it."""
    search = NearestNeighbors(n_neighbors=3, algorithm="brute").fit(centers)
    radius = search.kneighbors()[0][:, -1]  # without a row's own
    distance = np.linalg.norm(centers[:, None] - rows, axis=2)
    return np.mean((distance <= radius[:, None] + 1e-9).any(axis=0))


@pytest.mark.parametrize("name", PAIRS)
def test_precision_and_recall_are_those_of_scikit_learn(name):
    real, fake = (x.astype(np.float64) for x in PAIRS[name])
    ours = prdc(*PAIRS[name])
    assert ours["precision"] == pytest.approx(in_balls(real, fake), rel=1e-12)
    assert ours["recall"] == pytest.approx(in_balls(fake, real), rel=1e-12)


def test_blocks_and_the_order_of_rows_change_nothing(monkeypatch):
    real, fake = PAIRS["ties"]
    whole = prdc(real, fake)
    monkeypatch.setattr(neighbors, "ROWS", 64)
    monkeypatch.setattr(neighbors, "COLUMNS", 50)
    monkeypatch.setattr(neighbors, "EXACT", 1000)
    rng = np.random.default_rng(4)
    assert prdc(rng.permutation(real), rng.permutation(fake)) == whole


def test_equal_sets_are_precise_and_covered():
    rows = normal(100)
    result = prdc(rows, rows)
    assert result["precision"] == result["recall"] == result["coverage"] == 1.0
    assert result["density"] == pytest.approx(1.0)  # itself and k - 1 others
    apart = prdc(rows, rows + 100)
    assert set(apart.values()) == {0.0}


def test_copies_of_one_row_fill_no_open_ball():
    # Six rows in one place have balls of radius 0: closed ones hold the place.
    real = np.repeat(normal(2), 6, axis=0)
    fake = np.repeat(normal(1), 6, axis=0)
    result = prdc(real, fake)
    assert (result["precision"], result["recall"]) == (1.0, 0.5)
    assert (result["density"], result["coverage"]) == (0.0, 0.0)


@pytest.mark.parametrize("n, m", [(300, 300), (300, 100)])
def test_two_sets_of_one_law_cover_as_expected(n, m):
    found = [
        prdc(normal(n, seed=2 * s, dim=2), normal(m, seed=2 * s + 1, dim=2))
        for s in range(20)
    ]
    coverage = np.mean([result["coverage"] for result in found])
    assert coverage == pytest.approx(expected_coverage(n, m), abs=0.01)
    assert np.mean([r["density"] for r in found]) == pytest.approx(1.0, abs=0.02)


def test_expected_coverage_of_large_sets():
    assert expected_coverage(10**6, 10**6) == pytest.approx(1 - 2**-5, abs=1e-5)
    # By hand: of 1 other real row and 1 sample, either is the nearer one.
    assert expected_coverage(2, 1, k=1) == pytest.approx(0.5)


def test_half_the_classes_dropped_is_seen_in_recall_and_coverage():
    classes = np.repeat(np.arange(4), 100)[:, None]
    real, honest = (normal(400, 20 * classes, seed=s, dim=3) for s in (5, 6))
    dropping = np.concatenate([honest[:200], normal(200, 20 * classes[:200], 7, 3)])
    whole, half = prdc(real, honest), prdc(real, dropping)
    assert whole["recall"] > 0.8 and whole["coverage"] > 0.9
    assert half["recall"] <= 0.5 and half["coverage"] <= 0.5
    assert half["precision"] == pytest.approx(whole["precision"], abs=0.1)

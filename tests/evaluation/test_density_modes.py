"""Mode metrics of samples of which the answer is known."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from genjax.data import toy
from genjax.evaluation.density_modes import (
    Modes,
    class_mode_metrics,
    mode_kl_floor,
    mode_metrics,
)
from genjax.evaluation.extractors import Extractor
from genjax.evaluation.score import known_modes
from genjax.evaluation.summary import summarize
from genjax.experiment import Experiment
from tests.evaluation.pixel_model import evaluator
from tests.specs import of_images, of_points

GRID = toy.density("gaussians25")
MODES = Modes(GRID.centers, GRID.sigma)


@pytest.fixture(scope="module")
def exact():
    return [np.asarray(a) for a in GRID.sample_with_mode(jax.random.key(0), 20_000)]


def test_exact_samples(exact):
    metrics = mode_metrics(exact[0], MODES)
    assert metrics["modes"] == 25
    # |eps|^2 / 2 is exponential in two dimensions; 5 standard errors
    assert metrics["high_quality"] == pytest.approx(1 - math.exp(-4.5), abs=0.004)
    # 2 N KL is chi-squared with 24 degrees of freedom
    assert stats.chi2.sf(2 * 20_000 * metrics["mode_kl"], 24) > 1e-4


def test_the_floor_is_what_exact_samples_score_on_average():
    rng = np.random.default_rng(0)
    scores = [
        mode_metrics(MODES.centers[rng.integers(0, 25, 2500)], MODES)["mode_kl"]
        for _ in range(300)
    ]
    assert mode_kl_floor(25, 2500) == pytest.approx(0.0048)
    assert np.mean(scores) == pytest.approx(0.0048, rel=0.06)


def test_a_dropped_mode_is_missed(exact):
    points, mode = exact
    metrics = mode_metrics(points[mode != 7], MODES)
    assert metrics["modes"] == 24
    assert metrics["mode_kl"] == pytest.approx(math.log(25 / 24), abs=0.002)


def test_one_mode_alone():
    metrics = mode_metrics(np.repeat(MODES.centers[3:4], 10, axis=0), MODES)
    assert metrics == {
        "modes": 1.0,
        "high_quality": 1.0,
        "mode_kl": pytest.approx(math.log(25)),
    }


def test_uniform_noise_is_even_and_of_low_quality():
    noise = np.random.default_rng(0).uniform(-5, 5, (20_000, 2))
    metrics = mode_metrics(noise, MODES)
    area = 25 * math.pi * 0.15**2 / 100  # of the discs in the square
    assert metrics["high_quality"] == pytest.approx(area, abs=0.005)
    assert metrics["mode_kl"] == pytest.approx(mode_kl_floor(25, 20_000), abs=1e-3)


def test_no_good_sample_is_no_mode():
    metrics = mode_metrics(MODES.centers + 0.16, MODES)
    assert metrics["modes"] == metrics["high_quality"] == 0.0
    assert metrics["mode_kl"] == pytest.approx(0.0, abs=1e-12)


def test_modes_are_known_of_the_ring_and_the_grid_alone():
    ring = known_modes("gaussians8")
    assert ring is not None
    assert (len(ring.centers), ring.sigma) == (8, 0.1)
    assert known_modes("moons") is None and known_modes("digits") is None


def test_the_evaluation_reports_them(exact):
    points = exact[0][:1000]
    spec = of_points("gaussians25", 25, num_train=1000, num_eval=100)
    model = Experiment(
        init=lambda key: {},
        train_step=lambda state, batch, key: (state, {}),
        sample=lambda state, key, num: GRID.sample(key, num),
    )
    batch = {"image": points[:100]}
    options = dict(
        spec=spec,
        batches=lambda: [(batch, np.ones(100, bool))],
        reference=summarize([points], name="train", spec=spec),
        num_samples=600,
        sample_chunk=200,
    )
    result = evaluator(model, **options, modes=MODES)({})
    metrics, protocol = result["metrics"], result["protocol"]
    assert metrics["modes"] == 25 and metrics["high_quality"] > 0.96
    assert 0.0 < metrics["mode_kl"] < 0.1
    assert (protocol["num_modes"], protocol["n_generated"]) == (25, 600)
    assert protocol["mode_kl_floor"] == pytest.approx(0.02)
    without = evaluator(model, **options)({})
    assert "modes" not in without["metrics"]
    assert "num_modes" not in without["protocol"]


def test_class_modes_of_hand_made_counts():
    none_of_0 = np.array([1, 1, 2, 3])  # shares 0, 1/2, 1/4, 1/4 of four classes
    expected = math.log(4) - 1.5 * math.log(2)  # log K less the entropy
    metrics = class_mode_metrics(none_of_0, 4)
    assert metrics == {"modes": 3.0, "mode_kl": pytest.approx(expected)}
    even = class_mode_metrics(np.arange(1000), 1000)
    assert even == {"modes": 1000.0, "mode_kl": pytest.approx(0.0, abs=1e-12)}
    alone = class_mode_metrics(np.full(7, 999), 1000)
    assert alone == {"modes": 1.0, "mode_kl": pytest.approx(math.log(1000))}


def test_exact_classes_score_the_floor():
    draws = np.random.default_rng(0).integers(0, 1000, (20, 26_000))
    scores = [class_mode_metrics(drawn, 1000)["mode_kl"] for drawn in draws]
    assert mode_kl_floor(1000, 26_000) == pytest.approx(0.0192, abs=1e-4)
    # 2 N KL has a deviation of sqrt(2 * 999); the law of large N is 1% low at 26 each
    assert np.mean(scores) == pytest.approx(0.0192, rel=0.03)


@pytest.mark.parametrize(("num_classes", "counted"), [(100, True), (10, False)])
def test_the_evaluation_counts_classes_where_there_are_many(num_classes, counted):
    """The class of an image of one pixel is its value."""
    spec = of_images("pixel", (1, 1, 1), num_classes)
    digit = np.arange(20, dtype=np.uint8).reshape(-1, 1, 1, 1) % 10
    test = digit % 5
    extractor = Extractor(
        name="reader",
        apply=lambda images: (
            jnp.reshape(images, (-1, 1)).astype(jnp.float32),
            jax.nn.one_hot(jnp.reshape(images, -1), num_classes),
        ),
        note="exact",
    )
    model = Experiment(
        init=lambda key: {},
        train_step=lambda state, batch, key: (state, {}),
        sample=lambda state, key, num: (
            jnp.arange(num, dtype=jnp.uint8).reshape(-1, 1, 1, 1) % 10
        ),
    )
    result = evaluator(
        model,
        spec=spec,
        batches=lambda: [({"image": test}, np.ones(20, bool))],
        reference=summarize([digit], name="train", spec=spec, extractor=extractor),
        num_samples=40,
        sample_chunk=20,
        extractor=extractor,
    )({})
    metrics, protocol = result["metrics"], result["protocol"]
    if not counted:
        assert "modes" not in metrics and "num_modes" not in protocol
        return
    assert (metrics["modes"], metrics["modes_test"]) == (10.0, 5.0)
    assert metrics["mode_kl"] == pytest.approx(math.log(10))
    assert metrics["mode_kl_test"] == pytest.approx(math.log(20))
    assert (protocol["num_modes"], protocol["n_generated"]) == (100, 40)
    assert protocol["mode_kl_floor"] == pytest.approx(99 / 80)
    assert "high_quality" not in protocol

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

from genjax.evaluation.extractors import Extractor
from genjax.evaluation.frechet import frechet_distance, moments
from genjax.evaluation.kid import kernel_distance
from genjax.evaluation.neighbors import nearest
from genjax.evaluation.panel import Panel, Space
from genjax.evaluation.summary import summarize
from genjax.typing import Stopped
from tests import specs
from tests.evaluation import pixel_model
from tests.specs import of_points

SPEC = dataclasses.replace(specs.DIGITS, num_train=600, num_eval=600)
DIGITS = load_digits()
IMAGES, LABELS = DIGITS.images.astype(np.uint8)[..., None], DIGITS.target
TRAIN, TEST, FRESH = (slice(0, 600), slice(600, 1100), slice(1200, 1697))
CENTERS = np.stack([IMAGES[TRAIN][LABELS[TRAIN] == c].mean(axis=0) for c in range(10)])


def nearest_class_mean(images):
    """(halved pixels, logits): a classifier that is known from the data."""
    flat = jnp.asarray(images, jnp.float32).reshape(len(images), -1)
    centers = jnp.asarray(CENTERS, jnp.float32).reshape(10, -1)
    return flat / 2, flat @ centers.T - jnp.sum(centers**2, axis=1)[None] / 2


JUDGE = Extractor("means", nearest_class_mean, "exact")


def kept(images, extractor=None, name="samples"):
    return summarize([images], name=name, spec=SPEC, extractor=extractor, keep=True)


@pytest.fixture(scope="module")
def panel():
    return Panel(
        kept(IMAGES[TRAIN], JUDGE, "train"),
        kept(IMAGES[TEST], JUDGE, "test"),
        spec=SPEC,
        extractor="means",
    )


@pytest.fixture(scope="module")
def scores(panel):
    rng = np.random.default_rng(0)
    fresh, half = IMAGES[FRESH], IMAGES[FRESH][LABELS[FRESH] < 5]
    samplers = {
        "honest": fresh,
        "copying": rng.permutation(IMAGES[TRAIN])[:497],
        "dropping": half[rng.integers(0, len(half), 497)],
    }
    return {name: panel(kept(images, JUDGE)) for name, images in samplers.items()}


def test_the_honest_sampler_is_near_the_floors(scores):
    honest = scores["honest"]
    for space in ("pixels", "means"):
        for name in ("precision", "recall", "coverage"):
            floor = honest[f"{name}_{space}_floor"]
            assert honest[f"{name}_{space}"] == pytest.approx(floor, abs=0.1)
        assert abs(honest[f"data_copying_{space}"]) < 5
    assert honest["class_kl_means"] < 0.05 and honest["classes_means"] == 10
    assert honest["duplicates"] == 0.0
    assert honest["nearest_other_ratio_pixels"] == pytest.approx(1.0, abs=0.1)


def test_the_copying_sampler_is_caught_by_memorisation_alone(scores):
    copying = scores["copying"]
    assert min(copying["precision_pixels"], copying["coverage_means"]) > 0.95
    assert copying["kid_pixels"] < copying["kid_pixels_floor"]
    for space in ("pixels", "means"):
        assert copying[f"authpct_{space}"] == copying[f"nearest_training_{space}"] == 0
        assert copying[f"authpct_{space}_floor"] > 30
        assert copying[f"data_copying_{space}"] < -6
        assert copying[f"data_copying_{space}_floor"] > -5


def test_the_dropping_sampler_is_caught_by_its_missing_classes(scores):
    dropping = scores["dropping"]
    assert dropping["class_kl_means"] > 0.4
    assert dropping["class_kl_means_floor"] < 0.05
    for space in ("pixels", "means"):
        assert dropping[f"recall_{space}"] < dropping[f"recall_{space}_floor"] - 0.2
        assert dropping[f"coverage_{space}"] < 0.6
        assert dropping[f"precision_{space}"] > 0.6
        assert dropping[f"kid_{space}"] > 2 * dropping[f"kid_{space}_floor"]
    # Drawn with replacement from 300.
    assert dropping["duplicates"] > 0.5
    assert dropping["nearest_other_ratio_pixels"] == 0.0


def test_units_are_those_of_the_pixels_between_0_and_1(scores):
    honest = scores["honest"]
    rows = [IMAGES[part].reshape(-1, 64) / 16 for part in (TRAIN, FRESH)]
    assert honest["kid_pixels"] == pytest.approx(kernel_distance(*rows).mean, rel=1e-3)
    distance = np.median(nearest(rows[1], rows[0], 1).distance)
    assert honest["nearest_training_pixels"] == pytest.approx(distance)
    reference = rows[0].mean(axis=0), np.cov(rows[0].T)
    parts = [rows[1][i::5] for i in range(5)]
    found = [frechet_distance(*reference, x.mean(axis=0), np.cov(x.T)) for x in parts]
    assert honest["frechet_pixels_parts_mean"] == pytest.approx(np.mean(found))
    assert honest["frechet_pixels_parts_std"] == pytest.approx(np.std(found, ddof=1))
    assert honest["frechet_pixels_infinity"] < honest["frechet_pixels_parts_mean"]
    # The features are pixels in 0 ... 8 and no ratio of distances knows it.
    for name in ("precision", "density", "coverage", "authpct"):
        assert honest[f"{name}_means"] == pytest.approx(honest[f"{name}_pixels"])


def test_the_distance_to_the_test_split_and_between_its_halves():
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(2, 200, 3))
    test[1::2] = test[::2]  # both halves are one
    space = Space("x", train, test, moments(train), unit=0.5)
    # A shift by c in each of d numbers: d c^2, in units of 0.5.
    assert space.scores(test + 4.0)["frechet_x_test"] == pytest.approx(3 * 2.0**2)
    assert space.floors(200)["frechet_x_test"] == pytest.approx(0.0, abs=1e-9)


def test_every_score_has_a_floor(scores):
    for found in scores.values():
        own = {name for name in found if not name.endswith("_floor")}
        assert {name + "_floor" for name in own} == found.keys() - own
        assert all(type(v) is float and math.isfinite(v) for v in found.values())


def test_the_nearest_training_images_come_first(panel):
    samples = IMAGES[FRESH].copy()
    samples[[10, 20]] = IMAGES[[3, 500]]
    which, index = panel.nearest_training(kept(samples, JUDGE), 4, 2)
    assert list(which[:2]) == [10, 20] and list(index[:2, 0]) == [3, 500]
    assert which.shape == (4,) and index.shape == (4, 2)


def test_a_stop_is_heard_between_the_spaces():
    train = kept(IMAGES[TRAIN][:60], name="train")
    stopped = Panel(train, train, spec=SPEC, should_stop=lambda: True)
    with pytest.raises(Stopped, match="while comparing"):
        stopped(train)


def test_rows_that_were_let_go_are_missed():
    train = summarize([IMAGES[TRAIN]], name="train", spec=SPEC)
    with pytest.raises(ValueError, match="keep=True"):
        Panel(train, train, spec=SPEC)


def evaluator(count, num_samples, full=True):
    """The pixel model against `count` images of its own."""
    images = pixel_model.images(count, seed=3)
    spec = pixel_model.SPEC
    return pixel_model.evaluator(
        reference=summarize([images], name="train", spec=spec, keep=full),
        batches=lambda: [
            (
                {"image": jnp.asarray(images), "index": jnp.arange(count)},
                np.ones(count, bool),
            )
        ],
        num_samples=num_samples,
        sample_chunk=num_samples,
        full=full,
    )


def test_the_evaluator_has_a_panel_where_it_is_full():
    poor, rich = evaluator(60, 60, full=False), evaluator(60, 60)
    cheap, full = (e(pixel_model.fitted()) for e in (poor, rich))
    assert cheap["metrics"].items() <= full["metrics"].items()
    assert "coverage_pixels_floor" in full["metrics"].keys() - cheap["metrics"].keys()
    assert "50 subsets of 60 (not 1000: too few)" in full["protocol"]["kid"]
    assert 0.96 < full["protocol"]["expected_coverage"] < 0.98
    assert rich.nearest_training.shape == (16, 4, 2, 2, 1)
    assert poor.nearest_training is None


def test_too_few_examples_for_a_panel_are_said():
    result = evaluator(49, 60)(pixel_model.fitted())
    assert "takes 50" in result["protocol"]["not_available"]["panel"]
    assert "coverage_pixels" not in result["metrics"]


def test_points_have_a_panel_too():
    spec = of_points("plane")
    train, test, samples = (
        summarize(
            [np.asarray(jax.random.normal(jax.random.key(i), (300, 2)))],
            name="points",
            spec=spec,
            keep=True,
        )
        for i in range(3)
    )
    found = Panel(train, test, spec=spec)(samples)
    assert found["coverage_points"] > 0.9
    assert found["coverage_points_floor"] > 0.9


def test_floors_are_kept_by_what_they_are_of():
    """Another count, pixel or judge is another key; the samples do not matter."""
    store = {}

    def keep(key, work):
        if key not in store:
            store[key] = work()
        return store[key]

    def floors(count=60, train=IMAGES[:60], extractor=None):
        panel = Panel(
            kept(train, extractor),
            kept(IMAGES[60:120], extractor),
            spec=SPEC,
            extractor=extractor and extractor.name,
            keep_floors=keep,
        )
        scores = panel(kept(IMAGES[200 : 200 + count], extractor))
        return {k: v for k, v in scores.items() if k.endswith("_floor")}

    first = floors()
    assert list(store.values()) == [first]
    assert floors() is not first and floors() == first and len(store) == 1
    floors(count=55)
    assert len(store) == 2
    changed = IMAGES[:60].copy()
    changed[7, 3, 3] = (changed[7, 3, 3] + 9) % 17
    assert floors(train=changed) != first and len(store) == 3
    floors(extractor=JUDGE)
    assert len(store) == 4

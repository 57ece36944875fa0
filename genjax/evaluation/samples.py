"""Scores of a set of samples from anywhere: a model, a folder, a file.

Everything is a comparison of summaries, so no model is asked and nothing is drawn.
"""

import math
from typing import Any

import numpy as np

from genjax.evaluation.density_modes import (
    RADIUS,
    Modes,
    class_mode_metrics,
    mode_kl_floor,
    mode_metrics,
)
from genjax.evaluation.energy import energy_distance
from genjax.evaluation.extractors import Extractor
from genjax.evaluation.frechet import SampleMoments, frechet_distance
from genjax.evaluation.summary import MAX_DIMS, Summary
from genjax.evaluation.wasserstein import MAX_POINTS, wasserstein2
from genjax.typing import DataSpec

MANY_CLASSES = 100  # that a model may drop some of: then they are counted as modes


def sample_metrics(
    samples: Summary,
    *,
    reference: Summary,
    test: Summary | None,
    extractor: Extractor | None = None,
    labels: np.ndarray | None = None,
    modes: Modes | None = None,
    num_classes: int = 0,
) -> dict[str, float]:
    """The scores of the samples: those of images, or those of points.

    All three summaries are of one spec and one extractor.
    test: None where there is none: what is measured from it is then left out.
    labels: asked for; sample i was asked for labels[i % len(labels)].
    num_classes: of the data; MANY_CLASSES or more count as modes, as they are read.
    """
    metrics = frechet_distances(samples, reference, extractor)
    reads = samples.predicted is not None and extractor and extractor.reads_labels
    if reads and labels is not None:
        asked = np.resize(labels, samples.count)
        metrics["label_agreement"] = float(np.mean(samples.predicted == asked))
    metrics |= _class_modes(samples, extractor, num_classes)
    if samples.points is not None:
        if test is not None:
            metrics |= _point_distances(samples.points, test, "")
        if modes is not None:
            metrics |= mode_metrics(samples.points, modes)
    return metrics


def floors(
    *,
    reference: Summary,
    test: Summary,
    num_samples: int,
    extractor: Extractor | None = None,
    num_classes: int = 0,
) -> dict[str, float]:
    """The same distances between data and data: <name>_floor.

    From the reference it is the test split; from the test split, for points, the first
    num_samples rows of the reference. Where classes are counted as modes, also
    modes_test and mode_kl_test, of the test split as it is read.
    """
    found = {}
    if test.count > 1:
        distances = frechet_distances(test, reference, extractor)
        found = {f"{name}_floor": value for name, value in distances.items()}
    found |= {
        f"{k}_test": v for k, v in _class_modes(test, extractor, num_classes).items()
    }
    if reference.points is not None:
        found |= _point_distances(reference.points[:num_samples], test, "_floor")
    return found


def sample_protocol(
    *,
    reference: Summary,
    num_samples: int,
    extractor: Extractor | None = None,
    modes: Modes | None = None,
    num_classes: int = 0,
) -> dict[str, Any]:
    """How `sample_metrics` were taken, for the protocol."""
    protocol: dict[str, Any] = {
        "reference_split": reference.name,
        "n_reference": reference.count,
        "n_generated": num_samples,
        "extractor": f"raw {kind(reference)}",
    }
    if extractor is not None:
        protocol["extractor"] += f"; {extractor.name} ({extractor.note})"
    num_modes = 0 if modes is None else len(modes.centers)
    if _class_modes(reference, extractor, num_classes):
        num_modes = num_classes
    if num_modes and num_samples:
        protocol["num_modes"] = num_modes
        protocol["mode_kl_floor"] = mode_kl_floor(num_modes, num_samples)
    if modes is not None:
        protocol["high_quality"] = f"within {RADIUS:g} sigma of a mode"
    return protocol


def floor_protocol(test: Summary, num_samples: int) -> dict[str, Any]:
    """Of how many rows the Frechet distances are, and those that are their floors."""
    sizes = f"{num_samples} samples, {test.count} rows of the test split for the floor"
    if test.count < num_samples:
        sizes += "; of more rows a distance is smaller, so it may lie below its floor"
    return {"n_floor": test.count, "frechet_sizes": sizes}


def not_available(reference: Summary, spec: DataSpec) -> dict[str, str]:
    """The distances that are not available for these data, with the reason."""
    if reference.moments is not None:
        return {}
    return {
        f"frechet_{kind(reference)}": (
            f"{math.prod(spec.shape)} numbers an example; the covariance is taken of "
            f"at most {MAX_DIMS}"
        )
    }


def kind(summary: Summary) -> str:
    """What the examples are made of: "pixels" or "points"."""
    return "pixels" if summary.points is None else "points"


def frechet_distances(
    examples: Summary, reference: Summary, extractor: Extractor | None
) -> dict[str, float]:
    """In pixels or points, and in the features of the extractor."""
    distances = {}
    if reference.moments and examples.moments:
        name = f"frechet_{kind(reference)}"
        distances[name] = _frechet(reference.moments, examples.moments)
    if extractor and reference.features and examples.features:
        name = extractor.frechet_name
        distances[name] = _frechet(reference.features, examples.features)
    return distances


def _class_modes(
    examples: Summary, extractor: Extractor | None, num_classes: int
) -> dict[str, float]:
    """Of the data's classes as the extractor reads them, where there are many."""
    reads = extractor is not None and extractor.reads_labels
    if examples.predicted is None or not reads or num_classes < MANY_CLASSES:
        return {}
    return class_mode_metrics(examples.predicted, num_classes)


def _point_distances(points: np.ndarray, test: Summary, suffix: str):
    """From the test split; the matching takes of both the first that it can."""
    assert test.points is not None
    num = min(len(points), len(test.points), MAX_POINTS)
    return {
        f"energy_distance{suffix}": energy_distance(points, test.points),
        f"wasserstein2{suffix}": wasserstein2(points[:num], test.points[:num]),
    }


def _frechet(a: SampleMoments, b: SampleMoments) -> float:
    return frechet_distance(a.mean, a.cov, b.mean, b.cov)

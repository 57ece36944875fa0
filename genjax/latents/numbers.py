"""Numbers about a code: (view) -> {name: number}, and how they were taken."""

from collections.abc import Callable

import numpy as np

from genjax.evaluation import code_metrics as scores
from genjax.evaluation import walks
from genjax.latents.view import View, decode_gaussian, draw

NUM_PAIRS = 1_000
BETWEEN = (0.25, 0.5, 0.75)

Numbers = dict[str, float]


def errors(view: View) -> Numbers:
    """Mean squared error over the test images, of the model and of PCA."""
    real = view.pixels(view.test.images)
    again = view.pixels(view.again)
    found = {"squared_error": float(scores.squared_errors(real, again).mean())}
    if view.pca_of_code is not None:
        codes = view.pca_of_code.encode(real, view.dim)
        pixels = view.pca_of_code.decode(codes)
        rounded = view.pixels(view.images(pixels))
        for name, again in {"pca": pixels, "pca_image": rounded}.items():
            error = scores.squared_errors(real, again)
            found[f"{name}_squared_error"] = float(error.mean())
    return found


def active(view: View) -> Numbers:
    """active_units of the test codes."""
    view.protocol["active_units"] = (
        f"variance over the test codes above {scores.ACTIVE_VARIANCE}"
    )
    return {"active_units": float(scores.active_units(view.test.codes))}


def classes(view: View) -> Numbers:
    """What the code knows of the class, and what PCA of the same size knows."""
    if len(np.unique(view.train.labels)) < 2:
        view.missing("accuracy", "the training images are not of two classes or more")
        return {}
    view.protocol["accuracy"] = (
        f"fitted to {len(view.train.codes)} training codes, of the test codes; nn: "
        "nearest neighbour; linear: logistic regression on standardised codes"
    )
    pairs = {"": (view.train.codes, view.test.codes)}
    if (pca := view.pca_of_code) is not None:
        pairs["pca_"] = (
            pca.encode(view.pixels(view.train.images), view.dim),
            pca.encode(view.pixels(view.test.images), view.dim),
        )
    found = {}
    for name, (train, test) in pairs.items():
        known = train, view.train.labels, test, view.test.labels
        found[f"{name}nn_accuracy"] = scores.nearest_neighbour_accuracy(*known)
        found[f"{name}linear_accuracy"] = scores.linear_accuracy(*known)
    return found


def clusters(view: View) -> Numbers:
    """Clusters of the test codes, as many as there are classes, against these."""
    num_classes, codes = view.setup.dataset.spec.num_classes, view.test.codes
    if not 2 <= num_classes <= len(codes):
        view.missing("clusters", f"{num_classes} classes and {len(codes)} test images")
        return {}
    view.protocol["clusters"] = (
        f"of the test codes, {num_classes}; mixture: Gaussian, "
        f"{scores.covariance_type(view.dim)} covariance"
    )
    return scores.cluster_metrics(codes, view.test.labels, num_classes)


def smoothness(view: View) -> Numbers:
    """Distances to the data, (1) of `genjax.latents.mode`."""
    if len(view.test.codes) < 2:
        view.missing("real_distance", "there are no two test images")
        return {}
    num = min(NUM_PAIRS, len(view.test.codes))
    pairs = walks.random_pairs(len(view.test.codes), num, view.rng(1))
    codes, t = view.test.codes, np.array(BETWEEN)
    ways = [walks.lerp(codes[a], codes[b], t) for a, b in pairs]
    view.protocol["real_distance"] = (
        f"mean root of the squared error to the nearest of {len(view.real)} training "
        f"images; {num} random pairs of test images, at {BETWEEN} of the line between "
        "their codes; of_test and of_reconstructions: the first of each pair; _ratio: "
        "over of_test"
    )
    images: dict[str, Callable[[], np.ndarray]] = {
        "of_test": lambda: view.test.images[pairs[:, 0]],
        "of_reconstructions": lambda: view.again[pairs[:, 0]],
        "between_codes": lambda: view.coder.decode(np.concatenate(ways)),
        "of_gaussian_codes": lambda: decode_gaussian(view, num),
    }
    if view.setup.experiment.sample is not None:
        images["of_samples"] = lambda: draw(view, num)
    else:
        view.missing("real_distance_of_samples", "the experiment has no sampler")
    found: Numbers = {}
    for name, make in images.items():
        distances = scores.nearest_distances(view.pixels(make()), view.real)
        found[f"real_distance_{name}"] = float(distances.mean())
    floor = found["real_distance_of_test"]
    if floor == 0.0:
        view.missing("ratios", "the test images are training images")
        return found
    return found | {
        f"{name}_ratio": value / floor
        for name, value in found.items()
        if name != "real_distance_of_test"
    }


SCORERS = (errors, active, classes, clusters, smoothness)

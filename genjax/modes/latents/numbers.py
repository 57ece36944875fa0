"""Numbers about a code: (data) -> {name: number}, and how they were taken."""

from collections.abc import Callable

import numpy as np

from genjax.evaluation import code_metrics as scores
from genjax.evaluation import walks
from genjax.modes.latents.coded import CodedData

NUM_PAIRS = 1_000
BETWEEN = (0.25, 0.5, 0.75)

Numbers = dict[str, float]


def errors(data: CodedData) -> Numbers:
    """Mean squared error over the test images, of the model and of PCA."""
    real, decoded = data.pixels(data.test.images), data.pixels(data.reconstructions)
    found = {"squared_error": float(scores.squared_errors(real, decoded).mean())}
    if data.pca_of_code is not None:
        codes = data.pca_of_code.encode(real, data.dim)
        pixels = data.pca_of_code.decode(codes)
        rounded = data.pixels(data.images(pixels))
        for name, decoded in {"pca": pixels, "pca_image": rounded}.items():
            error = scores.squared_errors(real, decoded)
            found[f"{name}_squared_error"] = float(error.mean())
    return found


def active(data: CodedData) -> Numbers:
    """active_units of the test codes."""
    data.protocol["active_units"] = (
        f"variance over the test codes above {scores.ACTIVE_VARIANCE}"
    )
    return {"active_units": float(scores.active_units(data.test.codes))}


def classes(data: CodedData) -> Numbers:
    """How well the code, and PCA of the same size, predict the class."""
    if len(np.unique(data.train.labels)) < 2:
        data.missing("accuracy", "the training images are not of two classes or more")
        return {}
    data.protocol["accuracy"] = (
        f"fitted to {len(data.train.codes)} training codes, of the test codes; nn: "
        "nearest neighbour; linear: logistic regression on standardised codes"
    )
    pairs = {"": (data.train.codes, data.test.codes)}
    if (pca := data.pca_of_code) is not None:
        pairs["pca_"] = (
            pca.encode(data.pixels(data.train.images), data.dim),
            pca.encode(data.pixels(data.test.images), data.dim),
        )
    found = {}
    for name, (train, test) in pairs.items():
        known = train, data.train.labels, test, data.test.labels
        found[f"{name}nn_accuracy"] = scores.nearest_neighbour_accuracy(*known)
        found[f"{name}linear_accuracy"] = scores.linear_accuracy(*known)
    return found


def clusters(data: CodedData) -> Numbers:
    """Clusters of the test codes, as many as there are classes, against these."""
    num_classes, codes = data.run.spec.num_classes, data.test.codes
    if not 2 <= num_classes <= len(codes):
        data.missing("clusters", f"{num_classes} classes and {len(codes)} test images")
        return {}
    data.protocol["clusters"] = (
        f"of the test codes, {num_classes}; mixture: Gaussian, "
        f"{scores.covariance_type(data.dim)} covariance"
    )
    return scores.cluster_metrics(codes, data.test.labels, num_classes)


def smoothness(data: CodedData) -> Numbers:
    """Distances to the data, (1) of `genjax.modes.latents.mode`."""
    if len(data.test.codes) < 2:
        data.missing("real_distance", "there are no two test images")
        return {}
    num = min(NUM_PAIRS, len(data.test.codes))
    pairs = walks.random_pairs(len(data.test.codes), num, data.rng(1))
    codes, t = data.test.codes, np.array(BETWEEN)
    between = [walks.lerp(codes[a], codes[b], t) for a, b in pairs]
    data.protocol["real_distance"] = (
        f"mean root of the squared error to the nearest of {len(data.real)} training "
        f"images; {num} random pairs of test images, at {BETWEEN} of the line between "
        "their codes; of_test and of_reconstructions: the first of each pair; _ratio: "
        "over of_test"
    )
    images: dict[str, Callable[[], np.ndarray]] = {
        "of_test": lambda: data.test.images[pairs[:, 0]],
        "of_reconstructions": lambda: data.reconstructions[pairs[:, 0]],
        "between_codes": lambda: data.coder.decode(np.concatenate(between)),
        "of_gaussian_codes": lambda: data.decode_gaussian(num),
    }
    if data.run.experiment.sample is not None:
        images["of_samples"] = lambda: data.sample(num)
    else:
        data.missing("real_distance_of_samples", "the experiment has no sampler")
    found: Numbers = {}
    for name, make in images.items():
        distances = scores.nearest_distances(data.pixels(make()), data.real)
        found[f"real_distance_{name}"] = float(distances.mean())
    floor = found["real_distance_of_test"]
    if floor == 0.0:
        data.missing("ratios", "the test images are training images")
        return found
    return found | {
        f"{name}_ratio": value / floor
        for name, value in found.items()
        if name != "real_distance_of_test"
    }


SCORERS = (errors, active, classes, clusters, smoothness)

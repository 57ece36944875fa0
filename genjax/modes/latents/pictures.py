"""Pictures of a code: (data) -> {name: picture}."""

import math
from collections.abc import Sequence

import numpy as np

from genjax.evaluation import code_metrics as scores
from genjax.evaluation import walks
from genjax.evaluation.coder import Encoded
from genjax.modes.latents.coded import CodedData
from genjax.modes.mode import title_of
from genjax.pictures import grids
from genjax.pictures.frame import framed
from genjax.pictures.scatter import Panel, scatter
from genjax.run import Run

DEFAULT_PAIRS = 5
MAX_TRAVERSED = 16  # dimensions of the code
MANIFOLD_SIDE = 20  # as in Kingma & Welling 2014
MAX_POINTS = 5_000  # in a scatter plot

Pictures = dict[str, grids.Picture]


def reconstructions(data: CodedData) -> Pictures:
    """Rows: real, model, PCA of the same size. Columns: the classes in turn."""
    chosen = class_by_class(data.test.labels)[: data.options.num_images]
    real = data.test.images[chosen]
    rows, names = [real, data.reconstructions[chosen]], "real, model"
    if data.pca_of_code is not None:
        codes = data.pca_of_code.encode(data.pixels(real), data.dim)
        pixels = data.pca_of_code.decode(codes)
        rows.append(data.images(pixels))
        names += f", PCA of {data.dim} components"
    return rows_picture(
        data, "reconstructions", rows, f"rows: {names}", names=names.split(", ")
    )


def class_by_class(labels: np.ndarray) -> np.ndarray:
    """All rows: the first of each class, then the second of each, and so on."""
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], labels[order])
    nth = np.empty_like(order)
    nth[order] = np.arange(len(labels)) - starts
    return np.lexsort((labels, nth))


def samples(data: CodedData) -> Pictures:
    """The model's samples or, for a model without, those of a fitted Gaussian."""
    num = data.options.num_images**2
    if data.run.experiment.sample is not None:
        return rows_picture(
            data, "samples", square(data.sample(num)), "samples of the model"
        )
    return rows_picture(
        data,
        "samples_gaussian",
        square(data.decode_gaussian(num)),
        "no sampler: codes drawn from a Gaussian fitted to the training codes",
    )


def interpolation(data: CodedData) -> Pictures:
    """A row a pair: the real image, the walk between the codes, the real image."""
    pairs = data.options.pairs or default_pairs(data.test.labels)
    t = np.linspace(0.0, 1.0, data.options.num_images)
    pictures: Pictures = {}
    for name, walk in {"linear": walks.lerp, "spherical": walks.slerp}.items():
        rows = []
        for a, b in pairs:
            codes = walk(data.test.codes[a], data.test.codes[b], t)
            real, decoded = data.test.images, data.coder.decode(codes)
            rows.append(np.concatenate([real[[a]], decoded, real[[b]]]))
        note = (
            f"test rows {', '.join(f'{a} to {b}' for a, b in pairs)}; real at the ends"
        )
        ends = ["real", *[""] * len(t), "real"]
        names = [f"{a} to {b}" for a, b in pairs]
        pictures |= rows_picture(
            data, f"interpolation_{name}", rows, note, names=names, columns=ends
        )
    return pictures


def default_pairs(labels: np.ndarray) -> list[tuple[int, int]]:
    """The first images of class 0 and 1, of 2 and 3, ..."""
    rows = class_by_class(labels)[: 2 * DEFAULT_PAIRS].tolist()
    return list(zip(rows[::2], rows[1::2], strict=False))


def traversal(data: CodedData) -> Pictures:
    """A row a dimension of the code, from mean - 3 to mean + 3 standard deviations."""
    dims = walks.widest(data.train.codes, MAX_TRAVERSED)
    steps = data.options.num_images
    walk = walks.traversal(data.train.codes, dims, steps)
    images = data.coder.decode(walk.reshape(-1, data.dim))
    rows = list(images.reshape(len(dims), steps, *images.shape[1:]))
    note = f"dimensions {', '.join(map(str, dims))}, the widest first; mean +- 3 std"
    columns = ["-3 std", *[""] * (steps - 2), "+3 std"] if steps > 1 else []
    names = [f"code {dim}" for dim in dims]
    return rows_picture(data, "traversal", rows, note, names=names, columns=columns)


def manifold(data: CodedData) -> Pictures:
    """The plane of a code of two numbers, decoded on a grid."""
    if data.dim != 2:
        return {}
    if data.run.experiment.sample is not None:
        codes, note = None, "inverse normal CDF of a uniform grid"
    else:
        codes, note = data.train.codes, "percentiles of the training codes"
    images = data.coder.decode(walks.manifold_grid(MANIFOLD_SIDE, codes))
    return rows_picture(data, "manifold", square(images), note)


PAINTERS = (reconstructions, samples, interpolation, traversal, manifold)


def square(images: np.ndarray) -> list[np.ndarray]:
    """Rows of as many images as there are rows."""
    return np.split(images, math.isqrt(len(images)))


def rows_picture(
    data: CodedData,
    name: str,
    rows: list[np.ndarray],
    note: str,
    *,
    names: Sequence[str] = (),
    columns: Sequence[str] = (),
) -> Pictures:
    """{name: rows of images}, with a note for the protocol; nothing without rows.

    names: of the rows. columns: of the columns.
    """
    if not rows:
        return {}
    data.protocol["pictures"][name] = note
    spec = data.run.spec
    grid = grids.image_grid(np.concatenate(rows), spec.num_levels, columns=len(rows[0]))
    title = title_of(data.run, data.run.step, name.replace("_", ", "))
    return {name: framed(grid, title, rows=names, columns=columns)}


# Codes by class


def scatter_codes(data: CodedData, beside: Panel | None) -> Pictures:
    """Test codes by class, those of another run, and two components of the pixels."""
    panels = [code_panel(data.run, data.train, data.test)]
    if beside is not None:
        panels.append(beside)
    if data.pca is not None:
        points = data.pca.encode(data.pixels(data.test.images), 2)
        panels.append(Panel("pixels", component_names("pixels"), points))
    data.protocol["pictures"]["codes"] = ", ".join(panel.title for panel in panels)
    panels = [panel._replace(points=panel.points[:MAX_POINTS]) for panel in panels]
    labels, num_classes = data.test.labels, data.run.spec.num_classes
    return {"codes": scatter(panels, labels[:MAX_POINTS], num_classes)}


def code_panel(run: Run, train: Encoded, test: Encoded) -> Panel:
    """The test codes in the plane: as they are, or two principal components of them.

    The components are those of the training codes. A code of one number is drawn with
    the class above it.
    """
    title = f"{run.config.experiment} ({run.workdir.name})"
    codes = test.codes
    if codes.shape[1] == 1:
        points = np.stack([codes[:, 0], test.labels.astype(codes.dtype)], axis=1)
        return Panel(title, ("code", "class"), points)
    if codes.shape[1] == 2 or len(train.codes) < 2:
        return Panel(title, ("code 1", "code 2"), codes[:, :2])
    points = scores.principal_components(train.codes, 2).encode(codes, 2)
    return Panel(title, component_names("codes"), points)


def component_names(what: str) -> tuple[str, str]:
    """The axes' names."""
    return (f"component 1 of the {what}", f"component 2 of the {what}")

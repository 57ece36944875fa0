"""--mode=latents: on a model whose code and image are known, and on a trained one."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

from genjax.data import datasets
from genjax.experiment import Code, Experiment
from genjax.modes.latents import mode
from genjax.modes.latents.coded import Options
from genjax.modes.latents.mode import MODE
from genjax.typing import Stopped, UserError
from tests.modes.grid_cells import cells
from tests.modes.runs import run_of

PIXELS = ((2, 3), (5, 4))  # those that are the code
AT = tuple(zip(*PIXELS, strict=True))
PICTURES = [
    "codes",
    "interpolation_linear",
    "interpolation_spherical",
    "manifold",
    "reconstructions",
    "samples_gaussian",
    "traversal",
]


def encode(state, batch, key):
    pixels = [batch["image"][:, row, column, 0] for row, column in PIXELS]
    return jnp.stack(pixels, axis=1) / jnp.float32(16)


def decode(state, code, key):
    image = jnp.zeros((len(code), 8, 8, 1))
    for i, (row, column) in enumerate(PIXELS):
        image = image.at[:, row, column, 0].set(jnp.clip(code[:, i], 0, 1))
    return jnp.round(image * 16).astype(jnp.uint8)


TWO_PIXELS = Experiment(
    init=lambda key: jnp.zeros(()),
    train_step=lambda state, batch, key: (state + 1, {"loss": state}),
    code=Code(encode=encode, decode=decode),
)
"""Two pixels are the code; the image of a code has them and is black elsewhere."""

WITH_SAMPLER = dataclasses.replace(
    TWO_PIXELS,
    sample=lambda state, key, num, label=None: decode(
        state, jnp.full((num, 2), 0.5), key
    ),
)
"""The same, whose samples are two grey pixels, whatever the key."""

PRIOR_ALONE = dataclasses.replace(
    TWO_PIXELS,
    code=Code(
        decode=decode,
        prior=lambda key, num: jnp.tile(jax.random.uniform(key, (num, 1)), 2),
    ),
)
"""Decodes, and draws codes on a line: both numbers alike, in (0, 1)."""

BROKEN = dataclasses.replace(
    TWO_PIXELS,
    code=Code(encode=lambda *inputs: encode(*inputs) * jnp.nan, decode=decode),
)


def make_run(workdir, experiment=TWO_PIXELS, *, stop=False, **data):
    changes = {"evaluation": {"limit": 400}, "data": data}
    config = "flow_matching_digits:tiny"
    return run_of(workdir, config, experiment, changes=changes, step=4, stop=stop)


def start(workdir, experiment=TWO_PIXELS, *, stop=False, **flags):
    MODE.start(make_run(workdir, experiment, stop=stop), Options(**flags))


def report(workdir, step=4, suffix=""):
    path = workdir / f"evaluation/{step}_latents{suffix}.json"
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("two_pixels")
    start(workdir, num_images=5)
    return workdir


@pytest.fixture(scope="module")
def digits():
    """{"train": (pixels in [0, 1], labels), "test": the first 400}."""
    dataset = datasets.load("digits")

    def read(split, num):
        batch = split.read(np.arange(num))
        return batch["image"].reshape(num, -1) / 16.0, batch["label"]

    return {"train": read(dataset.train, 1000), "test": read(dataset.eval, 400)}


def coded(pixels):
    return np.stack([pixels.reshape(-1, 8, 8)[:, r, c] for r, c in PIXELS], axis=1)


def test_the_numbers_are_those_of_the_model(drawn, digits):
    metrics = report(drawn)["metrics"]
    (train, train_labels), (test, labels) = digits["train"], digits["test"]
    missed = (test**2).sum(1) - (coded(test) ** 2).sum(1)
    assert metrics["squared_error"] == pytest.approx(missed.mean(), rel=1e-5)
    pca = PCA(2, svd_solver="full").fit(train)
    lost = test - pca.inverse_transform(pca.transform(test))
    expected = (lost**2).sum(1).mean()
    assert metrics["pca_squared_error"] == pytest.approx(expected, rel=1e-4)
    rounded = np.round(np.clip(test - lost, 0, 1) * 16) / 16
    expected = ((test - rounded) ** 2).sum(1).mean()
    assert metrics["pca_image_squared_error"] == pytest.approx(expected, rel=1e-3)
    assert metrics["active_units"] == (coded(test).var(0) > 0.01).sum()
    neighbours = KNeighborsClassifier(1).fit(pca.transform(train), train_labels)
    expected = neighbours.score(pca.transform(test), labels)
    assert metrics["pca_nn_accuracy"] == pytest.approx(expected, abs=0.01)
    for name in ("nn_accuracy", "linear_accuracy", "kmeans_purity", "mixture_nmi"):
        assert 0.05 < metrics[name] < 1.0, name


def test_the_distances_to_the_data_are_those_of_scipy(drawn, digits):
    """Of all test images; the report has the mean of 400 drawn with replacement."""
    metrics = report(drawn)["metrics"]
    (train, _), (test, _) = digits["train"], digits["test"]
    floor = cdist(test, train).min(axis=1)
    tolerance = 4 * floor.std() / np.sqrt(400)
    assert metrics["real_distance_of_test"] == pytest.approx(
        floor.mean(), abs=tolerance
    )
    # images of two pixels are all about as far off the data
    black = np.linalg.norm(train, axis=1).min()
    for name in ("of_reconstructions", "between_codes", "of_gaussian_codes"):
        distance = metrics[f"real_distance_{name}"]
        assert black - 1.5 < distance < black + 0.1
        ratio = distance / metrics["real_distance_of_test"]
        assert metrics[f"real_distance_{name}_ratio"] == pytest.approx(ratio)


def test_the_protocol_says_how(drawn):
    protocol = report(drawn)["protocol"]
    assert protocol["n_test"] == 400 and protocol["n_train_codes"] == 1000
    assert protocol["code_dim"] == 2 and protocol["weights"] == "raw"
    assert sorted(protocol["pictures"]) == PICTURES
    assert "no sampler" in protocol["pictures"]["samples_gaussian"]
    assert "percentiles" in protocol["pictures"]["manifold"]
    assert protocol["not_finite"] == []


def read(picture):
    with Image.open(picture) as image:
        return np.asarray(image)


def test_pictures_show_what_they_say(drawn, digits):
    folder = drawn / "latents"
    assert sorted(p.name for p in folder.iterdir()) == [
        f"4_{name}.png" for name in PICTURES
    ]
    test, labels = digits["test"]
    real, model, pca = cells(read(folder / "4_reconstructions.png"), columns=5)
    for i in range(5):  # the first of each class, in order
        row = np.flatnonzero(labels == i)[0]
        np.testing.assert_allclose(real[i].ravel(), test[row] * 255, atol=0.51)
        np.testing.assert_allclose(model[i][AT], coded(test)[row] * 255, atol=0.51)
    assert pca.std() > model.std()
    assert cells(read(folder / "4_samples_gaussian.png"), columns=5).shape[0] == 5
    manifold = cells(read(folder / "4_manifold.png"), columns=20)
    (r0, c0), (r1, c1) = PIXELS
    across, up = manifold[..., r0, c0], manifold[..., r1, c1]
    assert (np.diff(across, axis=1) >= 0).all() and np.ptp(across, axis=0).max() == 0
    assert (np.diff(up, axis=0) <= 0).all() and np.ptp(up, axis=1).max() == 0


def test_pairs_are_walked_from_image_to_image(tmp_path, digits):
    start(tmp_path, num_images=3, pairs=((7, 30), (3, 12)), seed=1)
    picture = tmp_path / "latents/4_interpolation_linear_seed1.png"
    test, _ = digits["test"]
    for row, (a, b) in zip(
        cells(read(picture), columns=5), [(7, 30), (3, 12)], strict=True
    ):
        np.testing.assert_allclose(row[0].ravel(), test[a] * 255, atol=0.51)
        np.testing.assert_allclose(row[-1].ravel(), test[b] * 255, atol=0.51)
        middle = (coded(test)[a] + coded(test)[b]) / 2 * 255
        np.testing.assert_allclose(row[2][AT], middle, atol=255 / 32 + 0.5)  # 17 levels


def test_a_model_is_sampled_and_another_run_stands_beside(drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(mode, "load_beside", lambda run, path: make_run(path))
    start(tmp_path, WITH_SAMPLER, beside=str(drawn))
    result = report(tmp_path)
    pictures = result["protocol"]["pictures"]
    assert "samples" in pictures and "samples_gaussian" not in pictures
    assert "normal" in pictures["manifold"]
    assert f"({tmp_path.name})" in pictures["codes"]
    assert f"flow_matching ({drawn.name})" in pictures["codes"]
    alone = read(drawn / "latents/4_codes.png")
    assert read(tmp_path / "latents/4_codes.png").shape[1] > alone.shape[1]
    # every sample is the same image, so its distance is that of one
    train = datasets.load("digits").train.read(np.arange(1000))["image"] / 16.0
    grey = np.zeros((8, 8))
    grey[AT] = 0.5
    expected = np.linalg.norm(train.reshape(1000, -1) - grey.ravel(), axis=1).min()
    distance = result["metrics"]["real_distance_of_samples"]
    assert distance == pytest.approx(expected, rel=1e-5)


def test_without_an_encoder_the_walks_between_draws_are_drawn(tmp_path):
    start(tmp_path, PRIOR_ALONE, num_images=5)
    result = report(tmp_path)
    names = ["interpolation_linear", "interpolation_spherical", "manifold"]
    assert sorted(result["protocol"]["pictures"]) == names
    assert result["protocol"]["code_dim"] == 2 and result["metrics"] == {}
    for name in names[:2]:  # draws of one direction: the arc is the line
        grid = cells(read(tmp_path / f"latents/4_{name}.png"), columns=5)
        (r0, c0), (r1, c1) = PIXELS
        np.testing.assert_array_equal(grid[..., r0, c0], grid[..., r1, c1])
        walk = grid[..., r0, c0]
        assert walk.shape == (5, 5) and len(np.unique(walk[:, 0])) > 1
        middle = (walk[:, 0] + walk[:, -1]) / 2
        np.testing.assert_allclose(walk[:, 2], middle, atol=255 / 16)


def test_a_stop_leaves_nothing_half_done(tmp_path):
    with pytest.raises(Stopped):
        start(tmp_path, stop=True)
    assert not (tmp_path / "latents").exists()


MUTE = dataclasses.replace(TWO_PIXELS, code=None)


@pytest.mark.parametrize(
    "experiment, flags, words",
    [
        (MUTE, {}, "needs a model with a code, .*; it is for .* autoencoders"),
        (BROKEN, {}, "1000 images of digits train are not finite"),
        (
            PRIOR_ALONE,
            {"pairs": ((1, 2),)},
            "--pairs needs .* no encoder: leave it out",
        ),
        (PRIOR_ALONE, {"beside": "x"}, "--beside needs .* no encoder: leave it out"),
        (TWO_PIXELS, {"pairs": ((3, 400),)}, r"0 \.\.\. 399, not 400"),
        (TWO_PIXELS, {"pairs": ((3, 4, 5),)}, "--pairs takes pairs of .*'3,4,5'"),
        (TWO_PIXELS, {"beside": "nowhere"}, "--beside: there is no trained run"),
        (TWO_PIXELS, {"weights": "ema"}, "keeps no moving average"),
    ],
)
def test_what_cannot_be_drawn_is_said(tmp_path, experiment, flags, words):
    with pytest.raises(UserError, match=words):
        start(tmp_path, experiment, **flags)
    assert not (tmp_path / "latents").exists()


def test_points_have_no_pictures(tmp_path):
    run = run_of(tmp_path, "flow_matching_toy2d:tiny", TWO_PIXELS)
    with pytest.raises(UserError, match="shows images, and .* has points"):
        MODE.start(run, Options())


def test_a_run_beside_needs_an_encoder(drawn, tmp_path, monkeypatch):
    other = make_run(tmp_path, PRIOR_ALONE)
    monkeypatch.setattr(mode, "load_beside", lambda run, path: other)
    with pytest.raises(UserError, match="--beside: experiments/.* has no encoder"):
        start(tmp_path, beside=str(drawn))


def test_an_autoencoder(tmp_path, capsys):
    """A model of the library, untrained; what is printed is what is written."""
    run = run_of(tmp_path, "autoencoder_digits:tiny")
    MODE.start(run, Options(pairs=((3, 17), (5, 8)), num_images=4, weights="raw"))
    assert json.loads(capsys.readouterr().out) == report(tmp_path, 2, "_raw")
    assert len(list((tmp_path / "latents").glob("*.png"))) >= 6

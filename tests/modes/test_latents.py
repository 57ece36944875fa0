"""--mode=latents: on a model whose code and image are known, and as a user runs it."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

from genjax import commandline, modes
from genjax.commandline import Options
from genjax.data import datasets
from genjax.experiment import Experiment
from genjax.typing import Stopped, UserError

ROOT = Path(__file__).parent.parent
SEEN = ((2, 3), (5, 4))  # the pixels that are the code
PICTURES = [
    "codes",
    "interpolation_linear",
    "interpolation_spherical",
    "manifold",
    "reconstructions",
    "samples_gaussian",
    "traversal",
]


def make_two_pixels(config, spec):
    """Two pixels are the code; the image of a code has them and is black elsewhere."""

    def encode(state, batch, key):
        pixels = [batch["image"][:, row, column, 0] for row, column in SEEN]
        return jnp.stack(pixels, axis=1) / jnp.float32(spec.num_levels - 1)

    def decode(state, code, key):
        image = jnp.zeros((len(code), *spec.shape))
        for i, (row, column) in enumerate(SEEN):
            image = image.at[:, row, column, 0].set(jnp.clip(code[:, i], 0, 1))
        return jnp.round(image * (spec.num_levels - 1)).astype(jnp.uint8)

    return Experiment(
        init=lambda key: jnp.zeros(()),
        train_step=lambda state, batch, key: (state + 1, {"loss": state}),
        encode=encode,
        decode=decode,
    )


def make_with_prior(config, spec):
    """The same with a sampler: two grey pixels, whatever the key."""

    def sample(state, key, num, label=None):
        return plain.decode(state, jnp.full((num, 2), 0.5), key)

    plain = make_two_pixels(config, spec)
    return dataclasses.replace(plain, sample=sample)


def make_blind(config, spec):
    return dataclasses.replace(make_two_pixels(config, spec), encode=None, decode=None)


def make_prior_alone(config, spec):
    """Decodes, and draws codes on a line: both numbers alike, in (0, 1)."""

    def prior(key, num):
        return jnp.tile(jax.random.uniform(key, (num, 1)), 2)

    plain = make_two_pixels(config, spec)
    return dataclasses.replace(plain, encode=None, prior=prior)


def make_broken(config, spec):
    plain = make_two_pixels(config, spec)
    return dataclasses.replace(
        plain, encode=lambda *inputs: plain.encode(*inputs) * jnp.nan
    )


EXPERIMENTS = {
    "two_pixels": make_two_pixels,
    "with_prior": make_with_prior,
    "blind": make_blind,
    "prior_alone": make_prior_alone,
    "broken": make_broken,
}


def run(workdir, mode, *, name="two_pixels", file="ddpm_digits", num=400, **flags):
    config = commandline.load_config(f"{ROOT}/configs/{file}.py:tiny")
    config.experiment = name
    config.eval.limit = num
    config.training.num_steps = 4
    options = Options(config=config, workdir=workdir, mode=mode, **flags)
    modes.run(options, EXPERIMENTS[name], EXPERIMENTS.__getitem__)


def report(workdir, step=4, suffix=""):
    path = workdir / f"evaluation/{step}_latents{suffix}.json"
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("two_pixels")
    run(workdir, "train")
    run(workdir, "latents", num_images=5)
    return workdir


@pytest.fixture(scope="module")
def digits():
    """{"train": (pixels in [0, 1], labels), "test": the first 400}."""
    dataset = datasets.load("digits")

    def read(split, num):
        batch = split.read(np.arange(num))
        return batch["image"].reshape(num, -1) / 16.0, batch["label"]

    return {"train": read(dataset.train, 1000), "test": read(dataset.eval, 400)}


def seen(pixels):
    return np.stack([pixels.reshape(-1, 8, 8)[:, r, c] for r, c in SEEN], axis=1)


def test_the_numbers_are_those_of_the_model(trained, digits):
    metrics = report(trained)["metrics"]
    (train, train_labels), (test, labels) = digits["train"], digits["test"]
    missed = (test**2).sum(1) - (seen(test) ** 2).sum(1)
    assert metrics["squared_error"] == pytest.approx(missed.mean(), rel=1e-5)
    pca = PCA(2, svd_solver="full").fit(train)
    lost = test - pca.inverse_transform(pca.transform(test))
    expected = (lost**2).sum(1).mean()
    assert metrics["pca_squared_error"] == pytest.approx(expected, rel=1e-4)
    shown = np.round(np.clip(test - lost, 0, 1) * 16) / 16
    expected = ((test - shown) ** 2).sum(1).mean()
    assert metrics["pca_image_squared_error"] == pytest.approx(expected, rel=1e-3)
    assert metrics["active_units"] == (seen(test).var(0) > 0.01).sum()
    neighbours = KNeighborsClassifier(1).fit(pca.transform(train), train_labels)
    expected = neighbours.score(pca.transform(test), labels)
    assert metrics["pca_nn_accuracy"] == pytest.approx(expected, abs=0.01)
    for name in ("nn_accuracy", "linear_accuracy", "kmeans_purity", "mixture_nmi"):
        assert 0.05 < metrics[name] < 1.0, name


def test_the_distances_to_the_data_are_those_of_scipy(trained, digits):
    """Of all test images; the report has the mean of 400 drawn with replacement."""
    metrics = report(trained)["metrics"]
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


def test_the_protocol_says_how(trained):
    protocol = report(trained)["protocol"]
    assert protocol["n_test"] == 400 and protocol["n_train_codes"] == 1000
    assert protocol["code_dim"] == 2 and protocol["weights"] == "raw"
    assert sorted(protocol["pictures"]) == PICTURES
    assert "no sampler" in protocol["pictures"]["samples_gaussian"]
    assert "percentiles" in protocol["pictures"]["manifold"]
    assert protocol["not_finite"] == []


def read(picture):
    with Image.open(picture) as image:
        return np.asarray(image)


def cells(picture, columns):
    """(rows, columns, 8, 8) grey values of a grid of digits, enlarged fourfold."""
    pixels = read(picture)[2:, 2:, 0]
    rows = pixels.shape[0] // 34
    assert pixels.shape[1] // 34 == columns
    grid = pixels.reshape(rows, 34, columns, 34)[:, :32:4, :, :32:4]
    return grid.transpose(0, 2, 1, 3).astype(float)


def test_pictures_show_what_they_say(trained, digits):
    folder = trained / "latents"
    assert sorted(p.name for p in folder.iterdir()) == [
        f"4_{name}.png" for name in PICTURES
    ]
    test, labels = digits["test"]
    real, model, pca = cells(folder / "4_reconstructions.png", columns=5)
    for i in range(5):  # the first of each class, in order
        row = np.flatnonzero(labels == i)[0]
        np.testing.assert_allclose(real[i].ravel(), test[row] * 255, atol=0.51)
        np.testing.assert_allclose(
            model[i][tuple(zip(*SEEN, strict=True))], seen(test)[row] * 255, atol=0.51
        )
    assert pca.std() > model.std()
    assert cells(folder / "4_samples_gaussian.png", columns=5).shape[0] == 5
    manifold = cells(folder / "4_manifold.png", columns=20)
    (r0, c0), (r1, c1) = SEEN
    across, up = manifold[..., r0, c0], manifold[..., r1, c1]
    assert (np.diff(across, axis=1) >= 0).all() and np.ptp(across, axis=0).max() == 0
    assert (np.diff(up, axis=0) <= 0).all() and np.ptp(up, axis=1).max() == 0


def test_pairs_are_walked_from_image_to_image(trained, digits):
    run(trained, "latents", num_images=3, pairs=((7, 30), (3, 12)), seed=1)
    picture = trained / "latents/4_interpolation_linear_seed1.png"
    test, _ = digits["test"]
    for row, (a, b) in zip(cells(picture, columns=5), [(7, 30), (3, 12)], strict=True):
        np.testing.assert_allclose(row[0].ravel(), test[a] * 255, atol=0.51)
        np.testing.assert_allclose(row[-1].ravel(), test[b] * 255, atol=0.51)
        middle = (seen(test)[a] + seen(test)[b]) / 2 * 255
        shown = row[2][tuple(zip(*SEEN, strict=True))]
        np.testing.assert_allclose(shown, middle, atol=255 / 32 + 0.5)  # 17 levels


def test_a_prior_is_sampled_and_another_run_stands_beside(trained, tmp_path):
    run(tmp_path, "train", name="with_prior")
    run(tmp_path, "latents", name="with_prior", beside=trained)
    result = report(tmp_path)
    pictures = result["protocol"]["pictures"]
    assert "samples" in pictures and "samples_gaussian" not in pictures
    assert "normal" in pictures["manifold"]
    assert pictures["codes"].startswith("with_prior")
    assert f"two_pixels ({trained.name})" in pictures["codes"]
    alone = read(trained / "latents/4_codes.png")
    assert read(tmp_path / "latents/4_codes.png").shape[1] > alone.shape[1]
    # every sample is the same image, so its distance is that of one
    train = datasets.load("digits").train.read(np.arange(1000))["image"] / 16.0
    grey = np.zeros((8, 8))
    grey[tuple(zip(*SEEN, strict=True))] = 0.5
    expected = np.linalg.norm(train.reshape(1000, -1) - grey.ravel(), axis=1).min()
    distance = result["metrics"]["real_distance_of_samples"]
    assert distance == pytest.approx(expected, rel=1e-5)


def test_of_a_prior_alone_the_walks_between_draws_are_shown(tmp_path):
    run(tmp_path, "train", name="prior_alone")
    run(tmp_path, "latents", name="prior_alone", num_images=5)
    result = report(tmp_path)
    shown = ["interpolation_linear", "interpolation_spherical", "manifold"]
    assert sorted(result["protocol"]["pictures"]) == shown
    assert result["protocol"]["code_dim"] == 2 and result["metrics"] == {}
    for name in shown[:2]:  # draws of one direction: the arc is the line
        grid = cells(tmp_path / f"latents/4_{name}.png", columns=5)
        (r0, c0), (r1, c1) = SEEN
        np.testing.assert_array_equal(grid[..., r0, c0], grid[..., r1, c1])
        way = grid[..., r0, c0]
        assert way.shape == (5, 5) and len(np.unique(way[:, 0])) > 1
        middle = (way[:, 0] + way[:, -1]) / 2
        np.testing.assert_allclose(way[:, 2], middle, atol=255 / 16)
    with pytest.raises(UserError, match="has no encode: leave it out"):
        run(tmp_path, "latents", name="prior_alone", pairs=((1, 2),))


def test_a_stop_leaves_nothing_half_done(trained, tmp_path):
    run(tmp_path, "train")
    with pytest.raises(Stopped):
        run(tmp_path, "latents", max_seconds=0.0)
    assert not (tmp_path / "latents").exists()


@pytest.mark.parametrize(
    "name, flags, words",
    [
        ("blind", {}, "experiments/blind.py has no encode and decode"),
        ("broken", {}, "1000 images of digits train are not finite"),
        ("two_pixels", {"pairs": ((3, 400),)}, r"0 \.\.\. 399, not 400"),
        ("two_pixels", {"beside": Path("nowhere")}, "--beside: there is no trained"),
        ("two_pixels", {"weights": "ema"}, "keeps no moving average"),
    ],
)
def test_what_cannot_be_shown_is_said(tmp_path, name, flags, words):
    run(tmp_path, "train", name=name)
    with pytest.raises(UserError, match=words):
        run(tmp_path, "latents", name=name, num=400, **flags)
    assert not (tmp_path / "latents").exists()


def test_points_have_no_pictures(tmp_path):
    run(tmp_path, "train", name="blind", file="ddpm_toy2d")
    with pytest.raises(UserError, match="shows images, and .* has points"):
        run(tmp_path, "latents", name="blind", file="ddpm_toy2d")


def test_other_data_cannot_stand_beside(trained, tmp_path):
    config = commandline.load_config(f"{ROOT}/configs/ddpm_digits.py:tiny")
    config.experiment, config.data.eval_split = "two_pixels", "validation"
    options = Options(config=config, workdir=tmp_path, mode="train")
    modes.run(options, make_two_pixels, EXPERIMENTS.__getitem__)
    with pytest.raises(UserError, match="only the same data can be compared"):
        run(trained, "latents", beside=tmp_path)


def test_the_command_line(tmp_path):
    """From training to pictures, with the flags as a user writes them."""
    start = [
        sys.executable,
        "launch.py",
        "--config=configs/autoencoder_digits.py:tiny",
        f"--workdir={tmp_path}",
    ]

    def launch(*flags, expect=0):
        done = subprocess.run(
            [*start, *flags],
            cwd=ROOT,
            env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""},
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == expect, done.stderr[-3000:]
        assert "Traceback" not in done.stderr
        return done

    launch()
    done = launch("--mode=latents", "--pairs=3,17;5,8", "--num_images=4")
    (path,) = (tmp_path / "evaluation").glob("*_latents.json")
    assert json.loads(done.stdout) == json.loads(path.read_text())
    assert len(list((tmp_path / "latents").glob("*.png"))) >= 6
    mistake = launch("--mode=latents", "--pairs=3-17", expect=2)
    assert "--pairs takes pairs of test rows" in mistake.stderr

"""--mode=trajectories: on an exact model, on tiny ones, and as a user runs it."""

import dataclasses
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from genjax.trajectories import images, points
from genjax.trajectories.density import Grid, compare
from PIL import Image

from genjax import commandline, modes
from genjax.commandline import Options
from genjax.data import datasets
from genjax.typing import Stopped, UserError
from tests.contract.cases import case
from tests.exact_ring import RING, make_ring

ROOT = Path(__file__).parent.parent
TOYS = ["ddpm_toy2d", "edm_toy2d", "flow_matching_toy2d", "vdm_toy2d"]


def run(
    workdir,
    mode,
    *,
    make,
    file="flow_matching_toy2d",
    name="ring",
    num_classes=0,
    **flags,
):
    config = commandline.load_config(f"{ROOT}/configs/{file}.py:tiny")
    config.experiment, config.training.num_steps = name, 2
    config.model.num_classes = num_classes
    options = Options(config=config, workdir=workdir, mode=mode, **flags)
    modes.run(options, make, lambda name: make)


def report(workdir, suffix=""):
    path = workdir / f"evaluation/2_trajectories{suffix}.json"
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def ring(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("ring")
    run(workdir, "train", make=make_ring)
    run(workdir, "trajectories", make=make_ring)
    return workdir


# --- the law of a process, for every experiment that has one --------------------------


@pytest.mark.parametrize("name", TOYS)
def test_frames_go_from_noise_to_the_samples(name):
    law = case(name)
    process, sample = law.experiment.process, law.experiment.sample
    key, num = jax.random.key(3), 400
    state = law.experiment.init(jax.random.key(0))
    frames = jax.jit(process.reverse, static_argnums=2)(state, key, num)
    assert frames.shape == (len(process.times), num, 2)
    assert frames.dtype == law.batch(2)["image"].dtype
    last = jax.jit(sample, static_argnums=2)(state, key, num)
    np.testing.assert_array_equal(frames[-1], last)
    noise = np.asarray(frames[0]) / law.config.method.point_scale
    # 800 numbers: five standard errors
    assert abs(noise.mean()) < 0.18 and abs(noise.std() - 1.0) < 0.13
    assert abs(np.corrcoef(noise.T)[0, 1]) < 0.25
    assert process.times[0] == 1.0 and process.times[-1] == 0.0
    assert (np.diff(process.times) < 0).all()


@pytest.mark.parametrize("name", TOYS)
def test_noising_begins_with_the_data_and_meets_the_samplers_noise(name):
    law = case(name)
    process, key = law.experiment.process, jax.random.key(4)
    state, batch = law.experiment.init(jax.random.key(0)), law.batch(64)
    up = jax.jit(process.forward)(state, batch, key)
    start = jax.jit(lambda s, k: process.reverse(s, k, 64)[0])(state, key)
    # VDM has a little noise even at t = 0: its variance is sigmoid(gamma_min)
    atol = 0.1 if name == "vdm_toy2d" else 1e-5
    np.testing.assert_allclose(up[-1], batch["image"], atol=atol)
    # what is left of the data at t = 1, alpha(1) of them
    rest = np.abs(np.asarray(up[0] - start)).max() / np.abs(batch["image"]).max()
    assert rest < 0.15


def test_pixels_are_noised_from_themselves():
    law = case("ddpm_digits")
    process, batch = law.experiment.process, law.batch(8)
    assert process.velocity is None
    state = law.experiment.init(jax.random.key(0))
    up = jax.jit(process.forward)(state, batch, jax.random.key(1))
    np.testing.assert_array_equal(up[-1], batch["image"])
    assert up.dtype == jnp.uint8 and up.shape == (len(process.times), 8, 8, 8, 1)
    # noise is as often dark as bright
    assert abs(float(np.mean(np.asarray(up[0]) >= 8.5)) - 0.5) < 0.1


# --- points ---------------------------------------------------------------------------


def test_an_exact_model_has_the_true_density(ring):
    metrics = report(ring)["metrics"]
    assert metrics["learned_mass"] == pytest.approx(1.0, abs=2e-3)
    assert metrics["total_variation"] < 1e-5 and abs(metrics["kl"]) < 1e-5
    assert metrics["inversion_rms"] < 0.02


def test_pictures_and_film_of_points(ring):
    files = sorted(path.name for path in (ring / "trajectories").iterdir())
    assert files == [
        "2_density.png",
        "2_field.png",
        "2_inversion.png",
        "2_points.gif",
    ]
    for name in files:
        with Image.open(ring / "trajectories" / name) as picture:
            assert np.asarray(picture.convert("RGB")).std() > 5, name
    with Image.open(ring / "trajectories/2_points.gif") as film:
        assert film.n_frames == 11  # ten steps
        film.seek(0)
        noise = np.asarray(film.convert("L"), float)
        film.seek(10)
        data = np.asarray(film.convert("L"), float)
    # eight spots of light in the dark, and a wide cloud before
    assert np.mean(data > 80) < 0.5 * np.mean(noise > 80)


def test_differences_of_densities_by_hand():
    """On two cells of area 1/2: p = (1.5, .5), and q = (1, 1) or only half of it."""
    p, q = np.array([1.5, 0.5]), np.array([1.0, 1.0])
    kl = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    for share in (1.0, 0.5):
        found = compare(share * q, p, 0.5)
        assert found["learned_mass"] == pytest.approx(share)
        assert found["total_variation"] == pytest.approx(0.25)
        assert found["kl"] == pytest.approx(kl)
    assert compare(np.array([2.0, 0.0]), p, 0.5)["kl"] == math.inf


def test_the_grid_covers_its_rectangle():
    grid = Grid((0.0, 2.0, -1.0, 0.0), 2)
    want = [[0.5, -0.75], [1.5, -0.75], [0.5, -0.25], [1.5, -0.25]]
    np.testing.assert_allclose(grid.points, want)
    assert grid.cell == 0.5
    spots = np.array([[0.4, -0.9], [1.9, -0.1], [1.8, -0.2], [1.7, -0.3]])
    np.testing.assert_allclose(points.histogram(spots, grid), [0.5, 0, 0, 1.5])


def test_a_model_without_a_likelihood_shows_its_samples(ring):
    def make(config, spec):
        return dataclasses.replace(
            make_ring(config, spec), log_likelihood=None, likelihood_kind=None
        )

    run(ring, "trajectories", make=make, seed=2)
    result = report(ring, "_seed2")
    assert "total_variation" not in result["metrics"]
    assert "no likelihood" in result["protocol"]["not_available"]["total_variation"]
    assert (ring / "trajectories/2_density_seed2.png").exists()


def test_the_density_of_a_model_with_classes_is_their_mean(tmp_path, monkeypatch):
    """Each class is one Gaussian of the ring, so their mean is the ring."""

    def make(config, spec):
        def log_likelihood(state, batch, key):
            away = batch["image"] - jnp.asarray(RING.centers)[batch["label"]]
            square = jnp.sum(away**2, axis=1) / RING.sigma**2
            return -0.5 * square - math.log(2 * math.pi * RING.sigma**2)

        return dataclasses.replace(
            make_ring(config, spec), log_likelihood=log_likelihood
        )

    monkeypatch.setattr(points, "PAINTERS", (points.densities,))
    for mode in ("train", "trajectories"):
        run(tmp_path, mode, make=make, num_classes=8)
    metrics = report(tmp_path)["metrics"]
    assert metrics["learned_mass"] == pytest.approx(1.0, abs=2e-3)
    assert metrics["total_variation"] < 1e-5


# --- images ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    import launch

    workdir = tmp_path_factory.mktemp("digits")
    make = launch.find_experiment("ddpm")
    flags = {"make": make, "file": "ddpm_digits", "name": "ddpm"}
    run(workdir, "train", **flags)
    run(workdir, "trajectories", **flags, num_images=3)
    return workdir


def cells(picture, columns):
    """(rows, columns, 8, 8) grey values of a grid of digits, enlarged fourfold."""
    pixels = np.asarray(picture)[2:, 2:, 0]
    rows = pixels.shape[0] // 34
    grid = pixels[:, : 34 * columns].reshape(rows, 34, columns, 34)
    return grid[:, :32:4, :, :32:4].transpose(0, 2, 1, 3).astype(float)


def test_strips_begin_with_test_images(digits):
    test = datasets.load("digits").eval
    rows = np.arange(images.ROWS) * len(test) // images.ROWS
    real = test.read(rows)["image"][..., 0] / 16.0 * 255
    for name in ("strip", "inversion"):
        with Image.open(digits / f"trajectories/2_{name}.png") as picture:
            strip = np.asarray(picture)
        # three columns, a band, three columns
        half = 3 * 34 + 2
        assert strip.shape == (images.ROWS * 34 + 2, 2 * half + images.BAND, 3)
        left = cells(strip[:, :half], 3)
        np.testing.assert_allclose(left[:, 0], real, atol=0.51)
        right = cells(strip[:, half + images.BAND :], 3)
        # one noise ends the left and begins the right
        same = np.corrcoef(left[:, -1].ravel(), right[:, 0].ravel())[0, 1]
        assert same > (0.999 if name == "inversion" else 0.9)
        if name == "inversion":
            error = (right[:, -1] - left[:, 0]) / 255
            rms = np.sqrt(np.mean(error**2))
            found = report(digits)["metrics"]["inversion_rms"]
            assert rms == pytest.approx(found, abs=3e-3)  # of 255 shades


def test_trajectories_end_in_the_samplers_images(digits):
    with Image.open(digits / "trajectories/2_trajectories.png") as picture:
        grid = cells(picture, 3)
    assert grid.shape == (images.SAMPLES, 3, 8, 8)
    with Image.open(digits / "trajectories/2_trajectories.gif") as film:
        assert film.n_frames == 5  # four steps
        film.seek(4)
        last = cells(film.convert("RGB"), 5)
        assert film.info["duration"] == 2000 and film.info["loop"] == 0
    assert last.shape[0] == 5
    np.testing.assert_array_equal(last.reshape(-1, 8, 8)[: images.SAMPLES], grid[:, -1])


# --- what cannot be drawn -------------------------------------------------------------


def test_a_stop_keeps_the_pictures_that_are_done(tmp_path, monkeypatch):
    run(tmp_path, "train", make=make_ring)
    with pytest.raises(Stopped):
        run(tmp_path, "trajectories", make=make_ring, max_seconds=0.0)
    assert not (tmp_path / "trajectories").exists()

    def stop(view):
        raise Stopped("while drawing")

    monkeypatch.setattr(points, "PAINTERS", (points.film, stop))
    with pytest.raises(Stopped):
        run(tmp_path, "trajectories", make=make_ring)
    assert [p.name for p in (tmp_path / "trajectories").iterdir()] == ["2_points.gif"]


def test_a_model_without_a_process_is_named(ring):
    def make(config, spec):
        return dataclasses.replace(make_ring(config, spec), process=None)

    with pytest.raises(UserError, match="ring.py has no process to look at"):
        run(ring, "trajectories", make=make)
    with pytest.raises(UserError, match="keeps no moving average"):
        run(ring, "trajectories", make=make_ring, weights="ema")


def test_the_command_line(tmp_path):
    """Classes, with the flags as a user writes them."""
    start = [
        sys.executable,
        "launch.py",
        "--config=configs/flow_matching_toy2d.py:tiny",
        "--config.training.num_steps=2",
        "--config.model.num_classes=8",
        "--config.eval.likelihood=none",
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
    done = launch("--mode=trajectories", "--labels=3,7")
    (path,) = (tmp_path / "evaluation").glob("*_trajectories.json")
    assert json.loads(done.stdout) == json.loads(path.read_text())
    assert len(list((tmp_path / "trajectories").glob("*.png"))) == 3
    mistake = launch("--mode=trajectories", "--labels=8", expect=2)
    assert "0 ... 7" in mistake.stderr

"""--mode=trajectories: on an exact model and on tiny ones."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from genjax.data import datasets
from genjax.diffusion.process import Process
from genjax.experiment import LogLikelihood
from genjax.modes.trajectories import images, points
from genjax.modes.trajectories.density import Grid, compare
from genjax.modes.trajectories.mode import MODE
from genjax.modes.trajectories.scene import Options
from genjax.typing import Stopped, UserError
from tests.exact_ring import RING, make_ring
from tests.modes.grid_cells import cells, unframed
from tests.modes.runs import run_of

TOYS = ["ddpm_toy2d", "edm_toy2d", "flow_matching_toy2d", "score_sde_toy2d"]
TOYS += ["vdm_toy2d"]


def start(workdir, experiment=None, *, stop=False, **flags):
    ring = experiment or make_ring()
    run = run_of(workdir, "flow_matching_toy2d:tiny", ring, stop=stop)
    MODE.start(run, Options(**flags))


def report(workdir, suffix=""):
    path = workdir / f"evaluation/2_trajectories{suffix}.json"
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def ring(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("ring")
    start(workdir)
    return workdir


# --- the law of a process, for every diffusion model ----------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", TOYS)
def test_frames_go_from_noise_to_the_samples(name, tmp_path):
    run = run_of(tmp_path, f"{name}:tiny")
    process, state = Process(run.experiment.diffusion), run.state()[0]
    key, num, times = jax.random.key(3), 400, process.times(state)
    frames = jax.jit(process.reverse, static_argnums=2)(state, key, num)
    assert frames.shape == (len(times), num, 2) and frames.dtype == jnp.float32
    last = jax.jit(run.experiment.sample, static_argnums=2)(state, key, num)
    np.testing.assert_array_equal(frames[-1], last)
    noise = np.asarray(frames[0]) / run.experiment.diffusion.scale.unit
    # 800 numbers: five standard errors
    assert abs(noise.mean()) < 0.18 and abs(noise.std() - 1.0) < 0.13
    assert abs(np.corrcoef(noise.T)[0, 1]) < 0.25
    assert times[0] == 1.0 and times[-1] == 0.0 and (np.diff(times) < 0).all()


@pytest.mark.parametrize("name", TOYS)
def test_noising_begins_with_the_data_and_meets_the_samplers_noise(name, tmp_path):
    run = run_of(tmp_path, f"{name}:tiny")
    process, state = Process(run.experiment.diffusion), run.state()[0]
    key, batch = jax.random.key(4), run.dataset.train.read(np.arange(64))
    up = jax.jit(process.forward)(state, batch, key)
    start = jax.jit(lambda s, k: process.reverse(s, k, 64)[0])(state, key)
    # VDM has a little noise even at t = 0: its variance is sigmoid(gamma_min)
    atol = 0.1 if name == "vdm_toy2d" else 1e-5
    np.testing.assert_allclose(up[-1], batch["image"], atol=atol)
    # what is left of the data at t = 1, alpha(1) of them
    rest = np.abs(np.asarray(up[0] - start)).max() / np.abs(batch["image"]).max()
    assert rest < 0.15


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


def test_a_model_without_a_likelihood_shows_its_samples(tmp_path, monkeypatch):
    monkeypatch.setattr(points, "PAINTERS", (points.densities,))
    mute = dataclasses.replace(make_ring(), likelihood=None)
    start(tmp_path, mute, seed=2)
    result = report(tmp_path, "_seed2")
    assert "total_variation" not in result["metrics"]
    assert "no likelihood" in result["protocol"]["not_available"]["total_variation"]
    assert (tmp_path / "trajectories/2_density_seed2.png").exists()


def test_the_density_of_a_model_with_classes_is_their_mean(tmp_path, monkeypatch):
    """Each class is one Gaussian of the ring, so their mean is the ring."""

    def log_prob(state, batch, key):
        away = batch["image"] - jnp.asarray(RING.centers)[batch["label"]]
        square = jnp.sum(away**2, axis=1) / RING.sigma**2
        return -0.5 * square - math.log(2 * math.pi * RING.sigma**2)

    likelihood = LogLikelihood(log_prob=log_prob, kind="exact", given="label")
    monkeypatch.setattr(points, "PAINTERS", (points.densities,))
    start(tmp_path, dataclasses.replace(make_ring(), likelihood=likelihood))
    metrics = report(tmp_path)["metrics"]
    assert metrics["learned_mass"] == pytest.approx(1.0, abs=2e-3)
    assert metrics["total_variation"] < 1e-5


def test_labels_are_those_of_the_samples(tmp_path, monkeypatch):
    """A model with classes; what it prints is what it writes."""
    changes = {"model": {"num_classes": 8}, "likelihood": {"method": "none"}}
    run = run_of(tmp_path, "flow_matching_toy2d:tiny", changes=changes)
    seen = []

    def film(scene):
        seen.append(scene.reverse(5))
        return points.film(scene)

    monkeypatch.setattr(points, "PAINTERS", (film,))
    for labels in ((3, 7), (3, 6)):
        MODE.start(run, Options(labels=labels, seed=1))
    a, b = seen
    np.testing.assert_array_equal(a[0], b[0])  # one noise
    np.testing.assert_array_equal(a[:, ::2], b[:, ::2])  # the labels repeat in turn
    assert (a[-1, 1::2] != b[-1, 1::2]).all()


# --- images ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("digits")
    run = run_of(workdir, "flow_matching_digits:tiny")
    MODE.start(run, Options(num_images=3))
    return workdir


def test_strips_begin_with_test_images(digits):
    test = datasets.load("digits").eval
    rows = np.arange(images.ROWS) * len(test) // images.ROWS
    real = test.read(rows)["image"][..., 0] / 16.0 * 255
    for name in ("strip", "inversion"):
        with Image.open(digits / f"trajectories/2_{name}.png") as picture:
            strip = np.asarray(picture)
        # three columns, a band, three columns, below the title
        last = unframed(strip)
        height, half, _ = last.shape
        assert strip.shape[1] == 2 * half + images.BAND and strip.shape[0] > height
        left = cells(strip[-height:, :half], 3)
        np.testing.assert_allclose(left[:, 0], real, atol=0.51)
        right = cells(last, 3)
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
    with pytest.raises(Stopped):
        start(tmp_path, stop=True)
    assert not (tmp_path / "trajectories").exists()

    def stop(scene):
        raise Stopped("while drawing")

    monkeypatch.setattr(points, "PAINTERS", (points.film, stop))
    with pytest.raises(Stopped):
        start(tmp_path)
    assert [p.name for p in (tmp_path / "trajectories").iterdir()] == ["2_points.gif"]


def test_what_cannot_be_drawn_is_said(tmp_path):
    still = dataclasses.replace(make_ring(), diffusion=None)
    with pytest.raises(UserError, match="for models that make data of noise step by"):
        start(tmp_path, still)
    with pytest.raises(UserError, match="keeps no moving average"):
        start(tmp_path, weights="ema")
    with pytest.raises(UserError, match=r"--labels: .* 0 \.\.\. 7, not 8"):
        start(tmp_path, labels=(8,))
    with pytest.raises(UserError, match="trained without labels"):
        start(tmp_path, labels=(1,))
    changes = {"data": {"name": "gaussian1d"}}
    line = run_of(tmp_path, "flow_matching_toy2d:tiny", make_ring(), changes=changes)
    with pytest.raises(UserError, match=r"points of the plane, .* shape \(1,\)"):
        MODE.start(line, Options())

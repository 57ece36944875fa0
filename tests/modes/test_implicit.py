"""--mode=implicit: exact models first, then a tiny GAN as a user runs it."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from genjax.implicit.frames import Frame, Line
from genjax.implicit.pictures import Curve, draw_curves
from PIL import Image
from scipy import stats

import launch
from experiments import gan
from genjax import commandline, modes
from genjax.commandline import Options
from genjax.data import datasets
from genjax.evaluation import pushforward
from genjax.experiment import Experiment
from genjax.typing import Stopped, UserError

ROOT = Path(__file__).parent.parent
P = stats.norm(3.0, 0.5)  # gaussian1d


def load(file="gan_1d", **changes):
    config = commandline.load_config(f"{ROOT}/configs/{file}.py:tiny")
    for name, value in changes.items():
        section, field = name.split("__")
        config[section][field] = value
    return config


def run(workdir, mode, *, make=gan.make_experiment, config=None, **flags):
    options = Options(
        config=load() if config is None else config,
        workdir=workdir,
        mode=mode,
        **flags,
    )
    modes.run(options, make, lambda name: make)


def report(workdir, step, suffix=""):
    path = workdir / f"evaluation/{step}_implicit{suffix}.json"
    return json.loads(path.read_text())


def make_exact(config, spec):
    """At step n of 4: x = 0.5 z + 3 n / 4 with its best discriminator; no training."""

    def mean(state):
        return 3.0 * state["step"] / 4.0

    def discriminate(state, x):
        log_p, log_q = (-2.0 * (x[:, 0] - m) ** 2 for m in (3.0, mean(state)))
        return log_p - log_q

    def train_step(state, batch, key):
        return {"step": state["step"] + 1.0}, {"loss": state["step"]}

    return Experiment(
        init=lambda key: {"step": jnp.zeros(())},
        train_step=train_step,
        decode=lambda state, z, key: 0.5 * z + mean(state),
        discriminate=discriminate,
    )


@pytest.fixture(scope="module")
def exact(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("exact")
    config = load(training__num_steps=4, training__save_every=1, training__keep_every=1)
    run(workdir, "train", make=make_exact, config=config)
    run(workdir, "implicit", make=make_exact, config=config)
    return workdir


def test_a_generator_that_walks_to_the_data(exact):
    """Its distances are those of two Gaussians, and its discriminator has no gap."""
    found = report(exact, 4)
    assert [frame["step"] for frame in found["frames"]] == [0, 1, 2, 3, 4]
    assert found["frames"][-1] == {"step": 4, **found["metrics"]}
    x = np.linspace(-4.0, 8.0, 6001)
    for frame in found["frames"]:
        away = 3.0 - 0.75 * frame["step"]
        assert frame["wasserstein1"] == pytest.approx(away, abs=1e-3)
        p, q = P.pdf(x), stats.norm(3.0 - away, 0.5).pdf(x)
        entropy = [-np.trapezoid(f * np.log(f), x) for f in ((p + q) / 2, p, q)]
        jsd = entropy[0] - (entropy[1] + entropy[2]) / 2
        assert frame["jsd"] == pytest.approx(jsd, abs=2e-4)
        assert frame["discriminator_gap"] < 2e-3
        assert 0 <= frame["outside"] < 1e-3
    last = found["frames"][-1]
    assert last["jsd"] < 1e-6 and last["discriminator_gap"] < 1e-5
    assert last["wasserstein1"] < 1e-3


def test_film_and_pictures(exact):
    files = sorted(path.name for path in (exact / "implicit").iterdir())
    assert files == ["4_curves.png", "4_density.gif", "4_density.png"]
    with Image.open(exact / "implicit/4_density.gif") as film:
        assert film.n_frames == 5
        shown = []
        for place in range(5):
            film.seek(place)
            shown.append(np.asarray(film.convert("L"), float))
    assert all(
        np.abs(a - b).mean() > 0.5 for a, b in zip(shown, shown[1:], strict=False)
    )


def test_step_is_the_last_frame(exact):
    config = load(training__num_steps=4, training__save_every=1, training__keep_every=1)
    run(exact, "implicit", make=make_exact, config=config, step=2)
    assert [frame["step"] for frame in report(exact, 2)["frames"]] == [0, 1, 2]


def test_a_stop_is_heard(exact):
    config = load(training__num_steps=4, training__save_every=1, training__keep_every=1)
    with pytest.raises(Stopped):
        run(exact, "implicit", make=make_exact, config=config, max_seconds=0.0)


def test_curves_show_what_all_runs_have():
    whole = Curve("a", {"jsd": ([0, 1], [0.6, 0.1]), "g_grad_norm": ([1], [0.1])})
    part = Curve("b", {"jsd": ([0, 1], [0.6, 0.3])})
    one, two = draw_curves([part, whole]), draw_curves([whole, whole])
    assert two.shape[1] > 1.8 * one.shape[1]


# --- a GAN ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("gan")
    run(workdir, "train")
    return workdir


def test_the_numbers_are_those_of_samples(trained, exact):
    """Of 20,000 samples: their distance to the data by scipy. With another run."""
    options = Options(config=load(), workdir=trained, mode="implicit", beside=exact)
    modes.run(options, gan.make_experiment, lambda name: make_exact)
    found = report(trained, 400)
    assert [frame["step"] for frame in found["frames"]] == [0, 100, 200, 300, 400]
    for ours, theirs in zip(found["beside"], report(exact, 4)["frames"], strict=True):
        assert ours == pytest.approx(theirs, abs=1e-3)
    run(trained, "sample", num_samples=20_000, weights="raw")
    x = np.load(trained / "generated/samples.npz")["arr_0"][:, 0]
    quantiles = P.ppf((np.arange(20_000) + 0.5) / 20_000)
    distance = stats.wasserstein_distance(x, quantiles)
    assert found["metrics"]["wasserstein1"] == pytest.approx(distance, abs=0.03)
    assert found["metrics"]["wasserstein1"] < found["frames"][0]["wasserstein1"]


def test_the_averaged_generator_is_another(trained):
    run(trained, "implicit", weights="ema", step=100)
    averaged = report(trained, 100, "_ema")
    assert averaged["protocol"]["weights"] == "ema" and "beside" not in averaged
    run(trained, "implicit", step=100)
    assert averaged["metrics"] != report(trained, 100)["metrics"]


def test_points_of_the_line_are_drawn_as_histograms(trained):
    for path in ("samples/400.png", "generated/samples.png"):
        with Image.open(trained / path) as picture:
            pixels = np.asarray(picture.convert("RGB")).astype(int)
        green = (pixels[..., 1] > pixels[..., 0] + 60).sum()
        assert green > 500, "bars"


def test_evaluation_knows_points_of_the_line(trained):
    found = json.loads((trained / "evaluation/400.json").read_text())["metrics"]
    assert {"frechet_points", "energy_distance", "wasserstein2"} <= found.keys()
    assert found["modes"] == 1.0 or found["high_quality"] == 0.0
    assert all(np.isfinite(list(found.values())))


def test_the_discriminator_alone_goes_to_its_optimum():
    """Against a generator that stands still: x = 0.8 z + 2 beside N(3, 0.5^2)."""
    config = load(
        model__g_widths=(),
        model__d_widths=(32, 32),
        method__critic_steps=1,
        optim__learning_rate=0.0,
        optim__d_learning_rate=5e-3,
        optim__decay_steps=600,
    )
    dataset = datasets.load("gaussian1d", num_train=20_000, num_eval=100)
    experiment = gan.make_experiment(config, dataset.spec)
    layer = {"kernel": jnp.full((1, 1), 0.8), "bias": jnp.full((1,), 2.0)}
    frozen = {"mlp": {"out": layer}}
    state = experiment.init(jax.random.key(0))
    state = state._replace(g_params=frozen, ema_params=frozen)
    rows = dataset.train.read(np.arange(20_000))["image"]

    def step(state, key):
        row_key, key = jax.random.split(key)
        chosen = jax.random.randint(row_key, (256,), 0, len(rows))
        return experiment.train_step(state, {"image": jnp.asarray(rows)[chosen]}, key)

    z, edges = pushforward.normal_grid(), np.linspace(-2.0, 6.0, 401)
    line = Line(z, edges, P.cdf(edges))
    middles = jnp.asarray(line.middles[:, None], jnp.float32)

    def gap(state):
        logits = np.asarray(experiment.discriminate(state, middles), np.float64)
        d = 1.0 / (1.0 + np.exp(-logits))
        return Frame(0, line, 0.8 * z + 2.0, d).numbers()["discriminator_gap"]

    train = jax.jit(lambda state, keys: jax.lax.scan(step, state, keys)[0])
    keys, gaps = jax.random.split(jax.random.key(1), 600).reshape(3, 200), [gap(state)]
    for part in keys:
        state = train(state, part)
        gaps.append(gap(state))
    print(f"mean |D - p/(p + q)|: {[round(g, 4) for g in gaps]}")
    assert gaps[-1] < 0.03 < 0.2 < gaps[0]
    jax.tree.map(np.testing.assert_array_equal, state.g_params, frozen)


# --- mistakes -------------------------------------------------------------------------


def blind(config, spec):
    return dataclasses.replace(make_exact(config, spec), discriminate=None)


@pytest.mark.parametrize(
    "make, changes, message",
    [
        (make_exact, {"data__name": "moons"}, "gaussian1d or mixture1d, and moons"),
        (blind, {}, "no generator with a discriminator"),
        (make_exact, {"model__latent_dim": 2}, "model.latent_dim=1, not 2"),
    ],
)
def test_mistakes_are_answered(make, changes, message, tmp_path):
    config = load(training__num_steps=1, **changes)
    run(tmp_path, "train", make=make, config=config)
    with pytest.raises(UserError, match=message):
        run(tmp_path, "implicit", make=make, config=config)


def test_trajectories_and_latents_of_the_line_are_refused(exact):
    config = load(training__num_steps=4, training__save_every=1, training__keep_every=1)
    for mode, words in [("trajectories", "no process"), ("latents", "shows images")]:
        with pytest.raises(UserError, match=words):
            run(exact, mode, make=make_exact, config=config)


def test_packed_examples_have_no_logit_of_their_own():
    config = load(method__packing=2)
    spec = datasets.load("gaussian1d", num_train=8, num_eval=8).spec
    make = launch.find_experiment("gan")
    assert make(config, spec).discriminate is None

"""--mode=implicit: exact models first, then a tiny GAN."""

import dataclasses
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import stats

from genjax.evaluation import pushforward
from genjax.experiment import Code, Experiment
from genjax.modes import train
from genjax.modes.implicit import mode
from genjax.modes.implicit.frames import Frame, Line
from genjax.modes.implicit.mode import MODE, Options
from genjax.modes.implicit.pictures import Curve, draw_curves
from genjax.typing import Stopped, UserError
from tests.modes.runs import run_of

P = stats.norm(3.0, 0.5)  # gaussian1d


def report(workdir, step, suffix=""):
    path = workdir / f"evaluation/{step}_implicit{suffix}.json"
    return json.loads(path.read_text())


# --- a generator and a discriminator that are known -----------------------------------


def mean_of(state):
    return 3.0 * state["step"] / 4.0


def discriminate(state, x):
    log_p, log_q = (-2.0 * (x[:, 0] - m) ** 2 for m in (3.0, mean_of(state)))
    return log_p - log_q


EXACT = Experiment(
    init=lambda key: {"step": jnp.zeros(())},
    train_step=lambda state, batch, key: (state, {"loss": state["step"]}),
    code=Code(
        decode=lambda state, z, key: 0.5 * z + mean_of(state),
        prior=lambda key, num: jax.random.normal(key, (num, 1)),
    ),
    discriminate=discriminate,
)
"""At step n of 4: x = 0.5 z + 3 n / 4, with its best discriminator."""


def make_run(workdir, experiment=EXACT, step=4, *, name="gaussian1d", stop=False):
    """Of a folder with the checkpoints 1 ... 4."""
    changes = {
        "data": {"name": name},
        "training": {"num_steps": 4, "save_every": 1, "keep_every": 1},
    }
    state = {"step": jnp.array(float(step))}
    return run_of(
        workdir,
        "flow_matching_toy2d:tiny",
        experiment,
        changes=changes,
        state=state,
        step=step,
        stop=stop,
    )


@pytest.fixture(scope="module")
def exact(tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("exact"))
    with run.open_checkpoints() as checkpointer:
        for step in range(1, 5):
            checkpointer.save(step, {"step": jnp.array(float(step))})
    MODE.start(run, Options())
    return run.workdir


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
        pictures = []
        for place in range(5):
            film.seek(place)
            pictures.append(np.asarray(film.convert("L"), float))
    assert all(np.abs(a - b).mean() > 0.5 for a, b in itertools.pairwise(pictures))


def test_step_is_the_last_frame(exact):
    MODE.start(make_run(exact, step=2), Options())
    assert [frame["step"] for frame in report(exact, 2)["frames"]] == [0, 1, 2]


def test_a_stop_is_heard(exact):
    with pytest.raises(Stopped):
        MODE.start(make_run(exact, stop=True), Options())


def test_another_run_stands_beside(exact, monkeypatch):
    monkeypatch.setattr(mode, "load_beside", lambda run, path: make_run(path, step=2))
    MODE.start(make_run(exact, step=3), Options(beside=str(exact)))
    found = report(exact, 3)
    assert [frame["step"] for frame in found["frames"]] == [0, 1, 2, 3]
    assert [frame["step"] for frame in found["beside"]] == [0, 1, 2]
    mute = dataclasses.replace(EXACT, discriminate=None)
    monkeypatch.setattr(mode, "load_beside", lambda run, path: make_run(path, mute))
    with pytest.raises(UserError, match="needs a model with a discriminator"):
        MODE.start(make_run(exact), Options(beside=str(exact)))


def test_curves_show_what_all_runs_have():
    whole = Curve("a", {"jsd": ([0, 1], [0.6, 0.1]), "g_grad_norm": ([1], [0.1])})
    part = Curve("b", {"jsd": ([0, 1], [0.6, 0.3])})
    one, two = draw_curves([part, whole]), draw_curves([whole, whole])
    assert two.shape[1] > 1.8 * one.shape[1]


# --- a GAN ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run = run_of(tmp_path_factory.mktemp("gan"), "gan_1d:tiny")
    del run.__dict__["trained"]
    train.MODE.start(run, train.Options())
    return run


@pytest.mark.slow
def test_the_numbers_are_those_of_samples(trained):
    """Of 20,000 samples: their distance to the data by scipy."""
    MODE.start(trained, Options())
    found = report(trained.workdir, 400)
    assert [frame["step"] for frame in found["frames"]] == [0, 100, 200, 300, 400]
    x = trained.sample(20_000, weights="raw")[:, 0]
    quantiles = P.ppf((np.arange(20_000) + 0.5) / 20_000)
    distance = stats.wasserstein_distance(x, quantiles)
    assert found["metrics"]["wasserstein1"] == pytest.approx(distance, abs=0.03)
    assert found["metrics"]["wasserstein1"] < found["frames"][0]["wasserstein1"]


def test_the_averaged_generator_is_another(trained):
    MODE.start(trained, Options(weights="ema"))
    averaged = report(trained.workdir, 400, "_ema")
    assert averaged["protocol"]["weights"] == "ema" and "beside" not in averaged
    MODE.start(trained, Options())
    assert averaged["metrics"] != report(trained.workdir, 400)["metrics"]


def test_points_of_the_line_are_drawn_as_histograms(trained):
    with Image.open(trained.workdir / "samples/400.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    green = (pixels[..., 1] > pixels[..., 0] + 60).sum()
    assert green > 500, "bars"


def test_evaluation_knows_points_of_the_line(trained):
    path = trained.workdir / "evaluation/400.json"
    found = json.loads(path.read_text())["metrics"]
    assert {"frechet_points", "energy_distance", "wasserstein2"} <= found.keys()
    assert found["modes"] == 1.0 or found["high_quality"] == 0.0
    assert all(np.isfinite(list(found.values())))


def test_the_discriminator_alone_goes_to_its_optimum(tmp_path):
    """Against a generator that stands still: x = 0.8 z + 2 beside N(3, 0.5^2)."""
    changes = {
        "data": {"num_train": 20_000, "num_eval": 100},
        "model": {"g_widths": (), "d_widths": (32, 32)},
        "method": {"critic_steps": 1, "d_learning_rate": 5e-3},
        "optim": {"decay_steps": 600},
    }
    run = run_of(tmp_path, "gan_1d:tiny", changes=changes)
    experiment, dataset = run.experiment, run.dataset
    layer = {"kernel": jnp.full((1, 1), 0.8), "bias": jnp.full((1,), 2.0)}
    frozen = {"mlp": {"out": layer}}

    def put_back(state):
        return state._replace(g=state.g._replace(params=frozen, ema_params=frozen))

    state = put_back(experiment.init(jax.random.key(0)))
    rows = dataset.train.read(np.arange(20_000))["image"]

    def step(state, key):
        row_key, key = jax.random.split(key)
        chosen = jax.random.randint(row_key, (256,), 0, len(rows))
        batch = {"image": jnp.asarray(rows)[chosen]}
        state, metrics = experiment.train_step(state, batch, key)
        return put_back(state), metrics

    z, edges = pushforward.normal_grid(), np.linspace(-2.0, 6.0, 401)
    line = Line(z, edges, P.cdf(edges))
    middles = jnp.asarray(line.middles[:, None], jnp.float32)

    def gap(state):
        logits = np.asarray(experiment.discriminate(state, middles), np.float64)
        d = 1.0 / (1.0 + np.exp(-logits))
        return Frame(0, line, 0.8 * z + 2.0, d).numbers()["discriminator_gap"]

    train_on = jax.jit(lambda state, keys: jax.lax.scan(step, state, keys)[0])
    keys, gaps = jax.random.split(jax.random.key(1), 600).reshape(3, 200), [gap(state)]
    for part in keys:
        state = train_on(state, part)
        gaps.append(gap(state))
    print(f"mean |D - p/(p + q)|: {[round(g, 4) for g in gaps]}")
    assert gaps[-1] < 0.03 < 0.2 < gaps[0]


# --- mistakes -------------------------------------------------------------------------

MUTE = dataclasses.replace(EXACT, discriminate=None)
WIDE = dataclasses.replace(
    EXACT,
    code=dataclasses.replace(
        EXACT.code, prior=lambda key, num: jax.random.normal(key, (num, 2))
    ),
)


@pytest.mark.parametrize(
    "experiment, data, message",
    [
        (EXACT, "moons", "gaussian1d or mixture1d, and moons"),
        (MUTE, "gaussian1d", "needs a model with a discriminator, .*method.packing=1"),
        (WIDE, "gaussian1d", "model.latent_dim=1, not 2"),
    ],
)
def test_mistakes_are_answered(experiment, data, message, tmp_path):
    with pytest.raises(UserError, match=message):
        MODE.start(make_run(tmp_path, experiment, name=data), Options())


def test_packed_examples_have_no_logit_of_their_own(tmp_path):
    run = run_of(tmp_path, "gan_1d:tiny", changes={"method": {"packing": 2}})
    assert run.experiment.discriminate is None

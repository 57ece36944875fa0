"""--mode=solvers: on a model that is exact, and on images."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from genjax.diffusion import solvers
from genjax.diffusion.sampler import Guidance, Sampler
from genjax.modes.compare_solvers import mode
from genjax.modes.compare_solvers.measure import (
    TOLERANCES,
    calls_per_evaluation,
    most_steps,
    plan,
)
from genjax.modes.compare_solvers.mode import MODE, Options
from genjax.typing import Stopped, UserError
from tests.exact_ring import SAMPLER, make_ring, ring_model
from tests.modes.runs import run_of

FEW = ("ddim", "dpmpp_3m", "heun")


def start(workdir, model=None, *, stop=False, **flags):
    changes = {"evaluation": {"num_samples": 900, "batch_size": 300}}
    ring = make_ring(model)
    run = run_of(workdir, "flow_matching_toy2d:tiny", ring, changes=changes, stop=stop)
    MODE.start(run, Options(**flags))


def report(workdir, suffix=""):
    return json.loads((workdir / f"evaluation/solvers_2{suffix}.json").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("ring")
    start(workdir, solvers=(*FEW, "adaptive"), evaluations=(5, 20))
    return workdir


@pytest.fixture(scope="module")
def compared(folder):
    return report(folder)


@pytest.mark.slow
def test_every_solver_is_there_at_its_budget(compared):
    rows, protocol = compared["rows"], compared["protocol"]
    assert [(r["solver"], r["num_steps"], r["evaluations"]) for r in rows[:-3]] == [
        ("ddim", 5, 5),
        ("ddim", 20, 20),
        ("dpmpp_3m", 5, 5),
        ("dpmpp_3m", 20, 20),
        ("heun", 3, 5),
        ("heun", 10, 19),
    ]
    assert protocol["complete"] and protocol["not_available"] == {}
    assert protocol["distance"] == "energy_distance" and protocol["seed"] == 0
    assert protocol["sampler"]["spacing"] == "logsnr"
    assert all(0 < r["seconds_per_chunk"] < 10 for r in rows)
    assert all(r["network_calls"] == r["evaluations"] for r in rows)


def test_adaptive_reports_what_it_used(compared):
    rows = compared["rows"][-3:]
    assert [row["tolerance"] for row in rows] == list(TOLERANCES)
    assert all(r["solver"] == "adaptive" and r["num_steps"] is None for r in rows)
    # Dormand and Prince: six a step, one before the first, one to denoise
    used = [row["evaluations"] for row in rows]
    assert 10 < used[0] < used[1] < used[2] < 1000


def test_more_evaluations_come_nearer_and_high_orders_sooner(compared):
    """An exact model: what remains at the end is chance, as in the floor."""
    rows, floor = compared["rows"], compared["protocol"]["floor"]
    distance = {(r["solver"], r["num_steps"]): r["distance"] for r in rows}
    assert distance["dpmpp_3m", 20] < distance["ddim", 5]
    assert distance["heun", 10] < distance["heun", 3]
    assert distance["dpmpp_3m", 20] < 2 * floor
    # the finest of adaptive is the last
    assert distance["adaptive", None] < 2 * floor < distance["heun", 3]


def test_the_table_and_the_picture(folder, compared):
    text = (folder / "evaluation/solvers_2.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert lines[0].split(" | ")[-1] == "energy_distance |"
    assert len(lines) == 2 + len(compared["rows"])  # the names and a rule above
    assert "| heun | 10 | 19 | 19 |" in text and "Floor" in text
    assert "| adaptive | error 0.01 |" in text
    with Image.open(folder / "evaluation/solvers_2.png") as picture:
        assert np.asarray(picture).std() > 10


def test_a_stop_keeps_the_rows_and_the_same_command_goes_on(tmp_path, monkeypatch):
    measure, done = mode.measure, []

    def stopping(run, state, trial, **options):
        if len(done) == 2:
            raise Stopped("while sampling")
        done.append(trial)
        return measure(run, state, trial, **options)

    flags = {"solvers": FEW, "evaluations": (3,), "seed": 1}
    monkeypatch.setattr(mode, "measure", stopping)
    with pytest.raises(Stopped):
        start(tmp_path, **flags)
    half = report(tmp_path, "_seed1")
    assert len(half["rows"]) == 2 and not half["protocol"]["complete"]
    text = (tmp_path / "evaluation/solvers_2_seed1.md").read_text()
    assert "Stopped before the end" in text
    monkeypatch.setattr(mode, "measure", measure)
    start(tmp_path, **flags)
    whole = report(tmp_path, "_seed1")
    assert whole["rows"][:2] == half["rows"] and len(whole["rows"]) == 3
    assert whole["protocol"]["complete"]
    with pytest.raises(Stopped):
        start(tmp_path, **flags, stop=True)


def test_a_distance_that_is_not_finite_is_null_and_read_again(tmp_path):
    row = {"solver": "ddim", "num_steps": 3, "distance": float("nan")}
    protocol = {"floor": float("nan"), "complete": False, "not_available": {}}
    path = tmp_path / "solvers.json"
    mode.write_rows(path, 2, protocol, [row])
    text = path.read_text()
    assert "NaN" not in text and json.loads(text)["rows"][0]["distance"] is None
    trials = [Sampler(name="ddim", num_steps=3)]
    (again,) = mode.unfinished_rows(path, 2, protocol, trials)
    assert np.isnan(again["distance"])


def test_steps_are_the_most_that_a_budget_allows():
    for name in set(solvers.NAMES) - {"adaptive"}:
        sampler = Sampler(name=name)
        for budget in (1, 2, 7, 10):
            steps = most_steps(sampler, budget)
            assert 0 < sampler.turned_to(name, steps).evaluations <= budget
            assert sampler.turned_to(name, steps + 1).evaluations > budget
    corrected = Sampler(name="predictor_corrector", corrector_steps=2)
    assert most_steps(corrected, 10) == 4


def test_the_plan_repeats_nothing_and_keeps_the_rest():
    trials = plan(SAMPLER, ("heun",), (5, 6, 9))
    assert trials == [dataclasses.replace(SAMPLER, num_steps=n) for n in (3, 5)]
    trials = plan(dataclasses.replace(SAMPLER, churn=3.0), ("ddim", "heun"), (5,))
    assert [trial.churn for trial in trials] == [0.0, 3.0]
    assert len(plan(SAMPLER, ("adaptive",), (5, 6))) == len(TOLERANCES)
    assert {trial.name for trial in plan(SAMPLER, None, (5,))} == set(solvers.NAMES)


def test_guidance_is_counted():
    assert calls_per_evaluation(Guidance(scale=2.0)) == 2
    assert calls_per_evaluation(Guidance(scale=2.0, autoguidance_scale=3.0)) == 3
    assert calls_per_evaluation(Guidance()) == 1


@pytest.mark.parametrize(
    "flags, words",
    [
        ({"solvers": ("huen",)}, "--solvers: .* 'huen'; did you mean heun"),
        ({"solvers": ("x",)}, "--solvers: .* 'x'; there are ancestral, ddim"),
        ({"weights": "ema"}, "keeps no moving average"),
    ],
)
def test_mistakes_are_named(tmp_path, flags, words):
    with pytest.raises(UserError, match=words):
        start(tmp_path, **flags)


def test_a_model_without_solvers_is_refused(tmp_path):
    experiment = dataclasses.replace(make_ring(), diffusion=None)
    run = run_of(tmp_path, "flow_matching_toy2d:tiny", experiment)
    with pytest.raises(UserError, match="--mode=solvers needs .* diffusion models"):
        MODE.start(run, Options())


def test_steps_that_a_model_refuses_are_named(tmp_path):
    sampler = dataclasses.replace(SAMPLER, spacing="uniform")
    short = ring_model(sampler, num_timesteps=10)
    start(tmp_path, short, solvers=("ddim",), evaluations=(4, 20))
    result = report(tmp_path)
    assert [row["num_steps"] for row in result["rows"]] == [4]
    (refused,) = result["protocol"]["not_available"].items()
    assert refused[0] == "ddim, 20 steps" and "must be in 1 ... 10" in refused[1]
    with pytest.raises(UserError, match="no solver could be tried: .*num_steps"):
        start(tmp_path, short, solvers=("ddim",), evaluations=(20,))


def test_images_are_compared_by_their_pixels(tmp_path, capsys):
    """A model of the library, untrained; the table is what is printed."""
    run = run_of(tmp_path, "flow_matching_digits:tiny")
    MODE.start(run, Options(solvers=("heun", "dpmpp_2m"), evaluations=(3,)))
    text = (tmp_path / "evaluation/solvers_2.md").read_text()
    assert capsys.readouterr().out.strip() == text.strip()
    assert "frechet_pixels" in text and "guidance" in text
    assert "| heun | 2 | 3 | 6 |" in text

"""--mode=solvers: on a model that is exact, and as a user runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from genjax.solvers import mode
from genjax.solvers.measure import Trial, calls_per_evaluation, most_steps, plan
from PIL import Image

from genjax import commandline, modes
from genjax.commandline import Options
from genjax.diffusion import solvers
from genjax.experiment import Experiment
from genjax.typing import Stopped, UserError
from tests.exact_ring import make_ring

ROOT = Path(__file__).parent.parent
FEW = ("ddim", "dpmpp_3m", "heun")


def ring_config(**sampler):
    config = commandline.load_config(f"{ROOT}/configs/flow_matching_toy2d.py:tiny")
    config.experiment = "ring"
    config.training.num_steps = 2
    config.eval.num_samples, config.eval.batch_size = 900, 300
    config.sampler.update(sampler)
    return config


def run(workdir, mode, *, make=make_ring, config=None, **flags):
    config = config or ring_config()
    options = Options(config=config, workdir=workdir, mode=mode, **flags)
    modes.run(options, make, lambda name: make)


def report(workdir, suffix=""):
    return json.loads((workdir / f"evaluation/solvers_2{suffix}.json").read_text())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("ring")
    run(workdir, "train")
    return workdir


@pytest.fixture(scope="module")
def compared(trained):
    run(trained, "solvers", solvers=(*FEW, "adaptive"), evaluations=(5, 20))
    return report(trained)


def test_every_solver_is_there_at_its_budget(compared):
    rows, protocol = compared["rows"], compared["protocol"]
    assert [(r["solver"], r["num_steps"], r["evaluations"]) for r in rows[:-1]] == [
        ("ddim", 5, 5),
        ("ddim", 20, 20),
        ("dpmpp_3m", 5, 5),
        ("dpmpp_3m", 20, 20),
        ("heun", 3, 5),
        ("heun", 10, 19),
    ]
    assert protocol["complete"] and protocol["not_available"] == {}
    assert protocol["distance"] == "energy_distance" and protocol["seed"] == 0
    assert all(0 < r["seconds_per_chunk"] < 10 for r in rows)
    assert all(r["network_calls"] == r["evaluations"] for r in rows)


def test_adaptive_reports_what_it_used(compared):
    row = compared["rows"][-1]
    assert row["solver"] == "adaptive" and row["num_steps"] is None
    # Dormand and Prince: six a step, one before the first, one to denoise
    assert 50 < row["evaluations"] < 1000


def test_more_evaluations_come_nearer_and_high_orders_sooner(compared):
    """An exact model: what remains at the end is chance, as in the floor."""
    rows, floor = compared["rows"], compared["protocol"]["floor"]
    distance = {(r["solver"], r["num_steps"]): r["distance"] for r in rows}
    assert distance["dpmpp_3m", 20] < distance["ddim", 5]
    assert distance["heun", 10] < distance["heun", 3]
    assert distance["dpmpp_3m", 20] < 2 * floor
    assert distance["adaptive", None] < 2 * floor < distance["heun", 3]


def test_the_table_and_the_picture(trained, compared):
    text = (trained / "evaluation/solvers_2.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert lines[0].split(" | ")[-1] == "energy_distance |"
    assert len(lines) == 2 + len(compared["rows"])  # the names and a rule above
    assert "| heun | 10 | 19 | 19 |" in text and "Floor" in text
    with Image.open(trained / "evaluation/solvers_2.png") as picture:
        assert np.asarray(picture).std() > 10


def test_a_stop_keeps_the_rows_and_the_same_command_goes_on(tmp_path, monkeypatch):
    run(tmp_path, "train")
    measure, done = mode.measure, []

    def stopping(setup, make, state, trial, **options):
        if len(done) == 2:
            raise Stopped("while sampling")
        done.append(trial)
        return measure(setup, make, state, trial, **options)

    flags = {"solvers": FEW, "evaluations": (3,), "seed": 1}
    monkeypatch.setattr(mode, "measure", stopping)
    with pytest.raises(Stopped):
        run(tmp_path, "solvers", **flags)
    half = report(tmp_path, "_seed1")
    assert len(half["rows"]) == 2 and not half["protocol"]["complete"]
    text = (tmp_path / "evaluation/solvers_2_seed1.md").read_text()
    assert "Stopped before the end" in text
    monkeypatch.setattr(mode, "measure", measure)
    run(tmp_path, "solvers", **flags)
    whole = report(tmp_path, "_seed1")
    assert whole["rows"][:2] == half["rows"] and len(whole["rows"]) == 3
    assert whole["protocol"]["complete"]
    with pytest.raises(Stopped):
        run(tmp_path, "solvers", **flags, max_seconds=0.0)


def test_steps_are_the_most_that_a_budget_allows():
    for name in set(solvers.NAMES) - {"adaptive"}:
        for budget in (1, 2, 7, 10):
            steps = most_steps(name, budget)
            assert solvers.evaluations(name, steps) <= budget
            assert solvers.evaluations(name, steps + 1) > budget
    assert most_steps("predictor_corrector", 10, corrector_steps=2) == 4


def test_the_plan_repeats_nothing():
    trials = plan(ring_config(), ("heun",), (5, 6, 9))
    assert trials == [Trial("heun", 3), Trial("heun", 5)]
    config = ring_config()
    assert plan(config, ("adaptive",), (5, 6)) == [Trial("adaptive", 10)]
    assert {trial.solver for trial in plan(config, None, (5,))} == set(solvers.NAMES)


def test_guidance_is_counted():
    config = ring_config(guidance_scale=2.0)
    assert calls_per_evaluation(config) == 2
    assert calls_per_evaluation(ring_config()) == 1


def test_a_model_without_a_choice_is_told_what_it_lacks(trained):
    config = ring_config()
    with config.unlocked():
        del config.sampler.name
    with pytest.raises(UserError, match="ring.py lacks sampler.name"):
        run(trained, "solvers", config=config)


@pytest.mark.parametrize(
    "flags, words",
    [
        ({"solvers": ("huen",)}, "did you mean 'heun'"),
        ({"weights": "ema"}, "keeps no moving average"),
    ],
)
def test_mistakes_are_named(trained, flags, words):
    with pytest.raises(UserError, match=words):
        run(trained, "solvers", **flags)


def test_steps_that_a_model_refuses_are_named(trained):
    def make_short(config, spec) -> Experiment:
        if config.sampler.num_steps > 10:
            raise UserError("sampler.num_steps must be at most 10")
        return make_ring(config, spec)

    run(trained, "solvers", make=make_short, solvers=("ddim",), evaluations=(4, 20))
    result = report(trained)
    assert [row["num_steps"] for row in result["rows"]] == [4]
    refused = result["protocol"]["not_available"]
    assert refused == {"ddim, 20 steps": "sampler.num_steps must be at most 10"}
    with pytest.raises(UserError, match="no solver could be tried: sampler.num_steps"):
        run(trained, "solvers", make=make_short, solvers=("ddim",), evaluations=(20,))


def test_the_command_line(tmp_path):
    """Images, with the flags as a user writes them."""
    start = [
        sys.executable,
        "launch.py",
        "--config=configs/edm_digits.py:tiny",
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
    done = launch("--mode=solvers", "--solvers=heun,dpmpp_2m", "--evaluations=3")
    (path,) = (tmp_path / "evaluation").glob("solvers_*.md")
    assert done.stdout.strip() == path.read_text().strip()
    assert "frechet_pixels" in done.stdout and "| heun | 2 | 3 | 3 |" in done.stdout
    mistake = launch("--mode=solvers", "--evaluations=few", expect=2)
    assert "--evaluations takes numbers above 0" in mistake.stderr

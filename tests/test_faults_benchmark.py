"""The campaign sees what it looks for."""

import json
import random

import pytest

from benchmarks import faults
from benchmarks.faults import Fault


def lines(folder, **changes):
    row = {"step": 2, "loss": 0.5, "seconds": 1.0, "steps_per_second": 9.0}
    folder.mkdir()
    (folder / "metrics.jsonl").write_text(json.dumps(row | changes) + "\n")
    return folder


def test_times_are_no_difference_and_losses_are(tmp_path):
    a = faults.metrics(lines(tmp_path / "a"))
    assert a == faults.metrics(lines(tmp_path / "b", seconds=7.0, steps_per_second=1.0))
    assert a != faults.metrics(lines(tmp_path / "c", loss=0.5000001))


@pytest.mark.parametrize("way", faults.DAMAGES)
def test_every_damage_changes_the_file(way):
    data = bytearray(range(1, 201))
    for at in (0, 100, 199):
        changed = faults.DAMAGES[way](data, at)
        assert changed is None or bytes(changed) != bytes(data)
        assert changed is None or len(changed) <= len(data)


def test_the_table_counts_and_then_names_each_problem():
    rounds = [
        Fault("kill", "vae", "save", {}),
        Fault("kill", "gan", "train", {"lost": "the last\nstate", "exit code": "1"}),
        Fault("nan", "vae", "rate", {}),
    ]
    text = faults.table(rounds)
    assert "| kill | 2 | 1 | 0 | 1 | 0 |\n| nan | 1 | 0 | 0 | 0 | 0 |" in text
    assert "- kill, gan, train: lost: the last state" in text


def test_all_phases_meet_all_runs():
    names, phases = [*faults.RUNS], [*faults.PHASES]
    seen = set()
    for i in range(len(names) * len(phases)):
        name, phase = faults.turn(names, i)
        seen.add((name, phase))
    assert len(seen) == len(names) * len(phases)


def test_an_unknown_run_is_named(capsys):
    with pytest.raises(SystemExit):
        faults.main(["--runs=ddpm,dpm"])
    assert "'dpm' is none of ddpm, flow_matching" in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_run_loses_nothing_and_a_lost_one_is_seen(tmp_path):
    truth = faults.Truth(tmp_path)
    chance = random.Random(0)
    assert faults.kill(truth, ["flow_matching"], 3, chance).problems == {}
    assert faults.damage(truth, ["flow_matching"], 2, chance).problems == {}
    other = faults.Attempt("flow_matching", tmp_path / "other", "--config.seed=1")
    assert other.end() == 0
    assert truth.differs("flow_matching", tmp_path / "other") == "metrics.jsonl"

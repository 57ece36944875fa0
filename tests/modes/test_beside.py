"""The run of --beside: what it is read with, and what is refused."""

import pytest

from genjax.modes import train
from genjax.modes.beside import load_beside
from genjax.typing import UserError
from tests.modes.runs import run_of

TINY = {
    "training": {"num_steps": 2, "eval_every": 2, "sample_every": 2},
    "evaluation": {"num_samples": 0, "limit": 16},
    "likelihood": {"method": "none"},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("trained")
    run = run_of(workdir, "flow_matching_toy2d:tiny", changes=TINY)
    del run.__dict__["trained"]
    train.MODE.start(run, train.Options())
    return workdir


def test_it_is_read_on_the_test_examples_of_this_one(trained, tmp_path):
    changes = {"evaluation": {"limit": 24, "batch_size": 8}}
    run = run_of(tmp_path, "flow_matching_toy2d:tiny", changes=changes)
    other = load_beside(run, trained)
    assert other.workdir == trained and other.step == 2
    assert other.num_test == 24 and other.settings.evaluation.batch_size == 8
    assert other.settings.training.num_steps == 2  # all else as it was trained


def test_what_cannot_stand_beside(trained, tmp_path):
    run = run_of(tmp_path, "flow_matching_digits:tiny")
    with pytest.raises(UserError, match="--beside: there is no trained run in"):
        load_beside(run, tmp_path / "nowhere")
    with pytest.raises(UserError, match="only the same data can be compared"):
        load_beside(run, trained)

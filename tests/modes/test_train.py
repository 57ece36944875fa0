"""--mode=train: what is checked before the first step, and what a resumed run keeps."""

import json

import numpy as np
import pytest

import genjax
from genjax import configs
from genjax.data.pipeline import TrainFeed
from genjax.data.split import Dataset, split_from_arrays
from genjax.evaluation.class_balance import class_metrics
from genjax.modes import train as mode
from genjax.typing import UserError
from tests import specs
from tests.modes.runs import CONFIGS, run_of


def stated(**training) -> dict:
    config = configs.load(f"{CONFIGS}/vae_digits.py:tiny").to_dict()
    return configs.merged(config, {"training": training})


@pytest.mark.slow
def test_a_larger_batch_on_resume_goes_on_where_the_rows_were(tmp_path, monkeypatch):
    """4 steps of 8 images and then 4 of 16: 32 + 64, no row twice in the epoch."""
    seen = []

    class Watched(TrainFeed):
        def get(self, step: int, num_steps: int):
            seen.extend(self.rows(step + i) for i in range(num_steps))
            return super().get(step, num_steps)

    monkeypatch.setattr(mode, "TrainFeed", Watched)
    genjax.train(stated(), tmp_path)
    changed = stated(batch_size=16, num_steps=8, log_every=2)
    genjax.train(changed, tmp_path, override_config=True)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    lines = [line for line in map(json.loads, lines) if line["split"] == "train"]
    assert [line["step"] for line in lines] == [2, 4, 6, 8]
    assert [line["images_seen"] for line in lines] == [16, 32, 64, 96]
    assert [len(rows) for rows in seen] == [8] * 4 + [16] * 4
    assert len(np.unique(np.concatenate(seen))) == 96
    meta = json.loads((tmp_path / "checkpoints/8/meta/metadata").read_text())
    assert meta["body"]["meta"]["batches"] == {"batch_size": 16, "offset": -32}


def test_the_best_by_no_metric_is_refused_before_the_first_step(tmp_path):
    with pytest.raises(UserError, match="keep_best_by=nll_nat is no .* mean nll_nats?"):
        genjax.train(stated(keep_best_by="nll_nat"), tmp_path)
    assert not (tmp_path / "checkpoints").exists()


def test_the_names_of_the_metrics_are_those_of_an_evaluation(tmp_path):
    changes = {"evaluation": {"num_samples": 16, "limit": 32}}
    run = run_of(tmp_path, "vae_digits:tiny", changes=changes)
    evaluator = run.evaluator()
    names = evaluator.names(run.compiled.abstract_state)
    result = evaluator(run.trained[0])
    assert names == result["metrics"].keys()
    assert result["protocol"]["n_floor"] == 32


def test_classes_are_drawn_as_often_as_in_the_data(tmp_path):
    """Of a perfect model class_kl is then 0, though the data are 90 to 10."""
    changes = {"model": {"num_classes": 8}, "evaluation": {"num_samples": 500}}
    run = run_of(tmp_path, "flow_matching_toy2d:tiny", changes=changes)
    label = np.repeat(np.array([0, 1], np.int32), [180, 20])
    split = split_from_arrays("pair", np.zeros((200, 2), np.float32), label)
    spec = specs.of_points("pair", 8, num_train=200, num_eval=200)
    run.__dict__["dataset"] = Dataset(
        spec=spec, train=split, eval=split, fingerprint="pair"
    )
    asked = run._labels_as_in_data()
    assert asked is not None
    assert class_metrics(np.resize(asked, 500), label, 8)["class_kl"] < 1e-3
    assert 0 < np.mean(asked[:50]) < 0.3  # mixed, not class by class

"""--mode=evaluate on a model whose samples are known."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import configs
from genjax.evaluation import references, score, summary
from genjax.experiment import Experiment
from genjax.modes import evaluate, train
from genjax.run import Run
from genjax.typing import UserError

ROOT = Path(__file__).parent.parent
SPEC_SHAPE, LEVELS = (8, 8, 1), 17  # of the digits
CHANGES = {
    "training": {"num_steps": 2, "eval_every": 2, "sample_every": 10},
    "evaluation": {"num_samples": 60, "batch_size": 60, "limit": 60},
}


def draw(state, key, num, label=None):
    noise = jax.random.randint(key, (num, *SPEC_SHAPE), 0, LEVELS)
    return (noise * state).astype(jnp.uint8)


PAINTER = Experiment(  # its average draws uniform noise, its raw weights black images
    init=lambda key: jnp.ones((), jnp.int32),
    train_step=lambda state, batch, key: (state, {"loss": state * 1.0}),
    sample=draw,
    raw_weights=lambda state: state * 0,
)
PLAIN = Experiment(
    init=lambda key: jnp.ones(()),
    train_step=lambda state, batch, key: (state, {"loss": state}),
)


def run_of(workdir, experiment=PAINTER):
    stated = configs.load(f"{ROOT}/configs/flow_matching_digits.py:tiny").to_dict()
    run = Run(workdir, configs.complete(configs.merged(stated, CHANGES)))
    run.__dict__["experiment"] = experiment
    return run


def train_it(workdir, experiment=PAINTER):
    train.MODE.start(run_of(workdir, experiment), train.Options())
    return workdir


def evaluate_it(workdir, experiment=PAINTER, **flags):
    run = run_of(workdir, experiment)
    evaluate.MODE.start(run, evaluate.Options(**flags))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GENJAX_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def trained(tmp_path):
    return train_it(tmp_path / "run")


def distance(workdir, name="2"):
    report = json.loads((workdir / f"evaluation/{name}.json").read_text())
    return report["metrics"]["frechet_pixels"]


def test_average_and_raw_weights_in_one_go(trained, capsys):
    before = distance(trained)
    capsys.readouterr()
    evaluate_it(trained, weights="both")
    said = json.loads(capsys.readouterr().out)
    assert said["step"] == 2
    for name, kind in (("2", "ema"), ("2_raw", "raw")):
        written = json.loads((trained / f"evaluation/{name}.json").read_text())
        assert written["protocol"]["weights"] == kind
        assert written["metrics"] == pytest.approx(said[kind]["metrics"], nan_ok=True)
        assert (trained / f"evaluation/{name}_neighbours.png").exists()
    assert distance(trained) == before
    # All black images are all the same, and noise never is.
    shares = [said[kind]["metrics"]["duplicates"] for kind in ("ema", "raw")]
    assert shares == [0.0, 1.0]


def test_a_seed_has_a_file_of_its_own(trained):
    evaluate_it(trained, weights="raw", seed=3)
    assert distance(trained, "2_raw_seed3") > 0


@pytest.mark.parametrize("weights", ["both", "ema"])
def test_an_average_that_there_is_not(tmp_path, weights):
    train_it(tmp_path / "run", PLAIN)
    with pytest.raises(UserError, match="keeps no moving average"):
        evaluate_it(tmp_path / "run", PLAIN, weights=weights)


def test_a_kept_reference_is_used(trained, tmp_path):
    before = distance(trained)
    source = score.open_source("digits", "train", image_size=None, data_dir=None)
    _, path = score.summary_of(source.split, source.spec, source.fingerprint, None)
    assert path is not None
    evaluate_it(trained)
    assert distance(trained) == pytest.approx(before)
    # Whose file holds other images gets the distance to those: noise is near noise.
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 17, (1000, *source.spec.shape)).astype(np.uint8)
    other = summary.summarize([noise], name="noise", spec=source.spec, keep=True)
    path.write_bytes(references.to_bytes(other))
    bare = references.path_of(source.fingerprint, source.split.name, None, keep=False)
    assert bare is not None
    bare.unlink()  # training keeps no rows; it has written its own
    evaluate_it(trained)
    assert distance(trained) < 0.2 * before
    train_it(tmp_path / "again")  # without its own it finds this one
    assert distance(tmp_path / "again") < 0.2 * before

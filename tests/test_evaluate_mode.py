"""--mode=evaluate on a model whose samples are known."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import commandline, modes, score
from genjax.commandline import Options
from genjax.evaluation import references
from genjax.experiment import Experiment
from genjax.typing import UserError

ROOT = Path(__file__).parent.parent
CONFIG = f"{ROOT}/configs/ddpm_digits.py:tiny"


def make_painter(config, spec):
    """Its average draws uniform noise, and its raw weights black images."""

    def sample(state, key, num, labels=None):
        noise = jax.random.randint(key, (num, *spec.shape), 0, spec.num_levels)
        return (noise * state).astype(jnp.uint8)

    return Experiment(
        init=lambda key: jnp.ones((), jnp.int32),
        train_step=lambda state, batch, key: (state, {"loss": state * 1.0}),
        sample=sample,
        raw_weights=lambda state: state * 0,
    )


def make_plain(config, spec):
    return Experiment(
        init=lambda key: jnp.ones(()),
        train_step=lambda state, batch, key: (state, {"loss": state}),
    )


def run(workdir, mode, make_experiment=make_painter, **flags):
    config = commandline.load_config(CONFIG)
    config.training.num_steps = 2
    config.training.eval_every = 2
    config.training.sample_every = 10
    config.eval.num_samples = 60
    config.eval.batch_size = 60
    config.eval.limit = 60
    options = Options(config=config, workdir=workdir, mode=mode, **flags)
    modes.run(options, make_experiment, lambda name: make_experiment)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GENJAX_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def trained(tmp_path):
    run(tmp_path / "run", "train")
    return tmp_path / "run"


def distance(workdir, name="2"):
    report = json.loads((workdir / f"evaluation/{name}.json").read_text())
    return report["metrics"]["frechet_pixels"]


def test_average_and_raw_weights_in_one_go(trained, capsys):
    before = distance(trained)
    capsys.readouterr()
    run(trained, "evaluate", both_weights=True)
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


def test_both_where_there_is_no_average(tmp_path):
    run(tmp_path / "run", "train", make_plain)
    with pytest.raises(UserError, match="keeps no moving average"):
        run(tmp_path / "run", "evaluate", make_plain, both_weights=True)


def test_a_kept_reference_is_used(trained, tmp_path):
    before = distance(trained)
    source = score.open_source("digits", "train", image_size=None, data_dir=None)
    _, path = score.summary_of(source.split, source, None)
    assert path is not None
    run(trained, "evaluate")
    assert distance(trained) == pytest.approx(before)
    # Whose file holds other images gets the distance to those: noise is near noise.
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 17, (1000, *source.spec.shape)).astype(np.uint8)
    other = score.summarize([noise], name="noise", spec=source.spec, keep=True)
    path.write_bytes(references.to_bytes(other))
    run(trained, "evaluate")
    assert distance(trained) < 0.2 * before
    run(tmp_path / "again", "train")  # training keeps no rows, and finds it as well
    assert distance(tmp_path / "again") < 0.2 * before

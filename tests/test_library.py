"""genjax from Python: load, train, Run. A notebook gets what the command line gets."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import genjax
from genjax import __main__ as launch
from genjax import configs
from genjax.experiment import Code, Experiment, LogLikelihood
from genjax.run import Run
from genjax.typing import UserError

ROOT = Path(__file__).parent.parent
SHORT = {
    "training": {"num_steps": 4, "save_every": 2, "sample_every": 4, "eval_every": 4},
    "evaluation": {"num_samples": 32, "batch_size": 32, "limit": 64},
    "likelihood": {"tolerance": 0.01},
    "optim": {"warmup_steps": 1},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Run:
    """A class-conditional model of the digits."""
    workdir = tmp_path_factory.mktemp("library") / "run"
    stated = configs.load("flow_matching_digits_dit:tiny").to_dict()
    return genjax.train(configs.merged(stated, SHORT), workdir)


@pytest.fixture
def again(trained) -> Run:
    return genjax.load(trained.workdir)


def test_training_gives_the_run(trained):
    assert trained.step == 4 and (trained.workdir / "samples/4.png").exists()
    assert trained.spec.name == "digits" and trained.config.evaluation.limit == 64
    again = genjax.train(trained.config, trained.workdir)  # finished: it only loads
    assert again.step == 4
    stored = json.loads((trained.workdir / "config.json").read_text())
    assert (
        stored["data"]["name"] == "digits" and "genjax/models/unet.py" in stored["code"]
    )


def test_train_takes_a_name_and_a_file(tmp_path, monkeypatch):
    def stop(run, options):
        raise UserError(f"{run.settings.experiment} {run.workdir.name} {options}")

    monkeypatch.setattr("genjax.modes.train.train", stop)
    for config in ("flow_matching_toy2d:tiny", ROOT / "configs/flow_matching_toy2d.py"):
        with pytest.raises(UserError, match="flow_matching here .*accept_code=True"):
            genjax.train(config, tmp_path / "here", accept_code=True)
    with pytest.raises(UserError, match="did you mean optim"):
        genjax.train({"experiment": "flow_matching", "optm": {}}, tmp_path)


def test_samples_are_those_of_the_command_line(again, tmp_path):
    flags = ("--mode=sample", "--num_samples=6", "--seed=2", "--labels=1,7")
    where = (f"--workdir={again.workdir}", f"--out={tmp_path / 'out'}")
    assert launch.main([*flags, *where]) == 0
    samples = again.sample(6, labels=[1, 7], seed=2)
    np.testing.assert_array_equal(
        samples, np.load(tmp_path / "out" / "samples.npz")["arr_0"]
    )
    assert samples.shape == (6, 8, 8, 1) and samples.dtype == np.uint8


def test_a_sample_depends_on_its_seed_and_number_alone(again):
    many = again.sample(70, seed=1)
    np.testing.assert_array_equal(many[:3], again.sample(3, seed=1))
    assert not np.array_equal(many[:3], again.sample(3, seed=2))
    assert not np.array_equal(many[:3], again.sample(3, seed=1, weights="raw"))
    assert "dataset" not in again.__dict__, "sampling needs no data"


def test_another_sampler(again):
    heun = again.sample(4, sampler={"num_steps": 3})
    ddim = again.sample(4, sampler={"name": "ddim", "num_steps": 3, "eta": 0.5})
    assert not np.array_equal(heun, ddim)
    # the options of heun are not those of ddim, and the next call compiles nothing
    churned = again.with_sampler({"churn": 3.0})
    assert churned.with_sampler({"name": "ddim"}).config.sampler.churn == 0.0
    asked = {"name": "ddim", "num_steps": 3, "eta": 0.5}
    assert again.with_sampler(asked) is again.with_sampler(dict(asked))
    guided = again.with_sampler({"guidance.scale": 3.0})
    assert guided.config.sampler.guidance.scale == 3.0
    loaded = genjax.load(again.workdir, {"sampler.num_steps": 3})
    np.testing.assert_array_equal(loaded.sample(4), heun)


def test_an_earlier_checkpoint(again):
    earlier = genjax.load(again.workdir, step=2)
    assert earlier.step == 2
    assert not np.array_equal(earlier.sample(4), again.sample(4))


def test_likelihood_and_denoising(again):
    images = again.sample(5, seed=1)
    nats = again.log_likelihood(images, labels=[0, 1, 2, 3, 4], seed=1)
    assert nats.shape == (5,) and np.isfinite(nats).all()
    np.testing.assert_array_equal(
        nats, again.log_likelihood(images, labels=[0, 1, 2, 3, 4], seed=1)
    )
    x = again.experiment.diffusion.scale.to_model(jnp.asarray(images))
    x0 = again.denoise(x, 1e-5, labels=[0, 1, 2, 3, 4])
    np.testing.assert_allclose(x0, x, atol=1e-3)  # at the least noise
    each = again.denoise(x, np.full(5, 0.5))
    np.testing.assert_allclose(each, again.denoise(x, 0.5), atol=1e-6)
    assert not np.allclose(each, again.denoise(x, 0.5, labels=3), atol=1e-6)


def test_evaluation_is_that_of_training(again):
    written = json.loads((again.workdir / "evaluation/4.json").read_text())
    found = again.evaluate(full=False)
    assert found["metrics"] == pytest.approx(written["metrics"])
    assert found["protocol"] == written["protocol"]


# --- codes, by a model made by hand ---------------------------------------------------


def with_code(trained: Run) -> Run:
    """A code of two numbers: the mean of an image and its label."""

    def encode(state, batch, key):
        mean = batch["image"].reshape(len(batch["image"]), -1).mean(axis=1)
        return jnp.stack([mean, batch["label"].astype(jnp.float32)], axis=1)

    def decode(state, code, key):
        flat = jnp.broadcast_to(code[:, :1, None, None], (len(code), 8, 8, 1))
        return jnp.round(flat).astype(jnp.uint8)

    run = Run(trained.workdir, trained.config, spec=trained.spec)
    run.__dict__["experiment"] = Experiment(
        init=lambda key: {"w": jnp.zeros(())},
        train_step=lambda state, batch, key: (state, {}),
        code=Code(encode=encode, decode=decode),
        likelihood=LogLikelihood(
            log_prob=lambda state, batch, key: batch["image"].sum(axis=(1, 2, 3)) * 1.0,
            kind="exact",
        ),
    )
    run.__dict__["trained"] = {"w": jnp.zeros(())}, 1
    return run


def test_codes_go_there_and_back(trained):
    run = with_code(trained)
    images = np.arange(40, dtype=np.uint8)[:, None, None, None] % 17
    images = np.broadcast_to(images, (40, 8, 8, 1)).copy()
    codes = run.encode(images, labels=np.arange(40) % 10)
    np.testing.assert_allclose(codes[:, 0], np.arange(40) % 17)
    np.testing.assert_array_equal(codes[:, 1], np.arange(40) % 10)
    np.testing.assert_array_equal(run.decode(codes), images)
    nats = run.log_likelihood(images)  # more than one batch, and a filled one
    np.testing.assert_allclose(nats, 64.0 * (np.arange(40) % 17))


# --- what cannot be -------------------------------------------------------------------

IMAGES = np.zeros((2, 8, 8, 1), np.uint8)
MISTAKES = {
    "no encoder": (
        lambda run: run.encode(IMAGES),
        "run.encode needs a model with an e",
    ),
    "no code": (lambda run: run.decode(np.zeros((1, 2))), "needs a model with a code"),
    "no samples": (lambda run: run.sample(0), "at least 1, not 0"),
    "labels": (lambda run: run.sample(1, labels=[10]), "classes 0 ... 9, not 10"),
    "no labels": (lambda run: run.sample(1, labels=[]), "names no class"),
    "sampler": (lambda run: run.sample(1, sampler={"name": "dim"}), "mean 'ddim'"),
    "sampler option": (
        lambda run: run.sample(1, sampler={"name": "ddim", "churn": 1.0}),
        "is an option of heun",
    ),
    "given the label": (lambda run: run.log_likelihood(IMAGES), "needs labels"),
    "shape": (
        lambda run: run.log_likelihood(IMAGES[..., 0], [0, 0]),
        "have the shape (N, 8, 8, 1), and yours (2, 8, 8)",
    ),
    "dtype": (
        lambda run: run.log_likelihood(IMAGES / 2.0, [0, 0]),
        "are uint8 of 0 ... 16",
    ),
    "levels": (lambda run: run.log_likelihood(IMAGES + 200, [0, 0]), "up to 200"),
    "config": (
        lambda run: genjax.load(run.workdir, {"optim.learning_rate": 1.0}),
        "optim.learning_rate: 0.001 -> 1",
    ),
    "field": (
        lambda run: genjax.load(run.workdir, {"sampler.num_step": 1}),
        "did you mean num_steps",
    ),
    "folder": (
        lambda run: genjax.load(run.workdir / "x"),
        "there is no trained run in",
    ),
    "step": (lambda run: genjax.load(run.workdir, step=3).step, "3"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence(mistake, trained):
    do, words = MISTAKES[mistake]
    with pytest.raises(UserError) as said:
        do(trained)
    assert words in str(said.value)


def test_what_a_model_without_parts_cannot_do(trained):
    run = with_code(trained)
    with pytest.raises(UserError, match="run.sample needs a model with a sampler"):
        run.sample(1)
    with pytest.raises(UserError, match="run.denoise needs a model with a path"):
        run.denoise(IMAGES, 0.5)
    with pytest.raises(UserError, match="keeps no moving average"):
        run.encode(IMAGES, weights="ema")


def test_other_data_are_refused(trained):
    """The folder's config says digits of another split; the checkpoint does not."""
    changes = {"data": {"eval_split": "validation"}}
    config = configs.complete(configs.merged(trained.config.to_dict(), changes))
    first = Run(trained.workdir, config)
    assert first.dataset.fingerprint != trained.dataset.fingerprint
    with pytest.raises(UserError, match="trained on other data"):
        _ = first.trained
    second = Run(trained.workdir, config, spec=trained.spec)
    assert second.step == 4
    with pytest.raises(UserError, match="trained on other data"):
        _ = second.dataset
    third = Run(trained.workdir, config, override_config=True)
    assert third.dataset and third.step == 4


# --- import ---------------------------------------------------------------------------


def test_import_alone_is_quick():
    code = (
        "import sys, genjax; assert 'jax' not in sys.modules; assert callable("
        "genjax.train); import genjax.training.loop; assert callable(genjax.train); "
        "assert genjax.training.loop.train and genjax.load and genjax.Run"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd="/",
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = genjax.nothing


def test_what_is_installed_can_be_found():
    """setup.cfg names the folders that `genjax.configs` looks in."""
    text = (ROOT / "setup.cfg").read_text()
    assert "find_namespace:" in text
    for name in ("genjax*", "configs", "experiments"):
        assert f"\n    {name}\n" in text
    assert jax.device_count() == 4  # as in every test

"""--mode=classify: on a model whose posterior is known, and as a user runs it."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import confusion_matrix
from sklearn.neighbors import KNeighborsClassifier

from experiments import ddpm
from genjax import commandline, modes
from genjax.commandline import Options
from genjax.data import datasets
from genjax.experiment import Experiment
from genjax.typing import Stopped, UserError

ROOT = Path(__file__).parent.parent
WIDTH = 1.5  # of the Gaussians in the toy model, pixels in [0, 1]


def digits():
    dataset = datasets.load("digits")

    def read(split, num):
        batch = split.read(np.arange(num))
        return batch["image"].reshape(num, -1) / np.float32(16.0), batch["label"]

    return read(dataset.train, 1000), read(dataset.eval, 330)


def make_gaussians(config, spec):
    """p(x | y): a Gaussian around the mean training image of y, and great noise.

    The noise is an error of the estimate that is the same for all classes, if the key
    is; and far greater than what tells one class from another.
    """
    (train, labels), _ = digits()
    means = np.stack([train[labels == y].mean(0) for y in range(10)])

    def log_likelihood(state, batch, key):
        assert spec.num_levels == 17
        pixels = batch["image"].reshape(-1, 64) / jnp.float32(16.0)
        away = pixels - state[batch["label"]]
        noise = 300.0 * jax.random.normal(key, (len(pixels),))
        return noise - 0.5 * jnp.sum(away**2, axis=1) / WIDTH**2

    return Experiment(
        init=lambda key: jnp.asarray(means),
        train_step=lambda state, batch, key: (state, {"loss": state.sum()}),
        log_likelihood=log_likelihood,
        likelihood_kind="estimate",
        likelihood_note="noisy",
        likelihood_given="label",
    )


def make_unconditional(config, spec):
    return Experiment(
        init=lambda key: jnp.zeros(()),
        train_step=lambda state, batch, key: (state, {"loss": state}),
        log_likelihood=lambda state, batch, key: jnp.zeros(len(batch["image"])),
        likelihood_kind="exact",
    )


def make_blind(config, spec):
    return Experiment(
        init=lambda key: jnp.zeros(()),
        train_step=lambda state, batch, key: (state, {"loss": state}),
    )


EXPERIMENTS = {
    "gaussians": make_gaussians,
    "unconditional": make_unconditional,
    "blind": make_blind,
}


def run(workdir, mode, *, name="gaussians", num=330, **flags):
    config = commandline.load_config(f"{ROOT}/configs/ddpm_digits.py:tiny")
    config.experiment = name
    config.eval.limit = num
    config.eval.batch_size = 128
    config.eval.num_samples = 0
    config.training.num_steps = 1
    config.training.eval_every = 10
    options = Options(config=config, workdir=workdir, mode=mode, **flags)
    modes.run(options, EXPERIMENTS[name], EXPERIMENTS.__getitem__)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("gaussians")
    run(workdir, "train")
    return workdir


def test_the_posterior_is_that_of_the_model(trained, capsys):
    """Equal Gaussians: the nearest mean wins, and the noise of the estimate cancels."""
    run(trained, "classify")
    (train, train_labels), (test, labels) = digits()
    means = np.stack([train[train_labels == y].mean(0) for y in range(10)])
    predicted = KNeighborsClassifier(1).fit(means, np.arange(10)).predict(test)
    result = json.loads((trained / "evaluation/classify_1.json").read_text())
    metrics, protocol = result["metrics"], result["protocol"]
    np.testing.assert_array_equal(
        result["confusion"], confusion_matrix(labels, predicted)
    )
    assert metrics["accuracy"] == pytest.approx(np.mean(predicted == labels))
    assert metrics["accuracy"] > 0.8
    logits = -0.5 * ((test[:, None] - means) ** 2).sum(-1) / WIDTH**2
    of_true = logits[np.arange(330), labels] - np.log(np.exp(logits).sum(1))
    assert metrics["log_posterior_nats"] == pytest.approx(of_true.mean(), abs=1e-3)
    share = np.bincount(labels).max() / 330
    assert metrics["largest_class_share"] == pytest.approx(share)
    assert protocol["n_test"] == 330 and protocol["seed"] == 0
    assert protocol["likelihood_kind"] == "estimate" and protocol["n_undecided"] == 0
    assert "uniform" in protocol["prior"] and protocol["likelihood_note"] == "noisy"
    shown = json.loads(capsys.readouterr().out)
    assert shown == {k: result[k] for k in ("step", "protocol", "metrics")}


def test_another_seed_has_its_own_file(trained):
    run(trained, "classify", num=20, seed=3)
    result = json.loads((trained / "evaluation/classify_1_seed3.json").read_text())
    assert result["protocol"]["n_test"] == 20 and result["protocol"]["seed"] == 3


def test_a_stop_leaves_nothing_half_done(tmp_path):
    run(tmp_path, "train")
    with pytest.raises(Stopped, match="while classifying"):
        run(tmp_path, "classify", max_seconds=0.0)
    assert not list(tmp_path.glob("evaluation/classify*"))


@pytest.mark.parametrize(
    "name, words",
    [
        ("blind", "experiments/blind.py has no log_likelihood"),
        ("unconditional", "not given a label, so it is the same for all classes"),
    ],
)
def test_what_cannot_be_classified_is_said(tmp_path, name, words):
    run(tmp_path, "train", name=name)
    with pytest.raises(UserError, match=words):
        run(tmp_path, "classify", name=name)


def test_a_diffusion_model_classifies_points(tmp_path):
    """From training on: eight Gaussians 15 sigma apart."""
    config = commandline.load_config(f"{ROOT}/configs/ddpm_toy2d.py:tiny")
    config.model.num_classes = 8
    config.training.num_steps = 600
    config.training.steps_per_call = 300
    config.sampler.num_steps = 4  # only for the pictures
    config.eval.limit = 200
    config.eval.num_samples = 0
    config.eval.likelihood_timesteps = 10
    for mode in ("train", "classify"):
        options = Options(config=config, workdir=tmp_path, mode=mode)
        modes.run(options, ddpm.make_experiment, EXPERIMENTS.__getitem__)
    result = json.loads((tmp_path / "evaluation/classify_600.json").read_text())
    assert result["metrics"]["accuracy"] > 0.95
    assert result["metrics"]["largest_class_share"] < 0.3
    assert np.sum(result["confusion"]) == 200
    protocol = result["protocol"]
    assert protocol["likelihood_kind"] == "lower_bound" and protocol["weights"] == "ema"
    assert "10 stratified timesteps" in protocol["likelihood_note"]

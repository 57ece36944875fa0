"""--mode=classify: on a model whose posterior is known, and on a trained one."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import confusion_matrix
from sklearn.neighbors import KNeighborsClassifier

from genjax.data import datasets
from genjax.experiment import Experiment, LogLikelihood
from genjax.modes.classify import MODE, Options
from genjax.typing import Stopped, UserError
from tests.modes.runs import run_of

WIDTH = 1.5  # of the Gaussians in the toy model, pixels in [0, 1]


@functools.cache
def digits():
    dataset = datasets.load("digits")

    def read(split, num):
        batch = split.read(np.arange(num))
        return batch["image"].reshape(num, -1) / np.float32(16.0), batch["label"]

    return read(dataset.train, 1000), read(dataset.eval, 330)


def gaussians(given="label"):
    """p(x | y): a Gaussian around the mean training image of y, and great noise.

    The noise is an error of the estimate that is the same for all classes, if the key
    is; and far greater than what tells one class from another.
    """
    (train, labels), _ = digits()
    means = np.stack([train[labels == y].mean(0) for y in range(10)])

    def log_prob(state, batch, key):
        pixels = batch["image"].reshape(-1, 64) / jnp.float32(16.0)
        away = pixels - state[batch["label"]]
        noise = 300.0 * jax.random.normal(key, (len(pixels),))
        return noise - 0.5 * jnp.sum(away**2, axis=1) / WIDTH**2

    return Experiment(
        init=lambda key: jnp.asarray(means),
        train_step=lambda state, batch, key: (state, {"loss": state.sum()}),
        likelihood=LogLikelihood(
            log_prob=log_prob, kind="estimate", note="noisy", given=given
        ),
    )


def start(workdir, experiment=None, num=330, stop=False, **flags):
    changes = {"evaluation": {"limit": num, "batch_size": 128}}
    experiment = experiment or gaussians()
    config = "flow_matching_digits:tiny"
    run = run_of(workdir, config, experiment, changes=changes, step=1, stop=stop)
    MODE.start(run, Options(**flags))


def test_the_posterior_is_that_of_the_model(tmp_path, capsys):
    """Equal Gaussians: the nearest mean wins, and the noise of the estimate cancels."""
    start(tmp_path)
    (train, train_labels), (test, labels) = digits()
    means = np.stack([train[train_labels == y].mean(0) for y in range(10)])
    predicted = KNeighborsClassifier(1).fit(means, np.arange(10)).predict(test)
    result = json.loads((tmp_path / "evaluation/classify_1.json").read_text())
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
    printed = json.loads(capsys.readouterr().out)
    assert printed == {k: result[k] for k in ("step", "protocol", "metrics")}


def test_another_seed_has_its_own_file(tmp_path):
    start(tmp_path, num=20, seed=3)
    result = json.loads((tmp_path / "evaluation/classify_1_seed3.json").read_text())
    assert result["protocol"]["n_test"] == 20 and result["protocol"]["seed"] == 3


def test_a_stop_leaves_nothing_half_done(tmp_path):
    with pytest.raises(Stopped, match="while classifying"):
        start(tmp_path, stop=True)
    assert not list(tmp_path.glob("evaluation/classify*"))


def test_what_cannot_be_classified_is_said(tmp_path):
    mute = Experiment(init=gaussians().init, train_step=gaussians().train_step)
    with pytest.raises(UserError, match="needs a model with a log-likelihood, and ex"):
        start(tmp_path, mute)
    with pytest.raises(UserError, match="not given a label, so it is the same for all"):
        start(tmp_path, gaussians(given="nothing"))


def test_a_diffusion_model_classifies_points(tmp_path):
    """From training on: eight Gaussians 15 sigma apart."""
    changes = {
        "model": {"num_classes": 8},
        "training": {"num_steps": 600},
        "likelihood": {"method": "bound", "draws": 16},
        "evaluation": {"limit": 200, "num_samples": 0},
    }
    run = run_of(tmp_path, "flow_matching_toy2d:tiny", changes=changes, step=600)
    points = run.dataset.train.read(np.arange(len(run.dataset.train)))

    def step(state, key):
        rows = jax.random.randint(key, (64,), 0, len(points["label"]))
        batch = {name: jnp.asarray(values)[rows] for name, values in points.items()}
        return run.experiment.train_step(state, batch, key)[0], None

    keys = jax.random.split(jax.random.key(0), 600)
    state = jax.jit(lambda state: jax.lax.scan(step, state, keys)[0])(run.state()[0])
    run.__dict__["trained"] = state, 600
    MODE.start(run, Options())
    result = json.loads((tmp_path / "evaluation/classify_600.json").read_text())
    assert result["metrics"]["accuracy"] > 0.95
    assert result["metrics"]["largest_class_share"] < 0.3
    assert np.sum(result["confusion"]) == 200
    protocol = result["protocol"]
    assert protocol["likelihood_kind"] == "lower_bound" and protocol["weights"] == "ema"
    assert "16 draws an example" in protocol["likelihood_note"]

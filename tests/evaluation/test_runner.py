import dataclasses
import json
import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.stats

from genjax.evaluation import summary
from genjax.evaluation.energy import energy_distance
from genjax.evaluation.extractors import Extractor
from genjax.evaluation.sampling import compile_sample, generate
from genjax.evaluation.summary import summarize
from genjax.experiment import Experiment, LogLikelihood
from genjax.typing import Stopped, UserError
from tests.evaluation import pixel_model
from tests.evaluation.pixel_model import (
    EXPERIMENT,
    SPEC,
    TEST,
    TRAIN,
    batches,
    evaluator,
    fitted,
)
from tests.specs import of_points


def without(*names, **changes):
    """The pixel model less some of its abilities."""
    return dataclasses.replace(EXPERIMENT, **dict.fromkeys(names), **changes)


@pytest.fixture(scope="module")
def result():
    return evaluator()(fitted())


def test_padding_does_not_enter_the_means(result):
    assert result["metrics"]["row"] == 4.5  # the mean of 0 ... 9
    assert result["protocol"]["n_test"] == 10


def test_each_image_of_two_domains_counts_once():
    """10 of A and 7 of B, of which 3 begin anew: the rows of B are 0 ... 6."""

    def evaluate(state, batch, key):
        row = batch["index"].astype(jnp.float32)
        return {"row": row, "row_a": row, "row_b": row % 7}

    spec = dataclasses.replace(SPEC, eval_sizes=(10, 7))
    some = evaluator(without(evaluate=evaluate), spec=spec)(fitted())["metrics"]
    assert (some["row"], some["row_a"], some["row_b"]) == (4.5, 4.5, 3.0)


def test_likelihood_of_the_fitted_model_is_the_baseline(result):
    # One comes from examples through JAX, the other from counts through numpy.
    metrics = result["metrics"]
    baseline = metrics["independent_pixels_nll_nats"]
    assert metrics["nll_nats"] == pytest.approx(baseline, rel=1e-6)
    assert metrics["bits_per_dim"] == pytest.approx(baseline / (4 * math.log(2)))
    assert metrics["uniform_bits_per_dim"] == pytest.approx(2.0)
    assert result["protocol"]["likelihood_kind"] == "exact"
    assert result["protocol"]["likelihood_note"] == "closed form"
    assert result["protocol"]["likelihood_rows"] == "all 10 test examples"
    baselines = result["protocol"]["likelihood_baselines"]
    assert list(baselines) == ["uniform", "independent_pixels", "ppca"]
    assert "uniform dequantisation" in baselines["ppca"]["note"]


def test_the_first_rows_of_the_test_split_are_said_to_be_the_first():
    first = evaluator(without("sample", "evaluate"), batches=lambda: [next(batches())])
    protocol = first(fitted())["protocol"]
    assert protocol["likelihood_rows"] == "the first 4 of 10 test examples"


def scipy_frechet(a, b):
    a, b = (x.reshape(len(x), 4) / 3.0 for x in (a, b))
    covs = np.cov(a.T), np.cov(b.T)
    root = np.real(scipy.linalg.sqrtm(covs[0] @ covs[1]))
    shift = np.sum((a.mean(axis=0) - b.mean(axis=0)) ** 2)
    return shift + np.trace(covs[0] + covs[1] - 2 * root)


def test_frechet_distances_are_those_of_the_arrays(result):
    keys = jax.random.split(jax.random.key(5))
    drawn = generate(
        compile_sample(EXPERIMENT.sample), fitted(), key=keys[1], num=50, chunk=16
    )
    expected = scipy_frechet(TRAIN, np.concatenate(list(drawn)))
    assert result["metrics"]["frechet_pixels"] == pytest.approx(expected, rel=1e-6)
    floor = scipy_frechet(TRAIN, TEST)
    assert result["metrics"]["frechet_pixels_floor"] == pytest.approx(floor, rel=1e-6)


def test_the_protocol_says_how(result):
    protocol = result["protocol"]
    assert protocol["reference_split"] == "train"
    assert (protocol["n_reference"], protocol["n_generated"]) == (64, 50)
    assert protocol["extractor"] == "raw pixels"
    assert (protocol["weights"], protocol["seed"]) == ("raw", 5)
    assert protocol["not_available"] == {} and protocol["not_finite"] == []
    assert json.loads(json.dumps(result)) == result


def test_a_second_call_compiles_nothing_and_says_the_same(result):
    traces = []

    def counted(name, function):
        return lambda *args: (traces.append(name), function(*args))[1]

    names = ("sample", "evaluate")
    changed = {name: counted(name, getattr(EXPERIMENT, name)) for name in names}
    log_prob = counted("log_prob", EXPERIMENT.likelihood.log_prob)
    likelihood = dataclasses.replace(EXPERIMENT.likelihood, log_prob=log_prob)
    again = evaluator(without(**changed, likelihood=likelihood))
    assert again(fitted()) == again(fitted()) == result
    assert sorted(traces) == ["evaluate", "log_prob", "sample"]


def test_what_the_model_cannot_is_said():
    poor = without("sample", "evaluate", "likelihood")
    result = evaluator(poor)(fitted())
    assert set(result["protocol"]["not_available"]) == {
        "sample",
        "evaluate",
        "likelihood",
    }
    assert result["metrics"] == {}
    assert "likelihood_kind" not in result["protocol"]


def test_images_too_large_for_a_covariance_are_said(monkeypatch):
    monkeypatch.setattr(summary, "MAX_DIMS", 3)
    result = evaluator()(fitted())
    assert "4 numbers" in result["protocol"]["not_available"]["frechet_pixels"]
    assert not [name for name in result["metrics"] if "frechet" in name]
    assert "nll_nats" in result["metrics"]
    assert "4 numbers" in result["protocol"]["not_available"]["ppca"]


def test_zero_samples_draw_none():
    result = evaluator(num_samples=0)(fitted())
    assert not [name for name in result["metrics"] if "frechet" in name]
    assert "n_generated" not in result["protocol"]


def test_what_is_not_finite_is_kept_and_named():
    state = {"log_probs": jnp.full((4, 4), -jnp.inf)}
    result = evaluator(without("sample"))(state)
    assert result["metrics"]["nll_nats"] == math.inf
    assert set(result["protocol"]["not_finite"]) == {
        "nll_nats",
        "nll_nats_stderr",
        "bits_per_dim",
        "bits_per_dim_stderr",
    }


def test_averaged_and_raw_weights():
    uniform = {"log_probs": jnp.full((4, 4), -math.log(4))}
    averaging = without("sample", "evaluate", raw_weights=lambda state: uniform)
    both = evaluator(averaging)
    averaged, raw = both(fitted()), both(fitted(), weights="raw")
    assert averaged["protocol"]["weights"] == "ema"
    assert raw["protocol"]["weights"] == "raw"
    assert raw["metrics"]["bits_per_dim"] == pytest.approx(2.0)
    assert averaged["metrics"]["bits_per_dim"] < 1.9


def test_an_average_that_is_not_there_is_refused():
    with pytest.raises(UserError, match="no moving average"):
        evaluator()(fitted(), weights="ema")


@pytest.mark.parametrize(
    "options, message", [({"num_samples": 1}, "is 1"), ({"sample_chunk": 0}, "are 0")]
)
def test_senseless_numbers_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        evaluator(**options)


def test_a_mean_in_the_place_of_values_is_refused():
    averaging = without(evaluate=lambda state, batch, key: {"loss": jnp.zeros(())})
    with pytest.raises(ValueError, match=r"loss must be one value an example, \(4,\)"):
        evaluator(averaging)(fitted())


def test_a_name_with_two_meanings_is_refused():
    clashing = without(evaluate=lambda s, batch, k: {"nll_nats": batch["index"]})
    with pytest.raises(ValueError, match="nll_nats"):
        evaluator(clashing)(fitted())


@pytest.mark.parametrize("calls", [0, 2, 3, 5, 6, 9])
def test_a_stop_is_heard_wherever_it_comes(calls):
    # It is asked before 3 batches of values, 3 of images and 4 chunks of samples.
    answers = iter([False] * calls + [True])
    with pytest.raises(Stopped):
        evaluator(should_stop=lambda: next(answers))(fitted())


def assert_same(result, expected):
    assert result["protocol"] == expected["protocol"]
    assert result["metrics"] == pytest.approx(expected["metrics"], rel=1e-5)


def test_many_devices_say_what_one_says(mesh, result):
    together, state = pixel_model.on_mesh(mesh)
    assert_same(together(state), result)


def test_two_processes_say_what_one_says(result):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    root = Path(__file__).parents[2]
    environment = os.environ | {
        "PYTHONPATH": str(root),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, pixel_model.__file__, port, str(i)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    try:
        outputs = [p.communicate(timeout=120) for p in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (out, err) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, err[-2000:]
        assert_same(json.loads(out.splitlines()[-1]), result)  # Gloo prints, too


POINTS = of_points("plane", num_train=400, num_eval=300)


def test_points_are_scored_as_points():
    rng = np.random.default_rng(0)
    train, test = (rng.normal(size=(n, 2)).astype(np.float32) for n in (400, 300))
    shifted = Experiment(
        init=lambda key: {},
        train_step=lambda state, batch, key: (state, {}),
        sample=lambda state, key, num: 3.0 + jax.random.normal(key, (num, 2)),
        likelihood=LogLikelihood(
            log_prob=lambda state, batch, key: jnp.sum(
                jax.scipy.stats.norm.logpdf(batch["image"]), axis=1
            ),
            kind="exact",
        ),
    )
    batch = {"image": jnp.asarray(test)}
    result = evaluator(
        shifted,
        spec=POINTS,
        batches=lambda: [(batch, jnp.ones(300, bool))],
        reference=summarize([train], name="train", spec=POINTS),
        num_samples=200,
        sample_chunk=100,
    )({})
    metrics, protocol = result["metrics"], result["protocol"]
    assert protocol["extractor"] == "raw points"
    # The law: N((3, 3), I) against N(0, I) is at 18; 600 draws leave it within 10 %.
    assert metrics["frechet_points"] == pytest.approx(18.0, rel=0.1)
    assert metrics["frechet_points_floor"] < 0.1
    floor = energy_distance(train[:200], test)
    assert metrics["energy_distance_floor"] == pytest.approx(floor)
    assert metrics["energy_distance"] > 50 * floor
    entropy = math.log(2 * math.pi) + np.sum(test**2, axis=1).mean() / 2
    assert metrics["nll_nats"] == pytest.approx(entropy, rel=1e-5)
    assert "bits_per_dim" not in metrics and "uniform_nll_nats" not in metrics
    assert "in the unit of the data" in protocol["likelihood_unit"]
    # The model is the Gaussian that the training split was drawn from.
    assert metrics["ppca_nll_nats"] == pytest.approx(entropy, abs=0.05)


BRIGHTER = Extractor(
    name="sums",
    # features of which the moments are known from the pixels; class 1: a bright image
    apply=lambda x: (
        jnp.reshape(x, (len(x), 4)) * 2.0,
        jnp.stack([jnp.full(len(x), 3.5), x.reshape(len(x), 4).sum(-1)], axis=-1),
    ),
    note="exact",
)


def test_features_are_compared_and_labels_read():
    def painted(state, key, num, label=None):
        """As bright as asked for, but for every fifth sample."""
        label = jnp.where(jnp.arange(num) % 5 == 0, 1 - label, label)
        return jnp.broadcast_to(label[:, None, None, None] * 3, (num, 2, 2, 1)).astype(
            jnp.uint8
        )

    result = evaluator(
        without("likelihood", sample=painted),
        reference=summarize([TRAIN], name="train", spec=SPEC, extractor=BRIGHTER),
        extractor=BRIGHTER,
        labels=np.array([0, 1, 1]),
        num_samples=30,
        sample_chunk=30,
    )(fitted())
    metrics, protocol = result["metrics"], result["protocol"]
    assert metrics["label_agreement"] == pytest.approx(0.8)
    # doubled and not divided by 3: a distance of squares, 36 times as large
    for name in ("", "_floor"):
        expected = 36 * metrics[f"frechet_pixels{name}"]
        assert metrics[f"frechet_sums{name}"] == pytest.approx(expected, rel=1e-6)
    assert protocol["extractor"] == "raw pixels; sums (exact)"
    assert protocol["sample_labels"] == "in turn 0, 1, 1"

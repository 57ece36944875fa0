import math

import numpy as np
import pytest

from genjax.evaluation.likelihood_table import likelihood_metrics, likelihood_table
from genjax.typing import DataSpec


def spec(shape, num_levels):
    return DataSpec(
        name="data",
        shape=shape,
        dtype="uint8" if num_levels else "float32",
        num_levels=num_levels,
        num_train=1,
        num_eval=1,
        num_classes=0,
    )


def test_bits_per_dim_of_a_fair_coin_a_pixel_is_one():
    log_prob = np.full(5, -12 * math.log(2))
    metrics = likelihood_metrics(log_prob, spec((2, 2, 3), 2))
    assert metrics["bits_per_dim"] == pytest.approx(1.0)
    assert metrics["nll_nats"] == pytest.approx(12 * math.log(2))
    assert metrics["nll_nats_stderr"] == 0.0


def test_standard_error_by_hand():
    # -1, -3: mean 2, deviation sqrt(2) with ddof 1, over sqrt(2) examples.
    metrics = likelihood_metrics(np.array([-1.0, -3.0]), spec((2,), 0))
    assert metrics == {"nll_nats": 2.0, "nll_nats_stderr": pytest.approx(1.0)}


def test_one_impossible_example_makes_the_mean_infinite():
    metrics = likelihood_metrics(np.array([-1.0, -np.inf]), spec((1, 1, 1), 2))
    assert metrics["nll_nats"] == metrics["bits_per_dim"] == math.inf


def test_standard_error_in_bits_by_hand():
    # as above, in 4 pixels: a nat is 1 / (4 ln 2) bits/dim
    metrics = likelihood_metrics(np.array([-1.0, -3.0]), spec((2, 2, 1), 17))
    assert metrics["bits_per_dim_stderr"] == pytest.approx(0.25 / math.log(2))


def result_of(nll, **changes):
    """An evaluation written by hand."""
    kinds = {"uniform": "exact", "ppca": "lower_bound"}
    protocol = {
        "data": "digits",
        "weights": "ema",
        "seed": 0,
        "likelihood_kind": "lower_bound",
        "likelihood_note": "64 draws",
        "likelihood_unit": "64 discrete pixels of 17 levels",
        "likelihood_given": "nothing",
        "likelihood_rows": "all 447 test examples",
        "likelihood_baselines": {k: {"kind": v, "note": ""} for k, v in kinds.items()},
    }
    metrics = {
        "nll_nats": nll,
        "nll_nats_stderr": 0.571,
        "bits_per_dim": 1.8042,
        "bits_per_dim_stderr": 0.0129,
        "uniform_nll_nats": 181.327,
        "uniform_bits_per_dim": 4.0875,
        "ppca_nll_nats": 100.0,
        "ppca_bits_per_dim": 2.254,
    }
    return {"protocol": protocol | changes, "metrics": metrics}


def test_the_table_of_a_model():
    assert likelihood_table(result_of(80.04)).splitlines() == [
        "digits, all 447 test examples; 64 discrete pixels of 17 levels",
        "              nats          bits/dim       log-likelihood",
        "-> the model  80.04 ± 0.57  1.804 ± 0.013  lower bound",
        "ppca          100.00        2.254          lower bound",
        "uniform       181.33        4.088          exact",
        "the model: 64 draws; weights ema, seed 0",
    ]


@pytest.mark.parametrize("nll, place", [(80.0, 0), (150.0, 1), (math.nan, 2)])
def test_the_best_stands_first_and_what_is_no_number_last(nll, place):
    rows = likelihood_table(result_of(nll)).splitlines()[2:5]
    assert rows[place].startswith("-> the model")


def test_a_label_is_said_and_points_have_no_bits():
    result = result_of(2.0, likelihood_given="label")
    points = {k: v for k, v in result["metrics"].items() if "bits" not in k}
    table = likelihood_table(result | {"metrics": points})
    assert "test examples, given the label;" in table
    assert "± 0.57" in table and "1.80" not in table


def test_no_likelihood_no_table():
    assert likelihood_table({"protocol": {}, "metrics": {"frechet_pixels": 1.0}}) == ""

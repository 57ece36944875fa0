"""From log-likelihoods to one report, the same for all families of models."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from genjax.experiment import LogLikelihood
from genjax.typing import DataSpec


def likelihood_metrics(
    log_prob: Float[np.ndarray, " n"], spec: DataSpec
) -> dict[str, float]:
    """Means over a test set of log-likelihoods in nats; smaller is better.

    nll_nats: the mean of -log_prob; nll_nats_stderr: its standard error over the
    examples (ddof 1; NaN for a single one), not over runs.
    bits_per_dim, bits_per_dim_stderr: both / (D ln 2), of the discrete pixels. Absent
    for points, whose density has a unit.
    """
    count = len(log_prob)
    nll = -log_prob.astype(np.float64)
    with np.errstate(invalid="ignore"):  # an infinite value shows in the result
        deviation = float(nll.std(ddof=1)) if count > 1 else math.nan
    metrics = {
        "nll_nats": float(nll.mean()),
        "nll_nats_stderr": deviation / math.sqrt(count),
    }
    if spec.num_levels:
        for end in ("", "_stderr"):
            bits = bits_per_dim(metrics[f"nll_nats{end}"], spec)
            metrics[f"bits_per_dim{end}"] = bits
    return metrics


def bits_per_dim(nll_nats: float, spec: DataSpec) -> float:
    """nll_nats / (D ln 2), D the number of pixels times channels."""
    return nll_nats / (math.prod(spec.shape) * math.log(2.0))


def likelihood_protocol(
    likelihood: LogLikelihood, spec: DataSpec, num_test: int
) -> dict[str, Any]:
    """What was scored, and how; for all log-likelihoods except the baselines'.

    num_test: number of examples scored, the first of the test split.
    """
    dims = math.prod(spec.shape)
    if likelihood.of == "binarized":
        unit = f"{dims} coins, 1 with probability their grey, tossed once an image"
    elif spec.num_levels:
        unit = f"{dims} discrete pixels of {spec.num_levels} levels"
    else:
        unit = f"density of points in {dims} dimensions, in the unit of the data"
    some = num_test < spec.num_eval
    return {
        "likelihood_kind": likelihood.kind,
        "likelihood_note": likelihood.note,
        "likelihood_of": likelihood.of,
        "likelihood_unit": unit,
        "likelihood_given": likelihood.given,
        "likelihood_rows": f"the first {num_test} of {spec.num_eval} test examples"
        if some
        else f"all {num_test} test examples",
    }


def likelihood_table(result: Mapping[str, Mapping[str, Any]]) -> str:
    """The model among the baselines, the smallest nats first, and how it was measured.

    result: of `genjax.evaluation.runner.Evaluator`. "" if it holds no likelihood.
    """
    protocol, metrics = result["protocol"], result["metrics"]
    if "nll_nats" not in metrics:
        return ""
    kinds = {n: b["kind"] for n, b in protocol["likelihood_baselines"].items()}
    kinds = {"": protocol["likelihood_kind"]} | kinds
    rows = [(f"{name}_" if name else "", kind) for name, kind in kinds.items()]
    rows.sort(key=lambda row: _nan_last(metrics[f"{row[0]}nll_nats"]))
    lines = [("", "nats", "bits/dim", "log-likelihood")]
    for prefix, kind in rows:
        name = prefix.removesuffix("_").replace("_", " ") or "-> the model"
        nats = _with_error(metrics, f"{prefix}nll_nats", 2)
        bits = _with_error(metrics, f"{prefix}bits_per_dim", 3)
        lines.append((name, nats, bits, kind.replace("_", " ")))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    cells = (map(str.ljust, line, widths) for line in lines)
    given = "" if protocol["likelihood_given"] == "nothing" else ", given the label"
    return "\n".join(
        [
            f"{protocol['data']}, {protocol['likelihood_rows']}{given}; "
            f"{protocol['likelihood_unit']}",
            *("  ".join(line).rstrip() for line in cells),
            f"the model: {protocol['likelihood_note'] or 'no note'}; "
            f"weights {protocol['weights']}, seed {protocol['seed']}",
        ]
    )


def _with_error(metrics: Mapping[str, float], name: str, digits: int) -> str:
    """The value, with its standard error where it has one; "" without a value."""
    if name not in metrics:
        return ""
    error = metrics.get(f"{name}_stderr")
    after = "" if error is None else f" ± {error:.{digits}f}"
    return f"{metrics[name]:.{digits}f}{after}"


def _nan_last(value: float) -> float:
    return math.inf if math.isnan(value) else value

"""What a run has come to: its main scores, each beside its baselines, and its files."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from genjax.run import Run

MAX_SCORES = 8


def results(run: Run, step: int) -> str:
    """The scores in evaluation/<step>.json, and the paths of it and of the pictures."""
    lines = []
    evaluation = run.workdir / "evaluation" / f"{step}.json"
    if evaluation.exists():
        lines += score_lines(json.loads(evaluation.read_text()))
    pictures = run.workdir / "samples"
    paths = [*sorted(pictures.glob(f"{step}.png")), *_others(pictures, step)]
    lines += [f"picture: {path}" for path in paths]
    lines += [f"evaluation: {evaluation}"] if evaluation.exists() else []
    return "\n".join(lines)


def _others(pictures: Path, step: int) -> list[Path]:
    return sorted(pictures.glob(f"{step}_*.png"))


def score_lines(result: Mapping[str, Any]) -> list[str]:
    """A line for each main score: "frechet_pixels 0.06  (floor 0.288)".

    result: {"protocol", "metrics"} of an evaluation. A main score is one that has a
    baseline, in bits per dimension rather than in nats where both are there; of a
    model without any, whatever was measured.
    """
    metrics = result["metrics"]
    beside = {name: dict(_baselines(name, metrics)) for name in metrics}
    known = {other for names in beside.values() for other in names}
    main = [name for name in metrics if beside[name] and name not in known]
    main = main or [name for name in metrics if not name.endswith("_stderr")]
    if "bits_per_dim" in main and "nll_nats" in main:
        main.remove("nll_nats")
    lines = []
    for name in main[:MAX_SCORES]:
        compared = ", ".join(
            f"{words} {_shown(metrics[other])}" for other, words in beside[name].items()
        )
        lines.append(
            f"{name} {_shown(metrics[name])}" + (f"  ({compared})" if compared else "")
        )
    return lines


def _baselines(name: str, metrics: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(metric, its name in words) of each baseline of a metric."""
    for other in metrics:
        if other == f"{name}_floor":
            yield other, "floor"
        elif other.endswith(f"_{name}") and not name.endswith("_stderr"):
            yield other, other.removesuffix(f"_{name}").replace("_", " ")


def _shown(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4g}"

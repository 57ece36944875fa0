"""Which steps are kept."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from orbax.checkpoint.checkpoint_managers import preservation_policy

from genjax.typing import UserError


class Best:
    """Preserves the n steps with the best score; a step without one is never best."""

    def __init__(self, n: int, mode: str, scores: Mapping[int, float]):
        self.n, self.sign, self.scores = n, {"min": 1.0, "max": -1.0}[mode], scores

    def should_preserve(
        self,
        checkpoints: Sequence[Any],
        *,
        context: preservation_policy.PreservationContext,
    ) -> Sequence[bool]:
        """Orbax asks: which of these to keep."""
        scored = [info.step for info in checkpoints if info.step in self.scores]
        best = sorted(scored, key=lambda step: (self.sign * self.scores[step], -step))
        return [info.step in best[: self.n] for info in checkpoints]


def everything() -> preservation_policy.PreserveAll:
    """The rule that keeps every step."""
    return preservation_policy.PreserveAll()


def superfluous(
    rules: preservation_policy.AnyPreservationPolicy, steps: Sequence[int]
) -> list[int]:
    """Those of these steps, oldest first, that no rule keeps."""
    infos: Any = [SimpleNamespace(step=step) for step in steps]
    context = preservation_policy.PreservationContext()
    kept = rules.should_preserve(infos, context=context)
    return [step for step, keep in zip(steps, kept, strict=True) if not keep]


def policy(
    keep_last: int,
    keep_best: int,
    keep_every: int | None,
    best_metric: str | None,
    best_mode: str,
    scores: Mapping[int, float],
) -> preservation_policy.AnyPreservationPolicy:
    """A step survives by any of the rules that `Checkpointer` names.

    scores: of best_metric, by step; read anew at each decision.
    Raises UserError for rules that would keep nothing.
    """
    if keep_last < 1 or keep_best < 0 or (keep_every is not None and keep_every < 1):
        raise UserError(
            "keep_last and keep_every must be at least 1 and keep_best at least 0, "
            f"not {keep_last}, {keep_every} and {keep_best}"
        )
    rules: list[Any] = [preservation_policy.LatestN(keep_last)]
    if keep_every is not None:
        rules.append(preservation_policy.EveryNSteps(keep_every))
    if best_metric is not None:
        rules.append(Best(keep_best, best_mode, scores))
    return preservation_policy.AnyPreservationPolicy(rules)

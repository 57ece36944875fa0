"""The experiment of a diffusion model: what it can do follows from the model alone."""

import dataclasses
from collections.abc import Callable
from typing import Any

from genjax import labels
from genjax.diffusion.likelihood import LearnedBound, Likelihood
from genjax.diffusion.model import DiffusionModel
from genjax.experiment import Experiment
from genjax.inputs import Inputs
from genjax.models.backbone import Model, tensor_of
from genjax.state import TrainState
from genjax.training.learner import SMALL_SCALE, Optim
from genjax.training.optim import LossFn
from genjax.typing import Array, Batch, Key, Metrics, Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiffusionConfig:
    """The sections of a config that every diffusion experiment has."""

    model: Model
    inputs: Inputs = Inputs()
    optim: Optim = SMALL_SCALE
    likelihood: Likelihood | LearnedBound = Likelihood()


def as_experiment(
    config: DiffusionConfig,
    model: DiffusionModel,
    init: Callable[[Key], Params],
    *,
    loss_fn: LossFn,
    losses: Callable[[Params, Array, Array | None, Key], Metrics],
) -> Experiment[TrainState]:
    """The experiment: training on loss_fn, a sampler, a likelihood, an evaluation.

    init: (key) -> params.
    loss_fn: (params, batch, key) -> (mean loss, further metrics), for training.
    losses: (params, x0, label, key) -> named values (B,), for evaluation, of examples
        as the model sees them.
    """
    learner, tensor = config.optim.learner(), tensor_of(**config.model)

    def sample(
        state: TrainState, key: Key, num: int, label: Array | None = None
    ) -> Array:
        return model.scale.to_data(model.solve(state, key, num, label).x)

    def evaluate(state: TrainState, batch: Batch, key: Key) -> Any:
        label = labels.of_batch(batch, model.num_classes)
        x0 = model.scale.to_model(batch["image"])
        return losses(state.averaged[0], x0, label, key)

    return Experiment(
        init=lambda key: learner.init(init(key)),
        train_step=learner.train_step(loss_fn),
        sample=sample,
        likelihood=config.likelihood.of(model),
        evaluate=evaluate,
        diffusion=model,
        raw_weights=learner.raw,
        sharding_rules=tensor.rules,
        tensor_parts=tensor.parts,
    )

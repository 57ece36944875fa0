"""The experiment of a diffusion model: what it can do follows from the model alone."""

from collections.abc import Callable

from genjax import labels
from genjax.diffusion.model import DiffusionModel
from genjax.experiment import Experiment, LogLikelihood
from genjax.state import TrainState, TrainStep
from genjax.train.learner import Learner
from genjax.typing import Array, Batch, Key, Metrics, Params


def as_experiment(
    model: DiffusionModel,
    *,
    learner: Learner,
    init: Callable[[Key], Params],
    train_step: TrainStep,
    losses: Callable[[Params, Array, Array | None, Key], Metrics],
    likelihood: LogLikelihood[TrainState] | None,
) -> Experiment[TrainState]:
    """A sampler, a likelihood, an evaluation and the model itself, beside its training.

    init: (key) -> params. losses: (params, x0, label, key) -> named values (B,), of
    examples as the model sees them.
    """

    def sample(
        state: TrainState, key: Key, num: int, label: Array | None = None
    ) -> Array:
        return model.scale.to_data(model.solve(state, key, num, label).x)

    def evaluate(state: TrainState, batch: Batch, key: Key) -> Metrics:
        label = labels.of_batch(batch, model.num_classes)
        return losses(
            state.averaged[0], model.scale.to_model(batch["image"]), label, key
        )

    return Experiment(
        init=lambda key: learner.init(init(key)),
        train_step=train_step,
        sample=sample,
        likelihood=likelihood,
        evaluate=evaluate,
        diffusion=model,
        raw_weights=learner.raw,
    )

"""One set of weights: how gradients move it, and its moving average.

A model with two networks has two learners; its step shows both updates.
"""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from genjax.fields import Count, NonNegative, Positive, Share, Steps
from genjax.state import TrainState, TrainStep, raw
from genjax.training.optim import (
    LossFn,
    ema_update,
    make_optimizer,
    make_schedule,
    mean_gradients,
)
from genjax.typing import Array, Batch, Key, Metrics, Params, UserError


class Descent(NamedTuple):
    """The loss, the gradient norm and the learning rate of one step."""

    loss: Array
    grad_norm: Array
    learning_rate: Array

    def metrics(self, who: str = "", *, loss: str = "loss") -> dict[str, Array]:
        """The three by name; who: before the names of the norm and the rate."""
        rest = {"grad_norm": self.grad_norm, "learning_rate": self.learning_rate}
        return {loss: self.loss, **{who + name: value for name, value in rest.items()}}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Learner:
    """Pure functions of a TrainState. ema_decay: None keeps no EMA.

    schedule: the optimizer's learning rate of each update, to be reported.
    """

    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    ema_decay: float | None = None
    accumulation: int = 1
    snapshot_step: int = 0

    def init(self, params: Params, stats: Params | None = None) -> TrainState:
        """The state before step 0. No two leaves share memory: the state is donated."""
        stats, mean = stats or {}, None
        if self.ema_decay is not None:
            mean = jax.tree.map(jnp.copy, (params, stats))
        return TrainState(
            params=params,
            stats=stats,
            ema_params=mean and mean[0],
            ema_stats=mean and mean[1],
            opt_state=self.optimizer.init(params),
            step=jnp.zeros((), jnp.int32),
            early_params=jax.tree.map(jnp.copy, params) if self.snapshot_step else None,
        )

    @property
    def raw(self) -> Callable[[Any], Any] | None:
        """(state) -> the state with raw weights for their EMA; None without an EMA."""
        return None if self.ema_decay is None else raw

    def learning_rate(self, state: TrainState) -> Array:
        """That of the next update, float32."""
        return jnp.asarray(self.schedule(state.step), jnp.float32)

    def update(self, state: TrainState, grads: Params, stats: Params) -> TrainState:
        """The state after a step along grads, with the statistics of its batch."""
        updates, opt_state = self.optimizer.update(grads, state.opt_state, state.params)
        params, mean = optax.apply_updates(state.params, updates), None
        if self.ema_decay is not None:
            before, now = (state.ema_params, state.ema_stats), (params, stats)
            mean = ema_update(before, now, step=state.step, decay=self.ema_decay)
        step, early = state.step + 1, state.early_params
        ema_params, ema_stats = mean or (None, None)
        if early is not None:  # follows the EMA until then, and stays
            following = step <= self.snapshot_step
            early = jax.tree.map(
                lambda kept, new: jnp.where(following, new, kept), early, ema_params
            )
        return TrainState(params, stats, ema_params, ema_stats, opt_state, step, early)

    def descend(
        self,
        loss_fn: Callable[[Params, Any, Key], tuple[Array, tuple[Params, Any]]],
        state: TrainState,
        rows: Any,
        key: Key,
    ) -> tuple[TrainState, Descent, Any]:
        """(state, descent, aux) after a step down the mean of loss_fn over the rows.

        loss_fn(params, rows, key) gives (mean loss, (stats, aux)); rows is a tree of
        arrays (B, ...). With accumulation it sees a part of them at a time, as
        `mean_gradients` says, and the statistics are those of the last part: so they
        must follow from the weights alone, as spectral norm's do.
        """

        def one(params: Params, rows: Any, key: Key) -> tuple[Array, Any]:
            loss, (stats, aux) = loss_fn(params, rows, key)
            return loss, (jax.tree.map(lambda leaf: leaf[None], stats), aux)

        (loss, (stats, aux)), grads = mean_gradients(
            one, state.params, rows, key, accumulation=self.accumulation
        )
        stats = jax.tree.map(lambda leaf: leaf[-1], stats)
        descent = Descent(loss, optax.tree.norm(grads), self.learning_rate(state))
        return self.update(state, grads, stats), descent, aux

    def train_step(self, loss_fn: LossFn) -> TrainStep:
        """The step for one loss: loss_fn(params, batch, key) -> (mean, metrics)."""

        def step(
            state: TrainState, batch: Batch, key: Key
        ) -> tuple[TrainState, Metrics]:
            (loss, metrics), grads = mean_gradients(
                loss_fn, state.params, batch, key, accumulation=self.accumulation
            )
            rate = self.learning_rate(state)
            descent = Descent(loss, optax.tree.norm(grads), rate)
            metrics = {**descent._asdict(), **metrics}
            return self.update(state, grads, state.stats), metrics

        return step


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optim:
    """config.optim: Adam, or AdamW, its schedule, and the moving average."""

    learning_rate: Positive = 2e-4  # the highest, after the warmup
    warmup_steps: Steps = 0  # steps over which the learning rate rises from 0
    constant_steps: Steps = 0  # steps at that rate before the decay starts
    decay_steps: Count | None = None  # the step at which it reaches 0; None: no decay
    decay: Literal["cosine", "linear"] = "cosine"  # half a cosine, or a straight line
    clip: Positive | None = None  # largest global norm of the gradient; None: no clip
    weight_decay: NonNegative = 0.0  # above 0: AdamW instead of Adam
    b1: Share = 0.9  # decay of Adam's mean of gradients
    b2: Share = 0.999  # decay of Adam's mean of their squares
    eps: Positive = 1e-8  # added to Adam's denominator
    ema_decay: Share | None = None  # decay of the EMA of the weights; None: no EMA
    accumulation: Count = 1  # microbatches per batch; more of them save memory
    snapshot_step: Steps = 0  # above 0: keep the EMA of this step for autoguidance

    def __post_init__(self) -> None:
        if self.snapshot_step and self.ema_decay is None:
            raise UserError(
                "config.optim.snapshot_step keeps the EMA of that step: set ema_decay"
            )

    def learner(self) -> Learner:
        """The learner with these settings."""
        options, own = dataclasses.asdict(self), {}
        for name in ("ema_decay", "accumulation", "snapshot_step"):
            own[name] = options.pop(name)
        names = inspect.signature(make_schedule).parameters
        schedule = make_schedule(**{name: options.pop(name) for name in names})
        optimizer = make_optimizer(schedule, **options)
        return Learner(optimizer=optimizer, schedule=schedule, **own)

    def opponent(self, turns: int = 1, learning_rate: float | None = None) -> Learner:
        """The learner of a player with `turns` times as many updates, and no EMA.

        Its schedules end when the other's do. learning_rate: None: the same.
        """
        slower = dataclasses.replace(
            self,
            learning_rate=learning_rate or self.learning_rate,
            warmup_steps=self.warmup_steps * turns,
            constant_steps=self.constant_steps * turns,
            decay_steps=self.decay_steps and self.decay_steps * turns,
            ema_decay=None,
            snapshot_step=0,
        )
        return slower.learner()


SMALL_SCALE = Optim(learning_rate=1e-3, warmup_steps=100, clip=1.0, ema_decay=0.999)
"""What suits networks that a laptop trains; configs of a paper's size state its own."""

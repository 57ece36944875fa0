"""Optimizers from plain numbers, averages of weights, gradients in microbatches."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from genjax.training.microbatch import in_order, in_turn
from genjax.typing import Array, Batch, Key, Metrics, Params, UserError

Variables = Any  # a pytree of arrays (B, ...)
LossFn = Callable[[Params, Batch, Key], tuple[Array, Metrics]]


def make_schedule(
    *,
    learning_rate: float,
    warmup_steps: int = 0,
    constant_steps: int = 0,
    decay_steps: int | None = None,
    decay: Literal["cosine", "linear"] = "cosine",
) -> optax.Schedule:
    """The learning rate of each update, counted from 0.

    warmup_steps: steps over which the learning rate rises linearly from 0.
    decay_steps: None: then constant. Else it falls to 0, reached at this step, counted
        from the start of training; at first it stays for constant_steps.
    decay: by half a cosine, or along a line.
    Raises UserError if decay_steps does not lie after these, or is not given for them.
    """
    start = warmup_steps + constant_steps  # of the decay
    if decay_steps is not None and decay_steps <= start:
        kept = f" + constant_steps={constant_steps}" if constant_steps else ""
        raise UserError(
            f"optim.decay_steps must be more than warmup_steps={warmup_steps}{kept}, "
            f"not {decay_steps}: give the number of training steps, or None for no "
            "decay"
        )
    if decay_steps is None and constant_steps:
        raise UserError(
            f"optim.constant_steps={constant_steps} are those before the decay: give "
            "optim.decay_steps too, the number of training steps"
        )
    if decay_steps is None:
        after = optax.constant_schedule(learning_rate)
    elif decay == "linear":
        after = optax.linear_schedule(learning_rate, 0.0, decay_steps - start)
    else:
        after = optax.cosine_decay_schedule(learning_rate, decay_steps - start)
    if constant_steps:
        still = optax.constant_schedule(learning_rate)
        after = optax.join_schedules([still, after], [constant_steps])
    if warmup_steps:
        rise = optax.linear_schedule(0.0, learning_rate, warmup_steps)
        after = optax.join_schedules([rise, after], [warmup_steps])
    return after


def make_optimizer(
    schedule: optax.ScalarOrSchedule,
    *,
    clip: float | None = None,
    weight_decay: float = 0.0,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
) -> optax.GradientTransformation:
    """Adam, or AdamW where weight_decay > 0, after clipping.

    schedule: of the learning rate, or the learning rate itself.
    clip: the largest global norm of a gradient; None: no limit.
    """
    return optax.chain(
        optax.identity() if clip is None else optax.clip_by_global_norm(clip),
        optax.adamw(schedule, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay)
        if weight_decay
        else optax.adam(schedule, b1=b1, b2=b2, eps=eps),
    )


def ema_update(
    ema_params: Params, params: Params, *, step: Array, decay: float
) -> Params:
    """The moving average d ema_params + (1 - d) params, d the decay, warmed up.

    step: updates made before this one. The decay is min(decay, (1 + n)/(10 + n)), as
    tf.train.ExponentialMovingAverage takes num_updates: without it the random first
    weights would stay in the average for 1 / (1 - decay) steps.
    """
    n = step.astype(jnp.float32)
    decay_now = jnp.minimum(decay, (1.0 + n) / (10.0 + n))
    return jax.tree.map(
        lambda mean, new: mean + (1.0 - decay_now).astype(mean.dtype) * (new - mean),
        ema_params,
        params,
    )


def maximize(
    objective: Callable[[Variables, Key], Array],
    variables: Variables,
    key: Key,
    *,
    learning_rate: float,
    num_steps: int,
) -> Variables:
    """Variables that raise objective(variables, key) -> (B,), by Adam.

    Each example has its own rows of the variables, so none affects another. The key of
    the objective differs from step to step, and the learning rate falls to 0 by half a
    cosine.
    """
    schedule = make_schedule(learning_rate=learning_rate, decay_steps=num_steps)
    optimizer = make_optimizer(schedule)

    def step(carry: Any, key: Key) -> tuple[Any, None]:
        variables, opt_state = carry
        grads = jax.grad(lambda v: -objective(v, key).sum())(variables)
        updates, opt_state = optimizer.update(grads, opt_state)
        return (optax.apply_updates(variables, updates), opt_state), None

    carry = variables, optimizer.init(variables)
    (variables, _), _ = jax.lax.scan(step, carry, jax.random.split(key, num_steps))
    return variables


def mean_gradients(
    loss_fn: Callable[[Params, Any, Key], tuple[Array, Any]],
    params: Params,
    batch: Any,
    key: Key,
    *,
    accumulation: int = 1,
) -> tuple[tuple[Array, Any], Params]:
    """((loss, aux), gradients): means over `accumulation` parts of the batch, in turn.

    loss_fn(params, batch, key) -> (mean loss, aux), whose key differs from part to
    part. Part j holds the rows j, j + n, j + 2n, ..., so each device works on the rows
    that it already has. Memory is that of one part. Of aux, scalars are averaged, and
    arrays (rows, ...) come back in the order of the batch. accumulation = 1 is
    jax.value_and_grad. Raises UserError if the batch does not divide.
    """
    grad_fn = jax.value_and_grad(loss_fn, has_aux=True)
    if accumulation == 1:
        return grad_fn(params, batch, key)

    parts = in_turn(batch, accumulation, by="optim.accumulation")
    keys = jax.random.split(key, accumulation)

    def add(total: Any, part: tuple[Any, Key]) -> tuple[Any, Any]:
        (loss, aux), grads = grad_fn(params, *part)
        return jax.tree.map(jnp.add, total, (loss, grads)), aux

    first = jax.tree.map(lambda rows: rows[0], (parts, keys))
    (loss, _), grads = jax.eval_shape(grad_fn, params, *first)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), (loss, grads))
    total, aux = jax.lax.scan(add, zeros, (parts, keys))
    loss, grads = jax.tree.map(lambda value: value / accumulation, total)
    return (loss, jax.tree.map(_together, aux)), grads


def _together(of_parts: Array) -> Array:
    return of_parts.mean() if of_parts.ndim == 1 else in_order(of_parts)

"""Training of the small classifiers in whose features samples are compared."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Int, UInt8

from genjax.typing import Array, Key, Params

Say = Callable[[int, int, float], None]


def fit(
    network: nn.Module,
    optimizer: Callable[[int], optax.GradientTransformation],
    images: UInt8[np.ndarray, "n h w c"],
    labels: Int[np.ndarray, " n"],
    *,
    key: Key,
    epochs: int,
    batch_size: int = 128,
    augment: Callable[[Key, Array], Array] | None = None,
    say: Say = lambda step, total, loss: None,
) -> Params:
    """The variables of `network`, fitted by the cross-entropy of (features, logits).

    All images lie on the device, and an epoch is one call: a scan over its steps. The
    same key gives the same variables on the same kind of machine.
    optimizer: a function of the number of steps in all.
    augment: of a batch of uint8 images, at random.
    say: called with (steps done, steps in all, mean loss) after each epoch.
    """
    per_epoch = len(images) // batch_size
    init_key, order_key, step_key = jax.random.split(key, 3)
    variables: Any = jax.jit(network.init)(init_key, jnp.asarray(images[:1]))
    update = optimizer(epochs * per_epoch)
    data = jax.device_put((images, labels))
    run_epoch = _compiled_epoch(network, update, augment, step_key)
    params = variables.pop("params")
    state = (params, variables, update.init(params))
    for epoch in range(epochs):
        seed = int(jax.random.bits(jax.random.fold_in(order_key, epoch)))
        order = np.random.default_rng(seed).permutation(len(images))
        rows = order[: per_epoch * batch_size].reshape(per_epoch, batch_size)
        steps = np.arange(epoch * per_epoch, (epoch + 1) * per_epoch)
        state, losses = run_epoch(state, data, rows, steps)
        say(int(steps[-1]) + 1, epochs * per_epoch, float(losses.mean()))
    return {"params": state[0], **state[1]}


def _compiled_epoch(
    network: nn.Module,
    update: optax.GradientTransformation,
    augment: Callable[[Key, Array], Array] | None,
    step_key: Key,
) -> Callable[..., tuple[Any, Array]]:
    """(state, data, rows, steps) -> (state, losses), a scan over the steps.

    state: (params, batch statistics, that of `update`), which is donated. data:
    (images, labels). rows: (steps, batch) of the data. steps: their numbers.
    """

    def loss_fn(params, stats, image, label, key) -> tuple[Array, Any]:
        out, stats = network.apply(
            {"params": params, **stats},
            image,
            train=True,
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )
        cross_entropy = optax.losses.softmax_cross_entropy_with_integer_labels
        return cross_entropy(out[1].astype(jnp.float32), label).mean(), stats

    def step(data, state, inputs) -> tuple[Any, Array]:
        (params, stats, opt_state), (rows, i) = state, inputs
        image, label = (array[rows] for array in data)
        key = jax.random.fold_in(step_key, i)
        if augment is not None:
            image = augment(jax.random.fold_in(key, 1), image)
        gradient = jax.value_and_grad(loss_fn, has_aux=True)
        (loss, stats), grads = gradient(params, stats, image, label, key)
        updates, opt_state = update.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), stats, opt_state), loss

    # Without it, sums on a GPU are taken in whatever order comes first.
    on_gpu = jax.default_backend() == "gpu"
    options: Any = {"xla_gpu_deterministic_ops": True} if on_gpu else None

    @functools.partial(jax.jit, donate_argnums=0, compiler_options=options)
    def run_epoch(state, data, rows, steps) -> tuple[Any, Array]:
        return jax.lax.scan(functools.partial(step, data), state, (rows, steps))

    return run_epoch


def accuracy(
    read: Callable[[np.ndarray], tuple[Any, Any]],
    images: UInt8[np.ndarray, "n h w c"],
    labels: Int[np.ndarray, " n"],
) -> float:
    """The share of the images that `read`, giving (features, logits), finds right."""
    right = 0
    for start in range(0, len(images), 1000):
        part = slice(start, start + 1000)
        _, logits = read(images[part])
        right += int((np.asarray(logits).argmax(-1) == labels[part]).sum())
    return right / len(images)

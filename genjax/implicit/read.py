"""The frames of a run: every checkpoint that it kept, and the untrained model."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import expit

from genjax.data import toy
from genjax.evaluation import pushforward
from genjax.evaluation.runner import Weights, choose_weights
from genjax.implicit.frames import BINS, Frame, Line
from genjax.run_setup import (
    Setup,
    examples_of,
    initial_state,
    open_checkpoints,
    restore,
)
from genjax.train.sharding import replicated
from genjax.typing import Stopped, UserError

MAX_FRAMES = 200
REACH = 4.0  # |z| up to which all that the generator makes lies between the edges


def read_frames(setup: Setup, last_step: int, weights: Weights) -> list[Frame]:
    """A frame a checkpoint up to last_step, before them that of step 0.

    At most MAX_FRAMES, evenly spaced. weights: "raw": of the generator that plays
    against the discriminator; "ema": its moving average.
    """
    decode, discriminate = compiled(setup)
    states, z = read_states(setup, last_step, weights), pushforward.normal_grid()
    codes = z[:, None].astype(np.float32)
    images = {step: decode(state, codes)[:, 0] for step, state in states.items()}
    line = make_line(setup, z, list(images.values()))
    middles = line.middles[:, None].astype(np.float32)
    frames = []
    for step, state in states.items():
        check_stop(setup)
        d = expit(discriminate(state, middles).astype(np.float64))
        frames.append(Frame(step, line, images[step], d))
    return frames


def read_states(setup: Setup, last_step: int, weights: Weights) -> dict[int, Any]:
    """By their step."""
    states = {0: initial_state(setup)}
    with open_checkpoints(setup) as checkpointer:
        steps = [step for step in checkpointer.steps() if 0 < step <= last_step]
        some = np.linspace(0, len(steps) - 1, min(len(steps), MAX_FRAMES))
        for step in [steps[i] for i in some.round().astype(int)]:
            check_stop(setup)
            restored = restore(setup, checkpointer, step=step)
            assert restored is not None  # it raises, where a step was asked for
            states[step] = restored[0]
    return {
        step: choose_weights(setup.experiment, state, weights)[0]
        for step, state in states.items()
    }


def compiled(setup: Setup) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """(decode(state, z), discriminate(state, x)), with numpy results."""
    experiment, whole = setup.experiment, replicated(setup.compiled.mesh)
    assert experiment.decode is not None and experiment.discriminate is not None
    key = jax.random.key(0)  # a generator makes one x of one z
    decode = jax.jit(experiment.decode, out_shardings=whole)
    discriminate = jax.jit(experiment.discriminate, out_shardings=whole)
    return (
        lambda state, z: np.asarray(decode(state, jnp.asarray(z), key)),
        lambda state, x: np.asarray(discriminate(state, jnp.asarray(x))),
    )


def make_line(setup: Setup, z: np.ndarray, images: list[np.ndarray]) -> Line:
    """The interval that holds the test points, and g(z) for |z| < REACH, always."""
    cdf = toy.density(setup.dataset.spec.name).cdf
    assert cdf is not None
    test = np.concatenate(list(examples_of(setup.dataset.eval)))[:, 0]
    shown = [test, *(x[np.abs(z) <= REACH] for x in images)]
    low, high = min(x.min() for x in shown), max(x.max() for x in shown)
    margin = 0.05 * (high - low)
    edges = np.linspace(low - margin, high + margin, BINS + 1, dtype=np.float64)
    return Line(z, edges, cdf(edges))


def check_line(setup: Setup) -> None:
    """Raises UserError for data and models that have no such picture."""
    spec, experiment = setup.dataset.spec, setup.experiment
    if spec.name not in toy.NAMES or toy.density(spec.name).cdf is None:
        known = [name for name in toy.NAMES if toy.density(name).dim == 1]
        raise UserError(
            "--mode=implicit draws densities of the line that are known, like "
            f"data.name={' or '.join(known)}, and {spec.name} has examples of shape "
            f"{spec.shape}"
        )
    if experiment.decode is None or experiment.discriminate is None:
        raise UserError(
            f"experiments/{setup.config.experiment}.py has no generator with a "
            "discriminator of single examples: --mode=implicit is for GANs, with "
            "method.packing=1"
        )
    if setup.config.model.get("latent_dim") != 1:
        raise UserError(
            "--mode=implicit draws a function of one number z: train with "
            f"model.latent_dim=1, not {setup.config.model.get('latent_dim')}"
        )


def check_stop(setup: Setup) -> None:
    """Raises Stopped if it was asked for."""
    if setup.stop():
        raise Stopped("while drawing the frames")

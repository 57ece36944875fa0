"""The frames of a run: every checkpoint that it kept, and the untrained model."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import expit

from genjax.data import toy
from genjax.evaluation import pushforward
from genjax.modes.implicit.frames import BINS, Frame, Line
from genjax.modes.mode import check_stop
from genjax.run import Run, Weights
from genjax.training.sharding import replicated
from genjax.typing import UserError

MAX_FRAMES = 200
REACH = 4.0  # |z| up to which all that the generator makes lies between the edges


def read_frames(run: Run, weights: Weights) -> list[Frame]:
    """A frame a checkpoint up to run.step, before them that of step 0.

    At most MAX_FRAMES, evenly spaced. weights: "raw": of the generator that plays
    against the discriminator; "ema": its moving average.
    """
    decode, discriminate = compiled(run)
    states, z = read_states(run, weights), pushforward.normal_grid()
    codes = z[:, None].astype(np.float32)
    images = {step: decode(state, codes)[:, 0] for step, state in states.items()}
    line = make_line(run, z, list(images.values()))
    middles = line.middles[:, None].astype(np.float32)
    frames = []
    for step, state in states.items():
        check_stop(run, "while drawing the frames")
        d = expit(discriminate(state, middles).astype(np.float64))
        frames.append(Frame(step, line, images[step], d))
    return frames


def read_states(run: Run, weights: Weights) -> dict[int, Any]:
    """By their step. Raises UserError for the average of a model that keeps none."""
    run.state(weights)
    states, raw = {0: run.initial_state()}, run.experiment.raw_weights
    with run.open_checkpoints(to_save=False) as checkpointer:
        steps = [step for step in checkpointer.steps() if 0 < step <= run.step]
        some = np.linspace(0, len(steps) - 1, min(len(steps), MAX_FRAMES))
        for step in [steps[i] for i in some.round().astype(int)]:
            check_stop(run, "while reading the checkpoints")
            restored = run.restore(checkpointer, step=step)
            assert restored is not None  # it raises, where a step was asked for
            states[step] = restored.state
    if weights == "raw" and raw is not None:
        return {step: raw(state) for step, state in states.items()}
    return states


def compiled(run: Run) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """(decode(state, z), discriminate(state, x)), with numpy results."""
    code, logits = run.experiment.code, run.experiment.discriminate
    assert code is not None and logits is not None
    whole = replicated(run.compiled.mesh)
    key = jax.random.key(0)  # a generator makes one x of one z
    decode = jax.jit(code.decode, out_shardings=whole)
    discriminate = jax.jit(logits, out_shardings=whole)
    return (
        lambda state, z: np.asarray(decode(state, jnp.asarray(z), key)),
        lambda state, x: np.asarray(discriminate(state, jnp.asarray(x))),
    )


def make_line(run: Run, z: np.ndarray, images: list[np.ndarray]) -> Line:
    """The interval that holds the test points, and g(z) for |z| < REACH, always."""
    cdf = toy.density(run.spec.name).cdf
    assert cdf is not None
    test = np.concatenate(list(run.dataset.eval.chunks()))[:, 0]
    inside = [test, *(x[np.abs(z) <= REACH] for x in images)]
    low, high = min(x.min() for x in inside), max(x.max() for x in inside)
    margin = 0.05 * (high - low)
    edges = np.linspace(low - margin, high + margin, BINS + 1, dtype=np.float64)
    return Line(z, edges, cdf(edges))


def check_line(run: Run) -> None:
    """Raises UserError for data, and a code, that are not on the line."""
    spec, code = run.spec, run.experiment.code
    if spec.name not in toy.NAMES or toy.density(spec.name).cdf is None:
        known = [name for name in toy.NAMES if toy.density(name).dim == 1]
        raise UserError(
            "--mode=implicit draws densities of the line that are known, like "
            f"data.name={' or '.join(known)}, and {spec.name} has examples of shape "
            f"{spec.shape}"
        )
    assert code is not None and code.prior is not None
    prior = code.prior
    _, size = jax.eval_shape(lambda key: prior(key, 1), jax.random.key(0)).shape
    if size != 1:
        raise UserError(
            "--mode=implicit draws a function of one number z: train with "
            f"model.latent_dim=1, not {size}"
        )

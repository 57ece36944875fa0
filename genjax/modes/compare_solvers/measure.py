"""One solver with one number of steps: the distance of its samples, and their cost."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

from genjax.diffusion.model import DiffusionModel
from genjax.diffusion.sampler import Guidance, Sampler
from genjax.diffusion.solvers import Name
from genjax.evaluation.energy import energy_distance
from genjax.evaluation.frechet import frechet_distance
from genjax.evaluation.summary import MAX_DIMS, Summary, summarize
from genjax.modes.mode import check_stop
from genjax.run import Run
from genjax.training.sharding import batch_sharding, replicated
from genjax.typing import Array, Key, UserError

TOLERANCES = (1e-1, 1e-2, 1e-3)  # of adaptive, in the place of a number of steps


@dataclasses.dataclass(frozen=True)
class Distance:
    """A distance of samples to the data. floor: of real examples in their place."""

    name: str
    note: str
    floor: float
    to: Callable[[Summary], float]


def plan(
    sampler: Sampler, names: Sequence[Name] | None, budgets: Sequence[int]
) -> list[Sampler]:
    """The samplers to try, the cheapest of a solver first; none comes twice.

    names: of solvers; None for all. budgets: how often the model may be evaluated; each
    solver takes the most steps that this allows. All else is as in `sampler`.
    """
    trials: list[Sampler] = []
    for name in names or get_args(Name):
        turned = sampler.turned_to(name, sampler.num_steps)
        if name == "adaptive":
            trials += [dataclasses.replace(turned, tolerance=t) for t in TOLERANCES]
            continue
        steps = {most_steps(turned, budget) for budget in budgets}
        trials += [turned.turned_to(name, n) for n in sorted(steps) if n > 0]
    return trials


def most_steps(sampler: Sampler, budget: int) -> int:
    """The most steps whose evaluations the budget allows; 0 if it allows none."""
    for num_steps in range(budget, 0, -1):
        used = sampler.turned_to(sampler.name, num_steps).evaluations
        if used is not None and used <= budget:
            return num_steps
    return 0


def name_of(trial: Sampler) -> str:
    """Like "heun, 10 steps"."""
    if trial.name == "adaptive":
        return f"adaptive, tolerance {trial.tolerance:g}"
    return f"{trial.name}, {trial.num_steps} steps"


def calls_per_evaluation(guidance: Guidance) -> int:
    """Network calls in one evaluation, at most: more than one with guidance."""
    return 1 + (guidance.scale != 1.0) + (guidance.autoguidance_scale != 1.0)


def compile_solver(
    run: Run, model: DiffusionModel
) -> Callable[[Any, Key, int], tuple[Array, Array]]:
    """(state, key, num) -> (samples, evaluations), jitted, on all devices."""
    mesh = run.compiled.mesh

    def draw(state: Any, key: Key, num: int) -> tuple[Array, Array]:
        x, evaluations = model.solve(state, key, num)
        samples = model.scale.to_data(x)
        samples = jax.lax.with_sharding_constraint(samples, batch_sharding(mesh))
        return samples, jnp.asarray(evaluations)

    return jax.jit(draw, static_argnums=2, out_shardings=replicated(mesh))


def measure(
    run: Run, state: Any, trial: Sampler, *, key: Key, distance: Distance
) -> dict[str, Any]:
    """A row of the table. The same key draws the same noise for every solver.

    Raises UserError if the model does not take that many steps, Stopped on request.
    """
    assert run.experiment.diffusion is not None
    model = dataclasses.replace(run.experiment.diffusion, sampler=trial)
    draw = compile_solver(run, model)
    evaluation = run.settings.evaluation
    chunk, num = evaluation.batch_size, evaluation.num_samples
    parts: list[np.ndarray] = []
    seconds: list[float] = []
    evaluations: list[int] = []
    for c in (0, *range(-(-num // chunk))):  # the first is not counted: it compiles
        check_stop(run, f"while sampling by {name_of(trial)}")
        start = time.perf_counter()
        samples, used = draw(state, jax.random.fold_in(key, c), chunk)
        parts.append(np.asarray(samples))
        seconds.append(time.perf_counter() - start)
        evaluations.append(int(used))
    drawn = np.concatenate(parts[1:])[:num]
    # a whole number except for adaptive, whose chunks differ
    used = round(float(np.mean(evaluations[1:])), 1)
    used = used if trial.evaluations is None else trial.evaluations
    adaptive = trial.name == "adaptive"
    return {
        "solver": trial.name,
        "num_steps": None if adaptive else trial.num_steps,
        "tolerance": trial.tolerance if adaptive else None,
        "evaluations": used,
        "network_calls": used * calls_per_evaluation(trial.guidance),
        "seconds_per_chunk": float(np.median(seconds[1:])),
        "distance": distance.to(summarize([drawn], name="samples", spec=run.spec)),
    }


def make_distance(run: Run) -> Distance:
    """For images frechet_pixels to the training split; energy_distance for points.

    That of points is to the test split. Raises UserError if neither can be taken.
    """
    train_split, num = run.dataset.train, run.settings.evaluation.num_samples
    train = summarize(
        train_split.chunks(),
        name=train_split.name,
        spec=run.spec,
        should_stop=run.stop,
    )
    test = summarize(test_examples(run), name="test", spec=run.spec)
    if train.points is not None:
        real = test.points
        assert real is not None

        def energy(samples: Summary) -> float:
            assert samples.points is not None
            return energy_distance(samples.points, real)

        return Distance(
            "energy_distance",
            f"to {test.count} test points; floor: {num} training points",
            energy_distance(train.points[:num], real),
            energy,
        )
    reference = train.moments
    if reference is None or test.moments is None:
        raise UserError(
            f"{run.spec.name} has {run.spec.shape} numbers an example, and the "
            f"distance is taken of at most {MAX_DIMS}"
        )

    def frechet(samples: Summary) -> float:
        moments = samples.moments
        assert moments is not None
        return frechet_distance(
            reference.mean, reference.cov, moments.mean, moments.cov
        )

    return Distance(
        "frechet_pixels",
        f"to {train.count} training images; floor: {test.count} test images",
        frechet(test),
        frechet,
    )


def test_examples(run: Run) -> Iterator[np.ndarray]:
    """The test split, or its first evaluation.limit examples, without padding."""
    left = run.num_test
    for examples in run.dataset.eval.chunks():
        yield examples[:left]
        left -= len(examples)
        if left <= 0:
            return

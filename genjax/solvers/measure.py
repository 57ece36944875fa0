"""One solver with one number of steps: how near its samples are, and what they cost."""

import copy
import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import jax
import numpy as np

from genjax.choices import one_of
from genjax.diffusion import solvers
from genjax.evaluation.energy import energy_distance
from genjax.evaluation.frechet import frechet_distance
from genjax.evaluation.sampling import compile_sample
from genjax.evaluation.summary import MAX_DIMS, Summary, summarize
from genjax.experiment import MakeExperiment
from genjax.run_setup import Setup, examples_of
from genjax.typing import Config, Key, Stopped, UserError

TOLERANCES = (1e-1, 1e-2, 1e-3)  # of adaptive, where the config has one


@dataclasses.dataclass(frozen=True)
class Trial:
    """One solver, and how many steps it takes; for adaptive how exact it is.

    tolerance: None for the config's own, and for every solver but adaptive.
    """

    solver: solvers.Name
    num_steps: int
    tolerance: float | None = None

    @property
    def name(self) -> str:
        """Like "heun, 10 steps"."""
        if self.solver != "adaptive":
            return f"{self.solver}, {self.num_steps} steps"
        own = self.tolerance is None
        return "adaptive" if own else f"adaptive, tolerance {self.tolerance:g}"


@dataclasses.dataclass(frozen=True)
class Distance:
    """A distance of samples to the data. floor: of real examples in their place."""

    name: str
    note: str
    floor: float
    to: Callable[[Summary], float]


def check_sampler(config: Config) -> None:
    """Raises UserError unless the config says which sampler takes how many steps."""
    section = config.get("sampler") or {}
    missing = [f"sampler.{n}" for n in ("name", "num_steps") if n not in section]
    if missing:
        raise UserError(
            f"--mode=solvers changes config.sampler.name and config.sampler.num_steps, "
            f"and the config of experiments/{config.experiment}.py lacks "
            f"{' and '.join(missing)}; it is for diffusion models that choose among "
            "genjax/diffusion/solvers.py"
        )


def plan(
    config: Config, names: tuple[str, ...] | None, budgets: tuple[int, ...]
) -> list[Trial]:
    """What is to be tried, the cheapest of a solver first; no trial comes twice.

    names: of solvers; None for all. budgets: how often the model may be evaluated; each
    solver takes as many steps as that allows. Raises UserError for an unknown name.
    """
    for name in names or ():
        one_of("sampler.name, from --solvers,", name, solvers.NAMES)
    corrector_steps = config.sampler.get("corrector_steps", 1)
    trials: list[Trial] = []
    for name in cast(tuple[solvers.Name, ...], names or solvers.NAMES):
        if name == "adaptive":
            exact = TOLERANCES if "tolerance" in config.sampler else (None,)
            trials += [Trial(name, config.sampler.num_steps, t) for t in exact]
            continue
        steps = {most_steps(name, budget, corrector_steps) for budget in budgets}
        trials += [Trial(name, n) for n in sorted(steps) if n > 0]
    return trials


def most_steps(name: solvers.Name, budget: int, corrector_steps: int = 1) -> int:
    """The most steps whose evaluations the budget allows; 0 if it allows none."""
    for num_steps in range(budget, 0, -1):
        used = solvers.evaluations(name, num_steps, corrector_steps=corrector_steps)
        if used is not None and used <= budget:
            return num_steps
    return 0


def with_solver(config: Config, trial: Trial) -> Config:
    """A copy of the config that samples so."""
    config = copy.deepcopy(config)
    config.sampler.name, config.sampler.num_steps = trial.solver, trial.num_steps
    if trial.tolerance is not None:
        config.sampler.tolerance = trial.tolerance
    return config


def calls_per_evaluation(config: Config) -> int:
    """Networks that one evaluation asks, at most: more than one with guidance."""
    sampler = config.sampler
    without_label = sampler.get("guidance_scale", 1.0) != 1.0
    of_a_guide = sampler.get("autoguidance_scale", 1.0) != 1.0
    return 1 + without_label + of_a_guide


def measure(
    setup: Setup,
    make_experiment: MakeExperiment,
    state: Any,
    trial: Trial,
    *,
    key: Key,
    distance: Distance,
) -> dict[str, Any]:
    """A row of the table. The same key draws the same noise for every solver.

    Raises UserError if the experiment does not take so many steps, Stopped on request.
    """
    config = with_solver(setup.config, trial)
    sample = make_experiment(config, setup.dataset.spec).sample
    assert sample is not None
    draw = compile_sample(sample, mesh=setup.compiled.mesh)
    chunk, num = config.eval.batch_size, config.eval.num_samples
    heard: list[int] = []
    parts: list[np.ndarray] = []
    seconds: list[float] = []
    # the first of all is not timed: it compiles
    with solvers.hear_evaluations(lambda used: heard.append(int(used))):
        for c in (0, *range(-(-num // chunk))):
            if setup.stop():
                raise Stopped(f"while sampling by {trial.name}")
            start = time.perf_counter()
            drawn = draw(state, jax.random.fold_in(key, c), chunk)
            parts.append(np.asarray(drawn))
            seconds.append(time.perf_counter() - start)
    jax.effects_barrier()
    samples = summarize(
        [np.concatenate(parts[1:])[:num]], name="samples", spec=setup.dataset.spec
    )
    used = solvers.evaluations(
        trial.solver,
        trial.num_steps,
        corrector_steps=config.sampler.get("corrector_steps", 1),
    )
    if used is None:  # a mean over the chunks
        used = round(float(np.mean(heard)), 1)
    return {
        "solver": trial.solver,
        "num_steps": trial.num_steps if trial.solver != "adaptive" else None,
        "tolerance": trial.tolerance,
        "evaluations": used,
        "network_calls": used * calls_per_evaluation(config),
        "seconds_per_chunk": float(np.median(seconds[1:])),
        "distance": distance.to(samples),
    }


def make_distance(setup: Setup) -> Distance:
    """For images frechet_pixels to the training split; energy_distance for points.

    That of points is to the test split. Raises UserError if neither can be had.
    """
    dataset, num = setup.dataset, setup.config.eval.num_samples
    spec = dataset.spec
    if num < 2:
        raise UserError(f"eval.num_samples must be at least 2 here, but is {num}")
    train = summarize(
        examples_of(dataset.train),
        name=dataset.train.name,
        spec=spec,
        should_stop=setup.stop,
    )
    test = summarize(test_images(setup), name="test", spec=spec)
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
            f"{spec.name} has {spec.shape} numbers an example, and the distance is "
            f"taken of at most {MAX_DIMS}"
        )

    def frechet(samples: Summary) -> float:
        a, b = reference, samples.moments
        assert b is not None
        return frechet_distance(a.mean, a.cov, b.mean, b.cov)

    return Distance(
        "frechet_pixels",
        f"to {train.count} training images; floor: {test.count} test images",
        frechet(test),
        frechet,
    )


def test_images(setup: Setup) -> Iterator[np.ndarray]:
    """The test split, or its first eval.limit examples, without padding."""
    split, limit = setup.dataset.eval, setup.config.eval.limit
    left = len(split) if limit is None else min(limit, len(split))
    for images in examples_of(split):
        yield images[:left]
        left -= len(images)
        if left <= 0:
            return

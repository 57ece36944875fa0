"""What the command line can do: train, evaluate, sample, and look into a model.

Here an experiment, its data, the loop and the evaluation meet; each knows nothing of
the others.
"""

import contextlib
import functools
import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from genjax.choices import nearest
from genjax.classify import classify
from genjax.commandline import Options
from genjax.data import toy
from genjax.data.pipeline import TrainFeed
from genjax.evaluation import extractors, references
from genjax.evaluation.likelihood_table import likelihood_table
from genjax.evaluation.runner import Evaluator, Result
from genjax.evaluation.sampling import compile_sample, generate
from genjax.evaluation.score import keep_floors, known_modes
from genjax.evaluation.summary import summarize
from genjax.experiment import MakeExperiment
from genjax.implicit.mode import implicit
from genjax.latents.mode import latents
from genjax.pictures import grids
from genjax.pictures.histograms import histogram_picture
from genjax.run_setup import (
    Setup,
    check_labels,
    examples_of,
    initial_state,
    load_trained,
    open_checkpoints,
    prepare,
    restore,
    test_batches,
)
from genjax.solvers.mode import compare_solvers
from genjax.train import compile, distributed, loop, metrics
from genjax.train import state_table as summary
from genjax.train import workdir as folder
from genjax.train.progress import Progress
from genjax.train.sharding import batch_sharding, replicated
from genjax.train.stop import StopRequest
from genjax.trajectories.mode import trajectories
from genjax.translate import translate
from genjax.typing import DataSpec, UserError

# Streams of the config's seed; 0 and 1 are those of genjax.train.compile.
PICTURE_STREAM, EVALUATION_STREAM = 2, 3

MAX_IN_GRID, MAX_IN_PICTURE = 64, 400  # images, during training and on request
MAX_POINTS = 10_000
MAX_COLUMNS = 20


def run(
    options: Options,
    make_experiment: MakeExperiment,
    find_experiment: Callable[[str], MakeExperiment],
) -> None:
    """Does what options.mode says, alone or together with other processes.

    find_experiment: for the run of --beside, whose config names its own experiment.
    """
    distributed.initialize(
        options.coordinator, options.num_processes, options.process_id
    )
    compile.use_persistent_cache()
    with StopRequest(options.max_seconds) as stop:
        modes = {
            "train": train,
            "evaluate": evaluate,
            "sample": sample,
            "latents": functools.partial(latents, find_experiment=find_experiment),
            "classify": classify,
            "solvers": compare_solvers,
            "trajectories": trajectories,
            "implicit": functools.partial(implicit, find_experiment=find_experiment),
            "translate": translate,
        }
        modes[options.mode](options, make_experiment, stop)


# --mode=train


def train(options: Options, make_experiment: MakeExperiment, stop: StopRequest) -> None:
    """Trains from the newest checkpoint, or from the start, to training.num_steps."""
    training = options.config.training
    with contextlib.ExitStack() as stack:
        stack.enter_context(claim(options))
        setup = prepare(options, make_experiment, stop)
        feed = stack.enter_context(contextlib.closing(make_feed(setup)))
        checkpointer = stack.enter_context(open_checkpoints(setup))
        restored = restore(setup, checkpointer, step=None)
        state, step = restored or (initial_state(setup), 0)
        log = stack.enter_context(open_log(setup, None if restored is None else step))
        # Only now: the config of a mistaken command must not stand in the way.
        distributed.on_first_process(
            lambda: folder.write_config(options.workdir, options.config.to_dict())
        )
        log.say(summary.state_table(setup.compiled.abstract_state))
        log.say(f"{options.workdir}: from step {step} to {training.num_steps}")
        loop.train(
            setup.compiled,
            feed,
            state,
            step,
            seed=options.config.seed,
            schedule=loop.Schedule(
                num_steps=training.num_steps,
                log_every=training.log_every,
                save_every=training.save_every,
                steps_per_call=training.steps_per_call,
            ),
            callbacks=callbacks(setup, log),
            checkpointer=checkpointer,
            log=log,
            stop=stop,
        )


@contextlib.contextmanager
def claim(options: Options) -> Iterator[None]:
    """Holds the run folder for this run, after a check that it is this config's."""
    config = options.config.to_dict()
    with contextlib.ExitStack() as stack:

        def take() -> None:
            stack.enter_context(folder.lock(options.workdir))
            if not options.override_config:
                folder.check_same_config(options.workdir, config)

        distributed.on_first_process(take)
        yield


def make_feed(setup: Setup) -> TrainFeed:
    """The training batches, from the device or from disk."""
    return TrainFeed(
        setup.dataset.train,
        seed=setup.config.seed,
        batch_size=setup.config.training.batch_size,
        sharding=batch_sharding(setup.compiled.mesh),
    )


@contextlib.contextmanager
def open_log(setup: Setup, resume_step: int | None) -> Iterator[loop.Log]:
    """The progress display and the metric files, in the first process only."""
    training = setup.config.training
    if not distributed.is_first():
        yield loop.Log(None, None, training.batch_size)
        return
    with (
        Progress(
            training.num_steps,
            resume_step or 0,
            images_per_step=training.batch_size,
        ) as progress,
        metrics.MetricWriter(setup.workdir, resume_step, say=progress.say) as writer,
    ):
        yield loop.Log(writer, progress, training.batch_size)


def callbacks(setup: Setup, log: loop.Log) -> list[loop.Callback]:
    """Pictures and an evaluation between steps, as often as the config says."""
    training, workdir = setup.config.training, setup.workdir
    paint = make_painter(setup)
    evaluator = functools.cache(lambda: make_evaluator(setup, seed=0))

    def pictures(step: int, state: Any) -> None:
        for name, picture in paint(state).items():
            log.picture(step, name, picture)
            if distributed.is_first():
                suffix = name.removeprefix("samples")
                grids.save_png(workdir / f"samples/{step}{suffix}.png", picture)

    def scores(step: int, state: Any) -> Mapping[str, float]:
        result = evaluator()(state)
        if distributed.is_first():
            metrics.write_evaluation(workdir, step, result)
        best, known = training.keep_best_by, result["metrics"]
        if best is not None and best not in known:
            hint = nearest(best, known)
            raise UserError(f"training.keep_best_by={best} is not a metric{hint}")
        return known

    return [
        loop.Callback(
            every=training.sample_every,
            run=pictures,
            is_done=lambda step: (workdir / f"samples/{step}.png").exists(),
        ),
        loop.Callback(
            every=training.eval_every,
            run=scores,
            is_done=lambda step: (workdir / f"evaluation/{step}.json").exists(),
        ),
    ]


def make_painter(setup: Setup) -> Callable[[Any], dict[str, np.ndarray]]:
    """The function from state to pictures: "samples", "samples_<name of its images>".

    The same noise and the same test examples at every call, to see what training does.
    """
    experiment, spec, mesh = setup.experiment, setup.dataset.spec, setup.compiled.mesh
    chunk = setup.config.eval.batch_size
    key = jax.random.fold_in(jax.random.key(setup.config.seed), PICTURE_STREAM)
    sample = experiment.sample and compile_sample(experiment.sample, mesh=mesh)
    images = experiment.images and jax.jit(
        experiment.images, out_shardings=replicated(mesh)
    )

    def show(examples: np.ndarray) -> np.ndarray:
        shown = examples[:MAX_IN_GRID] if spec.dtype == "uint8" else examples
        return draw_examples(shown, spec, frame=held_out)

    held_out = next(iter(examples_of(setup.dataset.eval)))

    def paint(state: Any) -> dict[str, np.ndarray]:
        named = {}
        if sample is not None:
            num = min(MAX_IN_GRID, chunk) if spec.dtype == "uint8" else MAX_POINTS
            chunks = generate(
                sample, state, key=key, num=num, chunk=chunk, should_stop=setup.stop
            )
            named["samples"] = np.concatenate(list(chunks))
        if images is not None:
            batch, _ = next(test_batches(setup))
            shown = images(state, batch, key)
            named |= {f"samples_{k}": np.asarray(v) for k, v in shown.items()}
        return {name: show(examples) for name, examples in named.items()}

    return paint


def draw_examples(
    examples: np.ndarray,
    spec: DataSpec,
    *,
    frame: np.ndarray,
    columns: int | None = None,
) -> grids.Picture:
    """A grid of images, points in the plane, or a histogram of points of the line.

    frame: points that decide which part of the plane or the line is shown.
    columns: of the grid; None: as many as make a square.
    """
    if spec.dtype == "uint8":
        return grids.image_grid(examples, spec.num_levels, columns=columns)
    if spec.shape != (1,):
        return grids.point_picture(examples, grids.bounds_of(frame))
    cdf = toy.density(spec.name).cdf if spec.name in toy.NAMES else None
    return histogram_picture(examples, grids.interval_of(frame), cdf=cdf)


# --mode=evaluate


def evaluate(
    options: Options, make_experiment: MakeExperiment, stop: StopRequest
) -> None:
    """Scores a checkpoint and writes evaluation/<step>.json, as training does.

    The likelihood goes to stderr too, among its baselines.
    With the panel and <step>_neighbours.png, which training leaves out: the samples
    nearest to a training image, each followed by the nearest ones.
    With --weights=raw or another --seed the file is <step>_raw.json, <step>_seed1.json;
    with --weights=both there are both files, and one JSON with "ema" and "raw".
    """
    setup, state, step = load_trained(options, make_experiment, stop)
    check_labels(options.labels, setup.dataset.spec)
    evaluator = make_evaluator(setup, seed=options.seed, full=True)
    found = {}
    for weights in ("ema", "raw") if options.both_weights else (options.weights,):
        found[weights] = evaluator(state, weights=weights)
        if distributed.is_first():
            suffix = "_raw" if weights == "raw" else ""
            suffix += f"_seed{options.seed}" if options.seed else ""
            write_scores(setup, step, found[weights], evaluator, suffix)
    if distributed.is_first():
        shown = found if options.both_weights else found[options.weights]
        print(json.dumps({"step": step, **shown}, indent=2))


def write_scores(
    setup: Setup, step: int, result: Result, evaluator: Evaluator, suffix: str
) -> None:
    """evaluation/<step><suffix>.json, its picture, and the likelihoods on stderr."""
    path = metrics.write_evaluation(setup.workdir, step, result, suffix=suffix)
    if evaluator.nearest_training is not None:
        picture = path.with_name(f"{step}{suffix}_neighbours.png")
        show_neighbors(picture, evaluator.nearest_training, setup.dataset.spec)
    if table := likelihood_table(result):
        print(table, file=sys.stderr)
    print(path, file=sys.stderr)


def show_neighbors(path: Path, examples: np.ndarray, spec: DataSpec) -> None:
    """A picture of images (n, 1 + k, h, w, c), two of n in a row; none of points."""
    if spec.dtype == "uint8":
        images = examples.reshape(-1, *spec.shape)
        columns = 2 * examples.shape[1]
        grids.save_png(path, grids.image_grid(images, spec.num_levels, columns=columns))


def make_evaluator(setup: Setup, *, seed: int, full: bool = False) -> Evaluator:
    """The evaluation that config.eval describes, of all that the model can do.

    full: with the panel, see `Evaluator`.
    """
    config, dataset, options = setup.config, setup.dataset, setup.options
    extractor = None
    if options.extractor is not None:
        extractor = extractors.load(options.extractor, dataset.spec)
    reference = references.find(
        dataset.fingerprint, dataset.train.name, extractor, keep=full
    ) or summarize(
        examples_of(dataset.train),
        name=dataset.train.name,
        spec=dataset.spec,
        extractor=extractor,
        keep=full,
        should_stop=setup.stop,
    )
    return Evaluator(
        setup.experiment,
        spec=dataset.spec,
        batches=lambda: test_batches(setup),
        reference=reference,
        key=jax.random.fold_in(jax.random.key(seed), EVALUATION_STREAM),
        seed=seed,
        num_samples=config.eval.num_samples,
        sample_chunk=config.eval.batch_size,
        labels=None if options.labels is None else np.array(options.labels, np.int32),
        extractor=extractor,
        modes=known_modes(dataset.spec.name),
        full=full,
        keep_floors=keep_floors,
        mesh=setup.compiled.mesh,
        should_stop=setup.stop,
    )


# --mode=sample


def sample(
    options: Options, make_experiment: MakeExperiment, stop: StopRequest
) -> None:
    """Draws --num_samples into samples.npz (arr_0, as the data) and samples.png."""
    setup, state, step = load_trained(options, make_experiment, stop)
    experiment, spec, mesh = setup.experiment, setup.dataset.spec, setup.compiled.mesh
    if experiment.sample is None:
        raise UserError(f"experiments/{setup.config.experiment}.py has no sampler")
    check_labels(options.labels, spec)
    if options.weights == "raw" and experiment.raw_weights is not None:
        state = experiment.raw_weights(state)
    chunks = generate(
        compile_sample(experiment.sample, mesh=mesh),
        state,
        key=jax.random.key(options.seed),
        num=options.num_samples,
        chunk=setup.config.eval.batch_size,
        labels=None if options.labels is None else np.array(options.labels, np.int32),
        should_stop=setup.stop,
    )
    first = distributed.is_first()
    with tqdm(total=options.num_samples, unit="sample", disable=not first) as bar:
        drawn = []
        for part in chunks:
            drawn.append(part)
            bar.update(len(part))
    if first:
        out = options.out or setup.workdir / "generated"
        samples = np.concatenate(drawn)
        content = io.BytesIO()
        np.savez(content, arr_0=samples)
        metrics.write_atomically(out / "samples.npz", content.getvalue())
        shown = samples[:MAX_IN_PICTURE] if spec.dtype == "uint8" else samples
        columns = class_columns(options.labels)
        picture = draw_examples(shown, spec, frame=shown, columns=columns)
        grids.save_png(out / "samples.png", picture)
        print(f"step {step}: {len(samples)} samples in {out}", file=sys.stderr)


def class_columns(labels: tuple[int, ...] | None) -> int | None:
    """A column for each of a few labels; None: as many as make a square."""
    return len(labels) if labels and 1 < len(labels) <= MAX_COLUMNS else None

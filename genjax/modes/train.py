"""--mode=train: the loop, with its data, checkpoints, metrics and pictures.

It goes on from the newest checkpoint of the run folder, or starts anew.
samples/<step>.png and evaluation/<step>.json are written as often as config.training
says.
"""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
from ml_collections import ConfigDict

from genjax import configs, sources
from genjax.choices import nearest
from genjax.data.pipeline import TrainFeed
from genjax.evaluation.sampling import compile_sample, generate
from genjax.export.folder import WEIGHTS
from genjax.fields import Count, PlacePath, Range
from genjax.modes import start
from genjax.modes.drawing import draw_examples
from genjax.modes.mode import Mode, title_of
from genjax.modes.results import results
from genjax.pictures import grids
from genjax.pictures.frame import framed
from genjax.places import in_bucket, place
from genjax.run import Run, load
from genjax.screen import say
from genjax.streams import Stream, stream_key
from genjax.training import compile, distributed, loop, metrics, state_table
from genjax.training import workdir as folder
from genjax.training.profile import Profiled
from genjax.training.progress import Progress
from genjax.training.sharding import batch_sharding, replicated
from genjax.training.stop import StopRequest
from genjax.typing import UserError

Seconds = Annotated[float, Range(1.0)]
STEPS = "training.num_steps"
MAX_IN_GRID = 64  # images
MAX_POINTS = 10_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The flags of --mode=train."""

    accept_code: bool = False  # continue although the model's source changed
    extend_to: Count | None = None  # train the run in --workdir on, to this step
    init_from: PlacePath | None = None  # a run whose weights to begin with
    profile: Count | None = None  # trace so many steps into profile/ of the run folder
    lease_seconds: Seconds = 60.0  # of a workdir in a bucket: after so long it is free

    def fields(self) -> dict[str, Any]:
        """The fields of the config that they stand for."""
        return {} if self.extend_to is None else {STEPS: self.extend_to}


def train_config(
    config: str | Path | ConfigDict | Mapping[str, Any],
    workdir: str | Path,
    *,
    override_config: bool = False,
    accept_code: bool = False,
    init_from: str | Path | None = None,
    lease_seconds: float = 60.0,
) -> Run:
    """Trains in the folder workdir, from its newest checkpoint if there is one.

    config: a file or its name, like "ddpm_digits:tiny", or the fields of a config, of
        which those that are missing take their defaults.
    override_config: go on with other data or another config. accept_code: go on though
        the model's source has changed. init_from: a run folder with whose weights a
        new run begins, where they fit. lease_seconds: for which a folder in a bucket
        stays held by a run that gives no sign of life.
    Returns the trained run. Raises UserError, Stopped, DivergedError, SaveError.
    """
    beside = None
    if isinstance(config, ConfigDict | Mapping):
        stated = config.to_dict() if isinstance(config, ConfigDict) else config
        completed = configs.complete(stated)
    else:
        completed = configs.load(str(config))
        beside = configs.find_config(str(config).partition(":")[0])
    compile.use_persistent_cache()
    path = place(workdir, "workdir")
    options = Options(
        accept_code=accept_code,
        init_from=init_from and os.fspath(init_from),
        lease_seconds=lease_seconds,
    )
    with StopRequest() as stop:
        run = Run(
            path,
            completed,
            beside=beside,
            stop=stop,
            say=say,
            override_config=override_config,
        )
        check(run, options)
        train(run, options)
    return load(path)


def check(run: Run, options: Options) -> None:
    """Raises UserError for flags of no run, and for a profile of one in a bucket."""
    if options.extend_to is not None and not (run.workdir / "config.json").exists():
        raise UserError(
            f"--extend_to trains a run on, and there is none in {run.workdir}: name "
            "its --workdir"
        )
    if options.init_from is not None:
        start.open_source(run, options.init_from)
    if options.profile is not None and in_bucket(run.workdir):
        raise UserError(
            f"--profile writes its trace to a disk, and {run.workdir} is in a bucket: "
            "profile a short run in another --workdir"
        )


def train(run: Run, options: Options) -> None:
    """Trains from the newest checkpoint, or from the start, to training.num_steps."""
    training = run.settings.training
    with contextlib.ExitStack() as stack:
        check_ours = stack.enter_context(claim(run, options))
        check_best(run)
        feed = stack.enter_context(contextlib.closing(make_feed(run)))
        checkpointer = stack.enter_context(run.open_checkpoints())
        began = start.begin(run, checkpointer, options.init_from)
        feed.offset = run.row_offset(began.step)
        rows = {"batch_size": training.batch_size, "offset": feed.offset}
        checkpointer.note(batches=rows)
        log = stack.enter_context(open_log(run, began, feed.offset))
        log.check = check_ours
        announce(run, began)
        stack.enter_context(distributed.failing_alone())

        def stop() -> bool:
            check_ours()
            return run.asked_to_stop()

        compiled = run.compiled
        if options.profile is not None:
            where = run.workdir / "profile", options.profile
            profiled = Profiled(run.compiled, *where, say=run.say)
            compiled = stack.enter_context(contextlib.closing(profiled))
        loop.train(
            compiled,
            feed,
            began.state,
            began.step,
            seed=run.settings.seed,
            schedule=loop.Schedule(
                num_steps=training.num_steps,
                log_every=training.log_every,
                save_every=training.save_every,
                steps_per_call=training.steps_per_call,
            ),
            callbacks=callbacks(run, log),
            checkpointer=checkpointer,
            log=log,
            stop=stop,
            so_far=began.notes,
        )
    run.say(results(run, training.num_steps))


def announce(run: Run, began: start.Beginning) -> None:
    """What is trained and from where; and config.json."""
    training, config = run.settings.training, run.config.to_dict()
    run.say(state_table.state_table(run.compiled.abstract_state))
    for name, (before, now) in folder.raised(run.workdir, config).items():
        run.say(f"{name}: {before} -> {now}")
    run.say(f"{run.workdir}: from step {began.step} to {training.num_steps}")
    end = config.get("optim", {}).get("decay_steps")
    if end is not None and end < training.num_steps and began.step < training.num_steps:
        run.say(
            f"the learning rate is 0 from step {end} on, optim.decay_steps: to learn "
            f"to the end, --config.optim.decay_steps={training.num_steps}"
        )
    # Only now: the config of a mistaken command must not stand in the way.
    distributed.on_first_process(
        lambda: folder.write_config(
            run.workdir,
            config,
            spec=run.dataset.spec,
            fingerprint=run.dataset.fingerprint,
            code=run.code,
            init_from=began.init_from,
            config_file=run.beside,
            notes=run.dataset.notes,
        )
    )


@contextlib.contextmanager
def claim(run: Run, options: Options) -> Iterator[Callable[[], None]]:
    """Holds the run folder for this run, after a check that it is this config's.

    Yields the check of `workdir.lock`, which in other processes than the first does
    nothing.
    """
    config, checks = run.config.to_dict(), []
    with contextlib.ExitStack() as stack:

        def take() -> None:
            if (run.workdir / WEIGHTS).exists():
                raise UserError(
                    f"{run.workdir} holds an exported model, which has no optimizer to "
                    "go on with: choose another --workdir"
                )
            held = folder.lock(
                run.workdir,
                lease_seconds=options.lease_seconds,
                say=run.say,
                stop=run.asked_to_stop,
            )
            checks.append(stack.enter_context(held))
            if not run.override_config:
                folder.check_same_config(run.workdir, config)
            if not options.accept_code:
                check_same_code(run)

        def check() -> None:
            for one in checks:
                one()

        distributed.on_first_process(take)
        yield check


def check_same_code(run: Run) -> None:
    """Raises UserError if the model's source changed since the run last went on."""
    if not (run.workdir / "config.json").exists():
        return
    before = folder.read_run(run.workdir).code
    files = sources.changed(run.code if before is None else before, run.code)
    if files:
        raise UserError(
            f"{sources.in_words(files)} since the run in {run.workdir} was trained: go "
            "on with the new code by --accept_code, restore the old one, or choose "
            "another --workdir"
        )


def check_best(run: Run) -> None:
    """Raises UserError if training.keep_best_by is no metric of this model."""
    best = run.settings.training.keep_best_by
    if best is None:
        return
    known = run.evaluator().names(run.compiled.abstract_state)
    if best not in known:
        hint = nearest(best, known) or f"; there are {', '.join(sorted(known))}"
        raise UserError(f"config.training.keep_best_by={best} is no metric here{hint}")


def make_feed(run: Run) -> TrainFeed:
    """The training batches, from the device or from disk."""
    return TrainFeed(
        run.dataset.train,
        seed=run.settings.seed,
        batch_size=run.settings.training.batch_size,
        sharding=batch_sharding(run.compiled.mesh),
    )


@contextlib.contextmanager
def open_log(run: Run, began: start.Beginning, offset: int = 0) -> Iterator[loop.Log]:
    """The progress display and the metric files, in the first process only."""
    training, seconds = run.settings.training, began.notes.get("seconds", 0.0)
    if not distributed.is_first():
        yield loop.Log(None, None, training.batch_size, seconds, offset)
        return
    with (
        Progress(
            training.num_steps, began.step, images_per_step=training.batch_size
        ) as progress,
        metrics.MetricWriter(
            run.workdir, began.step if began.resumed else None, say=progress.say
        ) as writer,
    ):
        yield loop.Log(writer, progress, training.batch_size, seconds, offset)


def callbacks(run: Run, log: loop.Log) -> list[loop.Callback]:
    """Pictures and an evaluation between steps, as often as the config says."""
    training, workdir = run.settings.training, run.workdir
    paint = make_painter(run)

    def pictures(step: int, state: Any) -> None:
        run.say(f"step {step:,}: drawing samples")
        for name, picture in paint(state).items():
            what = name.removeprefix("samples_").replace("_", " ")
            picture = framed(picture, title_of(run, step, what))
            log.picture(step, name, picture)
            if distributed.is_first():
                suffix = name.removeprefix("samples")
                grids.save_png(workdir / f"samples/{step}{suffix}.png", picture)

    def scores(step: int, state: Any) -> Mapping[str, float]:
        run.say(f"step {step:,}: evaluating")
        result = run.evaluator()(state)
        if distributed.is_first():
            metrics.write_evaluation(workdir, step, result)
        return result["metrics"]

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


def make_painter(run: Run) -> Callable[[Any], dict[str, np.ndarray]]:
    """The function from state to pictures: "samples", "samples_<name of its images>".

    The same noise and the same test examples at every call, to see what training does.
    """
    experiment, spec, mesh = run.experiment, run.dataset.spec, run.compiled.mesh
    chunk = run.settings.evaluation.batch_size
    key = stream_key(run.settings.seed, Stream.PICTURES)
    sample = experiment.sample and compile_sample(experiment.sample, mesh=mesh)
    images = experiment.images and jax.jit(
        experiment.images, out_shardings=replicated(mesh)
    )
    held_out = next(iter(run.dataset.eval.chunks()))

    def draw(examples: np.ndarray) -> np.ndarray:
        shown = examples[:MAX_IN_GRID] if spec.dtype == "uint8" else examples
        return draw_examples(shown, spec, frame=held_out)

    def paint(state: Any) -> dict[str, np.ndarray]:
        named = {}
        if sample is not None:
            num = min(MAX_IN_GRID, chunk) if spec.dtype == "uint8" else MAX_POINTS
            chunks = generate(
                sample, state, key=key, num=num, chunk=chunk, should_stop=run.stop
            )
            named["samples"] = np.concatenate(list(chunks))
        if images is not None:
            batch, _ = next(run.test_batches())
            shown = images(state, batch, key)
            named |= {f"samples_{k}": np.asarray(v) for k, v in shown.items()}
        return {name: draw(examples) for name, examples in named.items()}

    return paint


MODE = Mode(
    name="train",
    summary="train, from the newest checkpoint of the run folder or from the start",
    example="python launch.py --config=configs/ddpm_digits.py",
    options=Options,
    check=check,
    trained=False,
    sets=Options.fields,
    run=train,
)

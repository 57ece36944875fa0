"""--mode=train: the loop, with its data, checkpoints, metrics and pictures.

It goes on from the newest checkpoint of the run folder, or starts anew.
samples/<step>.png and evaluation/<step>.json are written as often as config.training
says.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from genjax import configs
from genjax.choices import local_path, nearest
from genjax.data.pipeline import TrainFeed
from genjax.evaluation.sampling import compile_sample, generate
from genjax.export.folder import WEIGHTS
from genjax.modes.drawing import draw_examples
from genjax.modes.mode import Mode
from genjax.pictures import grids
from genjax.run import Run, load
from genjax.streams import Stream, stream_key
from genjax.training import compile, distributed, loop, metrics, state_table
from genjax.training import workdir as folder
from genjax.training.progress import Progress
from genjax.training.sharding import batch_sharding, replicated
from genjax.training.stop import StopRequest
from genjax.typing import UserError

MAX_IN_GRID = 64  # images
MAX_POINTS = 10_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The flags of --mode=train."""

    accept_code: bool = False  # continue although the experiment's file changed


def train_config(
    config: str | Path | ConfigDict | Mapping[str, Any],
    workdir: str | Path,
    *,
    override_config: bool = False,
    accept_code: bool = False,
) -> Run:
    """Trains in the folder workdir, from its newest checkpoint if there is one.

    config: a file or its name, like "ddpm_digits:tiny", or the fields of a config, of
        which those that are missing take their defaults.
    override_config: go on with other data or another config. accept_code: go on though
        the experiment's file has changed.
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
    path = local_path(workdir, "workdir")
    with StopRequest() as stop:
        run = Run(
            path, completed, beside=beside, stop=stop, override_config=override_config
        )
        train(run, Options(accept_code=accept_code))
    return load(path)


def train(run: Run, options: Options) -> None:
    """Trains from the newest checkpoint, or from the start, to training.num_steps."""
    training, config = run.settings.training, run.config.to_dict()
    with contextlib.ExitStack() as stack:
        stack.enter_context(claim(run, options))
        check_best(run)
        checkpointer = stack.enter_context(run.open_checkpoints())
        restored = run.restore(checkpointer, step=None)
        state, step = restored or (run.initial_state(), 0)
        offset = run.row_offset(step)
        checkpointer.note(batches={"batch_size": training.batch_size, "offset": offset})
        feed = stack.enter_context(contextlib.closing(make_feed(run, offset)))
        resumed = None if restored is None else step
        log = stack.enter_context(open_log(run, resumed, offset))
        # Only now: the config of a mistaken command must not stand in the way.
        distributed.on_first_process(
            lambda: folder.write_config(
                run.workdir,
                config,
                spec=run.dataset.spec,
                fingerprint=run.dataset.fingerprint,
                code_hash=run.code_hash,
                config_file=run.beside,
                notes=run.dataset.notes,
            )
        )
        log.say(state_table.state_table(run.compiled.abstract_state))
        log.say(f"{run.workdir}: from step {step} to {training.num_steps}")
        loop.train(
            run.compiled,
            feed,
            state,
            step,
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
            stop=run.asked_to_stop,
        )


@contextlib.contextmanager
def claim(run: Run, options: Options) -> Iterator[None]:
    """Holds the run folder for this run, after a check that it is this config's."""
    config = run.config.to_dict()
    with contextlib.ExitStack() as stack:

        def take() -> None:
            if (run.workdir / WEIGHTS).exists():
                raise UserError(
                    f"{run.workdir} holds an exported model, which has no optimizer to "
                    "go on with: choose another --workdir"
                )
            stack.enter_context(folder.lock(run.workdir))
            if not run.override_config:
                folder.check_same_config(run.workdir, config)
            if not options.accept_code:
                check_same_code(run)

        distributed.on_first_process(take)
        yield


def check_same_code(run: Run) -> None:
    """Raises UserError if the experiment's file changed since the run last went on."""
    if not (run.workdir / "config.json").exists():
        return
    if folder.read_run(run.workdir).code_hash not in (None, run.code_hash):
        raise UserError(
            f"experiments/{run.settings.experiment}.py has changed since the run in "
            f"{run.workdir} was trained: go on with the new code by --accept_code, "
            "restore the file, or choose another --workdir"
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


def make_feed(run: Run, offset: int = 0) -> TrainFeed:
    """The training batches, from the device or from disk; offset: `Run.row_offset`."""
    return TrainFeed(
        run.dataset.train,
        seed=run.settings.seed,
        batch_size=run.settings.training.batch_size,
        sharding=batch_sharding(run.compiled.mesh),
        offset=offset,
    )


@contextlib.contextmanager
def open_log(run: Run, resume_step: int | None, offset: int = 0) -> Iterator[loop.Log]:
    """The progress display and the metric files, in the first process only."""
    training = run.settings.training
    if not distributed.is_first():
        yield loop.Log(None, None, training.batch_size)
        return
    with (
        Progress(
            training.num_steps,
            resume_step or 0,
            images_per_step=training.batch_size,
        ) as progress,
        metrics.MetricWriter(run.workdir, resume_step, say=progress.say) as writer,
    ):
        yield loop.Log(writer, progress, training.batch_size, offset)


def callbacks(run: Run, log: loop.Log) -> list[loop.Callback]:
    """Pictures and an evaluation between steps, as often as the config says."""
    training, workdir = run.settings.training, run.workdir
    paint = make_painter(run)

    def pictures(step: int, state: Any) -> None:
        for name, picture in paint(state).items():
            log.picture(step, name, picture)
            if distributed.is_first():
                suffix = name.removeprefix("samples")
                grids.save_png(workdir / f"samples/{step}{suffix}.png", picture)

    def scores(step: int, state: Any) -> Mapping[str, float]:
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
    trained=False,
    run=train,
)

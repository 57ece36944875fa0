"""The campaign of faults: runs are killed, stopped, damaged, and must lose nothing.

    python benchmarks/faults.py --rounds=12 --out=faults.json

Each run is `python launch.py` on a small config, the same command again after the
fault, and compared with a run that nothing happened to: the lines of metrics.jsonl but
for their times, and the last state, bit for bit. What can go wrong has four names:

lost       the run cannot go on, or its metrics or its last state differ
silent     a damaged checkpoint is read as if it were intact
exit code  another than 75 for a stop (0 if training had just ended), 77 for NaN, 78
           for a full disk
traceback  of Python or C++ on the screen

kill     SIGKILL in each phase: imports, start, compile, train, save, evaluation
signal   SIGTERM, SIGINT and SIGUSR1 in each phase
damage   bytes changed or zeroed, files cut, emptied or removed in the newest checkpoint
disk     a file system with room for a part of a run; needs the right to mount one
nan      a learning rate that cannot be survived
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

import jax
import numpy as np

import genjax
from genjax.typing import UserError

ROOT = Path(__file__).parent.parent
STEPS = dict(num_steps=12, log_every=2, save_every=4, sample_every=6, eval_every=6)
STEPS |= dict(steps_per_call=2, batch_size=8)
SHORT = [f"--config.training.{name}={value}" for name, value in STEPS.items()]
SHORT += [f"--config.evaluation.{name}=16" for name in ("num_samples", "limit")]
SPECTRAL = {"backbone": "dcgan", "d_norm": "none", "d_spectral": "true"}
SPECTRAL |= {"g_channels": 4, "d_channels": 4}
RUNS = {  # name: the flags of a run of seconds
    "ddpm": ["--config=ddpm_toy2d:tiny"],
    "flow_matching": ["--config=flow_matching_toy2d:tiny"],
    "gan_spectral": ["--config=gan_digits:tiny"]
    + [f"--config.model.{name}={value}" for name, value in SPECTRAL.items()],
    "vae": ["--config=vae_digits:tiny"],
    "vae_per_datapoint": ["--config=vae_per_datapoint_digits:tiny"],
    "cyclegan": [
        "--config=cyclegan_digits:tiny",
        "--config.optim.constant_steps=6",
        "--config.optim.decay_steps=12",
    ],
}
PHASES = {  # what the screen says when it begins; imports and save are seen otherwise
    "imports": "",
    "start": "reading the data",
    "compile": "compiling the training step",
    "train": "a step works in",
    "save": "",
    "evaluation": "evaluating",
}
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
TIMES = ("seconds", "steps_per_second", "images_per_second")  # of a line of metrics


class Fault(NamedTuple):
    """One round. problems: of the four names above, with what was seen."""

    kind: str
    run: str
    what: str
    problems: dict[str, str]


class Attempt:
    """A process that trains in a folder, and what it says."""

    def __init__(self, name: str, folder: Path, *more: str):
        self.folder, self.lines = folder, []
        command = [sys.executable, str(ROOT / "launch.py"), *RUNS[name], *SHORT, *more]
        self.process = subprocess.Popen(
            [*command, f"--workdir={folder}"],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as said:
            for line in said:
                self.lines.append(line)

    @property
    def said(self) -> str:
        """All of it so far."""
        return "".join(self.lines)

    def until(self, phase: str) -> None:
        """Waits for the phase, or for the end of the process."""
        if phase == "imports":
            return
        saved = self.folder / "checkpoints"
        before = set(saved.glob("*"))
        while self.process.poll() is None:
            if phase == "save" and set(saved.glob("*")) - before:
                return
            if phase != "save" and PHASES[phase] in self.said:
                return
            time.sleep(0.002)

    def end(self) -> int:
        """The exit code."""
        code = self.process.wait(timeout=600)
        self._reader.join()
        return code


class Truth:
    """The runs that nothing happened to, in one folder."""

    def __init__(self, folder: Path):
        self._folder = folder

    def of(self, name: str) -> Path:
        """The folder of that run; trained where it is not there yet."""
        place = self._folder / name
        if not place.exists():
            attempt = Attempt(name, place)
            assert attempt.end() == 0, attempt.said
        return place

    def differs(self, name: str, folder: Path) -> str:
        """How a run in `folder` differs from the true one, or ""."""
        if metrics(folder) != metrics(self.of(name)):
            return "metrics.jsonl"
        (a, step), (b, wanted) = (state(place) for place in (folder, self.of(name)))
        if step != wanted:
            return f"ends at step {step}"
        return "" if same(a, b) else "the last state"


def metrics(folder: Path) -> list[dict]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    rows = map(json.loads, lines)
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


def state(folder: Path, step: int | None = None) -> tuple[Any, int]:
    """(the state as arrays of the host, its step) of the newest intact checkpoint."""
    given, step = genjax.load(folder, step=step).trained
    return jax.tree.map(np.asarray, given), step


def same(a: Any, b: Any) -> bool:
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y, equal_nan=True) for x, y in leaves)


# --- what happens to a run ------------------------------------------------------------


def interrupted(
    name: str, phase: str, number: signal.Signals, truth: Truth, chance: random.Random
) -> dict[str, str]:
    """The problems of a run that gets a signal in this phase, and of its resumption."""
    problems: dict[str, str] = {}
    truth.of(name)  # before the clock runs
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "run")
        attempt = Attempt(name, folder)
        attempt.until(phase)
        time.sleep(chance.uniform(0.0, 1.0 if phase == "imports" else 0.1))
        attempt.process.send_signal(number)
        code = attempt.end()
        allowed = (-signal.SIGKILL, 0) if number == signal.SIGKILL else (75, 0)
        if code not in allowed:
            problems["exit code"] = str(code)
        look_for_traceback(attempt, problems)
        again = Attempt(name, folder)
        if again.end() != 0:
            problems["lost"] = again.said[-300:]
        elif difference := truth.differs(name, folder):
            problems["lost"] = difference
        look_for_traceback(again, problems)
    return problems


def look_for_traceback(attempt: Attempt, problems: dict[str, str]) -> None:
    said = attempt.said
    for sign in ("Traceback (most recent", "*** Check failure", "Fatal Python error"):
        if sign in said:
            problems["traceback"] = said[said.index(sign) :][-300:]


def pick(these: Sequence[Any], i: int) -> Any:
    """The i-th, from the front again after the last."""
    return these[i % len(these)]


def turn(names: Sequence[str], i: int) -> tuple[str, str]:
    """The i-th (run, phase); in turn every run meets every phase."""
    return pick(names, i), pick([*PHASES], i % len(names) + i // len(names))


def kill(truth: Truth, names: Sequence[str], i: int, chance: random.Random) -> Fault:
    name, phase = turn(names, i)
    problems = interrupted(name, phase, signal.SIGKILL, truth, chance)
    return Fault("kill", name, phase, problems)


def stop(truth: Truth, names: Sequence[str], i: int, chance: random.Random) -> Fault:
    name, phase = turn(names, i)
    number = pick(SIGNALS, i // len(names) + i)
    problems = interrupted(name, phase, number, truth, chance)
    return Fault("signal", name, f"{number.name}, {phase}", problems)


DAMAGES: dict[str, Callable[[bytearray, int], bytearray | None]] = {
    "flip": lambda data, at: data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :],
    "zero": lambda data, at: (
        data[:at] + bytes(len(data[at : at + 64])) + data[at + 64 :]
    ),
    "cut": lambda data, at: data[:at],
    "empty": lambda data, at: bytearray(),
    "remove": lambda data, at: None,
}


def damage(truth: Truth, names: Sequence[str], i: int, chance: random.Random) -> Fault:
    """One file of the newest checkpoint; the one before it is intact."""
    name, way = pick(names, i), pick([*DAMAGES], i // len(names))
    true, problems = truth.of(name), {}
    with tempfile.TemporaryDirectory() as place:
        folder = shutil.copytree(true, Path(place, "run"))
        steps = (int(p.name) for p in (folder / "checkpoints").glob("[0-9]*"))
        newest = folder / "checkpoints" / str(max(steps))
        files = [
            p for p in sorted(newest.rglob("*")) if p.is_file() and p.stat().st_size
        ]
        file = chance.choice(files)
        data = bytearray(file.read_bytes())
        changed = DAMAGES[way](data, chance.randrange(len(data)))
        file.unlink() if changed is None else file.write_bytes(changed)
        try:
            found, step = state(folder)
        except UserError as error:
            problems["lost"] = str(error)
        except Exception as error:
            problems["traceback"] = f"{type(error).__name__}: {error}"[-300:]
        else:
            if not same(found, state(true, step)[0]):
                problems["silent"] = f"step {step}"
        what = f"{way} {file.relative_to(newest)}"
    return Fault("damage", name, what, problems)


def disk(truth: Truth, names: Sequence[str], i: int, chance: random.Random) -> Fault:
    """Too little room for a run, and then enough."""
    name, problems = pick(names, i), {}
    true = truth.of(name)
    whole = sum(p.stat().st_size for p in true.rglob("*") if p.is_file()) // 1024
    room = chance.randrange(max(whole // 10, 16), max(whole, 32))
    with tempfile.TemporaryDirectory() as place:
        options = ["-t", "tmpfs", "-o", f"size={room}k"]
        subprocess.run(["mount", *options, "tmpfs", place], check=True)
        try:
            attempt = Attempt(name, Path(place, "run"))
            code = attempt.end()
            if code not in (78, 0):
                problems["exit code"] = str(code)
            look_for_traceback(attempt, problems)
            grow = ["-o", f"remount,size={100 * whole}k"]
            subprocess.run(["mount", *grow, place], check=True)
            again = Attempt(name, Path(place, "run"))
            if again.end() != 0:
                problems["lost"] = again.said[-300:]
            elif difference := truth.differs(name, Path(place, "run")):
                problems["lost"] = difference
        finally:
            subprocess.run(["umount", place], check=True)
    return Fault("disk", name, f"{room} of {whole} KiB", problems)


def nan(truth: Truth, names: Sequence[str], i: int, chance: random.Random) -> Fault:
    """All steps are discarded, so the state is as it was."""
    del truth, chance
    name, problems = pick(names, i), {}
    with tempfile.TemporaryDirectory() as place:
        rate = "--config.optim.learning_rate=1e38"
        attempt = Attempt(name, Path(place, "run"), rate)
        if (code := attempt.end()) != 77:
            problems["exit code"] = str(code)
        look_for_traceback(attempt, problems)
    return Fault("nan", name, "learning rate 1e38", problems)


MORE = {"damage": 10}  # rounds for one of the others: they take a second each
KINDS = {"kill": kill, "signal": stop, "damage": damage, "disk": disk, "nan": nan}
PROBLEMS = ("lost", "silent", "exit code", "traceback")


def can_mount() -> bool:
    with tempfile.TemporaryDirectory() as place:
        command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place]
        done = shutil.which("mount") and subprocess.run(command, capture_output=True)
        if not done or done.returncode:
            return False
        subprocess.run(["umount", place], check=True)
    return True


def table(faults: Sequence[Fault]) -> str:
    """Rounds and problems of each kind, in Markdown; then each problem in a line."""
    lines = [
        f"| fault | rounds | {' | '.join(PROBLEMS)} |",
        "|---|---|---|---|---|---|",
    ]
    for kind in dict.fromkeys(fault.kind for fault in faults):
        of_kind = [fault for fault in faults if fault.kind == kind]
        counts = [sum(p in fault.problems for fault in of_kind) for p in PROBLEMS]
        lines.append(f"| {kind} | {len(of_kind)} | {' | '.join(map(str, counts))} |")
    for fault in faults:
        for problem, seen in fault.problems.items():
            words = " ".join(seen.split())
            lines.append(
                f"\n- {fault.kind}, {fault.run}, {fault.what}: {problem}: {words}"
            )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table. Returns 1 if there was a problem."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--rounds", type=int, default=12, help="of each kind; damage: ten times"
    )
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--runs", default=",".join(RUNS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a JSON file for the rounds")
    flags = parser.parse_args(argv)
    kinds, names = flags.kinds.split(","), flags.runs.split(",")
    for given, known in ((kinds, KINDS), (names, RUNS)):
        if unknown := [name for name in given if name not in known]:
            parser.error(f"{unknown[0]!r} is none of {', '.join(known)}")
    if "disk" in kinds and not can_mount():
        print("disk is left out: mounting a tmpfs needs rights", file=sys.stderr)
        kinds.remove("disk")
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    faults: list[Fault] = []
    with tempfile.TemporaryDirectory() as place:
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{place}/cache")
        truth = Truth(Path(place))
        for kind in kinds:
            for i in range(flags.rounds * MORE.get(kind, 1)):
                chance = random.Random(f"{flags.seed} {kind} {i}")
                faults.append(KINDS[kind](truth, names, i, chance))
                print(*faults[-1], file=sys.stderr, flush=True)
                if flags.out is not None:
                    rows = [fault._asdict() for fault in faults]
                    flags.out.write_text(json.dumps(rows, indent=1))
    print(table(faults))
    return int(any(fault.problems for fault in faults))


if __name__ == "__main__":
    sys.exit(main())

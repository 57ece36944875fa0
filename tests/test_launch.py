"""The real command line, as a user runs it: train, kill, resume, sample, evaluate."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
CONFIG = "configs/ddpm_toy2d.py:tiny"
NUM_STEPS = 120
SHORT = [  # a run of some seconds, with a few of everything
    f"--config.training.num_steps={NUM_STEPS}",
    f"--config.optim.decay_steps={NUM_STEPS}",
    "--config.optim.warmup_steps=10",
    "--config.training.steps_per_call=10",
    "--config.training.log_every=20",
    "--config.training.save_every=40",
    "--config.training.sample_every=60",
    "--config.training.eval_every=60",
    "--config.eval.num_samples=200",
    "--config.eval.limit=200",
]


def command(*flags: str, config: str = CONFIG) -> list[str]:
    start = [sys.executable, str(ROOT / "launch.py"), f"--config={config}"]
    return [*start, *SHORT, *flags]


def environment(num_devices: int = 1) -> dict[str, str]:
    flags = f"--xla_force_host_platform_device_count={num_devices}"
    return os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}


def launch(*flags: str, config: str = CONFIG, expect: int = 0, num_devices: int = 1):
    done = subprocess.run(
        command(*flags, config=config),
        cwd=ROOT,
        env=environment(num_devices),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == expect, done.stderr[-3000:]
    return done


def metric_lines(workdir: Path, split: str = "train") -> list[dict]:
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line["split"] == split]


def digests(workdir: Path, step: int) -> dict:
    meta = json.loads((workdir / f"checkpoints/{step}/meta/metadata").read_text())
    return meta["body"]["leaves"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A whole run, never interrupted."""
    workdir = tmp_path_factory.mktemp("whole")
    launch(f"--workdir={workdir}")
    return workdir


def test_a_run_leaves_what_other_programs_rely_on(trained):
    last = NUM_STEPS
    config = json.loads((trained / "config.json").read_text())["config"]
    assert config["training"]["num_steps"] == last
    line = metric_lines(trained)[-1]
    assert line["step"] == last
    assert line["images_seen"] == last * config["training"]["batch_size"]
    assert line["seconds"] > 0 and np.isfinite(line["loss"])
    assert metric_lines(trained, "eval")
    assert list((trained / "tensorboard").iterdir())
    assert (trained / f"checkpoints/{last}").is_dir()
    assert (trained / f"samples/{last}.png").stat().st_size > 100
    report = json.loads((trained / f"evaluation/{last}.json").read_text())
    assert report["step"] == last
    assert report["protocol"]["weights"] == "ema"
    assert all(np.isfinite(v) for v in report["metrics"].values())


def test_a_finished_run_ends_at_once(trained):
    before = digests(trained, NUM_STEPS)
    launch(f"--workdir={trained}")
    assert digests(trained, NUM_STEPS) == before


def test_evaluate_writes_what_training_wrote_and_the_panel(trained):
    path = trained / f"evaluation/{NUM_STEPS}.json"
    written = json.loads(path.read_text())
    path.unlink()
    said = launch(f"--workdir={trained}", "--mode=evaluate").stderr
    assert "-> the model" in said and "\nppca" in said
    again = json.loads(path.read_text())
    assert written["protocol"].items() <= again["protocol"].items()
    new = again["metrics"].keys() - written["metrics"].keys()
    assert {"kid_points", "coverage_points_floor", "data_copying_points"} <= new
    for name, value in written["metrics"].items():
        assert again["metrics"][name] == pytest.approx(value, rel=1e-5), name


def test_samples_depend_on_the_seed_and_not_on_their_number(trained, tmp_path):
    def draw(name: str, *flags: str, num_devices: int = 1) -> np.ndarray:
        launch(
            f"--workdir={trained}",
            "--mode=sample",
            f"--out={tmp_path / name}",
            *flags,
            num_devices=num_devices,
        )
        assert (tmp_path / name / "samples.png").exists()
        return np.load(tmp_path / name / "samples.npz")["arr_0"]

    some = draw("a", "--num_samples=5", "--seed=3")
    more = draw("b", "--num_samples=700", "--seed=3")
    np.testing.assert_array_equal(more[:5], some)
    other = draw("c", "--num_samples=5", "--seed=4")
    assert not np.array_equal(other, some)
    four_devices = draw("d", "--num_samples=5", "--seed=3", num_devices=4)
    np.testing.assert_allclose(four_devices, some, rtol=1e-4, atol=1e-4)
    raw = draw("e", "--num_samples=5", "--seed=3", "--weights=raw")
    assert not np.array_equal(raw, some)
    ddim = draw(
        "f",
        "--num_samples=5",
        "--seed=3",
        "--config.sampler.name=ddim",
        "--config.sampler.num_steps=3",
    )
    assert not np.array_equal(ddim, some)


def run_until(workdir: Path, send: int, step: int) -> subprocess.CompletedProcess:
    """Trains until the metrics reach `step`, then sends the signal."""
    process = subprocess.Popen(
        command(f"--workdir={workdir}"),
        cwd=ROOT,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 240
    path = workdir / "metrics.jsonl"
    while not (path.exists() and metric_lines(workdir)[-1:] and reached(path, step)):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(send)
    _, stderr = process.communicate(timeout=120)
    return subprocess.CompletedProcess([], process.returncode, "", stderr)


def reached(path: Path, step: int) -> bool:
    return json.loads(path.read_text().splitlines()[-1])["step"] >= step


def test_kill_and_resume_is_bit_for_bit(trained, tmp_path):
    killed = run_until(tmp_path, signal.SIGKILL, 60)
    assert killed.returncode == -signal.SIGKILL
    launch(f"--workdir={tmp_path}")
    assert digests(tmp_path, NUM_STEPS) == digests(trained, NUM_STEPS)
    steps = [line["step"] for line in metric_lines(tmp_path)]
    assert steps == sorted(set(steps)) == [x["step"] for x in metric_lines(trained)]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_a_signal_stops_saves_and_can_be_resumed(trained, tmp_path, name):
    stopped = run_until(tmp_path, getattr(signal, name), 20)
    assert stopped.returncode == 75, stopped.stderr[-2000:]
    assert name in stopped.stderr and "Traceback" not in stopped.stderr
    assert any((tmp_path / "checkpoints").iterdir())
    launch(f"--workdir={tmp_path}")
    assert digests(tmp_path, NUM_STEPS) == digests(trained, NUM_STEPS)


def test_a_run_that_diverges_stops_and_says_where(tmp_path):
    flags = ("--config.optim.learning_rate=1e30", "--config.optim.warmup_steps=0")
    done = launch(f"--workdir={tmp_path}", *flags, expect=77)
    assert re.search(r"(loss|grad_norm).* not finite at step 1 ", done.stderr)
    assert "rows [" in done.stderr and "Traceback" not in done.stderr


def test_a_full_disk_is_said_in_one_message(tmp_path):
    """A disk of 300 kB holds no checkpoint of this model and its optimizer."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(tmp_path)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("a small disk needs the right to mount one")
    try:
        done = launch(f"--workdir={tmp_path / 'run'}", expect=78)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
    assert "Traceback" not in done.stderr
    assert re.search(r"disk is full|No space left", done.stderr)
    assert "free" in done.stderr and str(tmp_path) in done.stderr


def test_a_time_limit_is_a_stop(tmp_path):
    launch(f"--workdir={tmp_path}", "--max_seconds=0", expect=75)
    assert (tmp_path / "checkpoints").is_dir()


MISTAKES = {
    "no config": (["launch.py"], "--config"),
    "unknown flag": (["--config=C", "--workdirr=x"], "workdir"),
    "unknown field": (["--config=C", "--config.optim.lrr=1"], "optim.learning_rate"),
    "misspelled field": (
        ["--config=C", "--config.optim.learningrate=1"],
        "did you mean optim.learning_rate",
    ),
    "a section": (["--config=C", "--config.optim=1"], "section"),
    "wrong type": (["--config=C", "--config.seed=abc"], "seed"),
    "float for int": (["--config=C", "--config.training.num_steps=1.5"], "num_steps"),
    "no such file": (["--config=configs/ddpm_digit.py"], "ddpm_digits.py"),
    "no such variant": (["--config=configs/ddpm_digits.py:tny"], "tiny"),
    "positional": (["--config=C", "train"], "'train'"),
    "mode": (["--config=C", "--mode=trian"], "train"),
    "experiment": (["--config=C", "--config.experiment=dppm"], "did you mean ddpm"),
    "sampler": (["--config=C", "--config.sampler.name=dim"], "ddim"),
    "data": (["--config=C", "--config.data.name=mooons"], "moons"),
    "negative": (["--config=C", "--config.training.batch_size=-1"], "above 0"),
    "nan": (["--config=C", "--config.optim.learning_rate=nan"], "finite"),
    "mesh": (["--config=C", "--config.mesh.fsdp=3"], "devices"),
    "batch": (["--config=C", "--config.training.batch_size=10000000"], "batch"),
    "labels": (["--config=C", "--mode=sample", "--labels=a,b"], "--labels"),
    "both weights": (
        ["--config=C", "--mode=sample", "--weights=both"],
        "--mode=sample takes ema or raw",
    ),
    "nothing to sample": (["--config=C", "--mode=sample"], "train first"),
    "pairs": (["--config=C", "--mode=latents", "--pairs=3;4"], "--pairs"),
    "no codes": (["--config=C", "--mode=latents"], "train first"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence(mistake, tmp_path):
    flags, words = MISTAKES[mistake]
    workdir = tmp_path / "run"
    flags = [flag.replace("--config=C", f"--config={CONFIG}") for flag in flags]
    done = subprocess.run(
        [sys.executable, "launch.py", *flags, f"--workdir={workdir}"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2, done.stderr[-2000:]
    assert done.stderr.startswith("genjax: ") and words in done.stderr
    assert "Traceback" not in done.stderr and done.stderr.count("\n") <= 2
    assert not workdir.exists() or {p.name for p in workdir.iterdir()} <= {"LOCK"}


def test_another_config_in_the_same_workdir_is_refused(trained):
    flag = "--config.optim.learning_rate=0.123"
    done = launch(f"--workdir={trained}", flag, expect=2)
    assert re.search(r"optim\.learning_rate.*0\.123", done.stderr)
    assert "--override_config" in done.stderr


def test_a_second_run_in_a_workdir_is_refused(tmp_path):
    from genjax.train import workdir

    with workdir.lock(tmp_path):
        done = launch(f"--workdir={tmp_path}", expect=2)
    assert str(os.getpid()) in done.stderr
    assert not (tmp_path / "checkpoints").exists()

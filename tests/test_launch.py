"""The command line, as a user types it: train, kill, resume, sample, evaluate.

What needs a process of its own runs in one; the rest calls `launch.main`.
"""

import contextlib
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
from PIL import Image

import genjax
from genjax import __main__ as launch
from genjax import commandline
from genjax.modes.table import MODES, find_mode
from genjax.training import workdir as folder
from genjax.typing import UserError

ROOT = Path(__file__).parent.parent
CONFIG = f"{ROOT}/configs/flow_matching_toy2d.py:tiny"
NUM_STEPS = 120
SHORT = [  # a run of some seconds, with a few of everything
    f"--config.training.num_steps={NUM_STEPS}",
    "--config.optim.warmup_steps=10",
    "--config.training.steps_per_call=10",
    "--config.training.log_every=20",
    "--config.training.save_every=40",
    "--config.training.sample_every=60",
    "--config.training.eval_every=60",
    "--config.evaluation.num_samples=200",
    "--config.evaluation.limit=200",
    "--config.likelihood.tolerance=0.01",
]


def environment(num_devices: int = 1) -> dict[str, str]:
    flags = f"--xla_force_host_platform_device_count={num_devices}"
    return os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}


def command(*flags: str) -> list[str]:
    return [
        sys.executable,
        str(ROOT / "launch.py"),
        f"--config={CONFIG}",
        *SHORT,
        *flags,
    ]


def run_process(*flags: str, expect: int = 0, num_devices: int = 1):
    done = subprocess.run(
        command(*flags),
        cwd=ROOT,
        env=environment(num_devices),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == expect, done.stderr[-3000:]
    return done


def run_here(capsys, *flags: str, expect: int = 0) -> tuple[str, str]:
    """(stdout, stderr) of a command line, in this process."""
    capsys.readouterr()
    code = launch.main(flags)
    said = capsys.readouterr()
    assert code == expect, said.err[-3000:]
    return said.out, said.err


def sentence(said: str) -> bool:
    """Whether what was said ends with one sentence: no traceback, no lines below it."""
    *before, last = said.splitlines()
    return last.startswith("genjax: ") and not any("Traceback" in b for b in before)


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
    run_process(f"--workdir={workdir}")
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


def test_a_finished_run_ends_at_once(trained, capsys):
    before = digests(trained, NUM_STEPS)
    run_here(capsys, f"--config={CONFIG}", *SHORT, f"--workdir={trained}")
    assert digests(trained, NUM_STEPS) == before


def test_evaluate_writes_what_training_wrote_and_the_panel(trained, capsys):
    path = trained / f"evaluation/{NUM_STEPS}.json"
    written = json.loads(path.read_text())
    path.unlink()
    _, said = run_here(capsys, f"--workdir={trained}", "--mode=evaluate")
    assert "-> the model" in said and "\nppca" in said
    again = json.loads(path.read_text())
    assert written["protocol"].items() <= again["protocol"].items()
    new = again["metrics"].keys() - written["metrics"].keys()
    assert {"kid_points", "coverage_points_floor", "data_copying_points"} <= new
    for name, value in written["metrics"].items():
        # the seed of training's evaluation is 0 too; four devices round otherwise
        assert again["metrics"][name] == pytest.approx(value, rel=1e-3), name


def test_samples_depend_on_the_seed_and_not_on_their_number(trained, tmp_path, capsys):
    def draw(name: str, *flags: str) -> np.ndarray:
        out = f"--out={tmp_path / name}"
        run_here(capsys, f"--workdir={trained}", "--mode=sample", out, *flags)
        assert (tmp_path / name / "samples.png").exists()
        return np.load(tmp_path / name / "samples.npz")["arr_0"]

    some = draw("a", "--num_samples=5", "--seed=3")
    more = draw("b", "--num_samples=700", "--seed=3")
    np.testing.assert_array_equal(more[:5], some)
    other = draw("c", "--num_samples=5", "--seed=4")
    assert not np.array_equal(other, some)
    raw = draw("e", "--num_samples=5", "--seed=3", "--weights=raw")
    assert not np.array_equal(raw, some)
    chosen = ("--config.sampler.name=ddim", "--config.sampler.num_steps=3")
    assert not np.array_equal(draw("f", "--num_samples=5", "--seed=3", *chosen), some)
    flags = ("--mode=sample", f"--out={tmp_path / 'g'}", "--num_samples=5", "--seed=3")
    run_process(f"--workdir={trained}", *flags)
    one_device = np.load(tmp_path / "g" / "samples.npz")["arr_0"]
    np.testing.assert_allclose(one_device, some, rtol=1e-4, atol=1e-4)


def test_samples_never_replace_those_of_another_request(trained, capsys):
    def draw(*flags: str) -> Path:
        flags = (f"--workdir={trained}", "--mode=sample", "--num_samples=5", *flags)
        _, said = run_here(capsys, *flags)
        return Path(said.strip().splitlines()[-1].partition(" in ")[2])

    first = draw()
    assert first == trained / "generated" / f"{NUM_STEPS}"
    before = (first / "samples.npz").read_bytes()
    said = json.loads((first / "samples.json").read_text())
    assert said["step"] == NUM_STEPS and said["num"] == 5 and said["weights"] == "ema"
    assert said["sampler"]["name"] == "heun" and said["labels"] is None
    assert draw("--seed=1").name == f"{NUM_STEPS}_seed1"
    assert draw("--config.sampler.num_steps=2").name == f"{NUM_STEPS}_2"
    assert draw("--config.sampler.num_steps=3").name == f"{NUM_STEPS}_3"
    assert (first / "samples.npz").read_bytes() == before
    assert draw() == first  # the same request: the same samples
    assert np.load(first / "samples.npz")["arr_0"].shape == (5, 2)


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
    run_process(f"--workdir={tmp_path}")
    assert digests(tmp_path, NUM_STEPS) == digests(trained, NUM_STEPS)
    steps = [line["step"] for line in metric_lines(tmp_path)]
    assert steps == sorted(set(steps)) == [x["step"] for x in metric_lines(trained)]


@pytest.mark.parametrize(
    "name",
    [
        "SIGTERM",
        pytest.param("SIGINT", marks=pytest.mark.slow),
        pytest.param("SIGUSR1", marks=pytest.mark.slow),
    ],
)
def test_a_signal_stops_saves_and_can_be_resumed(trained, tmp_path, name):
    stopped = run_until(tmp_path, getattr(signal, name), 20)
    assert stopped.returncode == 75, stopped.stderr[-2000:]
    assert name in stopped.stderr and "Traceback" not in stopped.stderr
    assert any((tmp_path / "checkpoints").iterdir())
    run_process(f"--workdir={tmp_path}")
    assert digests(tmp_path, NUM_STEPS) == digests(trained, NUM_STEPS)


def test_a_run_that_diverges_stops_and_says_where(tmp_path):
    flags = ("--config.optim.learning_rate=1e30", "--config.optim.warmup_steps=0")
    done = run_process(f"--workdir={tmp_path}", *flags, expect=77)
    assert re.search(r"(loss|grad_norm).* not finite at step 1 ", done.stderr)
    assert "rows [" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "filled"),
    [
        ("size=300k", False),  # holds no checkpoint of this model and its optimizer
        pytest.param("size=100k", True, marks=pytest.mark.slow),
        pytest.param("size=50m,nr_inodes=3", False, marks=pytest.mark.slow),
        pytest.param("size=50m,nr_inodes=12", False, marks=pytest.mark.slow),
    ],
)
def test_a_full_disk_is_said_in_one_message(tmp_path, options, filled):
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(tmp_path)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("a small disk needs the right to mount one")
    try:
        if filled:
            with contextlib.suppress(OSError):
                (tmp_path / "filler").write_bytes(bytes(200_000))
        done = run_process(f"--workdir={tmp_path / 'run'}", expect=78)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
    assert "Traceback" not in done.stderr
    assert re.search(r"disk is full|No space left", done.stderr)
    assert "free" in done.stderr and str(tmp_path) in done.stderr


@pytest.mark.slow
def test_a_folder_that_is_renamed_under_a_run_ends_it(tmp_path):
    process = subprocess.Popen(
        command(f"--workdir={tmp_path}/run", "--config.training.num_steps=100000"),
        cwd=ROOT,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "run/metrics.jsonl").exists():
        assert process.poll() is None
        time.sleep(0.05)
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    _, said = process.communicate(timeout=120)
    assert process.returncode == 78 and "Traceback" not in said
    assert said.count("genjax: ") == 1


def test_a_time_limit_is_a_stop(tmp_path):
    run_process(f"--workdir={tmp_path}", "--max_seconds=0", expect=75)
    assert (tmp_path / "checkpoints").is_dir()


# --- mistakes -------------------------------------------------------------------------

MISTAKES = {
    "no config": (["--workdir=W"], "--config is missing"),
    "unknown flag": (["--config=C", "--workdirr=x"], "did you mean workdir"),
    "unknown field": (["--config=C", "--config.optim.lrr=1"], "optim.learning_rate"),
    "misspelled field": (
        ["--config=C", "--config.optim.learningrate=1"],
        "did you mean optim.learning_rate",
    ),
    "a section": (["--config=C", "--config.optim=1"], "section"),
    "wrong type": (
        ["--config=C", "--config.seed=abc"],
        "--config.seed must be a whole number, not 'abc'",
    ),
    "float for int": (
        ["--config=C", "--config.training.num_steps=1.5"],
        "--config.training.num_steps must be a whole number, not '1.5'",
    ),
    "not a bool": (["--config=C", "--config.sampler.clip=si"], "true or false"),
    "no value": (["--config=C", "--config.seed"], "--config.seed needs a value"),
    "not a list": (["--config=C", "--mode=sample", "--labels=1.5"], "like 3 or 0,1"),
    "no such file": (["--config=configs/ddpm_digit.py"], "ddpm_digits.py"),
    "no such variant": ([f"--config={CONFIG[:-4]}tny"], "did you mean tiny"),
    "positional": (["--config=C", "train"], "'train'"),
    "positional after a switch": (["--config=C", "--override_config", "on"], "'on'"),
    "mode": (["--config=C", "--mode=trian"], "did you mean train"),
    "experiment": (
        ["--config=C", "--config.experiment=flow_macthing"],
        "did you mean flow_matching",
    ),
    "sampler": (["--config=C", "--config.sampler.name=dim"], "did you mean 'ddim'"),
    "option of another sampler": (
        ["--config=C", "--config.sampler.eta=0.5"],
        "is an option of ddim",
    ),
    "data": (["--config=C", "--config.data.name=mooons"], "moons"),
    "negative": (
        ["--config=C", "--config.training.batch_size=-1"],
        "config.training.batch_size must be at least 1, not -1",
    ),
    "nan": (["--config=C", "--config.optim.learning_rate=nan"], "finite"),
    "infinite": (["--config=C", "--config.optim.learning_rate=inf"], "finite"),
    "snapshot": (
        ["--config=C", "--config.optim.snapshot_step=5000"],
        "before the last step",
    ),
    "mesh": (["--config=C", "--config.mesh.fsdp=3"], "devices"),
    "batch": (["--config=C", "--config.training.batch_size=10000000"], "batch"),
    "labels": (["--config=C", "--mode=sample", "--labels=a,b"], "--labels"),
    "both weights": (["--config=C", "--mode=sample", "--weights=both"], "ema, raw"),
    "number out of range": (
        ["--config=C", "--mode=sample", "--num_samples=0"],
        "--num_samples must be at least 1, not 0",
    ),
    "flag of another mode": (
        ["--config=C", "--mode=sample", "--solvers=ddim"],
        "--solvers is a flag of --mode=solvers, not of --mode=sample",
    ),
    "flag of two other modes": (
        ["--config=C", "--num_images=3"],
        "of --mode=latents and --mode=trajectories, not of --mode=train",
    ),
    "nothing to sample": (["--config=C", "--mode=sample"], "train first"),
    "no run": (["--mode=sample", "--workdir=W"], "was a run ever started"),
    "pairs": (["--config=C", "--mode=latents", "--pairs=3;4"], "--pairs"),
    "no codes": (["--config=C", "--mode=latents"], "train first"),
    "another store": (["--config=C", "--workdir=s3://a/b"], "neither a local path nor"),
    "no bucket": (["--config=C", "--workdir=gs://"], "--workdir=gs:// names no bucket"),
    "a bucket's config": (["--config=s3://a/b.py"], "=s3://a/b.py is no local path"),
    "data in a bucket": (
        ["--config=C", "--config.data.dir=gs://bucket/a"],
        "config.data.dir=gs://bucket/a: of a bucket only an .npz is read; copy",
    ),
    "samples in another store": (
        ["--config=C", "--mode=sample", "--out=hdfs://a/b"],
        "--out=hdfs://a/b is neither a local path nor gs://bucket/folder",
    ),
    "no folder": (["--config=C", "--workdir="], "--workdir needs a path"),
    "too many steps": (
        ["--config=C", "--config.training.num_steps=1e20"],
        "training.num_steps must be at most 2147483647",
    ),
    "option of another likelihood": (
        ["--config=C", "--config.likelihood.draws=4"],
        "is of method='bound' and 'vlb', and 'ode' would not use it",
    ),
    "half a cluster": (["--config=C", "--num_processes=2"], "--coordinator"),
}


def test_a_disk_that_is_full_from_the_start_is_one_sentence(tmp_path, capsys):
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("a small disk needs the right to mount one")
    try:
        with contextlib.suppress(OSError):
            (small / "filled").write_bytes(bytes(2**17))
        flags = (f"--config={CONFIG}", f"--workdir={small / 'run'}")
        _, said = run_here(capsys, *flags, expect=78)
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert said.startswith("genjax: the workdir") and said.count("\n") == 1
    assert "the disk is full" in said


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence(mistake, tmp_path, capsys):
    flags, words = MISTAKES[mistake]
    workdir = tmp_path / "run"
    known = {"--config=C": f"--config={CONFIG}", "--workdir=W": f"--workdir={workdir}"}
    flags = [known.get(flag, flag) for flag in flags]
    _, said = run_here(capsys, f"--workdir={workdir}", *flags, expect=2)
    assert sentence(said) and words in said
    assert not workdir.exists() or {p.name for p in workdir.iterdir()} <= {"LOCK"}


def test_a_mistake_on_the_real_command_line():
    done = run_process("--config.seed=x", expect=2)
    first, said = done.stderr.splitlines()
    assert first == f"genjax {genjax.__version__}: starting"
    assert said == "genjax: --config.seed must be a whole number, not 'x'"
    nothing = subprocess.run(
        [sys.executable, str(ROOT / "launch.py")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert nothing.returncode == 2 and nothing.stderr.count("\n") == 2
    assert "python launch.py --config=configs/" in nothing.stderr


UNABLE = {  # of a model without labels, codes, ...; said before data are loaded
    "labels": (["--mode=sample", "--labels=1"], "trained without labels"),
    "labels of the data": (["--mode=sample", "--labels=8"], "the classes 0 ... 7"),
    "codes": (["--mode=latents"], "needs a model with a code"),
    "two domains": (["--mode=translate"], "two domains"),
    "out": (["--mode=sample", "--out=/proc/x"], "--out=/proc/x cannot be written"),
    "step": (["--mode=sample", "--step=7"], "7"),
    "labels of the likelihood": (["--mode=classify"], "is not given a label"),
}


@pytest.mark.parametrize("case", UNABLE)
def test_what_the_model_cannot_do_is_said_before_data_are_read(
    case, trained, capsys, monkeypatch
):
    def load(*names, **options):
        raise AssertionError("the data were read")

    monkeypatch.setattr("genjax.data.datasets.load", load)
    flags, words = UNABLE[case]
    _, said = run_here(capsys, f"--workdir={trained}", *flags, expect=2)
    assert sentence(said) and words in said


def test_another_config_in_the_same_workdir_is_refused(trained, capsys):
    flags = (*SHORT, f"--workdir={trained}", "--config.optim.learning_rate=0.123")
    _, said = run_here(capsys, f"--config={CONFIG}", *flags, expect=2)
    assert re.search(r"optim\.learning_rate.*0\.123", said)
    assert "--override_config" in said
    flags = ("--mode=sample", f"--workdir={trained}", "--config.model.width=32")
    _, said = run_here(capsys, *flags, expect=2)
    assert "model.width: 64 -> 32" in said


def test_a_second_run_in_a_workdir_is_refused(tmp_path, capsys):
    with folder.lock(tmp_path):
        flags = (f"--config={CONFIG}", f"--workdir={tmp_path}")
        _, said = run_here(capsys, *flags, expect=2)
    assert str(os.getpid()) in said
    assert not (tmp_path / "checkpoints").exists()


# --- what is parsed -------------------------------------------------------------------


def test_the_order_of_the_flags_does_not_matter():
    flags = (
        "--config.optim.learning_rate=1e-2",
        f"--config={CONFIG}",
        "--config.training.num_steps=1e3",
        "--mode=sample",
        "--labels=0,1",
        "--workdir=~/x",
    )
    for given in (flags, flags[::-1]):
        parsed = commandline.parse(given)
        assert parsed.config.optim.learning_rate == 0.01
        assert parsed.config.training.num_steps == 1000
        assert type(parsed.config.training.num_steps) is int
        assert parsed.mode.name == "sample" and parsed.options.labels == (0, 1)
        assert parsed.workdir == Path.home() / "x"


def test_values_of_every_kind():
    flags = (
        "--config.sampler.clip",
        "--noconfig.inputs.flip",
        "--config.training.keep_every=10",
        "--config.optim.clip=None",
        "--config.evaluation.limit=none",
        "--config.optim.weight_decay",
        "1",
        "--config.data.seed=3",
        "--override_config",
        "--max_seconds=5",
    )
    parsed = commandline.parse([f"--config={CONFIG}", *flags])
    config = parsed.config
    assert config.sampler.clip is True and config.inputs.flip is False
    assert config.training.keep_every == 10 and config.data.seed == 3
    assert config.optim.clip is None and config.evaluation.limit is None
    assert config.optim.weight_decay == 1.0
    assert type(config.optim.weight_decay) is float
    assert parsed.flags.override_config and parsed.flags.max_seconds == 5.0
    images = [f"--config={ROOT}/configs/flow_matching_digits.py"]
    for text in ("(1,2,4)", "1,2,4", "[1, 2, 4]"):
        flag = f"--config.model.channel_multipliers={text}"
        given = commandline.parse([*images, flag]).config
        assert given.model.channel_multipliers == (1, 2, 4)


def test_another_network_brings_its_own_fields():
    flags = ["--config.model.backbone=dit", "--config.model.depth=3"]
    config = commandline.parse(
        [f"--config={ROOT}/configs/flow_matching_digits.py:tiny", *flags]
    ).config
    assert config.model.depth == 3 and "channel_multipliers" not in config.model
    assert config.model.num_classes is None  # which both have; its default is 0


def test_another_data_set_leaves_the_options_of_the_first_behind():
    flags = ["--config=gan_stacked_mnist", "--config.data.name=folder"]
    flags += ["--config.data.image_size=64"]
    data = commandline.parse(flags).config.data
    assert (data.name, data.image_size, data.num_train) == ("folder", 64, None)
    # what both have stays, and what the command line names is not dropped silently
    data = commandline.parse(
        ["--config=gan_1d", "--config.data.name=moons"]
    ).config.data
    assert (data.name, data.num_train) == ("moons", 50_000)
    data = commandline.parse([*flags, "--config.data.num_train=9"]).config.data
    assert data.num_train == 9
    flags = ["--config=cyclegan_digits", "--config.data.name=digits"]
    data = commandline.parse(flags).config.data
    assert data.known_map is None and data.a.name is None


@pytest.fixture
def own_pictures(tmp_path) -> Path:
    """30 gray pictures in class folders of 11, 10 and 9, and a bad one."""
    rng = np.random.default_rng(0)
    for i in range(30):
        home = tmp_path / "own" / "abc"[i % 3]
        home.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, rng.integers(9, 20, 2), np.uint8)
        Image.fromarray(pixels).save(home / f"{i}.png")
    (tmp_path / "own" / "a" / "bad.png").write_text("no picture")
    return tmp_path / "own"


def test_own_pictures_by_flags_alone(own_pictures, tmp_path, capsys, monkeypatch):
    """A model of 8 x 8 digits, on a folder of pictures of other sizes."""
    monkeypatch.setenv("GENJAX_CACHE", str(tmp_path / "cache"))
    flags = ["--config=pca_digits:tiny", f"--workdir={tmp_path / 'run'}"]
    flags += ["--config.data.name=folder", f"--config.data.dir={own_pictures}"]
    flags += ["--config.data.image_size=12"]
    _, said = run_here(capsys, *flags, expect=2)
    assert "1 of 31 pictures in" in said and "a/bad.png is no picture" in said
    assert not (tmp_path / "run" / "config.json").exists()
    run_here(capsys, *flags, "--config.data.skip_bad=True")
    record = json.loads((tmp_path / "run" / "config.json").read_text())
    assert record["data"]["shape"] == [12, 12, 1] and record["data"]["num_classes"] == 3
    assert record["data_notes"] == {
        "classes": ["a", "b", "c"],
        "left_out": {"a/bad.png": "is no picture, or damaged"},
    }


def test_a_size_that_does_not_fit_is_said_before_the_pictures_are_read(
    own_pictures, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("GENJAX_CACHE", str(tmp_path / "cache"))
    flags = ["--config=ddpm_cifar:tiny", f"--workdir={tmp_path / 'run'}"]
    flags += ["--config.data.name=folder", f"--config.data.dir={own_pictures}"]
    _, said = run_here(capsys, *flags, "--config.data.image_size=31", expect=2)
    assert "give fewer, or set data.image_size to 30 or 32" in said
    assert not (tmp_path / "cache").exists()


def test_a_config_by_its_name_and_the_default_workdir(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parsed = commandline.parse(["--config=flow_matching_toy2d:tiny"])
    assert parsed.workdir == tmp_path / "runs" / "flow_matching_toy2d_tiny"
    assert parsed.beside is not None and parsed.beside.is_file()


def test_a_trained_run_knows_its_config(trained):
    whole = commandline.parse([f"--config={CONFIG}", *SHORT]).config
    flags = ("--mode=sample", f"--workdir={trained}")
    parsed = commandline.parse(flags)
    assert parsed.config.to_dict() == whole.to_dict()
    changed = commandline.parse([*flags, "--config.sampler.num_steps=7"])
    assert changed.config.sampler.num_steps == 7
    with pytest.raises(UserError, match="--config is missing"):
        commandline.parse([f"--workdir={trained}"])  # to train


# --- help -----------------------------------------------------------------------------


def test_help_names_every_mode_and_every_flag(capsys):
    for flag in ("--help", "-h"):
        said, _ = run_here(capsys, flag)
        assert max(map(len, said.splitlines())) < 130
        for name in MODES:
            mode = find_mode(name)
            assert mode.name == name and mode.run and mode.summary in said
            assert mode.example in said and f"--mode={name}" in said
    for name in MODES:
        mode = find_mode(name)
        said, _ = run_here(capsys, f"--mode={name}", "--help")
        for flag, field in commandline.fields.fields_of(mode.options).items():
            assert f"--{flag}" in said and field.meaning.split()[0] in said
            assert field.meaning, f"--{flag} of --mode={name} has no meaning"


def test_examples_of_modes_are_commands():
    for name in MODES:
        words = find_mode(name).example.replace("'", "").split()
        assert words[:2] == ["python", "launch.py"]
        given = dict(commandline.words(words[2:]))
        assert given.get("mode", "train") == name
        commandline.read_flags(
            find_mode(name).options,
            {k: v for k, v in given.items() if k not in ("config", "workdir", "mode")},
        )


def test_examples_are_shown_as_the_program_was_called(monkeypatch, capsys):
    called = {
        "/somewhere/bin/genjax": "genjax --config=",
        launch.__file__: "python -m genjax --config=",
        "launch.py": "python launch.py --config=",
    }
    for program, example in called.items():
        monkeypatch.setattr(sys, "argv", [program])
        assert (
            launch.main() == UserError.exit_code
        )  # without arguments it says what to do
        assert example in capsys.readouterr().err


def test_a_reader_that_has_had_enough_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    program = [sys.executable, str(ROOT / "launch.py"), "--list"]
    done = subprocess.run(program, cwd=ROOT, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert done.returncode == launch.EXIT_NO_READER
    assert re.fullmatch(rb"genjax \S+: starting\n", done.stderr)


def test_list_names_the_configs(capsys):
    said, _ = run_here(capsys, "--list")
    head, *lines = said.splitlines()
    names = [line.split()[0] for line in lines]
    assert names == sorted(p.stem for p in (ROOT / "configs").glob("*.py"))
    data, time, words = map(head.index, ("data", "training took", "what it is"))
    by_name = dict(zip(names, lines, strict=True))
    for name, shown, took in (
        ("ddpm_digits", "digits", "171 s, 2 cores"),
        ("cyclegan_mnist_inverted", "mnist, inverted", "15 min, 1 core"),
        ("ddpm_cifar", "cifar10", ""),  # not measured: not said
    ):
        line = by_name[name]
        assert line[data:time].strip() == shown and line[time:words].strip() == took
    assert all(len(line) > words and line[words] != " " for line in lines)


def test_show_needs_no_data(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("genjax.data.datasets.load", None)
    flags = (f"--config={CONFIG}", f"--workdir={tmp_path / 'run'}", "--mode=show")
    said, _ = run_here(capsys, *flags, "--config.seed=5")
    assert re.search(r"seed = 5 \(default 0\)", said)
    assert not (tmp_path / "run").exists()


# --- a run goes on --------------------------------------------------------------------

QUICK = (  # two steps, and the least of everything else
    "--config.training.num_steps=2",
    "--config.training.save_every=1",
    "--config.evaluation.num_samples=0",
    "--config.likelihood.method=none",
)


@pytest.fixture(scope="module")
def short(tmp_path_factory) -> Path:
    """A run of QUICK."""
    workdir = tmp_path_factory.mktemp("short") / "run"
    flags = (*QUICK, "--config.optim.decay_steps=2", "--config.optim.warmup_steps=0")
    assert launch.main([f"--config={CONFIG}", f"--workdir={workdir}", *flags]) == 0
    return workdir


def test_a_run_is_trained_on_and_says_what_that_means(short, tmp_path, capsys):
    workdir = tmp_path / "run"
    shutil.copytree(short, workdir)
    here = f"--workdir={workdir}"
    _, said = run_here(capsys, here, "--extend_to=4")
    assert "training.num_steps: 2 -> 4" in said and "from step 2 to 4" in said
    assert "the learning rate is 0 from step 2 on" in said
    assert [x["learning_rate"] for x in metric_lines(workdir)][-1] == 0.0
    _, said = run_here(capsys, here, "--extend_to=4")  # the same command again
    assert "from step 4 to 4" in said and "learning rate" not in said
    _, said = run_here(capsys, here, "--extend_to=3", expect=2)
    assert "--extend_to=4 to go on as far" in said
    flag = "--config.optim.decay_steps=6"
    _, said = run_here(capsys, here, "--extend_to=6", flag)
    assert "optim.decay_steps: 2 -> 6" in said and "learning rate" not in said
    seconds = [x["seconds"] for x in metric_lines(workdir)]
    assert seconds == sorted(seconds)
    _, said = run_here(capsys, here, "--extend_to=8", "--config.seed=1", expect=2)
    assert "seed: 0 -> 1" in said
    both = ("--extend_to=8", "--config.training.num_steps=9")
    _, said = run_here(capsys, here, *both, expect=2)
    assert "--config.training.num_steps is set by another flag too" in said
    nowhere = f"--workdir={tmp_path / 'other'}"
    for flags in ((nowhere,), (nowhere, f"--config={CONFIG}")):
        _, said = run_here(capsys, *flags, "--extend_to=8", expect=2)
        assert "run" in said and not (tmp_path / "other").exists()


def test_checkpoints_that_were_removed_are_missed_aloud(short, tmp_path, capsys):
    workdir = tmp_path / "run"
    shutil.copytree(short, workdir)
    shutil.rmtree(workdir / "checkpoints")
    _, said = run_here(capsys, f"--workdir={workdir}", "--extend_to=2")
    assert "metrics up to step 2, but no checkpoint: training starts anew" in said


def test_a_run_begins_with_the_weights_of_another(short, tmp_path, capsys):
    workdir, flags = tmp_path / "run", (f"--config={CONFIG}", *QUICK)
    train = (*flags, f"--workdir={workdir}", "--config.seed=3")
    _, said = run_here(capsys, *train, f"--init_from={short}")
    assert re.search(r"step 2: (\d+) of \1 arrays taken", said)
    record = json.loads((workdir / "config.json").read_text())["init_from"]
    assert record["run"] == str(short) and record["step"] == 2 and not record["left"]
    before = digests(workdir, 2)
    _, said = run_here(capsys, *train, f"--init_from={short}")
    assert "goes on from its own step 2" in said and digests(workdir, 2) == before
    run_here(capsys, *train)
    record = json.loads((workdir / "config.json").read_text())["init_from"]
    assert record["run"] == str(short)  # not forgotten by those who do not ask again
    shutil.rmtree(workdir / "checkpoints")
    _, said = run_here(capsys, *train)
    assert f"weights of {short}, step 2" in said  # as the run began the first time
    assert digests(workdir, 2) == before


def test_weights_that_do_not_fit_are_refused(short, tmp_path, capsys):
    train = (f"--config={ROOT}/configs/pca_digits.py:tiny", f"--workdir={tmp_path}/a")
    _, said = run_here(capsys, *train, f"--init_from={short}", expect=2)
    assert "none of its" in said and "has the path and the shape" in said
    _, said = run_here(capsys, *train, f"--init_from={tmp_path}", expect=2)
    assert "--init_from: there is no trained run" in said
    assert said.count("\n") == 1 and not (tmp_path / "a" / "config.json").exists()


def test_the_end_names_scores_beside_their_baselines_and_the_files(trained, capsys):
    _, said = run_here(capsys, f"--config={CONFIG}", *SHORT, f"--workdir={trained}")
    result = json.loads((trained / f"evaluation/{NUM_STEPS}.json").read_text())
    score, floor = (
        result["metrics"][name] for name in ("wasserstein2", "wasserstein2_floor")
    )
    assert f"wasserstein2 {score:.4g}  (floor {floor:.4g})" in said
    assert re.search(r"\nnll_nats \S+  \(.*ppca [\d.]+", said)
    assert f"picture: {trained}/samples/{NUM_STEPS}.png" in said
    assert said.endswith(f"evaluation: {trained}/evaluation/{NUM_STEPS}.json\n")


def test_the_first_words_come_before_the_imports():
    """The command line itself cannot be imported here, and JAX is not yet."""
    code = (
        "import sys, launch; sys.modules['genjax.commandline'] = None\n"
        "try: launch.main(['--list'])\n"
        "except ImportError: print('jax' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == f"genjax {genjax.__version__}: starting\nFalse\n"


# --- code that has changed ------------------------------------------------------------


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A copy of the experiment and its config, elsewhere."""
    for name in ("experiments/flow_matching.py", "configs/flow_matching_toy2d.py"):
        (tmp_path / name).parent.mkdir()
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    commandline.configs.find_experiment("flow_matching", Path(CONFIG))


def test_a_run_whose_code_changed_asks(project, capsys):
    train = (
        "--config=configs/flow_matching_toy2d.py:tiny",
        f"--workdir={project / 'run'}",
        *QUICK,
    )
    run_here(capsys, *train)
    _, said = run_here(capsys, "--workdir=run", "--mode=sample", "--num_samples=1")
    assert "has changed" not in said
    file = project / "experiments" / "flow_matching.py"
    file.write_text(file.read_text() + "\n# edited\n")
    _, said = run_here(capsys, *train, expect=2)
    assert said.count("\n") == 1
    assert (
        "experiments/flow_matching.py has changed" in said and "--accept_code" in said
    )
    _, said = run_here(capsys, "--workdir=run", "--mode=sample", "--num_samples=1")
    assert "has changed since step 2" in said
    _, said = run_here(capsys, *train, "--accept_code")
    assert "has changed" in said
    run_here(capsys, *train)  # once accepted, it is the code of the run
    old = json.loads((project / "run/checkpoints/2/meta/metadata").read_text())
    assert old["body"]["meta"]["code"] != folder.read_run(project / "run").code

"""Runs in a bucket, as a user starts them: killed, resumed, refused, read."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import genjax
from genjax import commandline
from genjax.data import datasets
from genjax.data.files import read_files
from genjax.places import place
from genjax.training import metrics
from genjax.typing import UserError

ROOT = Path(__file__).parents[2]
CONFIG = "pca_digits:tiny"


@pytest.fixture
def launch(server):
    """Starts the program in a process of its own."""
    started = []

    def start(*arguments):
        process = subprocess.Popen(
            [sys.executable, "launch.py", *arguments],
            cwd=ROOT,
            env={**os.environ, **server.environment()},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def digests_of(workdir, step):
    """What the checkpoint says of each leaf of the state, to the bit."""
    path = place(workdir) / "checkpoints" / str(step) / "meta" / "metadata"
    body = json.loads(path.read_text())["body"]
    assert body["step"] == step and len(body["leaves"]) > 2
    return body["leaves"]


def lines_of(workdir):
    """The lines of metrics, without what the clock says."""
    clock = ("seconds", "steps_per_second", "images_per_second")
    return [
        {name: value for name, value in line.items() if name not in clock}
        for split in ("train", "eval")
        for line in metrics.read_lines(workdir, split)
    ]


def test_a_killed_run_goes_on_bit_for_bit(server, folder, launch, tmp_path):
    def at_the_second_checkpoint(method, target):
        """Kills the run when half of step 4 lies there."""
        if method == "POST" and f"{folder.name}/checkpoints/4/state" in target:
            os.kill(process.pid, signal.SIGKILL)

    server.fault = at_the_second_checkpoint
    command = [f"--config={CONFIG}", f"--workdir={folder}", "--lease_seconds=1"]
    process = launch(*command)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert server.names(f"{folder.name}/checkpoints/2/commit_success.txt")
    assert server.names(f"{folder.name}/checkpoints/4/")
    assert not server.names(f"{folder.name}/checkpoints/4/commit_success.txt")
    server.fault = lambda method, target: None

    again = launch(*command)
    _, said = again.communicate(timeout=120)
    assert again.returncode == 0, said
    assert f"the lease of process {process.pid} on " in said
    assert f"{folder}: from step 2 to 4" in said
    assert "Traceback" not in said

    genjax.train(CONFIG, tmp_path / "here")
    assert digests_of(folder, 4) == digests_of(tmp_path / "here", 4)
    assert lines_of(folder) == lines_of(tmp_path / "here")
    for name in ("evaluation/4.json", "samples/4.png"):
        assert (folder / name).exists(), name
    assert server.names(f"{folder.name}/tensorboard/events")
    assert not server.names(f"{folder.name}/LOCK")
    assert not Path("gs:").exists() and not (ROOT / "gs:").exists()


def test_a_notebook_trains_reads_and_exports(folder):
    run = genjax.train(CONFIG, str(folder))
    assert run.step == 4
    here = genjax.load(str(folder)).sample(3)
    commandline.parse(
        [
            f"--workdir={folder}",
            "--mode=sample",
            "--num_samples=3",
            f"--out={folder}/drawn",
        ]
    ).start()
    with (folder / "drawn" / "samples.npz").open("rb") as file:
        np.testing.assert_array_equal(np.load(file)["arr_0"], here)
    commandline.parse(
        [f"--workdir={folder}", "--mode=export", f"--out={folder}/given"]
    ).start()
    given = genjax.load(f"{folder}/given")
    np.testing.assert_array_equal(given.sample(3), here)
    with pytest.raises(UserError, match="there is no trained run in gs://bucket/"):
        genjax.load(folder / "nothing")


def test_data_of_an_npz_may_lie_in_a_bucket(server, folder):
    images = np.random.RandomState(0).randint(0, 256, (20, 4, 4), np.uint8)
    with (folder / "own.npz").open("wb") as file:
        np.savez(file, images=images)
    found = datasets.load("npz", f"{folder}/own.npz")
    assert found.spec.shape == (4, 4, 1)
    with pytest.raises(UserError, match="no file gs://bucket/.*/none.npz"):
        datasets.load("npz", f"{folder}/none.npz")
    read = read_files(folder / "own.npz")  # samples to be scored, too
    assert len(read.split) == 20
    with pytest.raises(UserError, match="is a folder of a bucket: copy it to a disk"):
        read_files(folder)


@pytest.mark.slow
def test_another_run_begins_with_weights_in_a_bucket(folder, tmp_path, capsys):
    genjax.train("vae_digits:tiny", folder)
    run = genjax.train("vae_digits:tiny", tmp_path / "next", init_from=folder)
    assert f"weights of {folder}, step 4" in capsys.readouterr().err
    record = json.loads((run.workdir / "config.json").read_text())
    assert record["init_from"]["run"] == str(folder)


@pytest.mark.slow
def test_two_runs_on_one_folder(server, folder, launch):
    command = [f"--config={CONFIG}", f"--workdir={folder}", "--lease_seconds=4"]
    first = launch(*command, "--config.training.num_steps=100000")
    for line in first.stderr:
        if "from step 0" in line:
            break
    second = launch(*command, "--config.training.num_steps=100000")
    _, said = second.communicate(timeout=120)
    assert second.returncode == 2
    assert f"is in use by process {first.pid} on " in said.splitlines()[-1]
    first.send_signal(signal.SIGTERM)
    _, said = first.communicate(timeout=120)
    assert first.returncode == 75, said
    assert "Traceback" not in said


@pytest.mark.slow
def test_lost_permission_ends_a_run_and_hurts_nothing(server, folder, launch):
    command = [f"--config={CONFIG}", f"--workdir={folder}", "--lease_seconds=1"]
    server.fault = lambda method, target: (
        403 if "/checkpoints/4" in target and method == "POST" else None
    )
    process = launch(*command)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 78, said
    assert "checkpoint 4 could not be written to gs://" in said.splitlines()[-1]
    server.fault = lambda method, target: 403
    process = launch(*command)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 2, said
    assert "refuses access" in said.splitlines()[-1] and "Traceback" not in said
    server.fault = lambda method, target: None
    process = launch(*command)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert f"{folder}: from step 2 to 4" in said
    assert not [name for name in server.names(f"{folder.name}/") if "CORRUPT" in name]


@pytest.mark.slow
def test_a_run_goes_on_through_a_storm(server, folder, launch, tmp_path):
    count = 0

    def storm(method, target):
        nonlocal count
        count += 1
        return {0: 503, 4: 429, 8: 0}.get(count % 12)  # one request in four

    server.fault = storm
    process = launch(f"--config={CONFIG}", f"--workdir={folder}")
    _, said = process.communicate(timeout=500)
    assert process.returncode == 0, said
    assert "Traceback" not in said
    server.fault = lambda method, target: None
    genjax.train(CONFIG, tmp_path / "here")
    assert digests_of(folder, 4) == digests_of(tmp_path / "here", 4)
    assert lines_of(folder) == lines_of(tmp_path / "here")


@pytest.mark.slow
def test_a_run_whose_folder_was_taken_stops(server, folder, launch):
    process = launch(
        f"--config={CONFIG}",
        f"--workdir={folder}",
        "--lease_seconds=2",
        "--config.training.num_steps=1000000",
    )
    for line in process.stderr:
        if "from step 0" in line:
            break
    thief = {"host": "thief", "pid": 7, "started": "now", "seconds": 60, "nonce": "x"}
    server.put(f"{folder.name}/LOCK", json.dumps(thief).encode())
    _, said = process.communicate(timeout=120)
    assert process.returncode == 78, said
    assert "was taken over by process 7 on thief" in said.splitlines()[-1]
    assert "Traceback" not in said

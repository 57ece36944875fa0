"""Two processes of two devices each are one run, from the real command line."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from genjax.training.distributed import in_cluster, initialize
from genjax.typing import UserError

ROOT = Path(__file__).parents[2]
COMMAND = [
    sys.executable,
    "launch.py",
    "--config=configs/ddpm_toy2d.py:tiny",
    "--config.training.num_steps=200",
    "--config.training.steps_per_call=10",
    "--config.training.log_every=10",  # a call, so that a stop cuts no mean in two
    "--config.training.save_every=100",
    "--config.training.eval_every=200",
    "--config.evaluation.num_samples=200",
    "--config.evaluation.limit=200",
]


def start(workdir, *flags: str, num_devices: int) -> subprocess.Popen:
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={num_devices}",
    }
    return subprocess.Popen(
        [*COMMAND, f"--workdir={workdir}", *flags],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_two(workdir, *flags: str) -> list[subprocess.Popen]:
    with socket.socket() as probe:  # the port is free now; taken, JAX would crash
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    together = (f"--coordinator=localhost:{port}", "--num_processes=2")
    return [
        start(workdir, *flags, *together, f"--process_id={i}", num_devices=2)
        for i in range(2)
    ]


def wait(processes, codes) -> list[str]:
    ended = [p.communicate(timeout=240)[1] for p in processes]
    for process, code, stderr in zip(processes, codes, ended, strict=True):
        assert process.returncode == code, stderr[-3000:]
    return ended


def losses(workdir: Path) -> dict[int, float]:
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return {x["step"]: x["loss"] for x in lines if x["split"] == "train"}


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("alone")
    wait([start(workdir, num_devices=1)], [0])
    return workdir


@pytest.mark.slow
def test_two_processes_compute_what_one_does(alone, tmp_path):
    both = start_two(tmp_path)
    wait(both, [0, 0])
    assert losses(tmp_path).keys() == losses(alone).keys()
    for step, loss in losses(alone).items():
        np.testing.assert_allclose(losses(tmp_path)[step], loss, rtol=1e-5)
    last = max(losses(alone))
    with (tmp_path / f"evaluation/{last}.json").open() as file:
        together = json.load(file)["metrics"]
    with (alone / f"evaluation/{last}.json").open() as file:
        for name, value in json.load(file)["metrics"].items():
            assert together[name] == pytest.approx(value, rel=1e-3, abs=1e-4), name


@pytest.mark.slow
def test_a_stop_of_one_process_stops_both_and_one_goes_on(alone, tmp_path):
    processes = start_two(tmp_path)
    path = tmp_path / "metrics.jsonl"
    while not (path.exists() and path.read_text().count("\n") >= 1):
        assert all(p.poll() is None for p in processes)
    processes[1].terminate()
    wait(processes, [75, 75])
    wait([start(tmp_path, num_devices=1)], [0])
    for step, loss in losses(alone).items():
        np.testing.assert_allclose(losses(tmp_path)[step], loss, rtol=1e-4)


def test_a_refusal_of_process_0_ends_both(tmp_path):
    (tmp_path / "config.json").write_text("{")
    said = wait(start_two(tmp_path), [2, 2])
    assert "config.json" in said[0] and "process 0" in said[1]


def test_the_three_flags_go_together():
    with pytest.raises(UserError, match="go together"):
        initialize("localhost:1234", None, 0)
    with pytest.raises(UserError, match=r"0 \.\.\. 1, got 2"):
        initialize("localhost:1234", 2, 2)


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        ({"SLURM_NTASKS": "1", "SLURM_STEP_NODELIST": "a"}, False),
        ({"SLURM_NTASKS": "4"}, False),  # sbatch, but not srun
        ({"SLURM_NTASKS": "4", "SLURM_STEP_NODELIST": "a,b"}, True),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, True),
        ({"TPU_WORKER_HOSTNAMES": "t0"}, False),
        ({"TPU_WORKER_HOSTNAMES": "t0,t1"}, True),
        ({"JOB_COMPLETIONS": "8"}, True),
    ],
)
def test_clusters_are_known_by_their_variables(environment, wanted):
    assert in_cluster(environment) is wanted

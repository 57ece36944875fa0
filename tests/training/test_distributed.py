"""Two processes of two devices each are one run, from the real command line."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from genjax.training.distributed import check_address, initialize
from genjax.typing import UserError
from tests.training.metadata_server import metadata_server

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


def popen(
    program: list[str],
    num_devices: int,
    cwd: Path = ROOT,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> subprocess.Popen:
    environment = {**os.environ, **environment} | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={num_devices}",
    }
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(program, cwd=cwd, env=environment, text=True, **pipes)


def start(workdir, *flags: str, num_devices: int) -> subprocess.Popen:
    return popen([*COMMAND, f"--workdir={workdir}", *flags], num_devices)


def free_port() -> int:
    """Free now; were it taken, process 0 would say so."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def start_two(workdir, *flags: str, last: tuple[str, ...] = ()) -> list:
    """last: flags of process 1 alone."""
    together = (f"--coordinator=localhost:{free_port()}", "--num_processes=2")
    return [
        start(workdir, *flags, *own, *together, f"--process_id={i}", num_devices=2)
        for i, own in enumerate(((), last))
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


def test_a_difference_ends_both_before_anything_is_made(tmp_path):
    workdir = tmp_path / "run"
    both = start_two(workdir, last=("--config.optim.learning_rate=0.5",))
    said = wait(both, [2, 2])
    for text in said:
        assert text.count("genjax: the processes") == 1, said
        (line,) = [x for x in text.splitlines() if x.startswith("genjax: ")]
        assert "config.optim.learning_rate is 0.002 in process 0" in line
        assert "0.5 in process 1" in line
    assert not workdir.exists()


@pytest.mark.slow
def test_a_difference_of_the_data_ends_both(tmp_path):
    """The same command where a path leads to another file on each machine."""
    processes, port = [], free_port()
    for i in range(2):
        (tmp_path / str(i)).mkdir()
        images = np.random.default_rng(i).integers(0, 256, (64, 8, 8, 1), np.uint8)
        np.savez(tmp_path / str(i) / "data.npz", images=images, labels=np.arange(64))
        flags = [
            f"--config={ROOT}/configs/vae_digits.py:tiny",
            "--config.data.name=npz",
            "--config.data.dir=/proc/self/cwd/data.npz",
            f"--coordinator=localhost:{port}",
            "--num_processes=2",
            f"--process_id={i}",
            f"--workdir={tmp_path}/run",
        ]
        program = [sys.executable, f"{ROOT}/launch.py", *flags]
        processes.append(popen(program, num_devices=2, cwd=tmp_path / str(i)))
    for text in wait(processes, [2, 2]):
        assert "the fingerprint of the data is" in text and "Traceback" not in text


@pytest.mark.slow
def test_what_fails_in_one_ends_both_with_its_code(tmp_path):
    """Process 0 writes the metrics; a save may be on its way, which needs both."""
    flags = ("--config.training.save_every=10", "--config.training.num_steps=100000")
    processes = start_two(tmp_path / "run", *flags)
    while not (tmp_path / "run/checkpoints/20").is_dir():
        assert all(p.poll() is None for p in processes)
        time.sleep(0.05)
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    began = time.monotonic()
    said = wait(processes, [78, 78])
    assert time.monotonic() - began < 60
    assert all(text.count("genjax: ") == 1 and "Traceback" not in text for text in said)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_other_and_fewer_go_on(alone, tmp_path, killed):
    processes = start_two(tmp_path)
    while not (tmp_path / "checkpoints/100").is_dir():
        assert all(p.poll() is None for p in processes)
        time.sleep(0.05)
    processes[killed].kill()
    began = time.monotonic()
    codes = [75, 75]
    codes[killed] = -signal.SIGKILL
    said = wait(processes, codes)[1 - killed]
    assert time.monotonic() - began < 60
    assert said.count("another process of this run died") == 1
    assert "Check failure" not in said and "Traceback" not in said
    wait([start(tmp_path, num_devices=1)], [0])
    for step, loss in losses(alone).items():
        np.testing.assert_allclose(losses(tmp_path)[step], loss, rtol=1e-4)


def launched(i: int, kind: str, address: str) -> dict[str, str]:
    """What a launcher of this kind tells process i of two."""
    if kind == "slurm":
        names = {"JOB_ID": "7", "STEP_NODELIST": "localhost", "NTASKS": "2"}
        names |= {"PROCID": str(i), "LOCALID": "0"}
        return {f"SLURM_{name}": value for name, value in names.items()}
    if kind == "open_mpi":
        names = {"SIZE": "2", "RANK": str(i), "LOCAL_RANK": "0"}
        return {
            "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://127.0.0.1:34911",
            **{f"OMPI_COMM_WORLD_{name}": value for name, value in names.items()},
        }
    # As if there were chips: JAX asks the metadata server where it finds them.
    return {"JAX_FORCE_TPU_INIT": "1", "GCE_METADATA_IP": address}


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("slurm", marks=pytest.mark.slow),
        pytest.param("open_mpi", marks=pytest.mark.slow),
        "tpu_vm",
    ],
)
def test_processes_meet_as_their_launcher_says(kind, tmp_path):
    """They differ in their seed, which they can only know once they have met."""
    program = (
        "import os, sys, jax; os.environ.pop('TPU_SKIP_MDS_QUERY', None);"
        "from genjax.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    endpoints = {"worker-network-endpoints": "a:b:127.0.0.1,c:d:127.0.0.1"}
    port, processes = str(free_port()), []
    with contextlib.ExitStack() as servers:
        for i in range(2):
            own = {"agent-worker-number": str(i), "tpu-env": f"WORKER_ID: '{i}'"}
            server = metadata_server({**endpoints, **own})
            told = launched(i, kind, servers.enter_context(server))
            flags = [*COMMAND[2:], f"--workdir={tmp_path}/run", f"--config.seed={i}"]
            command = [sys.executable, "-c", program, *flags]
            told["JAX_COORDINATOR_PORT"] = port
            processes.append(popen(command, num_devices=1, environment=told))
        for text in wait(processes, [2, 2]):
            assert "config.seed is 0 in process 0 and 1 in process 1" in text
    assert not (tmp_path / "run").exists()


def test_the_three_flags_go_together():
    with pytest.raises(UserError, match="go together"):
        initialize("localhost:1234", None, 0, 1)
    with pytest.raises(UserError, match=r"0 \.\.\. 1, got 2"):
        initialize("localhost:1234", 2, 2, 1)


@pytest.mark.parametrize("address", ["localhost", "localhost:", ":1234", "a:99999"])
def test_an_address_has_a_host_and_a_port(address):
    with pytest.raises(UserError, match="is no address"):
        check_address(address, serves=False)


def test_a_port_that_is_taken_is_said():
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = other.getsockname()[1]
        check_address(f"localhost:{port}", serves=False)
        with pytest.raises(UserError, match=f"port {port} .* cannot be taken"):
            check_address(f"localhost:{port}", serves=True)


def test_others_that_do_not_come_are_a_sentence(tmp_path):
    flags = ("--coordinator=localhost:9", "--num_processes=2", "--process_id=1")
    process = start(tmp_path / "run", *flags, "--join_seconds=1", num_devices=1)
    (said,) = wait([process], [2])
    assert "process 1 of 2 did not meet the others at localhost:9" in said
    assert not (tmp_path / "run").exists() and "RPC" not in said.split("genjax:")[-1]

"""What launchers set, as their documentation has it; no cluster is needed."""

import socket
import time

import pytest

from genjax.training import cluster
from genjax.training.cluster import has_several, local_device_ids
from genjax.typing import UserError
from tests.training.metadata_server import metadata_server

SLURM = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
SRUN = {**SLURM, "SLURM_STEP_NODELIST": "node[001-002]"}
OMPI = {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_LOCAL_RANK": "0"}
ORTE = {"OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1:34911"}


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        ({**SRUN, "SLURM_NTASKS": "1"}, False),
        ({**SLURM, "SLURM_NTASKS": "4"}, False),  # sbatch, but not srun
        ({**SRUN, "SLURM_NTASKS": "4"}, True),
        ({**OMPI, **ORTE, "OMPI_COMM_WORLD_SIZE": "2"}, True),
        ({**OMPI, "OMPI_COMM_WORLD_SIZE": "1"}, False),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, False),  # a pod of no Job
        ({"JOB_COMPLETION_INDEX": "1"}, False),
    ],
)
def test_launchers_are_known_by_their_variables(environment, wanted):
    assert has_several(environment, on_tpu_vm=False) is wanted


def test_an_indexed_job_asks_kubernetes_as_jax_does(monkeypatch):
    """Without its package JAX says that it is missing, and finds no cluster."""
    pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "1"}
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    with pytest.warns(UserWarning, match="kubernetes"):
        assert has_several(pod, on_tpu_vm=False) is False


def test_open_mpi_5_is_told_what_to_give():
    with pytest.raises(UserError, match="OMPI_COMM_WORLD_RANK"):
        has_several({**OMPI, "OMPI_COMM_WORLD_SIZE": "2"}, on_tpu_vm=False)


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, False),
        ({"TPU_WORKER_HOSTNAMES": "t0,t1"}, True),
        ({"TPU_PROCESS_ADDRESSES": "t0:1,t1:1", "TPU_WORKER_HOSTNAMES": "t0"}, True),
        ({"TPU_WORKER_HOSTNAMES": "t0", "MEGASCALE_NUM_SLICES": "2"}, True),
        ({"TPU_SKIP_MDS_QUERY": "1"}, False),
    ],
)
def test_tpu_hosts_in_kubernetes(environment, wanted):
    assert has_several(environment, on_tpu_vm=True) is wanted


@pytest.mark.parametrize(
    ("attributes", "wanted"),
    [
        ({"worker-network-endpoints": "10.0.0.2"}, False),
        ({"worker-network-endpoints": "a:b:10.0.0.2,c:d:10.0.0.3"}, True),
        ({"worker-network-endpoints": "10.0.0.2,10.0.0.3"}, True),
        (
            {
                "worker-network-endpoints": "10.0.0.2",
                "tpu-env": "ZONE: 'x'\nMEGASCALE_NUM_SLICES: '2'\nWORKER_ID: '0'",
            },
            True,
        ),
        ({}, False),
    ],
)
def test_a_tpu_vm_asks_its_metadata_server(attributes, wanted):
    with metadata_server(attributes) as address:
        environment = {"GCE_METADATA_IP": address, "http_proxy": "http://127.0.0.1:9"}
        assert has_several(environment, on_tpu_vm=True) is wanted


def test_no_metadata_server_is_a_line_and_no_wait(monkeypatch):
    monkeypatch.setattr(cluster, "METADATA_SECONDS", 0.3)
    said = []
    with socket.socket() as silent:  # takes the connection, and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        environment = {"GCE_METADATA_IP": address}
        assert has_several(environment, on_tpu_vm=True, say=said.append) is False
        assert time.monotonic() - began < 3
    assert has_several(environment, on_tpu_vm=True, say=said.append) is False
    assert all("TPU_SKIP_MDS_QUERY=1" in line for line in said) and len(said) == 2


def test_off_a_tpu_vm_no_metadata_server_is_asked(monkeypatch):
    monkeypatch.setattr(cluster, "METADATA_HOST", "127.0.0.1:9")
    assert has_several({}, say=pytest.fail) is False


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, None),
        ({"SLURM_NTASKS": "2", "SLURM_GPUS_ON_NODE": "4"}, [0, 1, 2, 3]),
        (
            {
                "SLURM_NTASKS": "2",
                "SLURM_GPUS_ON_NODE": "4",
                "SLURM_STEP_TASKS_PER_NODE": "1(x2)",
            },
            [0, 1, 2, 3],
        ),
        (
            {
                "SLURM_NTASKS": "8",
                "SLURM_GPUS_ON_NODE": "4",
                "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
            },
            None,
        ),
        (
            {
                "SLURM_NTASKS": "2",
                "SLURM_GPUS_ON_NODE": "4",
                "JAX_LOCAL_DEVICE_IDS": "1",
            },
            None,
        ),
    ],
)
def test_one_slurm_task_a_node_has_all_its_gpus(environment, wanted):
    assert local_device_ids(environment) == wanted

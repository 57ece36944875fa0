"""Whether a launcher started this process as one of several, and how to join them.

JAX finds the coordinator and the ranks itself (`jax.distributed.initialize`), but asked
where there is only one process it fails or waits. So it is asked only where the
environment, or the metadata server of a TPU VM, speaks of more than one.
"""

import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping

from jax._src import cloud_tpu_init  # whether JAX found chips; nothing public says so

from genjax.typing import UserError

METADATA_SECONDS = 5.0  # it answers in milliseconds where there is one
METADATA_HOST = "metadata.google.internal"


def has_several(
    environment: Mapping[str, str],
    *,
    on_tpu_vm: bool | None = None,
    say: Callable[[str], object] = print,
) -> bool:
    """Whether this is one process of several, as JAX's own detection sees it.

    on_tpu_vm: None asks JAX. say: is told if the metadata server does not answer.
    Raises UserError for a launcher that JAX cannot join by itself.
    """
    if int(environment.get("OMPI_COMM_WORLD_SIZE") or 1) > 1:
        _check_open_mpi(environment)
        return True
    if "SLURM_STEP_NODELIST" in environment:  # else inside sbatch, but not under srun
        return int(environment.get("SLURM_NTASKS") or 1) > 1
    if on_tpu_vm is None:
        on_tpu_vm = cloud_tpu_init.running_in_cloud_tpu_vm
    if on_tpu_vm:
        return _tpu_hosts(environment, say) > 1
    return _is_indexed_job(environment)


def _check_open_mpi(environment: Mapping[str, str]) -> None:
    """Open MPI 5 no longer says where process 0 is."""
    if "OMPI_MCA_orte_hnp_uri" not in environment:
        raise UserError(
            "this is one process of several under Open MPI, which does not say where "
            "process 0 is (only version 4 does): give --coordinator=HOST:PORT, "
            "--num_processes=$OMPI_COMM_WORLD_SIZE and "
            "--process_id=$OMPI_COMM_WORLD_RANK"
        )


def local_device_ids(environment: Mapping[str, str]) -> list[int] | None:
    """Under SLURM with one task a node, all of the node's GPUs.

    JAX itself would take only the one numbered SLURM_LOCALID. None leaves it to JAX.
    """
    if "SLURM_NTASKS" not in environment or "JAX_LOCAL_DEVICE_IDS" in environment:
        return None
    # like "1" or "1(x4)", and "4,2(x3)" where nodes differ
    tasks = environment.get("SLURM_STEP_TASKS_PER_NODE") or ""
    tasks = environment.get("SLURM_NTASKS_PER_NODE") or tasks
    if any(
        number != "1" for number in re.sub(r"\(x\d+\)", "", tasks or "1").split(",")
    ):
        return None
    gpus = environment.get("SLURM_GPUS_ON_NODE") or ""
    return list(range(int(gpus))) if gpus.isdigit() else None


def _is_indexed_job(environment: Mapping[str, str]) -> bool:
    """Whether this is a pod of a Kubernetes Job that JAX can ask for the others.

    Without the package `kubernetes` it cannot, and the pods are taken as runs of their
    own, such as those of a sweep.
    """
    if not {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"} <= environment.keys():
        return False
    from jax._src import clusters

    return clusters.K8sCluster.is_env_present() and (
        clusters.K8sCluster.get_process_count() > 1
    )


def _tpu_hosts(environment: Mapping[str, str], say: Callable[[str], object]) -> int:
    """The hosts of all slices together."""
    named = environment.get("TPU_PROCESS_ADDRESSES")
    named = environment.get("TPU_WORKER_HOSTNAMES") if named is None else named
    slices = int(environment.get("MEGASCALE_NUM_SLICES") or 1)
    if named is not None:  # Kubernetes
        return len(named.split(",")) * slices
    if environment.get("TPU_SKIP_MDS_QUERY") is not None:
        return 1
    try:
        workers = _metadata(environment, "worker-network-endpoints")
        if "MEGASCALE_NUM_SLICES" not in environment:
            found = re.search(
                r"MEGASCALE_NUM_SLICES\s*:\s*'?(\d+)",
                _metadata(environment, "tpu-env") or "",
            )
            slices = int(found[1]) if found else 1
    except (OSError, http.client.HTTPException) as error:
        say(
            "the metadata server of this TPU VM does not answer "
            f"({getattr(error, 'reason', None) or error}): this host is taken as "
            "alone; TPU_SKIP_MDS_QUERY=1 says so without asking"
        )
        return 1
    return len((workers or "").split(",")) * slices


def _metadata(environment: Mapping[str, str], key: str) -> str | None:
    """An attribute of this TPU VM; None if it has none of that name. Raises OSError."""
    host = environment.get("GCE_METADATA_IP", METADATA_HOST)  # as JAX reads it
    address = f"http://{host}/computeMetadata/v1/instance/attributes/{key}"
    request = urllib.request.Request(address, headers={"Metadata-Flavor": "Google"})
    # Not through a proxy: the address is of this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=METADATA_SECONDS) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:  # it is the answer, too
            if error.code == 404:
                return None
            raise

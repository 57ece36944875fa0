"""Several processes as one run: TPU VM slices, SLURM, Open MPI, Kubernetes, or by hand.

Must be called before anything else touches a device.
"""

import os
from collections.abc import Callable, Mapping

import jax
import numpy as np
from jax.experimental import multihost_utils

from genjax.typing import SaveError, UserError

# Set by the launcher of each kind of cluster when it starts several processes; the
# coordinator and the ranks are then found by jax.distributed itself.
CLUSTER_SIZES = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "JOB_COMPLETIONS")


def initialize(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Joins the other processes of this run; does nothing when there are none.

    coordinator: "host:port" of process 0, with num_processes and process_id; leave all
        three out where the cluster names them.
    Raises UserError if only some of the three are given.
    """
    # It would race with our own stop flag, and is blind in runs of one process.
    jax.config.update("jax_enable_preemption_service", False)
    given = [x is not None for x in (coordinator, num_processes, process_id)]
    if any(given) and not all(given):
        raise UserError(
            "--coordinator, --num_processes and --process_id go together: give all "
            "three, or none where SLURM, Open MPI, Kubernetes or a TPU VM names them"
        )
    if all(given):
        assert num_processes is not None and process_id is not None
        if not 0 <= process_id < num_processes:
            raise UserError(
                f"--process_id must lie in 0 ... {num_processes - 1}, got {process_id}"
            )
        jax.distributed.initialize(coordinator, num_processes, process_id)
    elif in_cluster(os.environ):
        try:
            jax.distributed.initialize(local_device_ids=_local_device_ids(os.environ))
        except ValueError as error:
            raise UserError(
                "this looks like one process of several, but the coordinator could not "
                f"be found ({error}); give --coordinator, --num_processes, --process_id"
            ) from error


def is_first() -> bool:
    """Whether this is the process that talks to the user and writes files."""
    return jax.process_index() == 0


def on_first_process(action: Callable[[], None]) -> None:
    """Runs `action` in process 0 while the others wait for it.

    A UserError or SaveError there ends the other processes too, instead of leaving them
    to wait.
    """
    error: UserError | SaveError | None = None
    if is_first():
        try:
            action()
        except (UserError, SaveError) as caught:
            error = caught
    if any_process(error is not None):
        raise error or UserError("process 0 refused to go on and says why")


def any_process(flag: bool) -> bool:
    """True in every process if `flag` is true in one; all processes must call it."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))


def in_cluster(environment: Mapping[str, str]) -> bool:
    """Whether these environment variables speak of more than one process."""
    hosts = environment.get("TPU_WORKER_HOSTNAMES", "")
    if "," in hosts:
        return True
    if environment.get("SLURM_NTASKS") and "SLURM_STEP_NODELIST" not in environment:
        return False  # inside sbatch but not under srun: one process only
    return any(int(environment.get(name) or 1) > 1 for name in CLUSTER_SIZES)


def _local_device_ids(environment: Mapping[str, str]) -> list[int] | None:
    """Under SLURM with one task a node, all of the node's GPUs.

    JAX itself would take only the one numbered SLURM_LOCALID.
    """
    if "SLURM_NTASKS" not in environment or "JAX_LOCAL_DEVICE_IDS" in environment:
        return None
    if int(environment.get("SLURM_NTASKS_PER_NODE") or 1) > 1:
        return None
    gpus = environment.get("SLURM_GPUS_ON_NODE") or ""
    return list(range(int(gpus))) if gpus.isdigit() else None

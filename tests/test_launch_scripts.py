"""The scripts in launch/, with a gcloud, srun and scontrol that write down calls."""

import os
import shlex
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from genjax import commandline, fields
from genjax.typing import DivergedError, LostProcess, SaveError, UserError

ROOT = Path(__file__).parents[1]
LAUNCH = ROOT / "launch"
SCRIPTS = sorted(p for p in LAUNCH.iterdir() if p.suffix in (".sh", ".sbatch"))
SLICE = {"NAME": "mine", "ZONE": "us-central2-b", "TYPE": "v4-32", "VERSION": "base"}
SLICE |= {"POLL": "0"}
ARGUMENTS = ["--config=ddpm_toy2d:tiny", "--workdir=/shared/my run"]


@pytest.fixture
def tools(tmp_path):
    """A folder of programs that each write their words to the file `calls`."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def make(name: str, body: str = "") -> None:
        path = folder / name
        path.write_text(
            f"#!/usr/bin/env bash\nprintf '%q ' {name} \"$@\" >> {tmp_path}/calls\n"
            f"echo >> {tmp_path}/calls\ncd {tmp_path}\n{body}\n"
        )
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    return make


def run(
    script: str, tmp_path: Path, environment: Mapping[str, str], *arguments: str
) -> tuple[subprocess.CompletedProcess, list[list[str]]]:
    """What came of it, and the calls of the programs of `tools`."""
    done = subprocess.run(
        ["bash", str(LAUNCH / script), *arguments],
        env=os.environ
        | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
        | {"TMPDIR": str(tmp_path)}
        | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    calls = tmp_path / "calls"
    lines = calls.read_text().splitlines() if calls.exists() else []
    return done, [shlex.split(line) for line in lines]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.name)
def test_scripts_are_bash_and_can_be_run(path):
    subprocess.run(["bash", "-n", str(path)], check=True)
    assert os.access(path, os.X_OK)


@pytest.mark.parametrize(
    ("script", "environment"),
    [("tpu_vm.sh", SLICE), ("slurm.sbatch", {}), ("local_two_processes.sh", {})],
)
def test_a_dry_run_prints_the_training_command_and_calls_nothing(
    script, environment, tmp_path, tools
):
    for name in ("gcloud", "srun", "scontrol", "squeue", "git"):
        tools(name)
    done, calls = run(script, tmp_path, {**environment, "DRY_RUN": "1"}, *ARGUMENTS)
    assert done.returncode == 0, done.stderr
    assert not calls
    said = shlex.split(done.stdout.replace(r"\\\ ", " "))
    text = " ".join(said).replace("\\ ", " ")
    assert f"launch.py {' '.join(ARGUMENTS)}" in text


def flags_of(words: list[str]) -> dict[str, str | None]:
    """Of a call of launch.py; fails for one that it does not have."""
    given = dict(commandline.words(words[words.index("launch.py") + 1 :]))
    known = fields.fields_of(commandline.Flags)
    assert {n for n in given if not n.startswith("config.")} <= known.keys()
    return given


def test_processes_of_one_machine_have_one_port_and_numbers(tmp_path):
    environment = {"DRY_RUN": "1", "PROCESSES": "3"}
    done, _ = run("local_two_processes.sh", tmp_path, environment, *ARGUMENTS)
    flags = [flags_of(shlex.split(line)) for line in done.stdout.splitlines()]
    assert [f["process_id"] for f in flags] == ["0", "1", "2"]
    assert {f["num_processes"] for f in flags} == {"3"}
    assert len({f["coordinator"] for f in flags}) == 1
    assert {f["workdir"] for f in flags} == {"/shared/my run"}


@pytest.mark.slow
def test_two_processes_of_one_machine_train(tmp_path):
    flags = [ARGUMENTS[0], "--config.training.num_steps=20", f"--workdir={tmp_path}/r"]
    done = subprocess.run(
        [LAUNCH / "local_two_processes.sh", *flags],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "r/metrics.jsonl").exists()


JOB = {"SLURM_JOB_ID": "7"}


def test_a_slurm_job_that_was_stopped_is_queued_again(tmp_path, tools):
    tools("srun", "exit 75")
    tools("squeue", "echo RUNNING")
    tools("scontrol")
    done, calls = run("slurm.sbatch", tmp_path, JOB, *ARGUMENTS)
    assert done.returncode == 75
    assert calls[0][-2:] == ARGUMENTS and calls[0][0] == "srun"
    assert calls[-1] == ["scontrol", "requeue", "7"]


@pytest.mark.parametrize(
    ("code", "state", "restarts"),
    [
        (0, "RUNNING", 0),
        (UserError.exit_code, "RUNNING", 0),
        (SaveError.exit_code, "RUNNING", 0),
        (75, "CANCELLED", 0),
        (75, "RUNNING", 100),
    ],
)
def test_else_a_slurm_job_ends(code, state, restarts, tmp_path, tools):
    tools("srun", f"exit {code}")
    tools("squeue", f"echo {state}")
    tools("scontrol")
    environment = JOB | {"SLURM_RESTART_COUNT": str(restarts)}
    done, calls = run("slurm.sbatch", tmp_path, environment, *ARGUMENTS)
    assert done.returncode == code
    assert "scontrol" not in [call[0] for call in calls]


# A slice whose states are the lines of the file `states`, and whose runs end with the
# lines of `codes`; "gone" is a connection that breaks.
GCLOUD = """
case "$*" in
    *" describe "*)
        state=$(head -n 1 states); sed -i 1d states
        if [ "$state" = NONE ]; then echo NOT_FOUND >&2; exit 1; fi
        echo "$state" ;;
    *launch.py*)
        code=$(head -n 1 codes); sed -i 1d codes; echo "$code" > code
        [ "$code" = 0 ] || exit 1 ;;
    *"cat ~/genjax.code"*)
        [ "$(cat code)" = gone ] && exit 1
        cat code ;;
esac
"""


def train_on_a_slice(tmp_path, tools, states: str, codes: str):
    """(exit code, what was done in which order, without looks at the state)."""
    (tmp_path / "states").write_text("\n".join(states.split()) + "\n")
    (tmp_path / "codes").write_text("\n".join(codes.split()) + "\n")
    tools("gcloud", GCLOUD)
    tools("git")
    done, calls = run("tpu_vm.sh", tmp_path, SLICE, *ARGUMENTS)
    short = {"launch.py": "train", "uv venv": "install", " create ": "create"}
    short |= {" delete ": "delete"}
    steps = [
        name
        for call in calls
        for key, name in short.items()
        if call[0] == "gcloud" and key in " ".join(call)
    ]
    assert not (tmp_path / "codes").read_text().strip()
    return done.returncode, steps


def test_a_slice_is_made_used_and_given_back(tmp_path, tools):
    states = "NONE ACCEPTED PROVISIONING ACTIVE"
    code, steps = train_on_a_slice(tmp_path, tools, states, "0")
    assert code == 0
    assert steps == ["create", "install", "train", "delete"]


def test_a_slice_that_is_taken_away_is_asked_for_again(tmp_path, tools):
    states = "NONE ACTIVE SUSPENDING SUSPENDED NONE ACTIVE"
    code, steps = train_on_a_slice(tmp_path, tools, states, "gone 0")
    assert code == 0
    first, again = ["create", "install", "train", "delete"], ["create", "install"]
    assert steps == [*first, *again, "train", "delete"]


def test_a_stop_goes_on_without_another_install(tmp_path, tools):
    code, steps = train_on_a_slice(tmp_path, tools, "ACTIVE ACTIVE", "75 0")
    assert code == 0 and steps == ["install", "train", "train", "delete"]


def test_a_mistake_ends_the_loop_with_its_code(tmp_path, tools):
    code, steps = train_on_a_slice(tmp_path, tools, "ACTIVE", "2")
    assert code == 2 and steps == ["install", "train", "delete"]


def test_a_slice_that_is_not_granted_ends_the_script(tmp_path, tools):
    tools("gcloud", 'echo "PERMISSION_DENIED NOT_FOUND" >&2; exit 1')
    done, calls = run("tpu_vm.sh", tmp_path, SLICE, *ARGUMENTS)
    assert done.returncode == 1
    assert [call[4] for call in calls] == ["describe", "create"]


def test_the_pods_of_the_job_set_are_one_run():
    stated = yaml.safe_load((LAUNCH / "jobset.yaml").read_text())
    (group,) = stated["spec"]["replicatedJobs"]
    job = group["template"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"] == ["python", "launch.py"]
    flags = flags_of(["launch.py", *container["args"]])
    assert int(flags["num_processes"] or 0) == job["parallelism"] == job["completions"]
    assert flags["process_id"] == "$(JOB_COMPLETION_INDEX)"
    assert job["completionMode"] == "Indexed" and pod["restartPolicy"] == "Never"
    name = stated["metadata"]["name"]
    host = f"{name}-{group['name']}-0-0.{name}"
    assert (flags["coordinator"] or "").partition(":")[0] == host
    mounts = {v["name"]: v["mountPath"] for v in container["volumeMounts"]}
    assert (flags["workdir"] or "").startswith(mounts["shared"] + "/")
    assert [v["name"] for v in pod["volumes"]] == ["shared"]
    (rule,) = job["podFailurePolicy"]["rules"]
    final = {e.exit_code for e in (UserError, SaveError, DivergedError)}
    assert set(rule["onExitCodes"]["values"]) == {1} | final
    assert LostProcess.exit_code not in rule["onExitCodes"]["values"]
    assert rule["onExitCodes"]["containerName"] == container["name"]

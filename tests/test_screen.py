"""The standard error may be closed, or its reader may go away: the work goes on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TALK = """
import sys
from genjax.screen import say, without_a_reader
with without_a_reader():
    file = open(sys.argv[1], "wb")
    for i in range(2000):
        say(f"line {i}")
    print("and once more", file=sys.stderr, flush=True)
    file.write(b"work")
    print(file.fileno() > 2)
"""


def talk(tmp_path: Path, shell: str) -> subprocess.CompletedProcess:
    """Runs the program above in a shell that does this with its standard error."""
    command = shell.replace("PROGRAM", f'{sys.executable} -c "$TALK" {tmp_path}/file')
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        env=os.environ | {"TALK": TALK, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    "shell", ["PROGRAM 2>&-", "PROGRAM 2> >(head -n 1)", "PROGRAM 2>/dev/full"]
)
def test_the_work_goes_on(tmp_path, shell):
    done = talk(tmp_path, shell)
    assert done.returncode == 0, done.stderr
    assert "True" in done.stdout
    assert (tmp_path / "file").read_bytes() == b"work"


def test_what_is_said_arrives_where_somebody_reads(tmp_path):
    done = talk(tmp_path, "PROGRAM")
    assert done.stderr.splitlines()[-2:] == ["line 1999", "and once more"]


@pytest.mark.slow
def test_a_run_whose_reader_goes_away_is_trained_to_its_end(tmp_path):
    program = f"{sys.executable} launch.py --config=ddpm_toy2d:tiny"
    done = subprocess.run(
        f"{program} --workdir={tmp_path}/run 2>&1 | head -n 1; exit ${{PIPESTATUS[0]}}",
        cwd=ROOT,
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0 and done.stdout.startswith("genjax ")
    assert list((tmp_path / "run/samples").iterdir())

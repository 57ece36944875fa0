"""docs/tutorial.md, done as it stands there, with fewer steps and one seed."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import __main__ as launch
from genjax import configs

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "tutorial.md").read_text()
SHORTER = {  # of the copied config
    "tiny=dict(training=dict(batch_size=64)": "tiny=dict(training=dict("
    "batch_size=64, num_steps=20, steps_per_call=10), "
    "evaluation=dict(num_samples=100, limit=100)",
    # compiling the ODE's likelihood takes longer than all the rest
    'likelihood=dict(trace="exact", draws=64, logsnr=11.0)': "likelihood=dict("
    'method="none")',
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


def apply(diff: str, text: str) -> str:
    """The text with the diff's - and unmarked lines replaced by its + and unmarked."""
    lines = diff.splitlines(keepends=True)
    before = "".join(line[1:] for line in lines if line[0] in " -")
    after = "".join(line[1:] for line in lines if line[0] in " +")
    assert text.count(before) == 1, before
    return text.replace(before, after)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The reader's folder after the tutorial's copies and changes."""
    for folder in ("experiments", "configs"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    subprocess.run(["bash", "-e"], input=blocks("bash")[0], text=True, check=True)
    fork = tmp_path / "experiments" / "huber.py"
    for diff in blocks("diff"):
        fork.write_text(apply(diff, fork.read_text()))
    yield tmp_path
    sys.modules.pop("experiments.huber", None)


def test_the_tutorial(project, capsys):
    using = blocks("bash")[1]
    assert launch.main(using.splitlines()[0].split()[2:]) == 0
    assert "method.huber = None" in capsys.readouterr().out
    check_loss(configs.find_experiment("huber").velocity_error)

    config = project / "configs" / "huber_toy2d.py"
    for long, short in SHORTER.items():
        assert long in config.read_text()
        config.write_text(config.read_text().replace(long, short))
    training, comparing = (
        block.replace("range(3)", "range(1)") for block in blocks("python")
    )
    exec(training, {})
    capsys.readouterr()
    exec(comparing.replace('"nll_nats", ', ""), {})
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[1] for row in rows] == ["None", "0.3"] * 2
    assert float(rows[0][2]) != float(rows[1][2])  # the field reaches the loss


def check_loss(velocity_error):
    """Where no error is large the new line is the old one; elsewhere it is less."""
    x0, eps = jax.random.normal(jax.random.key(0), (2, 8, 2))
    squared, huge, small = (
        velocity_error(lambda x, t: 0.0 * x, x0, eps, jnp.full(8, 0.5), threshold)
        for threshold in (None, 1e6, 0.1)
    )
    np.testing.assert_allclose(huge, squared, rtol=1e-6)
    assert (small < squared).all()

"""What README.md and docs/diffusion.md show runs as it stands there."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

ROOT = Path(__file__).parents[1]


def run_block(page: str, name: str) -> dict:
    """Runs the code between <!-- name:begin --> and <!-- name:end -->."""
    text = (ROOT / page).read_text()
    inside = text.split(f"<!-- {name}:begin -->")[1].split(f"<!-- {name}:end -->")[0]
    scope: dict = {}
    exec(inside.strip().removeprefix("```python").removesuffix("```"), scope)
    return scope


def test_the_maths_take_a_network_of_ones_own():
    """Its net is exact for data from N(2, 1/4)."""
    found = run_block("docs/diffusion.md", "maths")
    x = np.asarray(found["x"])
    assert found["calls"] == 20 and np.isfinite(x).all()
    np.testing.assert_allclose(x.mean(axis=0), 2.0, atol=0.06)
    np.testing.assert_allclose(x.std(axis=0), 0.5, rtol=0.08)
    exact = norm.logpdf(x, 2.0, 0.5).sum(axis=1)
    # this path ends with alpha(1) = 0.007, so the prior is off by 0.007 |x|
    np.testing.assert_allclose(found["nats"], exact, atol=0.1)


@pytest.mark.slow
def test_a_run_is_trained_loaded_and_asked(tmp_path, monkeypatch):
    """The model has learned: its points are likelier to it than the noise is."""
    monkeypatch.chdir(tmp_path)
    found = run_block("README.md", "library")
    run, points = found["run"], found["points"]
    assert points.shape == found["x0"].shape == (16, 2)
    far = run.log_likelihood(points + np.float32(10.0))
    assert found["nats"].mean() > far.mean() + 10.0
    assert 0 < found["scores"]["energy_distance"] < 1.0

"""Every test sees four virtual CPU devices, and a rank-promotion slip is an error."""

import os
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# What one test compiles, the next and its subprocesses read from disk.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _cache = tempfile.TemporaryDirectory(prefix="genjax-tests-")  # gone at exit
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _cache.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
# No test reads or writes what the user has there.
if "GENJAX_CACHE" not in os.environ:
    _kept = tempfile.TemporaryDirectory(prefix="genjax-tests-")
    os.environ["GENJAX_CACHE"] = _kept.name
# Programs here run once or twice: compiling them fast is worth more than fast programs,
# and takes a quarter off the whole.
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=4",
        "--xla_backend_optimization_level=0",
    ]
)

import jax  # noqa: E402  (the devices are made when jax is imported)
import pytest  # noqa: E402

# (B,) * (B, H, W, C) broadcasts silently otherwise.
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="laws that take long, too")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="takes long: run with --slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@pytest.fixture
def mesh():
    """All four devices on the "data" axis."""
    from genjax.training.sharding import make_mesh

    return make_mesh()

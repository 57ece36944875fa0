"""Every test sees four virtual CPU devices, and a rank-promotion slip is an error."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
)

import jax  # noqa: E402  (the devices are made when jax is imported)
import pytest  # noqa: E402

# (B,) * (B, H, W, C) broadcasts silently otherwise.
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def mesh():
    """All four devices on the "data" axis."""
    from genjax.train.sharding import make_mesh

    return make_mesh()

"""Each diffusion model with each network for images: traced, not run."""

import jax
import jax.numpy as jnp
import pytest

from configs import ddpm_digits, edm_digits, flow_matching_digits, vdm_digits
from experiments import ddpm, edm, flow_matching, vdm
from genjax.typing import DataSpec

DIGITS = DataSpec(
    name="digits",
    shape=(8, 8, 1),
    dtype="uint8",
    num_levels=17,
    num_train=64,
    num_eval=16,
    num_classes=10,
)
DIT = {"backbone": "dit", "patch": 2, "width": 16, "depth": 1, "num_heads": 2}
UNET = {"backbone": "unet", "channels": 8, "channel_multipliers": (1,)}


def with_network(module, model):
    """The tiny config with another model section."""
    config = module.get_config("tiny")
    kept = {k: v for k, v in config.model.items() if k in ("num_classes", "dtype")}
    del config.model
    config.model = {**model, **kept}
    return config


@pytest.mark.parametrize("model", [DIT, UNET], ids=["dit", "unet"])
@pytest.mark.parametrize(
    ("experiment", "module"),
    [
        (ddpm, ddpm_digits),
        (edm, edm_digits),
        (flow_matching, flow_matching_digits),
        (vdm, vdm_digits),
    ],
    ids=["ddpm", "edm", "flow_matching", "vdm"],
)
def test_trains_and_samples(experiment, module, model):
    made = experiment.make_experiment(with_network(module, model), DIGITS)
    key = jax.random.key(0)
    state = jax.eval_shape(made.init, key)
    batch = {
        "image": jax.ShapeDtypeStruct((4, 8, 8, 1), jnp.uint8),
        "label": jax.ShapeDtypeStruct((4,), jnp.int32),
    }
    after, _ = jax.eval_shape(made.train_step, state, batch, key)
    assert jax.tree.map(lambda a: a.shape, after) == jax.tree.map(
        lambda a: a.shape, state
    )
    samples = jax.eval_shape(lambda s, k: made.sample(s, k, 3), state, key)
    assert samples.shape == (3, 8, 8, 1) and samples.dtype == jnp.uint8


def test_edm_tells_its_network_how_images_were_moved():
    """Gradients reach the layer of the vector, once those above it are awake."""
    config = with_network(edm_digits, DIT)
    config.method.augment_probability = 0.5
    config.optim.warmup_steps = 0
    made = edm.make_experiment(config, DIGITS)
    key = jax.random.key(0)
    batch = {"image": jax.random.randint(key, (8, 8, 8, 1), 0, 17).astype(jnp.uint8)}

    def step(state, i):
        return made.train_step(state, batch, jax.random.fold_in(key, i))

    @jax.jit
    def run():
        start = made.init(key)
        after, metrics = jax.lax.scan(step, start, jnp.arange(4))
        return start.params["augment"], after, metrics["loss"]

    before, state, loss = run()
    assert before["kernel"].shape == (9, 16)
    assert jnp.any(state.params["augment"]["kernel"] != before["kernel"])
    assert jnp.isfinite(loss).all()
    # samples are of images that were not moved: no vector is given
    samples = jax.eval_shape(lambda s, k: made.sample(s, k, 3), state, key)
    assert samples.shape == (3, 8, 8, 1)

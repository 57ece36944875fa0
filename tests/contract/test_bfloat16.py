"""Every network computes in bfloat16 if asked, and what is kept stays float32."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import configs
from tests.contract.cases import ROOT, all_experiments, bundled_configs, case, one_each

KEY = jax.random.key(7)
CLOSED_FORM = {"pca"}  # has no network
QUICK = {"autoencoder_digits"}
IMAGE_GANS = {
    "dcgan": {"backbone": "dcgan", "g_channels": 4, "d_channels": 4, "d_norm": "none"},
    "sngan": {"backbone": "sngan", "g_channels": 4, "d_channels": 4},
    "r3gan": {
        "backbone": "r3gan",
        "widths": (4, 4),
        "blocks": (1, 1),
        "group_size": 2,
        "g_class_dim": 2,
    },
}
OTHERS = ["ddpm_digits", "flow_matching_digits_dit"]


def names(quick):
    """Those that are not quick are marked as slow."""
    chosen = [*one_each(), *OTHERS, *IMAGE_GANS]
    named = [n for n in chosen if bundled_configs().get(n) not in CLOSED_FORM]
    slow = [pytest.mark.slow]
    return [pytest.param(n, marks=[] if n in quick else slow) for n in named]


@functools.cache
def experiment(name, dtype):
    model = {"dtype": dtype}
    config = "gan_digits" if name in IMAGE_GANS else name
    stated = case(config).config.to_dict()
    if name in IMAGE_GANS:
        latent_dim = stated.pop("model")["latent_dim"]
        model |= {"latent_dim": latent_dim, **IMAGE_GANS[name]}
    beside = ROOT / "configs" / f"{config}.py"
    config_dict = configs.complete(configs.merged(stated, {"model": model}), beside)
    spec = case(config).dataset.spec
    return configs.make_experiment(config_dict, spec, beside), case(config)


def test_it_is_a_field_of_every_network():
    tried = {bundled_configs().get(n) for n in one_each()}
    assert tried | CLOSED_FORM >= set(all_experiments())


@pytest.mark.parametrize("name", names(QUICK))
def test_a_step_in_bfloat16_is_near_one_in_float32(name):
    results = []
    for dtype in ("float32", "bfloat16"):
        made, of = experiment(name, dtype)
        state = jax.jit(made.init)(KEY)
        results.append(jax.jit(made.train_step)(state, of.batch(8), KEY)[1])
    wide, metrics = results
    for metric, value in metrics.items():
        assert np.isfinite(value), metric
    losses = [n for n in wide if n.endswith("loss")]
    assert losses
    for loss in losses:
        np.testing.assert_allclose(metrics[loss], wide[loss], rtol=0.05, atol=0.02)


@pytest.mark.parametrize("name", names(one_each()))
def test_what_is_kept_and_what_is_said_is_float32(name):
    made, of = experiment(name, "bfloat16")
    wide = jax.eval_shape(experiment(name, "float32")[0].init, KEY)
    batch = jax.eval_shape(lambda: of.batch(8))
    traced = jax.jit(made.train_step).trace(wide, batch, KEY)
    assert "bf16" in str(traced.jaxpr)  # the network is
    state, metrics = traced.out_info
    assert jax.tree.map(lambda s: s.dtype, state) == jax.tree.map(
        lambda s: s.dtype, wide
    )
    said = [metrics]
    functions = [made.evaluate, made.likelihood and made.likelihood.log_prob]
    for function in filter(None, functions):
        said.append(jax.eval_shape(function, wide, batch, KEY))
    assert {leaf.dtype for leaf in jax.tree.leaves(said)} == {jnp.dtype("float32")}

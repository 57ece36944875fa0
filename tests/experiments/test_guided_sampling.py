"""The fields for guidance, which several experiments share, in each of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import ddpm_toy2d, edm_toy2d, flow_matching_toy2d
from experiments import ddpm, edm, flow_matching
from genjax.data import toy
from genjax.typing import DataSpec, UserError

KEY = jax.random.key(0)
POINTS = DataSpec(
    name="gaussians8",
    shape=(2,),
    dtype="float32",
    num_levels=0,
    num_train=64,
    num_eval=16,
    num_classes=8,
)
EXPERIMENTS = {
    "ddpm": (ddpm, ddpm_toy2d),
    "edm": (edm, edm_toy2d),
    "flow_matching": (flow_matching, flow_matching_toy2d),
}
SMALL = {"model__width": 16, "model__depth": 1, "sampler__num_steps": 4}


@pytest.fixture(params=EXPERIMENTS)
def build(request):
    """Makes the experiment at tiny, with config.section__field = value changed."""
    experiment, module = EXPERIMENTS[request.param]

    def make(**changes):
        config = module.get_config("tiny")
        for name, value in (SMALL | changes).items():
            section, field = name.split("__")
            config[section][field] = value
        return experiment.make_experiment(config, POINTS)

    return make


def awake(experiment, *, seed=0):
    """A state whose weights are all away from zero; the guide's are others."""
    state, rng = jax.eval_shape(experiment.init, KEY), np.random.default_rng(seed)

    def drawn(tree):
        return jax.tree.map(
            lambda leaf: jnp.asarray(0.3 * rng.normal(size=leaf.shape), leaf.dtype),
            tree,
        )

    return state._replace(
        ema_params=drawn(state.ema_params), guide_params=drawn(state.guide_params)
    )


def sampler(experiment, num=5):
    """state -> samples of the classes 0, 1, ..."""
    label = jnp.arange(num, dtype=jnp.int32)
    sample = jax.jit(experiment.sample, static_argnums=2)
    return lambda state: np.asarray(sample(state, KEY, num, label))


def test_every_field_has_its_say(build):
    base = {"model__num_classes": 8, "method__guide_step": 2}
    scaled = base | {"sampler__guidance_scale": 3.0}
    late = {"sampler__guidance_min_t": 0.999, "sampler__guidance_max_t": 1.0}
    state = awake(build(**base))
    auto = sampler(build(**base, sampler__autoguidance_scale=2.0))
    plain = sampler(build(**base))(state)
    seen = [
        plain,
        sampler(build(**scaled))(state),
        sampler(build(**scaled, **late))(state),
        sampler(build(**scaled, sampler__guidance_rescale=1.0))(state),
        auto(state),
    ]
    for i, one in enumerate(seen):
        assert np.isfinite(one).all()
        for other in seen[:i]:
            assert np.abs(one - other).max() > 1e-3
    same = auto(state._replace(guide_params=state.ema_params))
    np.testing.assert_allclose(same, plain, rtol=1e-3, atol=1e-3)
    # an interval between the times of the sampler
    never = {"sampler__guidance_min_t": 1e-6, "sampler__guidance_max_t": 2e-6}
    unguided = sampler(build(**scaled, **never))(state)
    np.testing.assert_allclose(unguided, plain, rtol=1e-5, atol=1e-5)


def test_the_guide_is_the_average_of_an_early_step(build):
    experiment = build(method__guide_step=2, optim__warmup_steps=0)
    step = jax.jit(experiment.train_step)
    state, averages = experiment.init(KEY), []
    points, mode = toy.density("gaussians8").sample_with_mode(KEY, 8)
    for i in range(4):
        state, _ = step(state, {"image": points, "label": mode}, jax.random.key(i))
        averages.append(state.ema_params)
        kept = averages[min(i, 1)]  # of step 2 at the latest
        jax.tree.map(np.testing.assert_array_equal, state.guide_params, kept)
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), averages[1], averages[3])
    assert max(jax.tree.leaves(moved)) > 0


def test_without_a_guide_the_state_is_what_it_was(build):
    state = jax.eval_shape(build().init, KEY)
    assert state.guide_params is None
    assert jax.tree.structure(state._replace(guide_params=None)).num_leaves == len(
        jax.tree.leaves(state[:4])
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"sampler__autoguidance_scale": 2.0},
            "early snapshot .* method.guide_step > 0",
        ),
        ({"method__guide_step": 4000}, "guide_step=4000 must be 0 "),
        ({"method__guide_step": -1}, "guide_step=-1 must be 0"),
        ({"sampler__guidance_min_t": 0.9, "sampler__guidance_max_t": 0.2}, "0.9 and"),
        ({"sampler__guidance_max_t": 1.5}, "0.0 and 1.5"),
        ({"sampler__guidance_rescale": 1.5}, "must be in 0 ... 1, not 1.5"),
    ],
    ids=str,
)
def test_choices_that_do_not_fit(build, changes, message):
    with pytest.raises(UserError, match=message):
        build(**changes)

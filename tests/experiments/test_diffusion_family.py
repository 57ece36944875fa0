"""What every diffusion experiment must keep, whichever its loss.

What each learns is tested in the file of its name.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.typing import UserError
from tests.experiments.family import (
    FAMILY,
    KEY,
    POINTS,
    SMALL,
    batch_of,
    build,
    random_state,
)
from tests.specs import DIGITS

BACKBONES = {
    "dit": {"patch": 2, "width": 16, "depth": 1, "num_heads": 2},
    "unet": {"channels": 8, "channel_multipliers": (1,), "num_res_blocks": 1},
}
LABELLED = SMALL | {"model.num_classes": 8}
# noise at once and independent of the class, so that the label alone tells the class
PLAIN = {"flow_matching": {"method.coupling": "independent"}}


@pytest.fixture(params=FAMILY)
def name(request):
    return request.param


# --- training -------------------------------------------------------------------------


def test_hidden_labels_are_the_null_label(name):
    """Always hidden: no gradient for any other label; never: none for the null one."""
    batch, chosen = batch_of(POINTS, 64), {"optim.warmup_steps": 0}
    chosen |= LABELLED | PLAIN.get(name, {})
    hidden, told = (
        build(name, POINTS, chosen | {"inputs.label_dropout": p}) for p in (1.0, 0.0)
    )

    def embeddings(params):
        (found,) = (
            leaf
            for path, leaf in jax.tree_util.tree_leaves_with_path(params)
            if "'label'" in jax.tree_util.keystr(path)
        )
        return found

    @jax.jit
    def moved(state):
        before = embeddings(state.params)
        steps = (e.train_step(state, batch, KEY)[0] for e in (hidden, told))
        return [(embeddings(s.params) != before).any(axis=1) for s in steps]

    when_hidden, when_told = moved(random_state(hidden))
    np.testing.assert_array_equal(when_hidden, [False] * 8 + [True])
    np.testing.assert_array_equal(when_told, [True] * 8 + [False])


def test_averages_of_the_weights(name):
    """What sampling uses; and that of step 2, which is kept to guide by.

    The first decay of the average is 1/10.
    """
    changes = {"optim.snapshot_step": 2, "optim.warmup_steps": 0}
    experiment = build(name, POINTS, SMALL | changes)
    step, batch = jax.jit(experiment.train_step), batch_of(POINTS, 8)
    states = [jax.jit(experiment.init)(KEY)]
    for i in range(3):
        state, metrics = step(states[-1], batch, jax.random.key(i))
        assert metrics["grad_norm"] > 0 and np.isfinite(metrics["loss"])
        states.append(state)
    before, one, two, three = jax.device_get(states)

    def alike(a, b, **tolerance):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), a, b)

    mean = jax.tree.map(lambda a, b: 0.1 * a + 0.9 * b, before.params, one.params)
    alike(one.ema_params, mean, rtol=1e-5, atol=1e-6)
    assert one.averaged[0] is one.ema_params and one.step == 1
    assert experiment.raw_weights(one).averaged[0] is one.params
    for state, kept in [(one, one), (two, two), (three, two)]:
        alike(state.early_params, kept.ema_params, rtol=0)
    assert jax.tree.leaves(three.ema_params)[0].max() != (
        jax.tree.leaves(three.early_params)[0].max()
    )
    plain = jax.eval_shape(build(name, POINTS, SMALL).init, KEY)
    assert plain.early_params is None


@pytest.mark.parametrize("backbone", BACKBONES)
def test_both_backbones_of_images_train_and_sample(name, backbone):
    """With labels. Traced, not run."""
    model = {"backbone": backbone, "num_classes": 10, **BACKBONES[backbone]}
    experiment = build(name, DIGITS, {"model": model})
    state, batch = jax.eval_shape(lambda: (experiment.init(KEY), batch_of(DIGITS, 4)))
    after, metrics = jax.eval_shape(experiment.train_step, state, batch, KEY)
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
    assert metrics["loss"].shape == ()
    for label in (None, jnp.arange(3)):
        samples = jax.eval_shape(
            lambda s, label=label: experiment.sample(s, KEY, 3, label), state
        )
        assert samples.shape == (3, 8, 8, 1) and samples.dtype == jnp.uint8


# --- sampling -------------------------------------------------------------------------


def test_fields_of_guidance_have_their_say(name):
    """On what a sampler follows, at one time."""
    base = LABELLED | {"optim.snapshot_step": 2}
    scaled = {"scale": 3.0}
    choices = {
        "plain": {},
        "scaled": scaled,
        "rescaled": scaled | {"rescale": 1.0},
        "by a guide": {"autoguidance_scale": 2.0},
        "not now": scaled | {"min_t": 0.5},
        "now": scaled | {"max_t": 0.5},
    }
    label = jnp.arange(5)
    x, t = jax.random.normal(KEY, (5, 2)), jnp.asarray(0.1)
    experiments = {
        choice: build(
            name, POINTS, base | {f"sampler.guidance.{k}": v for k, v in g.items()}
        )
        for choice, g in choices.items()
    }

    @jax.jit
    def denoised(state):
        return {
            choice: e.diffusion.guided(state, label)(x, t)[0]
            for choice, e in experiments.items()
        }

    state = random_state(experiments["plain"])
    found = denoised(state)
    np.testing.assert_array_equal(found.pop("not now"), found["plain"])
    np.testing.assert_array_equal(found.pop("now"), found["scaled"])
    every = list(found.values())
    for i, one in enumerate(every):
        assert np.isfinite(one).all()
        for other in every[:i]:
            assert np.abs(one - other).max() > 1e-3
    alone = denoised(state._replace(early_params=state.ema_params))
    np.testing.assert_allclose(alone["by a guide"], found["plain"], rtol=1e-5)


def test_a_label_changes_the_sample(name):
    experiment = build(name, POINTS, LABELLED | {"sampler.num_steps": 2})
    state = random_state(experiment)
    sample = jax.jit(lambda label: experiment.sample(state, KEY, 16, label))
    three, five = sample(jnp.full(16, 3)), sample(jnp.full(16, 5))
    assert np.isfinite(three).all() and np.abs(three - five).mean() > 1e-3


@pytest.mark.parametrize(
    ("num_classes", "label", "message"),
    [
        (0, jnp.zeros(2, jnp.int32), "trained without labels"),
        (8, jnp.array([1, 8]), "from 0 to 7, and 8 does not"),
        (8, jnp.zeros(3, jnp.int32), r"shape \(2,\), not \(3,\)"),
    ],
)
def test_labels_that_do_not_fit(name, num_classes, label, message):
    experiment = build(name, POINTS, SMALL | {"model.num_classes": num_classes})
    state = jax.eval_shape(experiment.init, KEY)
    with pytest.raises(UserError, match=message):
        experiment.sample(state, KEY, 2, label)


# --- likelihood -----------------------------------------------------------------------


def test_likelihood_of_points_is_a_density_in_their_own_unit(name):
    """Twice the scale for twice the points: a density divided by 4 in the plane."""
    how = {"likelihood.draws": 2}
    if name not in ("ddpm", "vdm"):
        how["likelihood.method"] = "bound"
    one, two = (
        build(name, POINTS, SMALL | how | {"inputs.point_scale": s}) for s in (1.0, 2.0)
    )
    state, batch = random_state(one), batch_of(POINTS)

    @jax.jit
    def difference(points):
        log_prob = one.likelihood.log_prob(state, {"image": points}, KEY)
        return log_prob - two.likelihood.log_prob(state, {"image": 2 * points}, KEY)

    np.testing.assert_allclose(
        difference(batch["image"]), np.full(6, 2 * np.log(2)), rtol=1e-3
    )
    assert one.likelihood.kind == "lower_bound"


@pytest.mark.parametrize("name", [n for n in FAMILY if n != "vdm"])
def test_likelihood_only_where_it_is_asked_for(name):
    experiment = build(name, POINTS, SMALL | {"likelihood.method": "none"})
    assert experiment.likelihood is None
    ode = build(name, POINTS, LABELLED | {"likelihood.method": "ode"}).likelihood
    assert ode.kind == "estimate" and ode.given == "label"


# --- choices --------------------------------------------------------------------------

MISTAKES = [
    ({"sampler.name": "hein"}, "config.sampler.name='hein'.*did you mean 'heun'"),
    ({"sampler.spacing": "karas"}, "did you mean 'karras'"),
    ({"sampler.num_steps": 0}, "config.sampler.num_steps must be at least 1, not 0"),
    ({"sampler.variance": "learned"}, "trained with method.variance='learned'"),
    ({"sampler.guidance.scale": 2.0}, "needs labels: train with model.num_classes > 0"),
    ({"sampler.guidance.classifier_scale": 1.0}, "needs a classifier of noisy examp"),
    ({"sampler.guidance.max_t": 1.5}, "guidance.max_t must be in 0 ... 1, not 1.5"),
    (
        {"sampler.guidance.min_t": 0.9, "sampler.guidance.max_t": 0.2},
        "min_t <= max_t, not 0.9 and 0.2",
    ),
    ({"model.backbone": "mpl"}, "config.model.backbone='mpl'.*did you mean 'mlp'"),
    ({"model.dtype": "float16"}, "known: float32, bfloat16"),
    ({"model.widht": 8}, "unknown config field model.widht; did you mean width"),
    ({"model.num_classes": 3}, "has 8 classes, not config.model.num_classes=3"),
    ({"inputs.flip": True}, "gaussians8 has points: set config.inputs.flip=False"),
    ({"inputs.label_dropout": 2.0}, "label_dropout must be in 0 ... 1, not 2"),
    ({"likelihood.draws": 0}, "config.likelihood.draws must be at least 1, not 0"),
    ({"optim.snapshot_step": 4000}, "snapshot_step=4000 must lie before the last step"),
    ({"optim.snapshot_step": -1}, "config.optim.snapshot_step must be at least 0"),
]


@pytest.mark.parametrize(("changes", "message"), MISTAKES, ids=str)
def test_choices_that_do_not_exist(name, changes, message):
    with pytest.raises(UserError, match=message):
        build(name, POINTS, changes)


def test_choices_that_do_not_fit_the_data(name):
    fitting = r"shape \(2,\).*'unet'.*choose 'mlp'|gaussians8 has .*: set config.method"
    with pytest.raises(UserError, match=fitting):
        build(f"{name}_digits", POINTS)


def test_autoguidance_needs_a_snapshot(name):
    experiment = build(name, POINTS, {"sampler.guidance.autoguidance_scale": 2.0})
    state = jax.eval_shape(experiment.init, KEY)
    with pytest.raises(UserError, match="early snapshot .* optim.snapshot_step > 0"):
        experiment.sample(state, KEY, 2)

"""DiffusionModel on denoisers that are exact, so that nothing needs training."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.diffusion import DiffusionModel, Guidance, Sampler, as_denoiser, solvers
from genjax.scale import Scale
from genjax.state import TrainState
from genjax.typing import UserError
from tests.diffusion import gaussian, mixture
from tests.diffusion.test_paths import PATHS

KEY = jax.random.key(5)


def state_of(params, early=None):
    zero = jnp.zeros((), jnp.int32)
    return TrainState(params, {}, None, None, None, zero, early)


STATE = state_of(None)


def model_of(denoise, path="vp", *, scale=None, sampler=None, **fields):
    """Of a denoiser that knows no label, or of (params, label) -> denoiser."""
    fields = {"denoiser": lambda params, label: denoise, "shape": (2,)} | fields
    return DiffusionModel(
        path=lambda params: PATHS[path],
        scale=scale or Scale(0),
        sampler=sampler or Sampler(),
        **fields,
    )


def counted(denoise):
    """(denoise, calls): how often it has run, not how often it was traced."""
    calls = []

    def counting(x, t):
        jax.debug.callback(lambda: calls.append(1))
        return denoise(x, t)

    return counting, calls


# --- solvers --------------------------------------------------------------------------

OPTIONS = {"ancestral": {"variance": "fixed_large"}}
OPTIONS["predictor_corrector"] = {"corrector_steps": 2, "snr": 0.1}


@pytest.mark.parametrize("path", ["rectified_flow", "edm"])
@pytest.mark.parametrize("name", solvers.NAMES)
def test_every_solver_samples_a_gaussian(name, path):
    """Where the log-SNR is infinite at both ends, and where noise starts at sigma 80.

    And the evaluations that a solution reports are those that happened.
    """
    denoise, calls = counted(gaussian.exact_denoiser(PATHS[path]))
    sampler = Sampler(
        name=name, num_steps=100, spacing="karras", **OPTIONS.get(name, {})
    )
    end = 0.002 / 80 if path == "edm" else 1e-3
    model = model_of(denoise, path, sampler=sampler, end=end)
    solution = jax.jit(lambda key: model.solve(STATE, key, 4000))(KEY)
    x = np.asarray(solution.x)
    jax.effects_barrier()
    assert (
        len(calls) == int(solution.evaluations) >= (20 if name == "adaptive" else 100)
    )
    np.testing.assert_allclose(x.mean(axis=0), gaussian.MEAN[0], atol=0.1)
    np.testing.assert_allclose(x.std(axis=0), gaussian.STD[0], rtol=0.1)


def test_all_the_times_on_the_way():
    denoise = gaussian.exact_denoiser(PATHS["vp"])
    model = model_of(denoise, sampler=Sampler(num_steps=4))
    whole, last = jax.jit(
        lambda key: tuple(
            model.solve(STATE, key, 3, along=along).x for along in (True, False)
        )
    )(KEY)
    assert whole.shape == (len(model.times(PATHS["vp"])), 3, 2) == (5, 3, 2)
    np.testing.assert_array_equal(whole[-1], last)


@pytest.mark.parametrize(("name", "steps"), [("euler", 1), ("heun", 7)])
def test_a_constant_velocity_is_sampled_exactly_at_any_number_of_steps(name, steps):
    velocity = jnp.array([[-2.0, 1.0]])
    net = as_denoiser(
        lambda x, t: jnp.broadcast_to(velocity, x.shape),
        PATHS["rectified_flow"],
        "velocity",
    )
    sampler = Sampler(name=name, num_steps=steps, spacing="linear", shift=3.0)
    model = model_of(net, "rectified_flow", sampler=sampler)
    states = jax.jit(lambda key: model.solve(STATE, key, 5, along=True).x)(KEY)
    moved = jnp.broadcast_to(-velocity, (5, 2))
    np.testing.assert_allclose(states[-1] - states[0], moved, atol=1e-5)


# --- labels ---------------------------------------------------------------------------


def of_label(params, label):
    """x0_hat is the label, whatever x."""
    return lambda x, t: jnp.broadcast_to(label[:, None] * 1.0, x.shape)


ONE_STEP = Sampler(name="euler", num_steps=1)


def test_no_label_means_any_label():
    model = model_of(None, denoiser=of_label, num_classes=4, sampler=ONE_STEP)
    x = model.solve(STATE, KEY, 4000).x
    shares = np.bincount(np.asarray(x[:, 0], int), minlength=5) / 4000
    np.testing.assert_allclose(shares, [0.25] * 4 + [0.0], atol=0.03)
    x = model.solve(STATE, KEY, 3, jnp.array([3, 0, 2])).x
    np.testing.assert_array_equal(x[:, 1], [3, 0, 2])


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (jnp.array([1, 4]), "from 0 to 3, and 4 does not"),
        (jnp.array([-1, 1]), "from 0 to 3, and -1 does not"),
        (jnp.zeros(3, jnp.int32), r"shape \(2,\), not \(3,\)"),
    ],
)
def test_labels_that_do_not_fit(label, message):
    model = model_of(None, denoiser=of_label, num_classes=4)
    with pytest.raises(UserError, match=message):
        model.solve(STATE, KEY, 2, label)


# --- guidance -------------------------------------------------------------------------


def test_guidance_by_hand():
    """x0_hat is params + label: 10 + 3 for the class, 10 + 8 for none, and 5 + 3.

    13 + (3 - 1) (13 - 18) + (1.5 - 1) (13 - 8) = 5.5.
    """

    def denoiser(params, label):
        return lambda x, t: jnp.broadcast_to(params + label[:, None], x.shape)

    model = model_of(None, denoiser=denoiser, num_classes=8)
    state, label = state_of(10.0, early=5.0), jnp.array([3, 3])
    x, t = jnp.zeros((2, 2)), jnp.asarray(0.5)

    def guided(**changes):
        changed = model.with_sampler(guidance=Guidance(**changes))
        x0, v = changed.guided(state, label)(x, t)
        assert v is None
        return x0

    np.testing.assert_allclose(guided(), 13.0)
    np.testing.assert_allclose(guided(scale=0.0), 18.0)
    np.testing.assert_allclose(guided(scale=3.0), 3.0)
    np.testing.assert_allclose(guided(scale=3.0, autoguidance_scale=1.5), 5.5)
    np.testing.assert_allclose(guided(scale=3.0, min_t=0.6), 13.0)
    clipped = model.with_sampler(clip=True, guidance=Guidance(scale=3.0))
    np.testing.assert_allclose(clipped.guided(state, label)(x, t)[0], 1.0)


def test_averaged_weights_are_used_and_v_passes_through():
    def denoiser(params, label):
        return lambda x, t: (params * jnp.ones_like(x), jnp.full_like(x, 0.3))

    model = model_of(
        None, denoiser=denoiser, learns_variance=True, sampler=Sampler(clip=True)
    )
    state = state_of(7.0)._replace(ema_params=-7.0)
    x0, v = model.guided(state, None)(jnp.zeros((2, 2)), jnp.asarray(0.5))
    np.testing.assert_array_equal(x0, -1.0)
    np.testing.assert_allclose(v, 0.3)
    x0 = model.denoise(0.5, None)(jnp.zeros((2, 2)), jnp.asarray(0.5))
    np.testing.assert_array_equal(x0, 0.5)


def test_a_classifier_leads_to_its_class():
    """The exact one of a mixture: samples then lie at the places of that class."""
    path = PATHS["vp"]

    def log_probs(params):
        def of_classes(x, t):
            t = t[0]  # one time for all while sampling
            return jnp.stack(
                [mixture.class_log_prob(path, c)(x, t) for c in (0, 1)], axis=1
            )

        return of_classes

    model = model_of(
        mixture.exact_denoiser(path),
        sampler=Sampler(
            name="heun",
            num_steps=40,
            spacing="logsnr",
            guidance=Guidance(classifier_scale=1.0),
        ),
        end=1e-2,
        classifier=log_probs,
        classifier_classes=2,
    )
    assert model.asked_classes == 2 and model.num_classes == 0
    label = jnp.arange(2000) % 2
    x = jax.jit(lambda key: model.solve(STATE, key, 2000, label).x)(KEY)
    np.testing.assert_allclose(mixture.shares(x[::2]), [1.0, 0.0, 0.0], atol=0.002)
    shares = mixture.shares(x[1::2])
    np.testing.assert_allclose(shares, [0.0, 0.5, 0.5], atol=0.07)
    untold = model.with_sampler(guidance=Guidance())
    with pytest.raises(UserError, match="trained without labels"):
        untold.solve(STATE, KEY, 2000, label)


# --- choices --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        ({"guidance": Guidance(scale=2.0)}, "scale=2.0 needs labels: train with"),
        ({"guidance": Guidance(classifier_scale=1.0)}, "needs a classifier of noisy"),
        (
            {"variance": "learned"},
            "needs a model that was trained with method.variance",
        ),
    ],
)
def test_samplers_that_do_not_fit(sampler, message):
    with pytest.raises(UserError, match=message):
        model_of(None, sampler=Sampler(**sampler))
    with pytest.raises(UserError, match=message):
        model_of(None).with_sampler(**sampler)


def test_autoguidance_needs_an_early_average():
    guidance = Guidance(autoguidance_scale=2.0)
    model = dataclasses.replace(model_of(None), sampler=Sampler(guidance=guidance))
    with pytest.raises(UserError, match="train with optim.snapshot_step > 0"):
        model.guided(STATE, None)

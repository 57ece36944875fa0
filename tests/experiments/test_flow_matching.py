"""Flow matching's loss, times and coupling, with lambdas for networks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import linear_sum_assignment
from scipy.stats import norm

from experiments.flow_matching import PATH, velocity_error
from genjax.diffusion import Times, as_denoiser, coupling, ode, quantity, solvers, times
from genjax.typing import UserError
from tests.experiments.family import (
    KEY,
    POINTS,
    RING,
    SMALL,
    batch_of,
    build,
    learns_eight_gaussians,
    sampler,
    trained,
)

couple = jax.jit(coupling.optimal_transport)
path_energy = functools.partial(ode.path_energy, path=PATH)

# --- the target -----------------------------------------------------------------------


def test_velocity_error_by_hand():
    """x0 = 1 and eps = 3 meet half-way at 2, where the velocity is 2 as well."""
    x0, eps, t = jnp.ones((1, 2)), jnp.full((1, 2), 3.0), jnp.full(1, 0.5)
    np.testing.assert_allclose(velocity_error(lambda x, t: x, x0, eps, t), 0.0)
    np.testing.assert_allclose(velocity_error(lambda x, t: 0 * x, x0, eps, t), 4.0)


@pytest.mark.parametrize("time", [0.2, 0.7])
def test_the_error_of_the_mean_velocity_is_what_cannot_be_known(time):
    """For x0 ~ N(m, s^2) it is a line in x_t: the regression of jointly normal pairs.

    cov(eps - x0, x_t) = t - (1 - t) s^2 and var x_t = (1 - t)^2 s^2 + t^2, which leaves
    a variance of 1 + s^2 - cov^2 / var.
    """
    m, s, num = 0.7, 0.5, 200_000
    x0, eps = jax.random.normal(KEY, (2, num, 1))
    covariance = time - (1 - time) * s**2
    variance = (1 - time) ** 2 * s**2 + time**2

    def net(x, t):
        return -m + covariance / variance * (x - (1 - time) * m)

    error = velocity_error(net, m + s * x0, eps, jnp.full(num, time)).mean()
    np.testing.assert_allclose(error, 1 + s**2 - covariance**2 / variance, rtol=0.02)


def test_weighted_loss():
    """Half-way, where the SNR is 1: a quarter, by hand as in the tests of weights."""
    base = {"method.coupling": "independent", "method.times.std": 1e-6}
    base |= SMALL | {"method.times.distribution": "logit_normal"}
    plain, weighted = (
        build("flow_matching", POINTS, base | {"method.weighting.name": name})
        for name in ("simple", "min_snr")
    )
    state, batch = jax.jit(plain.init)(KEY), batch_of(POINTS, 64)

    @jax.jit
    def losses(state):
        return [e.train_step(state, batch, KEY)[1]["loss"] for e in (plain, weighted)]

    simple, quarter = losses(state)
    np.testing.assert_allclose(quarter, simple / 4, rtol=1e-4)


def test_a_network_that_answers_nothing_misses_the_whole_velocity():
    """E |eps - x0|^2 a dimension: 1 for the noise, var x0 = (4 / 2 + 0.01) / 1.5^2.

    That is also what evaluation reports, however noise and data are coupled in
    training, beside the energy of paths that stay where they are: none.
    """
    experiment = build("flow_matching", POINTS, SMALL)
    values = jax.jit(experiment.evaluate)(
        jax.jit(experiment.init)(KEY), batch_of(POINTS, 8000), KEY
    )
    expected = 1 + 2.01 / 1.5**2
    np.testing.assert_allclose(values["loss_velocity"].mean(), expected, rtol=0.03)
    np.testing.assert_allclose(values["path_energy"], 0.0, atol=1e-6)


# --- times ----------------------------------------------------------------------------


def test_times_have_their_quantiles():
    """The shift multiplies the odds, so it moves the logit's mean by its logarithm."""
    share = np.array([0.1, 0.5, 0.9])
    uniform = np.quantile(Times().draw(KEY, 40_000), share)
    np.testing.assert_allclose(uniform, share, atol=0.01)
    drawn = Times(distribution="logit_normal", mean=0.5, std=0.8, shift=3.0)
    t = np.asarray(drawn.draw(KEY, 40_000))
    logit = np.quantile(np.log(t / (1 - t)), share)
    np.testing.assert_allclose(
        logit, norm.ppf(share, 0.5 + np.log(3.0), 0.8), atol=0.03
    )


def test_shifted_times():
    """By hand: odds 1 and 1/3 become 3 and 1; the ends stay."""
    t = times.shifted(jnp.array([0.0, 0.25, 0.5, 1.0]), 3.0)
    np.testing.assert_allclose(t, [0.0, 0.5, 0.75, 1.0], rtol=1e-6)


# --- coupling -------------------------------------------------------------------------


def transport_cost(x0, eps):
    return float(jnp.sum(jnp.square(x0 - eps)))


def test_coupling_is_the_best_permutation():
    x0 = batch_of(POINTS, 48)["image"]
    eps = jax.random.normal(KEY, x0.shape)
    matched = couple(x0, eps)
    np.testing.assert_array_equal(np.sort(matched, axis=0), np.sort(eps, axis=0))
    table = np.square(np.asarray(x0)[:, None] - np.asarray(eps)[None]).sum(-1)
    best = table[linear_sum_assignment(table)].sum()
    np.testing.assert_allclose(transport_cost(x0, matched), best, rtol=1e-5)
    assert best < 0.7 * transport_cost(x0, eps)


def test_coupling_with_labels_stays_within_the_class():
    """Each class keeps its noise, and is matched as if it were alone."""
    x0, label = batch_of(POINTS, 48)["image"], jnp.arange(48) % 3
    eps = jax.random.normal(KEY, x0.shape)
    matched = couple(x0, eps, label)
    for rows in (slice(c, None, 3) for c in range(3)):
        alone = couple(x0[rows], eps[rows])
        np.testing.assert_array_equal(np.sort(matched[rows], 0), np.sort(alone, 0))
        np.testing.assert_allclose(
            transport_cost(x0[rows], matched[rows]),
            transport_cost(x0[rows], alone),
            rtol=1e-4,
        )


def test_images_are_coupled_too():
    x0 = jax.random.normal(KEY, (6, 4, 4, 1))
    order = jnp.array([3, 0, 5, 1, 2, 4])
    np.testing.assert_array_equal(couple(x0, 0.5 * x0[order]), 0.5 * x0)


def test_straight_paths_need_one_step():
    """Data that are the noise, shuffled and moved: each line is that translation."""
    eps = jax.random.normal(KEY, (32, 2))
    move = jnp.array([[3.0, -1.0]])
    x0 = jax.random.permutation(jax.random.key(1), eps) + move
    matched = couple(x0, eps)
    np.testing.assert_allclose(x0 - matched, jnp.tile(move, (32, 1)), atol=1e-6)
    t = Times().draw(KEY, 32)
    velocity = quantity(x0, matched, t, path=PATH, name="velocity")
    denoise = as_denoiser(lambda x, t: velocity, PATH, "velocity")
    one_step = np.array([1.0, 0.0], np.float32)
    once = solvers.solve("euler", denoise, matched, one_step, path=PATH, key=KEY)
    np.testing.assert_allclose(once.x, x0, atol=1e-5)


# --- the energy of paths --------------------------------------------------------------


def test_a_straight_path_has_the_energy_of_its_length():
    """All data at one point: each path is a line of constant speed."""
    place = jnp.array([[3.0, -1.0]])
    eps = jax.random.normal(KEY, (32, 2))
    energy = path_energy(
        lambda x, t: jnp.broadcast_to(place, x.shape), eps, num_steps=7
    )
    expected = jnp.sum(jnp.square(eps - place), axis=1)
    np.testing.assert_allclose(energy, expected, rtol=1e-4)


def test_the_energy_of_a_gaussian_is_that_of_its_growing_spread():
    """x(t) = m (1 - t) + x(1) sd(t) with sd(t)^2 = (1 - t)^2 s^2 + t^2, at m = 0."""
    s = 0.3
    eps = jax.random.normal(KEY, (4, 2))

    def denoise(x, t):
        return (1 - t) * s**2 / ((1 - t) ** 2 * s**2 + t**2) * x

    def speed(t):
        return (t - (1 - t) * s**2) / np.sqrt((1 - t) ** 2 * s**2 + t**2)

    spread, _ = quad(lambda t: speed(t) ** 2, 0.0, 1.0)
    expected = spread * jnp.sum(jnp.square(eps), axis=1)
    energy = path_energy(denoise, eps, num_steps=2000)
    np.testing.assert_allclose(energy, expected, rtol=2e-3)
    assert spread > (1 - s) ** 2, "more than the optimal transport"


# --- the experiment -------------------------------------------------------------------


def test_learns_eight_gaussians():
    """Guidance 1 and more lead to the class, 0 to any."""
    learns_eight_gaussians("flow_matching")
    label = jnp.repeat(jnp.arange(8), 50)
    right = []
    for scale in (0.0, 1.5):
        experiment, state, _ = trained(
            "flow_matching", {"sampler.guidance.scale": scale}
        )
        samples = sampler(experiment)(state, KEY, 400, label)
        away = np.linalg.norm(samples[:, None] - RING.centers[None], axis=-1)
        right.append(np.mean(away.argmin(axis=1) == label))
    assert right[0] < 0.3 and right[1] > 0.9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method.coupling": "optimal"}, "known: independent, optimal_transport"),
        ({"method.times.distribution": "normal"}, "did you mean 'logit_normal'"),
        ({"method.times.shift": -1.0}, "times.shift must be more than 0, not -1.0"),
        ({"method.weighting.name": "edm"}, "known: simple, min_snr, sigmoid"),
    ],
)
def test_choices_that_do_not_fit(changes, message):
    with pytest.raises(UserError, match=message):
        build("flow_matching", POINTS, changes)

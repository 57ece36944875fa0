"""Known optima of the losses, closed forms and finite differences of the penalties."""

import math
from typing import get_args, get_type_hints

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import linprog
from scipy.stats import kstest, norm, truncnorm

from genjax.models.mlp import MLP
from genjax.objectives import adversarial
from genjax.objectives.adversarial import LOSSES, PENALTIES, NoiseSampler, Penalty
from genjax.typing import UserError

P, Q = norm(0.0, 1.0), norm(1.0, 0.7)  # of the data, of the samples
# Two laws on ten values, of which the pairs can be counted.
MASS_P, MASS_Q = np.random.default_rng(0).dirichlet(np.full(10, 2.0), 2)
RATIO = np.log(MASS_P) - np.log(MASS_Q)
OPTIMA = {
    "minimax": RATIO,
    "non_saturating": RATIO,
    "least_squares": MASS_P / (MASS_P + MASS_Q),
    "hinge": np.sign(RATIO),
    "relativistic": RATIO + 0.3,
}


def log_ratio(x):
    return P.logpdf(x) - Q.logpdf(x)


def mean_loss(name, logits):
    """The discriminator's loss over all pairs of the ten values, in float64."""
    with jax.enable_x64(True):
        pairs = LOSSES[name].discriminator(
            jnp.repeat(jnp.asarray(logits)[:, None], 10, axis=1),
            jnp.repeat(jnp.asarray(logits)[None], 10, axis=0),
        )
        return jnp.sum(jnp.outer(MASS_P, MASS_Q) * pairs)


def jensen_shannon(p, q):
    def kl(a, b):
        return np.sum(a * np.log(a / b))

    return (kl(p, (p + q) / 2) + kl(q, (p + q) / 2)) / 2


# --- optima ---------------------------------------------------------------------------


def test_minimax_at_its_optimum_is_the_jensen_shannon_divergence():
    # E_p log D + E_q log(1 - D) = 2 JSD - 2 log 2, of two Gaussians by quadrature
    def kl_to_middle(p):
        def integrand(x):
            middle = np.logaddexp(P.logpdf(x), Q.logpdf(x)) - math.log(2)
            return p.pdf(x) * (p.logpdf(x) - middle)

        return quad(integrand, -9, 9)[0]

    def integrand(x):
        t = jnp.asarray(log_ratio(x), jnp.float32)
        sure = jnp.asarray(60.0)  # a logit whose own loss is zero
        of_data = LOSSES["minimax"].discriminator(t, -sure)
        of_samples = LOSSES["minimax"].discriminator(sure, t)
        return P.pdf(x) * float(of_data) + Q.pdf(x) * float(of_samples)

    jsd = (kl_to_middle(P) + kl_to_middle(Q)) / 2
    value = -quad(integrand, -9, 9, epsabs=1e-5, limit=40)[0]
    assert value == pytest.approx(2 * jsd - 2 * math.log(2), abs=1e-4)


@pytest.mark.parametrize("name", OPTIMA)
def test_the_optimal_discriminator_is_the_known_one(name):
    best = OPTIMA[name]
    lowest = mean_loss(name, best)
    for shift in np.random.default_rng(1).normal(size=(20, 10)):
        assert mean_loss(name, best + 0.1 * shift) > lowest
    if name != "hinge":  # it has a kink there
        with jax.enable_x64(True):
            slope = jax.grad(lambda t: mean_loss(name, t))(jnp.asarray(best))
        np.testing.assert_allclose(slope, 0.0, atol=1e-12)


def test_values_at_the_optima():
    # Half the pairs of the relativistic loss are the other half turned around.
    pairs, turned = np.outer(MASS_P, MASS_Q), np.outer(MASS_Q, MASS_P)
    values = {
        "minimax": 2 * math.log(2) - 2 * jensen_shannon(MASS_P, MASS_Q),
        "least_squares": 0.5 * np.sum(MASS_P * MASS_Q / (MASS_P + MASS_Q)),
        "hinge": 2 - np.abs(MASS_P - MASS_Q).sum(),
        "relativistic": math.log(2) - jensen_shannon(pairs, turned),
    }
    for name, value in values.items():
        assert mean_loss(name, OPTIMA[name]) == pytest.approx(value, abs=1e-12), name


def test_wasserstein_over_lipschitz_critics_is_the_distance():
    # The dual, by scipy's linear programme, on the values 0 ... 9; the primal, by the
    # area between the distribution functions.
    steps = np.eye(10)[1:] - np.eye(10)[:-1]
    dual = linprog(
        MASS_Q - MASS_P,
        A_ub=np.concatenate([steps, -steps]),
        b_ub=np.ones(18),
        bounds=[(0, 0)] + [(None, None)] * 9,
    )
    distance = np.abs(np.cumsum(MASS_P - MASS_Q)).sum()
    assert mean_loss("wasserstein", dual.x) == pytest.approx(-distance, abs=1e-9)


# --- the generator --------------------------------------------------------------------


def slope(name, t):
    loss = LOSSES[name].generator
    return float(jax.grad(lambda fake: loss(jnp.zeros(()), fake))(jnp.asarray(t)))


@pytest.mark.parametrize("t, ratio", [(-6.0, 403.4288), (0.0, 1.0), (3.0, 0.0497871)])
def test_saturation_is_a_number(t, ratio):
    assert slope("non_saturating", t) / slope("minimax", t) == pytest.approx(
        ratio, rel=1e-4
    )


@pytest.mark.parametrize("name", LOSSES)
def test_every_generator_wants_higher_logits(name):
    assert all(slope(name, t) < 0 for t in (-3.0, 0.0, 0.9))


def test_the_players_of_the_relativistic_loss_are_each_others_mirror():
    real, fake = jnp.array([0.3, -2.0]), jnp.array([1.0, 4.0])
    loss = LOSSES["relativistic"]
    np.testing.assert_allclose(
        loss.discriminator(real, fake), loss.generator(fake, real)
    )
    np.testing.assert_allclose(  # only differences matter
        loss.discriminator(real + 5.0, fake + 5.0),
        loss.discriminator(real, fake),
        rtol=1e-6,
    )


def test_logits_of_any_size_are_finite():
    real, fake = jnp.array([1e4, -1e4, 1e4]), jnp.array([1e4, 1e4, -1e4])
    for loss in LOSSES.values():
        assert all(np.isfinite(part(real, fake)).all() for part in loss[:2])


# --- penalties ------------------------------------------------------------------------

W = jnp.array([3.0, -4.0])
X = jax.random.normal(jax.random.key(0), (5, 2))


def linear(x):
    return x @ W + 7.0


def test_penalties_of_a_linear_critic():
    np.testing.assert_allclose(adversarial.zero_centered(linear, X), 12.5)
    np.testing.assert_allclose(adversarial.one_centered(linear, X), 16.0)
    images = jax.random.normal(jax.random.key(1), (3, 4, 4, 2))
    squares = adversarial.zero_centered(
        lambda x: 0.5 * jnp.sum(jnp.square(x), axis=(1, 2, 3)), images
    )
    expected = 0.5 * np.square(images).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(squares, expected, rtol=1e-6)


def test_a_critic_without_slope_has_a_finite_gradient():
    def total(scale):
        return adversarial.one_centered(lambda x: scale * jnp.sum(x, axis=1), X).sum()

    value, slope = jax.value_and_grad(total)(0.0)
    assert value == 5.0 and np.isfinite(slope)


@pytest.mark.parametrize("name", ["zero_centered", "one_centered"])
def test_double_backward_is_the_finite_difference(name):
    penalty, net = getattr(adversarial, name), MLP((8, 8), 1, "tanh")
    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(0).normal(size=(6, 2)))
        params = net.init(jax.random.key(0), x)["params"]
        params = jax.tree.map(lambda w: w.astype(jnp.float64), params)
        flat, unravel = jax.flatten_util.ravel_pytree(params)

        @jax.jit
        def total(flat):
            critic = lambda x: net.apply({"params": unravel(flat)}, x)[:, 0]  # noqa: E731
            return penalty(critic, x).sum()

        for way in np.random.default_rng(1).normal(size=(3, len(flat))):
            step = 1e-5 * jnp.asarray(way)
            difference = (total(flat + step) - total(flat - step)) / 2e-5
            slope = jnp.vdot(jax.grad(total)(flat), way)
            assert slope == pytest.approx(float(difference), rel=1e-6)


def test_interpolates_lie_evenly_on_the_lines():
    real, fake = jnp.zeros((4000, 2)), jnp.ones((4000, 2))
    x = np.asarray(adversarial.interpolates(jax.random.key(0), real, fake))
    np.testing.assert_array_equal(x[:, 0], x[:, 1])  # one share a row
    assert x.mean() == pytest.approx(0.5, abs=0.02)
    assert x.var() == pytest.approx(1 / 12, abs=0.004)


def test_perturbed_points_have_the_noise_they_should():
    real = 3.0 * jax.random.normal(jax.random.key(0), (4000, 2)) + 1.0
    noise = adversarial.perturbed(jax.random.key(1), real, scale=0.5) - real
    assert float(noise.mean()) == pytest.approx(0.0, abs=0.06)
    assert float(noise.std()) == pytest.approx(1.5, rel=0.05)


@pytest.mark.parametrize(
    "name, value",
    [("none", 0.0), ("r1", 12.5), ("r1_r2", 25.0), ("wgan_gp", 16.0), ("dragan", 16.0)],
)
def test_every_third_penalty_counts_three_times(name, value):
    def at(turn, every):
        penalty, key = Penalty(name=name, every=every), jax.random.key(0)
        return float(penalty(linear, X, X + 1.0, key, turn=jnp.int32(turn)))

    assert at(5, every=1) == pytest.approx(value)
    turns = [at(i, every=3) for i in range(6)]
    assert turns == pytest.approx([3 * value, 0.0, 0.0] * 2)


def test_the_weight_of_the_penalty_goes_to_its_end():
    def at(step, **end):
        return float(Penalty(weight=4.0, **end).weight_at(jnp.int32(step)))

    falling = [at(i, weight_end=1.0, decay_steps=100) for i in (0, 50, 100, 200)]
    assert falling == pytest.approx([4.0, 2.5, 1.0, 1.0])
    assert at(70) == 4.0
    rising = Penalty(weight=0.0, weight_end=2.0, decay_steps=10)
    assert float(rising.weight_at(jnp.int32(5))) == pytest.approx(1.0)
    for half in ({"weight_end": 1.0}, {"decay_steps": 100}):
        with pytest.raises(UserError, match="give both, or neither"):
            Penalty(**half)


# --- what is undecided, noise, names --------------------------------------------------


@pytest.mark.parametrize("name", LOSSES)
def test_the_undecided_logit_lies_between_data_and_samples(name):
    real, fake = jnp.array([4.0, 6.0]), jnp.array([-2.0, -4.0])
    signed = name in ("minimax", "non_saturating", "hinge")
    middle = float(LOSSES[name].undecided(real, fake))
    assert middle == pytest.approx(0.0 if signed else 1.0)


def test_truncated_noise_stays_within_its_limit():
    key = jax.random.key(0)
    z = np.asarray(NoiseSampler(truncation=0.7)(key, 4000, 5))
    assert 0.69 < np.abs(z).max() <= 0.7
    assert z.std() == pytest.approx(truncnorm.std(-0.7, 0.7), rel=0.02)
    whole = NoiseSampler()(key, 4000, 5)
    assert kstest(np.asarray(whole).ravel(), "norm").pvalue > 1e-3


def test_a_config_has_all_names():
    names = get_args(adversarial.LossName)
    assert set(names) == set(LOSSES)
    names = get_args(get_type_hints(Penalty)["name"])
    assert set(names) == {"none", *PENALTIES}

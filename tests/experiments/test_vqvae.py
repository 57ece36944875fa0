import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from jax.scipy.special import logsumexp

from genjax.objectives import quantize
from genjax.objectives.bottlenecks import Kept
from genjax.training.checkpoint import Checkpointer
from tests.experiments import code_models
from tests.experiments.code_models import KEY

BOTTLENECKS = ["vq", "fsq", "gaussian"]


@functools.cache
def build(**changes):
    """The experiment at tiny, with config.section.field = value changed."""
    return code_models.build("vqvae_digits", **changes)


def batch_of(num=6, seed=1):
    image = jax.random.randint(jax.random.key(seed), (num, 8, 8, 1), 0, 17)
    return {"image": image.astype(jnp.uint8)}


@functools.cache
def start(experiment):
    """A state as init gives it, but filled by numpy: init takes long to compile."""
    state, rng = jax.eval_shape(experiment.init, KEY), np.random.default_rng(0)

    def weights(leaf):
        fan_in = math.prod(leaf.shape[:-1])
        values = rng.normal(size=leaf.shape) / math.sqrt(fan_in)
        return jnp.asarray(values * (leaf.ndim > 1), jnp.float32)

    new = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), state)
    new = with_params(new, jax.tree.map(weights, state.net.params))
    book, use = new.kept
    if use is not None:
        use = quantize.no_use(len(use.share), 10)
    if book is not None:
        codes = jnp.asarray(rng.normal(size=book.codes.shape), jnp.float32)
        book = quantize.Codebook(codes, jnp.ones(len(codes)), codes)
    return new._replace(kept=Kept(book, use))


def with_params(state, params):
    return state._replace(net=state.net._replace(params=params))


def with_codes(state, codes):
    book = state.kept.book._replace(codes=codes)
    return state._replace(kept=state.kept._replace(book=book))


# --- learning -------------------------------------------------------------------------


ENTROPY = 4 * math.log(4)  # nats of the images below


def quadrants(key, num):
    """Images of 2 x 2 flat squares, each of one of four levels, equally likely."""
    level = jax.random.randint(key, (num, 2, 2, 1), 0, 4)
    level = jnp.array([2, 6, 10, 14], jnp.uint8)[level]
    return {"image": level.repeat(4, axis=1).repeat(4, axis=2)}


@functools.cache
def learned(bottleneck):
    """2000 steps with four codes for each of the 2 x 2 places; new images to try it."""
    experiment = build(
        method__bottleneck=bottleneck,
        method__num_codes=4,
        method__levels=(4,),
        method__codebook__decay=0.9,
        method__codebook__restart_below=0.3,
        method__codebook__usage_steps=10,
        model__channels=(16, 16),
        model__activation="silu",
        optim__decay_steps=2000,
        optim__learning_rate=5e-3,
    )

    def step(state, i):
        key, image_key = jax.random.split(jax.random.fold_in(KEY, i))
        return experiment.train_step(state, quadrants(image_key, 32), key)

    run = jax.jit(lambda state: jax.lax.scan(step, state, jnp.arange(2000)))
    state, metrics = run(start(experiment))
    last = {name: values[-1] for name, values in metrics.items()}
    return experiment, state, last, quadrants(jax.random.key(1), 100)


@pytest.mark.slow
@pytest.mark.parametrize(("bottleneck", "gap"), [("vq", 0.5), ("fsq", 2.0)])
def test_learns_one_code_for_each_square(bottleneck, gap):
    """The bound reaches the entropy of the data: no model can do better."""
    experiment, state, metrics, batch = learned(bottleneck)
    np.testing.assert_allclose(metrics["perplexity"], 4.0, rtol=0.05)
    assert metrics["codes_in_use"] == 1.0
    bound = jax.jit(experiment.likelihood.log_prob)(state, batch, KEY)
    assert -ENTROPY - gap < bound.mean() and (bound <= -ENTROPY + 1e-4).all()
    codes = jax.jit(experiment.code.encode)(state, batch, KEY)
    decoded = jax.jit(experiment.code.decode)(state, codes, KEY)
    assert np.mean(decoded == batch["image"]) > 0.995
    # the squares are independent, and so are the codes of a sample
    samples = jax.jit(experiment.sample, static_argnums=2)(state, KEY, 400)
    inner = np.asarray(samples)[:, 1::4, 1::4, 0].reshape(400, 4)
    share = np.mean(inner[:, None] == np.array([[2], [6], [10], [14]]), axis=0)
    assert np.abs(share - 0.25).max() < 0.1


@pytest.mark.slow
def test_learns_the_squares_through_a_gaussian_too():
    """Round normal posteriors do not fill the plane: some nats are lost."""
    experiment, state, _, batch = learned("gaussian")
    bound = jax.jit(experiment.likelihood.log_prob)(state, batch, KEY).mean()
    assert -ENTROPY - 15.0 < bound < -ENTROPY  # -180 untrained
    codes = jax.jit(experiment.code.encode)(state, batch, KEY)
    decoded = jax.jit(experiment.code.decode)(state, codes, KEY)
    assert np.mean(decoded == batch["image"]) > 0.995


# --- the bound ------------------------------------------------------------------------


def test_the_bound_is_below_the_exact_sum_over_all_codes():
    """With all rows of the codebook equal, the bound of that one code is left."""
    experiment = build(method__num_codes=5, model__channels=(4, 4, 4))
    state, batch = start(experiment), batch_of()
    log_likelihood = jax.jit(experiment.likelihood.log_prob)
    codes = state.kept.book.codes

    def with_code(k):
        repeated = jnp.tile(codes[k][None], (5, 1))
        return log_likelihood(with_codes(state, repeated), batch, KEY)

    terms = jnp.stack([with_code(k) for k in range(5)])  # log (1/5) p(x|e_k)
    exact, bound = logsumexp(terms, axis=0), log_likelihood(state, batch, KEY)
    assert (bound < exact).all()
    # and it is one of the terms: that of the encoder's code
    chosen = jnp.min(jnp.abs(terms - bound[None]), axis=0)
    np.testing.assert_allclose(chosen, jnp.zeros(6), atol=1e-3)


def test_the_gaussian_bound_against_integrals_over_one_number():
    """ELBO = E_q[log p(x|z)] - KL by quadrature, below log p(x) by quadrature."""
    experiment = build(
        method__bottleneck="gaussian", model__code_dim=1, model__channels=(4, 4, 4)
    )
    state, batch = start(experiment), batch_of(3)
    # a decoder that heeds its code
    params = state.net.params
    louder = jax.tree.map(lambda weights: 3.0 * weights, params["decoder"])
    normal = scipy.stats.norm
    grid = np.linspace(-8, 8, 801)
    width = grid[1] - grid[0]

    def constant(mean, logvar):
        """The state whose posterior is N(mean, exp(logvar)), whatever x is."""
        zero = jnp.zeros_like(params["to_code"]["kernel"])
        to_code = {"kernel": zero, "bias": jnp.stack([mean, logvar])}
        return with_params(state, params | {"decoder": louder, "to_code": to_code})

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0,))
    def log_likelihood_at(z):
        spot = constant(z, jnp.float32(-60.0))
        return -experiment.evaluate(spot, batch, KEY)["reconstruction_nats"]

    log_pixels = np.asarray(log_likelihood_at(jnp.asarray(grid, jnp.float32)), float)
    weighted = log_pixels + normal.logpdf(grid)[:, None] + np.log(width)
    exact = scipy.special.logsumexp(weighted, axis=0)

    mean, std = 0.3, 0.5
    wide = constant(jnp.float32(mean), jnp.float32(2 * np.log(std)))
    draws = jax.jit(jax.vmap(experiment.likelihood.log_prob, (None, None, 0)))
    drawn = np.asarray(draws(wide, batch, jax.random.split(KEY, 4000)), float)
    posterior = normal.pdf(grid, mean, std) * width
    kl = np.sum(posterior * (normal.logpdf(grid, mean, std) - normal.logpdf(grid)))
    elbo = posterior @ log_pixels - kl
    error = 5 * drawn.std(axis=0) / np.sqrt(len(drawn)) + 1e-3
    assert (drawn.std(axis=0) > 0.1).all(), "or the draws say nothing"
    assert (np.abs(drawn.mean(axis=0) - elbo) < error).all()
    assert (elbo < exact).all()


@pytest.mark.parametrize(
    ("bottleneck", "rate"),
    [("vq", 4 * 4 * math.log(4)), ("fsq", 4 * 4 * math.log(48)), ("gaussian", None)],
)
def test_the_two_values_of_evaluate_are_the_bound(bottleneck, rate):
    """On a map of 4 x 4 places."""
    experiment = build(method__bottleneck=bottleneck, method__levels=(4, 4, 3))
    state, batch = start(experiment), batch_of()
    values = jax.jit(experiment.evaluate)(state, batch, KEY)
    bound = jax.jit(experiment.likelihood.log_prob)(state, batch, KEY)
    np.testing.assert_allclose(
        values["reconstruction_nats"] + values["rate_nats"], -bound, rtol=1e-5
    )
    if rate is not None:
        np.testing.assert_allclose(values["rate_nats"], jnp.full(6, rate), rtol=1e-5)
    assert (values["rate_nats"] > 0).all()
    note = experiment.likelihood.note
    assert ("one draw of z" if bottleneck == "gaussian" else "uniform prior") in note
    assert "no dequantisation" in note


@pytest.mark.parametrize("bottleneck", BOTTLENECKS)
def test_the_squared_error_is_that_of_the_decoded_code(bottleneck):
    experiment = build(method__bottleneck=bottleneck)
    state, batch = start(experiment), batch_of()
    code = jax.jit(experiment.code.encode)(state, batch, KEY)
    decoded = np.asarray(jax.jit(experiment.code.decode)(state, code, KEY))
    error = np.sum(
        (decoded / 16 - np.asarray(batch["image"]) / 16) ** 2, axis=(1, 2, 3)
    )
    values = jax.jit(experiment.evaluate)(state, batch, KEY)
    # decode rounds to a level, half a one at most
    np.testing.assert_allclose(values["squared_error"], error, atol=64 * 2 / 32)
    shown = jax.jit(experiment.images)(state, batch, KEY)["reconstructions"]
    np.testing.assert_array_equal(shown[::2], batch["image"])
    np.testing.assert_array_equal(shown[1::2], decoded)


# --- the codebook ---------------------------------------------------------------------


def test_kmeans_starts_the_codebook_at_step_0_alone():
    experiment = build(
        method__codebook__kmeans_iterations=5,
        method__num_codes=8,
        method__codebook__decay=0.999999,  # nothing else moves the codes
    )
    step, batch = jax.jit(experiment.train_step), batch_of(32)
    new = start(experiment)
    first, centres = step(new, batch, KEY)
    second, _ = step(first, batch, KEY)
    codes = [state.kept.book.codes for state in (new, first, second)]
    assert np.abs(codes[1] - codes[0]).max() > 0.1
    assert np.abs(codes[2] - codes[1]).max() < 1e-3
    # the random codes, as step 1 leaves them, serve worse
    begun = new._replace(net=new.net._replace(step=jnp.int32(1)))
    later, random = step(begun, batch, KEY)
    assert np.abs(later.kept.book.codes - codes[0]).max() < 1e-3
    assert centres["commitment_loss"] < 0.5 * random["commitment_loss"]


@pytest.mark.parametrize("bottleneck", ["fsq", "gaussian"])
def test_a_state_without_a_codebook_is_saved_too(bottleneck, tmp_path):
    experiment = build(method__bottleneck=bottleneck)
    state = start(experiment)
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(2, state)
        restored = checkpointer.restore(jax.eval_shape(experiment.init, KEY))
    assert restored is not None
    assert jax.tree.structure(restored.state) == jax.tree.structure(state)
    pairs = zip(jax.tree.leaves(state), jax.tree.leaves(restored.state), strict=True)
    for saved, read in pairs:
        np.testing.assert_array_equal(saved, read)


# --- codes, samples, choices ----------------------------------------------------------


def test_codes_are_rows_of_the_codebook_or_points_of_the_grid():
    batch = batch_of()
    experiment = build(method__bottleneck="vq")
    state = start(experiment)
    codes = jax.jit(experiment.code.encode)(state, batch, KEY).reshape(-1, 2)
    distance = np.abs(codes[:, None] - state.kept.book.codes[None]).max(axis=-1)
    np.testing.assert_array_equal(distance.min(axis=1), np.zeros(6 * 16))

    experiment = build(method__bottleneck="fsq", method__levels=(5, 4, 3))
    codes = jax.jit(experiment.code.encode)(start(experiment), batch, KEY)
    codes = codes.reshape(-1, 3)
    grid = quantize.fsq_code(jnp.arange(60), (5, 4, 3))
    distance = np.abs(codes[:, None] - grid[None]).max(axis=-1)
    np.testing.assert_array_equal(distance.min(axis=1), np.zeros(6 * 16))


@pytest.mark.parametrize(
    ("bottleneck", "pixels"), [("vq", "draw"), ("fsq", "mean"), ("gaussian", "mean")]
)
def test_every_bottleneck_samples(bottleneck, pixels):
    experiment = build(method__bottleneck=bottleneck, sampler__pixels=pixels)
    sample = jax.jit(experiment.sample, static_argnums=2)
    samples = sample(start(experiment), KEY, 3)
    assert samples.shape == (3, 8, 8, 1) and samples.dtype == jnp.uint8
    assert samples.max() <= 16 and len(np.unique(samples)) > 1

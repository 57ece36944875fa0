import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from jax.scipy.special import logsumexp

from configs import vqvae_digits, vqvae_mnist, vqvae_mnist_fsq, vqvae_mnist_gaussian
from experiments.vqvae import make_experiment, vector_quantized
from genjax.objectives import quantize
from genjax.training.checkpoint import Checkpointer
from genjax.typing import DataSpec, UserError

KEY = jax.random.key(0)
DIGITS = DataSpec(
    name="digits",
    shape=(8, 8, 1),
    dtype="uint8",
    num_levels=17,
    num_train=64,
    num_eval=16,
    num_classes=10,
)
POINTS = DataSpec(
    name="gaussians8",
    shape=(2,),
    dtype="float32",
    num_levels=0,
    num_train=64,
    num_eval=16,
    num_classes=8,
)
CONFIGS = [vqvae_digits, vqvae_mnist, vqvae_mnist_fsq, vqvae_mnist_gaussian]
BOTTLENECKS = ["vq", "fsq", "gaussian"]


@functools.cache
def build(spec=DIGITS, **changes):
    """The experiment at tiny, with config.section__field = value changed."""
    config = vqvae_digits.get_config("tiny")
    for name, value in changes.items():
        section, field = name.split("__")
        config[section][field] = value
    return make_experiment(config, spec)


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
    new = new._replace(params=jax.tree.map(weights, state.params))
    if new.use is not None:
        new = new._replace(use=quantize.no_use(len(new.use.share), 10))
    if new.codebook is not None:
        codes = jnp.asarray(rng.normal(size=new.codebook.codes.shape), jnp.float32)
        book = quantize.Codebook(codes, jnp.ones(len(codes)), codes)
        new = new._replace(codebook=book)
    return new


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
        method__codebook_decay=0.9,
        method__restart_below=0.3,
        method__usage_steps=10,
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


@pytest.mark.parametrize(("bottleneck", "gap"), [("vq", 0.5), ("fsq", 2.0)])
def test_learns_one_code_for_each_square(bottleneck, gap):
    """The bound reaches the entropy of the data: no model can do better."""
    experiment, state, metrics, batch = learned(bottleneck)
    np.testing.assert_allclose(metrics["perplexity"], 4.0, rtol=0.05)
    assert metrics["codes_in_use"] == 1.0
    bound = jax.jit(experiment.log_likelihood)(state, batch, KEY)
    assert -ENTROPY - gap < bound.mean() and (bound <= -ENTROPY + 1e-4).all()
    codes = jax.jit(experiment.encode)(state, batch, KEY)
    decoded = jax.jit(experiment.decode)(state, codes, KEY)
    assert np.mean(decoded == batch["image"]) > 0.995
    # the squares are independent, and so are the codes of a sample
    samples = jax.jit(experiment.sample, static_argnums=2)(state, KEY, 400)
    inner = np.asarray(samples)[:, 1::4, 1::4, 0].reshape(400, 4)
    share = np.mean(inner[:, None] == np.array([[2], [6], [10], [14]]), axis=0)
    assert np.abs(share - 0.25).max() < 0.1


def test_learns_the_squares_through_a_gaussian_too():
    """Round normal posteriors do not fill the plane: some nats are lost."""
    experiment, state, _, batch = learned("gaussian")
    bound = jax.jit(experiment.log_likelihood)(state, batch, KEY).mean()
    assert -ENTROPY - 15.0 < bound < -ENTROPY  # -180 untrained
    codes = jax.jit(experiment.encode)(state, batch, KEY)
    decoded = jax.jit(experiment.decode)(state, codes, KEY)
    assert np.mean(decoded == batch["image"]) > 0.995


# --- the bound ------------------------------------------------------------------------


def test_the_bound_is_below_the_exact_sum_over_all_codes():
    """With all rows of the codebook equal, the bound of that one code is left."""
    experiment = build(method__num_codes=5, model__channels=(4, 4, 4))
    state, batch = start(experiment), batch_of()
    log_likelihood = jax.jit(experiment.log_likelihood)
    codes = state.codebook.codes

    def with_code(k):
        book = state.codebook._replace(codes=jnp.tile(codes[k][None], (5, 1)))
        return log_likelihood(state._replace(codebook=book), batch, KEY)

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
    louder = jax.tree.map(lambda weights: 3.0 * weights, state.params["decoder"])
    state = state._replace(params={**state.params, "decoder": louder})
    normal = scipy.stats.norm
    grid = np.linspace(-8, 8, 801)
    width = grid[1] - grid[0]

    def told(weight, bias):
        """The state whose posterior is N(mean, exp(logvar)), whatever x is."""
        to_code = {"kernel": weight, "bias": jnp.stack(bias)}
        return state._replace(params={**state.params, "to_code": to_code})

    zero = jnp.zeros_like(state.params["to_code"]["kernel"])

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0,))
    def log_likelihood_at(z):
        spot = told(zero, [z, jnp.float32(-60.0)])
        return -experiment.evaluate(spot, batch, KEY)["reconstruction_nats"]

    log_pixels = np.asarray(log_likelihood_at(jnp.asarray(grid, jnp.float32)), float)
    weighted = log_pixels + normal.logpdf(grid)[:, None] + np.log(width)
    exact = scipy.special.logsumexp(weighted, axis=0)

    mean, std = 0.3, 0.5
    wide = told(zero, [jnp.float32(mean), jnp.float32(2 * np.log(std))])
    draws = jax.jit(jax.vmap(experiment.log_likelihood, (None, None, 0)))
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
    bound = jax.jit(experiment.log_likelihood)(state, batch, KEY)
    np.testing.assert_allclose(
        values["reconstruction_nats"] + values["rate_nats"], -bound, rtol=1e-5
    )
    if rate is not None:
        np.testing.assert_allclose(values["rate_nats"], jnp.full(6, rate), rtol=1e-5)
    assert (values["rate_nats"] > 0).all()
    note = experiment.likelihood_note
    assert ("one draw of z" if bottleneck == "gaussian" else "uniform prior") in note
    assert "no dequantisation" in note


@pytest.mark.parametrize("bottleneck", BOTTLENECKS)
def test_the_squared_error_is_that_of_the_decoded_code(bottleneck):
    experiment = build(method__bottleneck=bottleneck)
    state, batch = start(experiment), batch_of()
    code = jax.jit(experiment.encode)(state, batch, KEY)
    decoded = np.asarray(jax.jit(experiment.decode)(state, code, KEY))
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
        method__kmeans_iterations=5,
        method__num_codes=8,
        method__codebook_decay=0.999999,  # nothing else moves the codes
    )
    step, batch = jax.jit(experiment.train_step), batch_of(32)
    new = start(experiment)
    first, centres = step(new, batch, KEY)
    second, _ = step(first, batch, KEY)
    assert np.abs(first.codebook.codes - new.codebook.codes).max() > 0.1
    assert np.abs(second.codebook.codes - first.codebook.codes).max() < 1e-3
    # the random codes, as step 1 leaves them, serve worse
    later, random = step(new._replace(step=jnp.int32(1)), batch, KEY)
    assert np.abs(later.codebook.codes - new.codebook.codes).max() < 1e-3
    assert centres["commitment_loss"] < 0.5 * random["commitment_loss"]


def test_unused_codes_restart():
    """16 codes far from every vector: all but the one nearest come back."""
    experiment = build(
        method__restart_below=0.5,
        method__kmeans_iterations=0,
        method__codebook_decay=0.5,
        method__num_codes=16,
    )
    state, step, shares = start(experiment), jax.jit(experiment.train_step), []
    far = 100.0 + jnp.arange(16.0)[:, None] * jnp.ones((1, 2))
    state = state._replace(codebook=quantize.Codebook(far, jnp.ones(16), far))
    for i in range(4):
        state, metrics = step(state, batch_of(8), jax.random.fold_in(KEY, i))
        shares.append(float(metrics["codes_restarted"]))
    assert max(shares) == 15 / 16
    assert metrics["perplexity"] > 1.5
    assert np.sum(np.abs(state.codebook.codes).max(axis=1) < 50) >= 15


def test_the_commitment_pulls_vectors_to_codes_and_leaves_codes_alone():
    """Its gradient is 2 commitment (h - e), and none goes to e."""
    h, codes = jax.random.normal(KEY, (2, 3, 3, 2)), jnp.array([[1.0, 0.0], [-1, 0]])

    def penalty(h, codes):
        return vector_quantized(h, codes, commitment=0.25).penalty.sum()

    to_h, to_codes = jax.grad(penalty, argnums=(0, 1))(h, codes)
    nearest = np.where(h[..., :1] > 0, codes[0], codes[1])
    np.testing.assert_allclose(to_h, 0.5 * (h - nearest), rtol=1e-5)
    np.testing.assert_array_equal(to_codes, jnp.zeros((2, 2)))


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
    codes = jax.jit(experiment.encode)(state, batch, KEY).reshape(-1, 2)
    distance = np.abs(codes[:, None] - state.codebook.codes[None]).max(axis=-1)
    np.testing.assert_array_equal(distance.min(axis=1), np.zeros(6 * 16))

    experiment = build(method__bottleneck="fsq", method__levels=(5, 4, 3))
    codes = jax.jit(experiment.encode)(start(experiment), batch, KEY)
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


def test_labels_are_refused():
    experiment = build()
    with pytest.raises(UserError, match="without labels"):
        experiment.sample(start(experiment), KEY, 2, jnp.zeros(2, jnp.int32))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method__bottleneck": "gausian"}, "did you mean 'gaussian'"),
        ({"method__levels": (8, 2)}, r"3 or more, not \(8, 2\)"),
        ({"method__levels": ()}, r"3 or more, not \(\)"),
        ({"method__num_codes": 0}, "1 or more, not 0 and 2"),
        ({"method__usage_steps": 0}, "1 or more, not 4 and 0"),
        ({"method__restart_below": 1.0}, "below 1, not 1.0 and 0.99"),
        ({"method__codebook_decay": 1.0}, "not 0.05 and 1.0"),
        ({"model__activation": "rellu"}, "did you mean 'relu'"),
        ({"sampler__pixels": "means"}, "did you mean 'mean'"),
    ],
)
def test_choices_that_do_not_exist(changes, message):
    with pytest.raises(UserError, match=message):
        build(**changes)


def test_points_are_no_images():
    with pytest.raises(UserError, match=r"gaussians8 has .*shape \(2,\).*for images"):
        build(POINTS)


@pytest.mark.parametrize("module", CONFIGS, ids=lambda m: m.__name__)
def test_configs_know_their_variants(module):
    assert module.get_config("tiny").training.num_steps <= 4000
    with pytest.raises(ValueError, match="'small'.*'tiny'"):
        module.get_config("small")

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from genjax.objectives import pixels
from genjax.scale import Scale

KEY = jax.random.key(0)
LEVELS = 17
X = jnp.round(jax.random.uniform(KEY, (2, 3, 3, 1)) * (LEVELS - 1)) / (LEVELS - 1)


def test_bernoulli_sums_over_the_image():
    x = jnp.round(X)
    logits = jax.random.normal(KEY, (5, 2, 3, 3, 1))
    family = pixels.bernoulli()
    want = stats.bernoulli.logpmf(x, 1 / (1 + np.exp(-logits))).sum(axis=(2, 3, 4))
    np.testing.assert_allclose(family.log_mass(x[None], logits), want, rtol=1e-4)
    np.testing.assert_allclose(family.log_prob(x[None], logits), want, rtol=1e-4)


def gaussian_out(mean, std, like=X):
    mean, log_std = jnp.full_like(like, mean), jnp.full_like(like, np.log(std))
    return jnp.concatenate([mean, log_std], axis=-1)


def test_gaussian_density_against_scipy():
    got = pixels.gaussian(LEVELS).log_prob(X, gaussian_out(0.4, 0.2))
    want = stats.norm(0.4, 0.2).logpdf(X).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.parametrize("family", [pixels.gaussian, pixels.logistic])
def test_masses_of_all_levels_sum_to_one(family):
    levels = jnp.linspace(0.0, 1.0, LEVELS).reshape(LEVELS, 1, 1, 1)
    out = gaussian_out(0.3, 0.11, levels)
    masses = jnp.exp(family(LEVELS).log_mass(levels, out))
    np.testing.assert_allclose(masses.sum(), 1.0, rtol=1e-4)
    # the mean on the scale of the levels: N(.3, .11^2); logistic means are in [-1, 1]
    center = 0.3 if family is pixels.gaussian else (1.0 + 0.3) / 2.0
    np.testing.assert_allclose((masses * levels[:, 0, 0, 0]).sum(), center, atol=1e-2)


@pytest.mark.parametrize("name", ["bernoulli", "gaussian", "logistic"])
def test_draws_have_the_mean_and_lie_in_the_range(name):
    if name == "bernoulli":
        family, out = pixels.bernoulli(), jnp.full_like(X, -0.4)
    else:
        family = getattr(pixels, name)(LEVELS)
        out = gaussian_out(0.1, 0.05)
    mean = family.mean(out)
    draws = jax.vmap(lambda key: family.draw(key, out))(jax.random.split(KEY, 4000))
    assert draws.min() >= 0.0 and draws.max() <= 1.0 and mean.shape == X.shape
    np.testing.assert_allclose(draws.mean(axis=0), mean, atol=0.04)


def test_means_are_cut_to_the_range():
    for family in (pixels.gaussian, pixels.logistic):
        assert family(LEVELS).mean(gaussian_out(5.0, 1.0)).max() == 1.0
        assert family(LEVELS).mean(gaussian_out(-5.0, 1.0)).min() == 0.0


# --- a decoder with a family ----------------------------------------------------------


def model_of(name):
    """p(x|z) that says the code of one number of each pixel."""

    def decode(params, z):
        out = jnp.broadcast_to(
            params * z[..., None, None], (*z.shape[:-1], *X.shape[1:])
        )
        spread = jnp.full_like(out, -1.0)
        return out if name == "bernoulli" else jnp.concatenate([out, spread], axis=-1)

    family = pixels.family(name, LEVELS)
    return pixels.PixelModel(family=family, scale=Scale(LEVELS, low=0.0), decode=decode)


IMAGE = jnp.asarray(X * (LEVELS - 1), jnp.uint8)
Z = jax.random.normal(KEY, (5, 2, 1))


def test_binary_pixels_are_seen_as_often_as_they_are_grey():
    see = model_of("bernoulli").see
    seen = jax.vmap(lambda key: see(key, IMAGE))(jax.random.split(KEY, 4000))
    assert set(np.unique(seen)) == {0.0, 1.0}
    np.testing.assert_allclose(seen.mean(axis=0), X, atol=0.04)
    np.testing.assert_allclose(model_of("logistic").see(KEY, IMAGE), X, rtol=1e-6)


@pytest.mark.parametrize("name", ["bernoulli", "gaussian", "logistic"])
def test_a_model_scores_codes_as_its_family_does(name):
    model = model_of(name)
    x = model.see(KEY, IMAGE)
    out = model.decode(2.0, Z)
    for got, want in [
        (model.log_prob(2.0, x)(Z), model.family.log_prob(x[None], out)),
        (model.log_mass(2.0, x)(Z), model.family.log_mass(x[None], out)),
    ]:
        assert got.shape == (5, 2)
        np.testing.assert_array_equal(got, want)
    error = model.squared_error(2.0, Z[0], IMAGE)
    want = np.square(model.family.mean(out[0]) - X).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(error, want, rtol=1e-5)


@pytest.mark.parametrize("name", ["bernoulli", "logistic"])
def test_a_bound_is_of_what_the_model_sees(name):
    """Binarised images are drawn; both keys that are left differ from that of these."""
    likelihood = model_of(name).lower_bound(
        lambda state, x, z_key, q_key: jnp.stack(
            [
                x.sum(),
                jax.random.uniform(z_key),
                jax.random.uniform(q_key),
            ]
        ),
        "L_7",
    )
    assert likelihood.kind == "lower_bound" and likelihood.note.startswith("L_7; ")
    assert likelihood.of == ("binarized" if name == "bernoulli" else "data")
    total, first, second = likelihood.log_prob(None, {"image": IMAGE}, KEY)
    assert first != second
    if name == "bernoulli":
        assert total == jnp.round(total) and 0 < total < X.size
    else:
        np.testing.assert_allclose(total, X.sum(), rtol=1e-6)


def test_a_sample_is_the_mean_or_a_draw():
    family, out = pixels.logistic(LEVELS), gaussian_out(0.1, 0.05)
    mean = pixels.PixelSampler()(KEY, family, out)
    np.testing.assert_array_equal(mean, family.mean(out))
    drawn = pixels.PixelSampler(pixels="draw")(KEY, family, out)
    np.testing.assert_array_equal(drawn, family.draw(KEY, out))

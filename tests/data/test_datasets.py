"""The bundled data sets, and what `load` says to a mistake."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.data import toy
from genjax.data.datasets import load
from genjax.typing import UserError


def test_digits_are_scikit_learns_in_their_published_split():
    from sklearn.datasets import load_digits

    dataset = load("digits")
    images, labels = load_digits(return_X_y=True)
    assert dataset.train.arrays is not None and dataset.eval.arrays is not None
    assert (len(dataset.train), len(dataset.eval)) == (1000, 447)
    got = dataset.train.read(np.array([0, 999]))
    np.testing.assert_array_equal(got["image"].reshape(2, 64), images[[0, 999]])
    np.testing.assert_array_equal(got["label"], labels[[0, 999]])
    np.testing.assert_array_equal(got["index"], [0, 999])
    held_out = dataset.eval.read(np.array([0, 446]))
    np.testing.assert_array_equal(
        held_out["image"].reshape(2, 64), images[[1350, 1796]]
    )
    assert got["image"].dtype == np.uint8 and got["image"].max() == 16
    spec = dataset.spec
    assert (spec.shape, spec.num_levels, spec.num_classes) == ((8, 8, 1), 17, 10)
    assert (spec.num_train, spec.num_eval) == (1000, 447)


def test_digits_validation_is_the_350_in_between():
    validation = load("digits", eval_split="validation").eval
    assert len(validation) == 350
    with pytest.raises(UserError, match="'validation' or 'test', not 'val'"):
        load("digits", eval_split="val")


def test_digits_have_the_published_no_model_baseline():
    """Independent categorical pixels, add-0.1 smoothing: 106.31 nats a test digit."""
    dataset = load("digits")
    train = dataset.train.read(np.arange(1000))["image"].reshape(1000, 64)
    test = dataset.eval.read(np.arange(447))["image"].reshape(447, 64)
    counts = np.stack([(train == level).sum(0) for level in range(17)]) + 0.1
    log_prob = np.log(counts / counts.sum(0))
    nats = -log_prob[test, np.arange(64)].sum(1).mean()
    assert nats == pytest.approx(106.31, abs=0.01)


@pytest.mark.parametrize("name", toy.NAMES)
def test_toy_points_are_draws_of_their_density(name):
    dataset = load(name, num_train=200, num_eval=100, seed=3)
    dim = 1 if name.endswith("1d") else 2
    got = dataset.train.read(np.arange(200))
    assert got["image"].dtype == np.float32 and got["image"].shape == (200, dim)
    assert got["label"].dtype == np.int32
    assert 0 <= got["label"].min() <= got["label"].max() < dataset.spec.num_classes
    log_prob = jax.jit(toy.density(name).log_prob)(jnp.asarray(got["image"]))
    assert np.isfinite(np.asarray(log_prob)).all()
    assert (dataset.spec.shape, dataset.spec.num_levels) == ((dim,), 0)
    assert len(dataset.eval) == dataset.spec.num_eval == 100


def test_toy_points_are_fixed_by_their_seed():
    def points(**options):
        dataset = load("moons", num_train=64, num_eval=64, **options)
        rows = np.arange(64)
        return dataset.train.read(rows)["image"], dataset.eval.read(rows)["image"]

    train, held_out = points(seed=1)
    np.testing.assert_array_equal(train, points(seed=1)[0])
    assert not np.isclose(train, points(seed=2)[0]).any()
    assert not np.isclose(train, held_out).any()


def test_fingerprints_differ_where_the_data_do():
    digits, validation = load("digits"), load("digits", eval_split="validation")
    moons = [load("moons", num_train=9, num_eval=9, seed=s) for s in (0, 1)]
    prints = [d.fingerprint for d in (digits, validation, *moons)]
    assert len(set(prints)) == 4
    assert load("digits").fingerprint == digits.fingerprint


@pytest.mark.parametrize(
    ("typo", "meant"),
    [("digit", "digits"), ("gaussian8", "gaussians8"), ("checkerbord", "checkerboard")],
)
def test_an_unknown_name_suggests_the_nearest(typo, meant):
    with pytest.raises(UserError, match=f"called '{typo}'; did you mean '{meant}'"):
        load(typo)


def test_an_option_that_a_data_set_does_not_have_is_refused():
    with pytest.raises(UserError, match="'digits' has no option 'image_size'"):
        load("digits", image_size=32)
    with pytest.raises(UserError, match="num_train and num_eval must be positive"):
        load("moons", num_train=0)


def test_bundled_data_ignore_where_data_lie(tmp_path):
    """A config may always carry a directory; these sets read nothing from it."""
    assert load("digits", str(tmp_path / "missing")).spec.num_train == 1000

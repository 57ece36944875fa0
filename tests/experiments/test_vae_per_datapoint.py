import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from configs import vae_per_datapoint_digits
from experiments.vae_per_datapoint import first_of_each, make_experiment
from genjax.typing import DataSpec, UserError

KEY = jax.random.key(0)
NUM_TRAIN = 400


def build(**changes):
    """The experiment at tiny, with config.section__field = value changed."""
    config = vae_per_datapoint_digits.get_config("tiny")
    for name, value in changes.items():
        section, field = name.split("__")
        config[section][field] = value
    spec = DataSpec(
        name="digits",
        shape=(8, 8, 1),
        dtype="uint8",
        num_levels=17,
        num_train=NUM_TRAIN,
        num_eval=16,
        num_classes=10,
    )
    return make_experiment(config, spec)


IMAGES = jnp.asarray(load_digits().images[:NUM_TRAIN, :, :, None], jnp.uint8)


def batch_of(rows):
    rows = jnp.asarray(rows)
    return {"image": IMAGES[rows], "index": rows}


def test_learns_what_probabilistic_pca_knows():
    """With a linear decoder the mean of each row is pPCA's, up to a rotation.

    So the training ELBO comes near the largest likelihood of the linear model, and the
    codes of the table span the principal components.
    """
    experiment = build(
        model__widths=(),
        model__latent_dim=4,
        method__likelihood="gaussian",
        method__local_steps=10,
        method__local_learning_rate=0.03,
        optim__learning_rate=1e-2,
        optim__decay_steps=1500,
    )

    def step(state, i):
        key = jax.random.fold_in(KEY, i)
        rows = jax.random.permutation(jax.random.fold_in(KEY, i // 4), NUM_TRAIN)
        part = jax.lax.dynamic_slice(rows, (i % 4 * 100,), (100,))
        return experiment.train_step(state, batch_of(part), key)

    run = jax.jit(lambda state: jax.lax.scan(step, state, jnp.arange(1500)))
    state, metrics = run(experiment.init(KEY))
    x = np.asarray(IMAGES).reshape(NUM_TRAIN, -1) / 16.0
    pca = PCA(4, svd_solver="full").fit(x)
    assert pca.score(x) - 1.5 < metrics["elbo"][-100:].mean() < pca.score(x) + 0.1
    codes = np.asarray(state.table.mean)[:NUM_TRAIN]
    design = np.c_[codes, np.ones(NUM_TRAIN)]
    scores = pca.transform(x)
    fitted = design @ np.linalg.lstsq(design, scores, rcond=None)[0]
    assert np.square(scores - fitted).sum() < 0.05 * np.square(scores).sum()


def test_only_the_rows_of_the_batch_move():
    experiment = build()
    before = experiment.init(KEY)
    after, metrics = jax.jit(experiment.train_step)(before, batch_of([3, 7, 100]), KEY)
    moved = np.abs(after.table.mean - before.table.mean).max(axis=1) > 0
    np.testing.assert_array_equal(np.flatnonzero(moved), [3, 7, 100])
    assert after.table.mean.shape[0] == 512  # 400, to a multiple of 256
    assert metrics["local_grad_norm"] > 0
    counts = [
        leaf
        for leaf in jax.tree.leaves(after.table_opt_state)
        if leaf.dtype == jnp.int32
    ]
    np.testing.assert_array_equal(np.flatnonzero(counts[0]), [3, 7, 100])
    assert set(np.unique(counts[0])) == {0, 2}  # two local steps


def test_a_row_that_comes_twice_is_written_once():
    np.testing.assert_array_equal(
        first_of_each(jnp.array([5, 2, 5, 5, 2, 9]), 64), [5, 2, 64, 64, 64, 9]
    )
    experiment = build()
    state, _ = jax.jit(experiment.train_step)(
        experiment.init(KEY), batch_of([3, 7, 3]), KEY
    )
    assert np.isfinite(state.table.mean).all()
    moved = np.abs(state.table.mean).max(axis=1) > 0
    np.testing.assert_array_equal(np.flatnonzero(moved), [3, 7])


def test_the_table_is_shared_among_devices():
    ((pattern, spec),) = build().sharding_rules
    assert pattern == "^table" and spec == PartitionSpec("data")


def test_more_local_steps_find_better_posteriors():
    state = build().init(KEY)
    batch = batch_of(jnp.arange(50))
    bounds = [
        jax.jit(build(eval__local_steps=n).evaluate)(state, batch, KEY)["elbo"].mean()
        for n in (1, 20, 100)
    ]
    assert bounds[0] < bounds[1] < bounds[2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method__likelihood": "normal"}, "known: bernoulli, gaussian, logistic"),
        ({"method__local_steps": 0}, "method.local_steps must be at least 1, not 0"),
        ({"eval__local_steps": 0}, "eval.local_steps must be at least 1"),
    ],
)
def test_choices_that_do_not_exist(changes, message):
    with pytest.raises(UserError, match=message):
        build(**changes)

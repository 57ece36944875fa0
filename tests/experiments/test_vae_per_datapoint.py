import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from sklearn.decomposition import PCA

from experiments.vae_per_datapoint import Rows, climb, first_of_each, per_row, prior
from genjax.training.optim import make_optimizer
from tests.experiments.code_models import KEY, build, digits, unit

NUM_TRAIN = 400
IMAGES = digits()[:NUM_TRAIN]
build = functools.partial(build, "vae_per_datapoint_digits")


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
    x = unit(IMAGES)
    pca = PCA(4, svd_solver="full").fit(x)
    assert pca.score(x) - 1.5 < metrics["elbo"][-100:].mean() < pca.score(x) + 0.1
    codes = np.asarray(state.table.q.mean)[:NUM_TRAIN]
    design = np.c_[codes, np.ones(NUM_TRAIN)]
    scores = pca.transform(x)
    fitted = design @ np.linalg.lstsq(design, scores, rcond=None)[0]
    assert np.square(scores - fitted).sum() < 0.05 * np.square(scores).sum()


def changed(before, after):
    """The rows of a table that did not stay as they were."""
    difference = np.abs(after.table.q.mean - before.table.q.mean)
    return np.flatnonzero(difference.max(axis=1) > 0)


def test_only_the_rows_of_the_batch_change():
    experiment = build()
    before = experiment.init(KEY)
    after, metrics = jax.jit(experiment.train_step)(before, batch_of([3, 7, 100]), KEY)
    np.testing.assert_array_equal(changed(before, after), [3, 7, 100])
    assert after.table.q.mean.shape[0] == 512  # 400, to a multiple of 256
    assert metrics["local_grad_norm"] > 0
    leaves = jax.tree.leaves(after.table.moments)
    counts = [leaf for leaf in leaves if leaf.dtype == jnp.int32]
    np.testing.assert_array_equal(np.flatnonzero(counts[0]), [3, 7, 100])
    assert set(np.unique(counts[0])) == {0, 2}  # two local steps


def test_a_row_that_comes_twice_is_written_once():
    np.testing.assert_array_equal(
        first_of_each(jnp.array([5, 2, 5, 5, 2, 9]), 64), [5, 2, 64, 64, 64, 9]
    )
    experiment = build()
    before = experiment.init(KEY)
    after, _ = jax.jit(experiment.train_step)(before, batch_of([3, 7, 3]), KEY)
    assert np.isfinite(after.table.q.mean).all()
    np.testing.assert_array_equal(changed(before, after), [3, 7])


def test_rows_climb_to_their_own_tops():
    """A bound with a known maximum for each: the E step is Adam on each row."""
    top = jnp.array([[1.0, -2.0], [0.5, 0.0], [3.0, 4.0]])
    optimizer = per_row(make_optimizer(0.05))

    def elbo_of(q, key, top=top):
        return -jnp.sum((q.mean - top) ** 2 + (q.logvar + 1.0) ** 2, axis=1)

    q = prior(3, 2)
    rows = Rows(q, optimizer.init(q))
    rows, norm = climb(elbo_of, rows, jax.random.split(KEY, 500), optimizer)
    np.testing.assert_allclose(rows.q.mean, top, atol=1e-2)
    np.testing.assert_allclose(rows.q.logvar, jnp.full((3, 2), -1.0), atol=1e-2)
    assert norm < 0.1
    # and as they would alone
    alone = Rows(*jax.tree.map(lambda leaf: leaf[:1], (q, optimizer.init(q))))
    keys = jax.random.split(KEY, 500)
    alone, _ = climb(lambda q, key: elbo_of(q, key, top[:1]), alone, keys, optimizer)
    np.testing.assert_allclose(alone.q.mean, rows.q.mean[:1], rtol=1e-5)


def test_the_table_is_shared_among_devices():
    ((pattern, spec),) = build().sharding_rules
    assert pattern == "^table" and spec == PartitionSpec("data")


def test_more_local_steps_find_better_posteriors():
    state = build().init(KEY)
    batch = batch_of(jnp.arange(50))
    bounds = [
        jax.jit(build(likelihood__local_steps=n).evaluate)(state, batch, KEY)["elbo"]
        for n in (1, 20, 100)
    ]
    bounds = [bound.mean() for bound in bounds]
    assert bounds[0] < bounds[1] < bounds[2]
    note = build(likelihood__local_steps=20).likelihood.note
    assert "from posteriors after 20 local steps" in note

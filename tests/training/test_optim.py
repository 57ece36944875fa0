import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax.training.learner import Optim
from genjax.training.optim import (
    ema_update,
    make_optimizer,
    make_schedule,
    mean_gradients,
)
from genjax.typing import UserError


def steps(optimizer, gradients, start=1.0):
    """The moves of one number under the gradients given."""
    params = {"w": jnp.array([start])}
    state, moves = optimizer.init(params), []
    for g in gradients:
        updates, state = optimizer.update({"w": jnp.array([g])}, state, params)
        moves.append(float(updates["w"][0]))
        params = optax.apply_updates(params, updates)
    return np.array(moves)


def scheduled(**options):
    return make_optimizer(make_schedule(**options))


def test_schedule_rises_holds_or_falls():
    """Adam moves by exactly the learning rate under a constant gradient."""
    constant = steps(scheduled(learning_rate=0.1, warmup_steps=4), [1.0] * 8)
    np.testing.assert_allclose(
        constant, [0, -0.025, -0.05, -0.075, -0.1, -0.1, -0.1, -0.1], atol=1e-6
    )
    falling = scheduled(learning_rate=0.1, warmup_steps=2, decay_steps=6)
    # half a cosine over 4 steps: 1, (1 + cos 45)/2, 1/2, (1 - cos 45)/2, 0
    want = [0, -0.05, -0.1, -0.0853553, -0.05, -0.0146447, 0.0, 0.0]
    np.testing.assert_allclose(steps(falling, [1.0] * 8), want, atol=1e-6)
    line = scheduled(
        learning_rate=0.1,
        warmup_steps=2,
        constant_steps=2,
        decay_steps=6,
        decay="linear",
    )
    want = [0, -0.05, -0.1, -0.1, -0.1, -0.05, 0.0, 0.0]
    np.testing.assert_allclose(steps(line, [1.0] * 8), want, atol=1e-6)
    with pytest.raises(UserError, match="give optim.decay_steps too"):
        make_schedule(learning_rate=0.1, constant_steps=2)


def test_the_learning_rate_of_each_update_is_reported():
    """As Adam moves under a constant gradient; an opponent's turns stretch it."""
    optim = Optim(learning_rate=0.1, warmup_steps=2, decay_steps=6)
    want = [0, 0.05, 0.1, 0.0853553, 0.05, 0.0146447, 0.0, 0.0]
    learner = optim.learner()
    state, step = learner.init({"w": jnp.ones(1)}), learner.train_step(slope)
    slow = optim.opponent(turns=2, learning_rate=0.2)
    for i, rate in enumerate(want):
        before = state.params["w"]
        state, metrics = step(state, {}, jax.random.key(0))
        assert metrics["learning_rate"] == pytest.approx(rate, abs=1e-6)
        np.testing.assert_allclose(state.params["w"] - before, -rate, atol=1e-5)
        later = state._replace(step=jnp.array(2 * i))
        assert slow.learning_rate(later) == pytest.approx(2 * rate, abs=1e-6)


def slope(params, batch, key):
    return params["w"].sum(), {}


def test_clipping_takes_the_norm_over_all_parameters():
    """3 and 4 have norm 5: clipped to 1 they are 0.6 and 0.8, whatever came before."""
    optimizer = make_optimizer(0.1, clip=1.0, b1=0.0, b2=0.5)
    params = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
    state = optimizer.init(params)
    _, state = optimizer.update(
        {"a": jnp.array([300.0]), "b": jnp.array([400.0])}, state
    )
    small = {"a": jnp.array([0.6]), "b": jnp.array([0.8])}
    updates, _ = optimizer.update(small, state)
    np.testing.assert_allclose([updates["a"][0], updates["b"][0]], -0.1, rtol=1e-5)


def test_weight_decay_is_decoupled():
    """Without a gradient a weight of 2 shrinks by learning_rate * weight_decay * 2."""
    optimizer = make_optimizer(0.1, weight_decay=0.01)
    np.testing.assert_allclose(steps(optimizer, [0.0], start=2.0), [-0.002], rtol=1e-5)


def test_decay_within_the_warmup_is_refused():
    with pytest.raises(UserError, match="more than warmup_steps=10, not 10"):
        make_schedule(learning_rate=0.1, warmup_steps=10, decay_steps=10)


@pytest.mark.parametrize(
    ("step", "decay"), [(0, 0.1), (8, 0.5), (80, 0.9), (10_000_000, 0.999)]
)
def test_average_of_weights_warms_up(step, decay):
    """By hand: (1 + n)/(10 + n) is 1/10, 9/18, 81/90."""
    mean = ema_update(
        {"w": jnp.zeros(2)}, {"w": jnp.ones(2)}, step=jnp.array(step), decay=0.999
    )
    np.testing.assert_allclose(mean["w"], 1 - decay, rtol=1e-3)
    assert mean["w"].dtype == jnp.float32


BATCH = {
    "x": jax.random.normal(jax.random.key(0), (12, 3)),
    "y": jax.random.normal(jax.random.key(1), (12,)),
}
PARAMS = {"w": jnp.array([1.0, -2.0, 0.5])}


def mean_loss(params, batch, key):
    """Linear in the examples: the mean of their losses."""
    error = jnp.tanh(batch["x"] @ params["w"]) - batch["y"]
    return jnp.mean(error**2), {"error": jnp.mean(error)}


@pytest.mark.parametrize("accumulation", [1, 2, 3, 12])
def test_parts_add_up_to_the_whole(accumulation):
    whole = jax.value_and_grad(mean_loss, has_aux=True)(PARAMS, BATCH, None)
    parts = mean_gradients(
        mean_loss, PARAMS, BATCH, jax.random.key(0), accumulation=accumulation
    )
    assert jax.tree.structure(parts) == jax.tree.structure(whole)
    for a, b in zip(jax.tree.leaves(parts), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_rows_come_back_in_the_order_of_the_batch():
    def loss(params, batch, key):
        return batch["y"].mean() * params["w"].sum(), {"rows": batch["x"]}

    (_, aux), _ = mean_gradients(loss, PARAMS, BATCH, jax.random.key(0), accumulation=3)
    np.testing.assert_array_equal(aux["rows"], BATCH["x"])


def test_each_part_draws_anew():
    def noise(params, batch, key):
        return jax.random.normal(key) + 0.0 * params["w"].sum(), {}

    loss = [
        float(
            mean_gradients(noise, PARAMS, BATCH, jax.random.key(0), accumulation=n)[0][
                0
            ]
        )
        for n in (1, 2, 4)
    ]
    assert len(set(loss)) == 3
    keys = jax.random.split(jax.random.key(0), 2)
    want = np.mean([jax.random.normal(k) for k in keys])
    np.testing.assert_allclose(loss[1], want, rtol=1e-5)


def test_parts_of_a_sharded_batch_stay_where_they_are(mesh):
    """No example crosses devices: the compiled step has no all-to-all or gather."""
    rows = jax.sharding.NamedSharding(mesh, jax.P("data"))
    batch = jax.device_put({k: v[:8] for k, v in BATCH.items()}, rows)

    def step(params, batch):
        return mean_gradients(
            mean_loss, params, batch, jax.random.key(0), accumulation=2
        )

    text = jax.jit(step).lower(PARAMS, batch).compile().as_text()
    assert "all-reduce" in text
    assert not {"all-to-all", "all-gather", "collective-permute"} & set(
        text.replace("(", " ").split()
    )


@pytest.mark.parametrize("accumulation", [0, 5])
def test_a_batch_that_does_not_divide(accumulation):
    with pytest.raises(UserError, match=f"batch of 12.*accumulation={accumulation}"):
        mean_gradients(
            mean_loss, PARAMS, BATCH, jax.random.key(0), accumulation=accumulation
        )

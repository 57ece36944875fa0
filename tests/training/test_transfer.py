"""Weights of another run: by path and shape, the average for both, nothing shared."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from genjax.state import TrainState
from genjax.training.learner import Optim
from genjax.training.transfer import laid_out, weights_of, with_weights


class Two(NamedTuple):
    g: TrainState
    d: TrainState
    p: jax.Array


def state(width, fill, ema_decay=0.9, extra=()):
    learner = Optim(ema_decay=ema_decay).learner()
    params = {
        "in": {"kernel": jnp.full((3, 4), fill)},
        "out": {"kernel": jnp.full((4, width), fill)},
        **{name: {"bias": jnp.full((2,), fill)} for name in extra},
    }
    return learner.init({"params": params}, {"mean": jnp.full((4,), fill)})


def test_what_fits_is_taken_and_the_rest_is_named():
    there = state(2, 5.0, extra=("label",))
    there = there._replace(  # the average differs from the weights
        ema_params=jax.tree.map(lambda x: x + 1.0, there.params)
    )
    begun, done = with_weights(state(3, 0.0), weights_of(there))
    for params in (begun.params, begun.ema_params):
        assert (params["params"]["in"]["kernel"] == 6.0).all()
        assert (params["params"]["out"]["kernel"] == 0.0).all()
    assert (begun.stats["mean"] == 5.0).all() and (begun.ema_stats["mean"] == 5.0).all()
    assert done.taken == {"in/kernel": 12, "stats/mean": 4}
    assert done.left == {"out/kernel": "(4, 3), there (4, 2)"}
    assert done.unused == ["label/bias", "out/kernel"]
    said = str(done)
    assert said.startswith("2 of 3 arrays taken, 16 numbers: in, stats")
    assert "left as initialised: out/kernel (4, 3), there (4, 2)" in said
    assert "not used: label/bias" in said


def test_optimizers_begin_anew_and_no_memory_is_shared():
    here, there = state(2, 0.0), state(2, 5.0)
    there = there._replace(step=jnp.array(7))
    begun, done = with_weights(here, weights_of(there))
    assert not done.left and int(begun.step) == 0
    jax.tree.map(np.testing.assert_array_equal, begun.opt_state, here.opt_state)
    buffers = [x.unsafe_buffer_pointer() for x in jax.tree.leaves(begun)]
    assert len(set(buffers)) == len(buffers)


def test_each_player_has_its_own_and_other_state_is_left_alone():
    there = Two(state(2, 5.0), state(2, 7.0, ema_decay=None), jnp.float32(0.5))
    here = Two(state(2, 0.0), state(2, 0.0, ema_decay=None), jnp.float32(0.0))
    begun, done = with_weights(here, weights_of(there))
    assert (begun.g.ema_params["params"]["in"]["kernel"] == 5.0).all()
    assert (begun.d.params["params"]["in"]["kernel"] == 7.0).all()
    assert begun.d.ema_params is None and float(begun.p) == 0.0
    assert "g/in/kernel" in done.taken and "d/stats/mean" in done.taken


def test_a_state_without_weights_fits_nothing():
    assert weights_of({"mean": jnp.zeros(3)}) == {}
    _, done = with_weights(state(2, 0.0), {})
    assert not done.taken and done.left["in/kernel"] == "(3, 4), not there"


def test_blocks_in_one_array_and_one_by_one_are_the_same_blocks():
    rows = {f"net/block{i}/mlp0/kernel": jnp.full((2, 3), float(i)) for i in range(3)}
    rest = {"net/in/bias": jnp.ones(3)}
    stack = {"net/blocks/mlp0/kernel": jnp.stack(list(rows.values()))}
    for own, source in [(rows, stack), (stack, rows), (rows, rows)]:
        found = laid_out(rest | source, rest | own)
        assert found.keys() == rest.keys() | own.keys()
        for name, array in own.items():
            np.testing.assert_array_equal(found[name], array)
    deeper = {f"net/block{i}/mlp0/kernel": jnp.ones((2, 3)) for i in range(4)}
    assert laid_out(stack, deeper).keys() == rows.keys()  # the fourth has none
    assert laid_out(rows, {"net/blocks/mlp0/kernel": jnp.ones((4, 2, 3))}) == rows

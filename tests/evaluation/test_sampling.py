import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from genjax.evaluation.sampling import compile_sample, generate
from genjax.typing import Stopped

KEY = jax.random.key(3)


def noise(state, key, num, label=None):
    drawn = state["mean"] + jax.random.normal(key, (num, 6))
    return drawn if label is None else drawn.at[:, 0].set(label)


STATE = {"mean": jnp.zeros((1, 6))}


def together(sample, num, chunk=8, **options):
    chunks = list(generate(sample, STATE, key=KEY, num=num, chunk=chunk, **options))
    assert all(len(c) <= chunk for c in chunks)
    return np.concatenate(chunks)


@pytest.mark.parametrize("num", [1, 7, 8, 9, 16])
def test_a_sample_does_not_depend_on_how_many_are_drawn(num):
    sample = compile_sample(noise)
    drawn = together(sample, num)
    assert drawn.shape == (num, 6)
    np.testing.assert_array_equal(drawn, together(sample, 24)[:num])


def test_no_sample_comes_twice():
    assert len(np.unique(together(compile_sample(noise), 40)[:, 0])) == 40


def test_all_chunks_share_one_compilation():
    traces = []

    def counted(state, key, num):
        traces.append(num)
        return noise(state, key, num)

    sample = compile_sample(counted)
    together(sample, 20)
    together(sample, 3)
    assert traces == [8]


def test_labels_are_cycled_over_the_samples_and_not_over_the_chunks():
    labels = np.array([0, 1, 2])
    drawn = together(compile_sample(noise), 20, labels=labels)
    np.testing.assert_array_equal(drawn[:, 0], np.arange(20) % 3)


def test_a_stop_is_heard_between_chunks():
    answers = iter([False, False, True])
    chunks = generate(
        compile_sample(noise),
        STATE,
        key=KEY,
        num=40,
        chunk=8,
        should_stop=lambda: next(answers),
    )
    assert len([next(chunks), next(chunks)]) == 2
    with pytest.raises(Stopped, match="after 16 of 40"):
        next(chunks)


@pytest.mark.parametrize("chunk", [8, 6])
def test_many_devices_draw_what_one_draws(mesh, chunk):
    expected = together(compile_sample(noise), 20, chunk)
    drawn = together(compile_sample(noise, mesh=mesh), 20, chunk)
    np.testing.assert_allclose(drawn, expected, rtol=1e-6)


def test_each_device_draws_its_share_only(mesh):
    def diffuse(state, key, num):
        x = jax.random.normal(key, (num, 6))
        return jax.lax.fori_loop(0, 5, lambda i, x: jnp.tanh(x @ state["w"]), x)

    whole = NamedSharding(mesh, PartitionSpec())
    state = jax.device_put({"w": np.eye(6, dtype=np.float32)}, whole)
    sample = compile_sample(diffuse, mesh=mesh)
    program = sample.lower(state, KEY, 32).compile().as_text()
    products = re.findall(r"= f32\[(\d+),6\]\S* (?:dot|fusion|custom-call)", program)
    assert products and set(products) <= {"8"}, products
    assert sample(state, KEY, 32).sharding.is_fully_replicated

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.evaluation.coder import Coder
from genjax.experiment import Code, Experiment
from genjax.typing import Stopped

IMAGES = np.arange(11 * 4, dtype=np.uint8).reshape(11, 2, 2, 1)
LABELS = np.arange(11, dtype=np.int32) % 3


def encode(state, batch, key):
    """The corners, times the state."""
    return state * batch["image"][:, 0, :, 0].astype(jnp.float32)


def decode(state, code, key):
    columns = jnp.stack([code, code], axis=1)[..., None]
    return (columns / state).astype(jnp.uint8)


def noisy_decode(state, code, key):
    return jax.random.randint(key, (len(code), 2, 2, 1), 0, 256).astype(jnp.uint8)


def batches(size):
    """The images, the last batch filled up with the first."""
    for start in range(0, len(IMAGES), size):
        rows = np.arange(start, start + size)
        mask = rows < len(IMAGES)
        rows = np.where(mask, rows, 0)
        batch = {"image": IMAGES[rows], "label": LABELS[rows], "index": rows}
        yield {k: jnp.asarray(v) for k, v in batch.items()}, jnp.asarray(mask)


def make_coder(mesh=None, *, chunk=4, decode=decode, should_stop=lambda: False):
    experiment = Experiment(
        init=lambda key: jnp.float32(2),
        train_step=lambda state, batch, key: (state, {}),
        code=Code(encode=encode, decode=decode),
    )
    key = jax.random.key(0)
    state = jnp.float32(2)
    return Coder(
        experiment, state, key=key, chunk=chunk, mesh=mesh, should_stop=should_stop
    )


@pytest.mark.parametrize("size", [4, 8, 12])
def test_every_image_is_encoded_once_and_in_order(mesh, size):
    for coder in (make_coder(), make_coder(mesh)):
        encoded = coder.encode(batches(size), "test")
        np.testing.assert_array_equal(encoded.images, IMAGES)
        np.testing.assert_array_equal(encoded.labels, LABELS)
        np.testing.assert_array_equal(encoded.codes, 2.0 * IMAGES[:, 0, :, 0])


@pytest.mark.parametrize("num", [1, 4, 11])
def test_every_code_is_decoded_whatever_the_chunk(mesh, num):
    codes = 2.0 * IMAGES[:num, 0, :, 0].astype(np.float32)
    for coder in (make_coder(), make_coder(chunk=20), make_coder(mesh)):
        images = coder.decode(codes)
        np.testing.assert_array_equal(images[:, 0, :, 0], IMAGES[:num, 0, :, 0])
        np.testing.assert_array_equal(images[:, 1, :, 0], IMAGES[:num, 0, :, 0])


def test_a_decoder_that_draws_draws_anew_for_each_chunk_and_the_same_again():
    coder = make_coder(decode=noisy_decode)
    codes = np.zeros((8, 2), np.float32)
    images = coder.decode(codes)
    assert not np.array_equal(images[:4], images[4:])
    np.testing.assert_array_equal(coder.decode(codes), images)


def test_a_stop_is_heard_between_chunks():
    asked = iter([False, True])
    coder = make_coder(should_stop=lambda: next(asked))
    with pytest.raises(Stopped, match="decoding"):
        coder.decode(np.zeros((8, 2), np.float32))

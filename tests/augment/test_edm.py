import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.augment.edm import Movement, augment, draw, move, parameters

KEY = jax.random.key(0)
QUARTER = np.pi / 2


def movement(num=1, **changes):
    """Nothing moves, but what is given."""
    still = Movement(
        x_flip=jnp.zeros(num, bool),
        y_flip=jnp.zeros(num, bool),
        scaling=jnp.zeros(num),
        rotation=jnp.zeros(num),
        stretch=jnp.zeros(num),
        stretch_direction=jnp.zeros(num),
        translation=jnp.zeros((num, 2)),
    )
    return still._replace(**{k: jnp.asarray([v] * num) for k, v in changes.items()})


def image(height=8, width=8):
    return jax.random.normal(jax.random.key(1), (1, height, width, 2))


def moved(x, **changes):
    return np.asarray(move(x, movement(**changes)))[0]


def test_with_probability_zero_the_image_is_itself_and_the_vector_zero():
    x = image(7, 10)
    got, told = augment(KEY, x, probability=0.0)
    np.testing.assert_array_equal(got, x)
    np.testing.assert_array_equal(told, jnp.zeros((1, 9)))


def test_flips_reverse_columns_and_rows():
    x = image(6, 9)
    np.testing.assert_array_equal(moved(x, x_flip=True), x[0, :, ::-1])
    np.testing.assert_array_equal(moved(x, y_flip=True), x[0, ::-1])


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_quarter_turns_are_rot90(turns):
    """From x towards y, which goes down: clockwise."""
    x = image()
    got = moved(x, rotation=QUARTER * turns)
    np.testing.assert_allclose(got, np.rot90(x[0], -turns), atol=1e-5)


def test_whole_translations_shift_and_mirror_at_the_edge():
    """a = 1 is an eighth of the side: one of 8 rows down, two of 16 columns right."""
    x = image(8, 16)
    got = moved(x, translation=[1.0, 1.0])
    want = np.pad(x[0], [(1, 0), (2, 0), (0, 0)], mode="reflect")[:8, :16]
    np.testing.assert_allclose(got, want, atol=1e-5)
    back = moved(x, translation=[-1.0, 0.0])
    np.testing.assert_allclose(back[:, :-2], x[0, :, 2:], atol=1e-5)


def test_half_a_pixel_is_the_mean_of_two():
    x = image(8, 8)
    got = moved(x, translation=[0.5, 0.0])
    np.testing.assert_allclose(got[:, 1:], (x[0, :, 1:] + x[0, :, :-1]) / 2, atol=1e-5)


def test_scaling_by_two_spreads_the_middle():
    x = image(9, 9)
    got = moved(x, scaling=5.0)  # 2^(0.2 * 5)
    np.testing.assert_allclose(got[::2, ::2], x[0, 2:7, 2:7], atol=1e-5)


@pytest.mark.parametrize("direction", [0.0, QUARTER])
def test_stretching_spreads_one_side_and_narrows_the_other(direction):
    x = image(9, 9)
    got = moved(x, stretch=5.0, stretch_direction=direction)
    want = x[0].swapaxes(0, 1) if direction else x[0]
    got = got.swapaxes(0, 1) if direction else got
    np.testing.assert_allclose(got[2:7, ::2], want[::2, 2:7], atol=1e-5)


def test_all_at_once_is_scaling_then_rotation_stretch_and_translation():
    """An image of its own coordinates, which bilinear reading keeps, tells whence."""
    side = 33
    y, x = np.mgrid[:side, :side] - (side - 1) / 2.0
    coordinates = jnp.asarray(np.stack([x, y], axis=-1)[None], jnp.float32)
    r, s, w = 0.4, -1.1, 0.8
    source = moved(
        coordinates,
        scaling=-1.5,
        rotation=r,
        stretch=w,
        stretch_direction=s,
        translation=[0.3, -0.5],
    )

    def turn(a):
        return np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])

    stretch = turn(s) @ np.diag([2 ** (0.2 * w), 2 ** (-0.2 * w)]) @ turn(-s)
    forwards = stretch @ turn(r) * 2 ** (0.2 * -1.5)
    back = source @ forwards.T + np.array([0.3, -0.5]) * side / 8
    middle = slice(12, 21)
    want = np.stack([x, y], axis=-1)[middle, middle]
    np.testing.assert_allclose(back[middle, middle], want, atol=1e-3)


def test_the_vector_tells_the_movement():
    told = parameters(
        movement(
            y_flip=True,
            scaling=-0.7,
            rotation=QUARTER,
            stretch=2.0,
            stretch_direction=np.pi / 6,
            translation=[0.3, -0.4],
        )
    )
    want = [0, 1, -0.7, -1, 1, 3**0.5, 1, 0.3, -0.4]
    np.testing.assert_allclose(told[0], want, atol=1e-6)


def test_kinds_happen_apart_with_their_probability():
    num = 20_000
    m = draw(KEY, num, 0.12, 1.0)
    on = np.stack(
        [m.x_flip, m.y_flip, m.scaling != 0, m.rotation != 0, m.stretch != 0]
        + [m.translation[:, 0] != 0]
    ).astype(float)
    want = [0.5, 0.06, 0.12, 0.12, 0.12, 0.12]
    np.testing.assert_allclose(on.mean(axis=1), want, atol=0.01)
    np.testing.assert_allclose(np.corrcoef(on) - np.eye(6), 0.0, atol=0.03)
    # as large as they should be, where they happen
    for values in (m.scaling, m.stretch, m.translation[:, 0], m.translation[:, 1]):
        np.testing.assert_allclose(np.std(values[values != 0]), 1.0, atol=0.05)
    rotation = m.rotation[m.rotation != 0]
    np.testing.assert_allclose(np.std(rotation), np.pi / 3**0.5, rtol=0.05)
    slanted = m.stretch_direction[m.stretch != 0] != 0
    np.testing.assert_allclose(slanted.mean(), 0.5, atol=0.05)

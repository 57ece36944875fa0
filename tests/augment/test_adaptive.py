import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.augment import adaptive as a

KEY = jax.random.key(0)
NUM = 20_000
QUARTER = np.pi / 2
ada_augment = jax.jit(a.ada_augment)


def images(num=2, height=8, width=8, channels=3):
    shape = (num, height, width, channels)
    return jax.random.uniform(jax.random.key(1), shape, minval=-1.0, maxval=1.0)


def given(draw, num=2, **changes):
    """Nothing happens but what is given, to every image."""
    nothing = draw(KEY, num, 0.0)
    return nothing._replace(
        **{
            name: jnp.broadcast_to(
                jnp.asarray(value, getattr(nothing, name).dtype),
                getattr(nothing, name).shape,
            )
            for name, value in changes.items()
        }
    )


def blit(x, **changes):
    return np.asarray(a.blit(x, given(a.draw_blit, len(x), **changes)))


def move(x, **changes):
    return np.asarray(a.move(x, given(a.draw_geometry, len(x), **changes)))


def recolor(x, **changes):
    return np.asarray(a.recolor(x, given(a.draw_color, len(x), **changes)))


# --- blits ----------------------------------------------------------------------------


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_flips_and_quarter_turns_are_numpys(turns):
    x = images()
    got = blit(x, x_flip=True, quarter_turns=turns)
    want = np.rot90(np.asarray(x)[:, :, ::-1], turns, axes=(1, 2))
    np.testing.assert_array_equal(got, want)


def test_oblong_images_take_half_turns_only():
    x = images(height=6, width=8)
    half = np.asarray(x)[:, ::-1, ::-1]
    for turns, want in [(1, x), (2, half), (3, half)]:
        np.testing.assert_array_equal(blit(x, quarter_turns=turns), want)


def test_translations_go_to_the_next_pixel_right_and_down():
    x = images(height=16, width=24)
    got = blit(x, translation=[0.12, -0.1])  # 2.88 columns, -1.6 rows
    want = np.roll(x, (-2, 3), (1, 2))
    np.testing.assert_array_equal(got[:, :-2, 3:], want[:, :-2, 3:])


# --- geometry -------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["rotation", "rotation_after"])
def test_a_rotation_by_a_quarter_is_rot90(when):
    x = images()
    got = move(x, **{when: QUARTER})
    np.testing.assert_allclose(got, np.rot90(x, -1, axes=(1, 2)), atol=1e-5)


def test_half_a_pixel_is_the_mean_of_two():
    x = np.asarray(images(height=8, width=8))
    got = move(jnp.asarray(x), translation=[0.0, 0.5])  # in eighths
    np.testing.assert_allclose(got[:, 1:], (x[:, 1:] + x[:, :-1]) / 2, atol=1e-5)


def test_all_at_once_is_scaling_rotation_anisotropy_rotation_and_translation():
    """An image of its own coordinates, which bilinear reading keeps, tells whence."""
    side = 33
    y, x = np.mgrid[:side, :side] - (side - 1) / 2.0
    coordinates = jnp.asarray(np.stack([x, y], axis=-1)[None], jnp.float32)
    before, after, w = 0.4, -1.1, 0.8
    source = move(
        coordinates,
        scaling=-1.5,
        rotation=before,
        anisotropy=w,
        rotation_after=after,
        translation=[0.3, -0.5],
    )[0]

    def turn(angle):
        cos, sin = np.cos(angle), np.sin(angle)
        return np.array([[cos, -sin], [sin, cos]])

    stretch = np.diag([2 ** (0.2 * w), 2 ** (-0.2 * w)])
    forwards = turn(after) @ stretch @ turn(before) * 2 ** (0.2 * -1.5)
    back = source @ forwards.T + np.array([0.3, -0.5]) * side / 8
    middle = slice(12, 21)
    want = np.stack([x, y], axis=-1)[middle, middle]
    np.testing.assert_allclose(back[middle, middle], want, atol=1e-3)


# --- color ----------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_brightness_adds_contrast_multiplies_and_a_luma_flip_negates_the_gray(channels):
    x = images(channels=channels)
    np.testing.assert_allclose(recolor(x, brightness=2.0), x + 0.4, atol=1e-6)
    np.testing.assert_allclose(recolor(x, contrast=4.0), 4.0 * x, atol=1e-5)
    flipped, gray = recolor(x, luma_flip=True), np.mean(x, -1, keepdims=True)
    np.testing.assert_allclose(flipped, x - 2.0 * gray, atol=1e-6)


def test_saturation_multiplies_what_is_not_gray():
    x = np.asarray(images())
    got = recolor(jnp.asarray(x), saturation=2.0)
    gray = x.mean(axis=-1, keepdims=True)
    np.testing.assert_allclose(got - gray, 4.0 * (x - gray), atol=1e-5)


def test_hue_turns_red_to_green_to_blue_and_keeps_lengths():
    x = images()
    third = 2 * np.pi / 3
    np.testing.assert_allclose(recolor(x, hue=third), np.roll(x, 1, -1), atol=1e-5)
    some = recolor(x, hue=0.7)
    np.testing.assert_allclose(some.mean(-1), np.mean(x, -1), atol=1e-6)
    np.testing.assert_allclose(
        np.linalg.norm(some, axis=-1), np.linalg.norm(x, axis=-1), rtol=1e-5
    )


def test_brightness_comes_before_contrast_and_the_luma_flip():
    x = jnp.zeros((2, 4, 4, 3))
    got = recolor(x, brightness=1.0, contrast=2.0, luma_flip=True)
    np.testing.assert_allclose(got, -0.4, atol=1e-6)


def test_hue_and_saturation_do_nothing_to_one_channel():
    x = images(channels=1)
    np.testing.assert_array_equal(recolor(x, hue=1.0, saturation=2.0), x)


# --- draws ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn():
    """All kinds, drawn with p = 0.3."""
    p = jnp.asarray(0.3)
    keys = jax.random.split(KEY, 3)
    draws = [
        draw(key, NUM, p)
        for draw, key in zip(
            [a.draw_blit, a.draw_geometry, a.draw_color], keys, strict=True
        )
    ]
    return {
        name: np.asarray(v) for draw in draws for name, v in draw._asdict().items()
    } | {
        "whole": np.asarray(draws[0].translation),
        "fractional": np.asarray(draws[1].translation),
    }


def test_kinds_happen_apart_with_probability_p(drawn):
    rotation = 1 - 0.7**0.5
    want = {
        "x_flip": 0.15,
        "quarter_turns": 0.3 * 3 / 4,
        "whole": 0.3,
        "scaling": 0.3,
        "rotation": rotation,
        "anisotropy": 0.3,
        "rotation_after": rotation,
        "fractional": 0.3,
        "brightness": 0.3,
        "contrast": 0.3,
        "luma_flip": 0.15,
        "hue": 0.3,
        "saturation": 0.3,
    }
    happens = {k: (drawn[k].reshape(NUM, -1) != 0).any(axis=1) for k in want}
    for kind, share in want.items():
        np.testing.assert_allclose(
            happens[kind].mean(), share, atol=0.013, err_msg=kind
        )
    together = np.corrcoef(np.stack(list(happens.values())).astype(float))
    np.testing.assert_allclose(together - np.eye(len(want)), 0.0, atol=0.03)


def test_draws_are_as_large_as_they_should_be_where_they_happen(drawn):
    for kind, std in {
        "scaling": 1.0,
        "anisotropy": 1.0,
        "fractional": 1.0,
        "brightness": 1.0,
        "contrast": 1.0,
        "saturation": 1.0,
        "whole": 1 / 8 / 3**0.5,
        "hue": np.pi / 3**0.5,
        "rotation": np.pi / 3**0.5,
        "rotation_after": np.pi / 3**0.5,
    }.items():
        values = drawn[kind][drawn[kind] != 0]
        np.testing.assert_allclose(values.std(), std, rtol=0.04, err_msg=kind)
        np.testing.assert_allclose(values.mean(), 0.0, atol=0.06 * std, err_msg=kind)


@pytest.mark.parametrize("p", [0.4, 0.8])
def test_below_one_the_law_of_plain_images_can_be_told(p):
    """Section 2.2: as operators on laws, the random turns must have inverses.

    Their eigenvalues are the Fourier coefficients of the law of the turn: 1 - p for all
    but the mean, so that none vanishes unless p = 1.
    """
    turns = a.draw_blit(KEY, NUM, p).quarter_turns
    law = np.bincount(turns, minlength=4) / NUM
    np.testing.assert_allclose(np.fft.fft(law)[1:], 1 - p, atol=0.02)
    drawn = a.draw_geometry(KEY, NUM, p)
    angle = np.asarray(drawn.rotation + drawn.rotation_after)
    for k in (1, 2):
        np.testing.assert_allclose(np.exp(1j * k * angle).mean(), 1 - p, atol=0.03)
    flips = np.mean(a.draw_blit(KEY, NUM, p).x_flip)
    np.testing.assert_allclose(1 - 2 * flips, 1 - p, atol=0.03)


# --- the whole ------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_with_probability_zero_images_come_back_bit_for_bit(channels):
    x = images(channels=channels).at[0, 0, 0, 0].set(-0.0)
    got = ada_augment(KEY, x, jnp.asarray(0.0))
    np.testing.assert_array_equal(
        np.asarray(got).view(np.int32), np.asarray(x).view(np.int32)
    )


def test_images_change_apart_and_by_themselves():
    """Equal images come out different; one does not depend on the others."""
    x = jnp.repeat(images(num=1), 4, axis=0)
    p = jnp.asarray(1.0)
    got = ada_augment(KEY, x, p)
    for i, j in [(0, 1), (0, 2), (1, 3)]:
        assert np.abs(got[i] - got[j]).max() > 0.1
    other = ada_augment(KEY, x.at[1:].set(-0.3), p)
    np.testing.assert_array_equal(other[0], got[0])


def test_the_share_of_images_untouched_is_that_of_no_kind_happening():
    """Two flips half the time, turns three of four: 1 - p/2 twice and 1 - 3p/4.

    With p = 0.05 a whole translation is seen when it rounds to a pixel on one side:
    of 32 x 32, unless both lie in the middle eighth.
    """
    p = 0.05
    x = jnp.repeat(images(num=1, height=32, width=32, channels=1), 1500, axis=0)
    got = np.asarray(ada_augment(KEY, x, jnp.asarray(p)))
    same = (got == np.asarray(x)).all(axis=(1, 2, 3)).mean()
    no_blit = (1 - p / 2) * (1 - 3 * p / 4) * (1 - p * (1 - 1 / 8**2))
    no_geometry = (1 - p) ** 4  # both rotations together count once
    no_color = (1 - p) ** 4 * (1 - p / 2)
    np.testing.assert_allclose(same, no_blit * no_geometry * no_color, atol=0.04)


def test_its_gradient_and_that_of_a_penalty_are_finite_differences():
    """R1 of a critic through the augmentation, in the critic and in the images."""
    x = images(num=2)
    weight = jax.random.normal(jax.random.key(2), x.shape)

    def penalty(x, scale):
        def critic(x):
            seen = ada_augment(KEY, x, jnp.asarray(0.9))
            return jnp.sum(jnp.tanh(scale * weight * seen))

        return jnp.sum(jnp.square(jax.grad(critic)(x)))

    penalty = jax.jit(penalty)
    direction = jax.random.normal(jax.random.key(3), x.shape)
    x_slope, scale_slope = jax.jit(jax.grad(penalty, (0, 1)))(x, 0.5)
    h = 1e-2
    want = (penalty(x + h * direction, 0.5) - penalty(x - h * direction, 0.5)) / (2 * h)
    np.testing.assert_allclose(jnp.sum(x_slope * direction), want, rtol=5e-3)
    want = (penalty(x, 0.5 + h) - penalty(x, 0.5 - h)) / (2 * h)
    np.testing.assert_allclose(scale_slope, want, rtol=5e-3)


# --- the controller -------------------------------------------------------------------


def test_p_goes_from_zero_to_one_in_the_stated_number_of_images_and_back():
    """500,000 images by 5,000 are 100 adjustments, inside a scan."""

    def step(p, logits):
        p = a.updated_p(p, logits, num_images=5_000)
        return p, p

    sure, unsure = jnp.ones((120, 8)), jnp.tile(jnp.array([3.0, -3.0] * 4), (120, 1))
    p, ways = jax.lax.scan(step, jnp.zeros(()), sure)
    np.testing.assert_allclose(ways[49], 0.5, atol=1e-5)
    assert ways[98] < 0.995 and ways[100] == 1.0 and p == 1.0
    p, ways = jax.lax.scan(step, p, unsure)
    np.testing.assert_allclose(ways[49], 0.5, atol=1e-5)
    assert p == 0.0


@pytest.mark.parametrize(
    "positive, target, sign", [(9, 0.6, 1), (7, 0.6, -1), (8, 0.6, 0), (7, 0.3, 1)]
)
def test_p_rises_when_more_signs_agree_than_the_target(positive, target, sign):
    """Of 10 logits: 9 positive are a mean sign of 0.8, 8 are 0.6, 7 are 0.4."""
    logits = jnp.array([0.01] * positive + [-100.0] * (10 - positive))
    got = a.updated_p(
        jnp.asarray(0.5), logits, num_images=64, target=target, speed=6400.0
    )
    np.testing.assert_allclose(got, 0.5 + sign * 0.01, atol=1e-6)

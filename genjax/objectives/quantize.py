"""Codes out of a finite set: a learned codebook, or the points of a fixed grid.

Vector quantisation (van den Oord et al. 2017, arXiv:1711.00937) takes a vector z of an
encoder to the nearest of K codes e_i,

  (1) q(z) = e_k, k = argmin_i |z - e_i|^2,

and passes the gradient of q(z) on to z as it is ("straight through"). The codes follow
the vectors that chose them as moving averages (appendix A.1). With n_i vectors of the
batch at code i, whose sum is s_i, and a decay g,

  (2) N_i <- g N_i + (1 - g) n_i,   m_i <- g m_i + (1 - g) s_i,   e_i = m_i / N_i,

which is k-means (Lloyd 1982), one minibatch at a time.

Finite scalar quantisation (Mentzer et al. 2023, arXiv:2309.15505) learns no codes:
dimension d of z is squashed and rounded to one of L_d levels, and the code is the
point of the grid, of which there are L_1 L_2 ... .
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from genjax.typing import Array, Key

Vectors = Float[Array, "n d"]
Codes = Float[Array, "k d"]
Levels = tuple[int, ...]


def straight_through(z: Array, quantized: Array) -> Array:
    """`quantized`, bit for bit, whose gradient goes to z as it is."""
    return jax.lax.stop_gradient(quantized) + (z - jax.lax.stop_gradient(z))


def perplexity(counts: Float[Array, " k"]) -> Float[Array, ""]:
    """The exponential of the entropy of counts / their sum, between 1 and K.

    K where all are used alike, 1 where one alone is.

    counts: not negative, in any unit, not all 0.
    """
    share = counts / jnp.sum(counts)
    return jnp.exp(jnp.sum(jax.scipy.special.entr(share)))


# --- a codebook -----------------------------------------------------------------------


class Codebook(NamedTuple):
    """K codes and the moving averages of (2) behind them."""

    codes: Float[Array, "k d"]  # e
    counts: Float[Array, " k"]  # N
    sums: Float[Array, "k d"]  # m


def random_codebook(key: Key, num_codes: int, dim: int) -> Codebook:
    """Codes of variance 1/dim, uniform, as in Sonnet's VectorQuantizerEMA; N = 1.

    Each average starts as if it had seen its own code once.
    """
    scale = math.sqrt(3.0 / dim)
    codes = jax.random.uniform(key, (num_codes, dim), minval=-scale, maxval=scale)
    return Codebook(codes, jnp.ones(num_codes), jnp.copy(codes))


def nearest_codes(z: Vectors, codes: Codes) -> Int[Array, " n"]:
    """(1): k of each vector; the first where two are equally near."""
    return jnp.argmin(_distances(z, codes), axis=1)


def assigned(
    z: Vectors, index: Int[Array, " n"], num_codes: int
) -> tuple[Float[Array, " k"], Codes]:
    """(n_i, s_i): how many vectors are at each code, and their sum."""
    # a product, not a scatter: on a GPU the sum has then one order, and one result
    hot = jax.nn.one_hot(index, num_codes)
    return jnp.sum(hot, axis=0), jnp.dot(hot.T, z, precision="highest")


def ema_update(
    book: Codebook,
    z: Vectors,
    index: Int[Array, " n"],
    *,
    decay: float,
    smoothing: float = 1e-5,
) -> Codebook:
    """(2), with counts smoothed before the division.

    smoothing: Laplace's, as in the authors' released code (Sonnet), not in the paper:
    e_i = m_i / N'_i, N'_i = (N_i + smoothing) sum(N) / (sum(N) + K smoothing). It
    spares a division by 0 where a code is never chosen; such a code drifts to 0.
    """
    num_codes = len(book.codes)
    count, total = assigned(z, index, num_codes)
    counts = decay * book.counts + (1.0 - decay) * count
    sums = decay * book.sums + (1.0 - decay) * total
    whole = jnp.sum(counts)
    smoothed = (counts + smoothing) * whole / (whole + num_codes * smoothing)
    return Codebook(sums / smoothed[:, None], counts, sums)


def restart_unused(
    book: Codebook, z: Vectors, key: Key, *, below: float
) -> tuple[Codebook, Bool[Array, " k"]]:
    """The codebook, its unused codes put on random vectors of the batch; and which.

    below: in units of an equal share: code i is unused where N_i < below sum(N) / K.
    It begins anew with an equal share, m_i = N_i e_i, so that it has about
    log(below) / log(decay) steps to find vectors of its own. (Dhariwal et al. 2020,
    arXiv:2005.00341, section 3.1, take a fixed count for the threshold.)
    """
    equal = jnp.mean(book.counts)
    unused = book.counts < below * equal
    rows = z[jax.random.randint(key, (len(book.codes),), 0, len(z))]
    counts = jnp.where(unused, equal, book.counts)
    codes = jnp.where(unused[:, None], rows, book.codes)
    sums = jnp.where(unused[:, None], equal * rows, book.sums)
    return Codebook(codes, counts, sums), unused


def kmeans(key: Key, z: Vectors, *, num_codes: int, num_iterations: int) -> Codebook:
    """k-means on the rows of z: `spread_rows`, then Lloyd's iterations.

    A cluster that loses all its vectors keeps its centre. The averages of (2) start at
    the counts and sums of the last centres.
    """

    def lloyd(_: Array, centres: Array) -> Array:
        count, total = assigned(z, nearest_codes(z, centres), num_codes)
        mean = total / jnp.maximum(count, 1.0)[:, None]
        return jnp.where(count[:, None] > 0, mean, centres)

    centres = spread_rows(key, z, num_codes)
    centres = jax.lax.fori_loop(0, num_iterations, lloyd, centres)
    count, _ = assigned(z, nearest_codes(z, centres), num_codes)
    return Codebook(centres, count, count[:, None] * centres)


def spread_rows(key: Key, z: Vectors, num: int) -> Codes:
    """`num` rows far from each other: k-means++ (Arthur & Vassilvitskii 2007).

    Each is drawn with probability in proportion to its squared distance from the
    nearest row drawn before, so equal rows are drawn once, while there are others.
    """
    first_key, key = jax.random.split(key)
    first = z[jax.random.randint(first_key, (), 0, len(z))]

    def draw(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        rows, distance = carry
        row = z[jax.random.categorical(jax.random.fold_in(key, i), jnp.log(distance))]
        return rows.at[i].set(row), jnp.minimum(distance, _to_row(z, row))

    rows = jnp.zeros((num, z.shape[1])).at[0].set(first)
    return jax.lax.fori_loop(1, num, draw, (rows, _to_row(z, first)))[0]


def _distances(z: Vectors, codes: Codes) -> Float[Array, "n k"]:
    """|z - e|^2 less |z|^2, which no argmin needs."""
    product = jnp.dot(z, codes.T, precision="highest")
    return jnp.sum(jnp.square(codes), axis=1)[None] - 2.0 * product


def _to_row(z: Vectors, row: Float[Array, " d"]) -> Float[Array, " n"]:
    """|z - row|^2, exactly 0 for an equal row."""
    return jnp.sum(jnp.square(z - row[None]), axis=1)


# --- how much of it is used -----------------------------------------------------------


class CodeUse(NamedTuple):
    """What the last `window` steps used of K codes."""

    last_step: Int[Array, " k"]  # in which each code was chosen last
    share: Float[Array, " k"]  # of all choices: a moving average, of sum 1


def no_use(num_codes: int, window: int) -> CodeUse:
    """Before step 0: no code was ever used."""
    return CodeUse(jnp.full(num_codes, -window, jnp.int32), jnp.zeros(num_codes))


def note_use(
    use: CodeUse, index: Int[Array, " n"], step: Int[Array, ""], *, window: int
) -> CodeUse:
    """With the choices of this step; the average is plain over the first `window`."""
    num_codes = len(use.share)
    count = jnp.sum(jax.nn.one_hot(index, num_codes), axis=0)
    weight = 1.0 / jnp.minimum(step + 1.0, window)
    share = use.share + weight * (count / len(index) - use.share)
    return CodeUse(jnp.where(count > 0, step, use.last_step), share)


def share_in_use(
    use: CodeUse, step: Int[Array, ""], *, window: int
) -> Float[Array, ""]:
    """The share of the K codes chosen in the `window` steps that end with this one."""
    return jnp.mean((step - use.last_step < window).astype(jnp.float32))


# --- finite scalar quantisation -------------------------------------------------------


def fsq_num_codes(levels: Levels) -> int:
    """K, the number of points of the grid."""
    return math.prod(levels)


def fsq_bound(z: Float[Array, "*b d"], levels: Levels) -> Float[Array, "*b d"]:
    """Squashed by tanh, so that rounding gives levels[d] integers, 0 among them.

    An even number of levels lies half a step to the side: -L/2 ... L/2 - 1. The shift
    inside of tanh takes z = 0 to 0; the paper's code writes tan for its arctanh.
    levels: each at least 3 (the paper advises 5).
    """
    half = (jnp.array(levels) - 1.0) * (1.0 - 1e-3) / 2.0  # as in the paper's code
    offset = jnp.where(jnp.array(levels) % 2 == 0, 0.5, 0.0)
    half, offset = _like(half, z), _like(offset, z)
    return jnp.tanh(z + jnp.arctanh(offset / half)) * half - offset


def fsq(z: Float[Array, "*b d"], levels: Levels) -> Float[Array, "*b d"]:
    """The point of the grid, scaled to [-1, 1], with the gradient of the bound."""
    bound = fsq_bound(z, levels)
    width = _like(jnp.array(levels) // 2, z)
    return straight_through(bound, jnp.round(bound)) / width


def fsq_index(code: Float[Array, "*b d"], levels: Levels) -> Int[Array, "*b"]:
    """The number of a point, 0 ... K - 1, the first dimension running fastest."""
    width, basis = _like(jnp.array(levels) // 2, code), _like(_basis(levels), code)
    digits = jnp.round(code * width + width).astype(jnp.int32)
    return jnp.sum(digits * basis, axis=-1)


def fsq_code(index: Int[Array, "*b"], levels: Levels) -> Float[Array, "*b d"]:
    """The point of a number: the inverse of `fsq_index`."""
    index = index[..., None]
    digits = index // _like(_basis(levels), index) % _like(jnp.array(levels), index)
    width = _like(jnp.array(levels) // 2, index)
    return (digits - width) / width.astype(jnp.float32)


def _basis(levels: Levels) -> Int[Array, " d"]:
    return jnp.array([math.prod(levels[:i]) for i in range(len(levels))])


def _like(values: Array, array: Array) -> Array:
    """Values of the last axis, with the leading axes of `array`."""
    return values.reshape((1,) * (array.ndim - 1) + (-1,))

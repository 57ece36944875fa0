"""What a decoder sees of an encoder's map of vectors: codes, a grid, or a density.

All numbers are nats of an example, summed over the places of its map.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from genjax.axes import sum_over_dims
from genjax.fields import Count, Decay, NonNegative, Steps
from genjax.objectives import quantize
from genjax.objectives.elbo import Gaussian
from genjax.objectives.quantize import Codebook, CodeUse, Levels
from genjax.typing import Array, Key, Metrics

Map = Float[Array, "b h w d"]


class Coded(NamedTuple):
    """What a bottleneck makes of the encoder's map."""

    z: Map  # what the decoder sees
    rate: Float[Array, " b"]  # that z costs under the prior
    penalty: Float[Array, " b"]  # what else training minimises
    chosen: Int[Array, "b h w"] | None = None  # numbers of the codes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bottleneck:
    """One of the three below.

    code_dim: of a vector of z. outputs: numbers that an encoder says at each place.
    num_codes: K; None for a density. learned: whether there is a codebook.
    standardize: whether the encoder's features must be brought to mean 0 and variance
    1. code: (h, codebook, key) -> Coded. mean: (h,
    codebook) -> z without chance. draw: (key, shape, codebook) -> z of that shape but
    the last axis, under the prior: independent places.
    """

    code_dim: int
    outputs: int
    num_codes: int | None
    code: Callable[[Map, Codebook | None, Key], Coded]
    mean: Callable[[Map, Codebook | None], Map]
    draw: Callable[[Key, tuple[int, ...], Codebook | None], Map]
    learned: bool = False
    standardize: bool = False

    @property
    def widths(self) -> dict[str, Any]:
        """What the networks around it must know, `genjax.models.vqvae`."""
        names = "code_dim", "outputs", "standardize"
        return {name: getattr(self, name) for name in names}

    def note(self, places: int) -> str:
        """How the bound on the likelihood is taken, for the protocol of a metric."""
        if self.num_codes is None:
            return f"ELBO by one draw of z; {places} places"
        return (
            f"log p(x|z) at the encoder's codes, {places} of {self.num_codes}, under a "
            "uniform prior, no draw"
        )


def vq(num_codes: int, code_dim: int, *, commitment: float) -> Bottleneck:
    """Each vector becomes the nearest of the codebook's codes."""

    def code(h: Map, book: Codebook | None, key: Key | None = None) -> Coded:
        assert book is not None
        return vector_quantized(h, book.codes, commitment=commitment)

    def draw(key: Key, shape: tuple[int, ...], book: Codebook | None) -> Map:
        assert book is not None
        return book.codes[jax.random.randint(key, shape, 0, num_codes)]

    return Bottleneck(
        code_dim=code_dim,
        outputs=code_dim,
        num_codes=num_codes,
        learned=True,
        code=code,
        mean=lambda h, book: code(h, book).z,
        draw=draw,
    )


def fsq(levels: Levels) -> Bottleneck:
    """Each vector is rounded to a grid, of as many dimensions as there are levels."""
    num_codes = quantize.fsq_num_codes(levels)

    def draw(key: Key, shape: tuple[int, ...], book: Codebook | None) -> Map:
        return quantize.fsq_code(jax.random.randint(key, shape, 0, num_codes), levels)

    return Bottleneck(
        code_dim=len(levels),
        outputs=len(levels),
        num_codes=num_codes,
        code=lambda h, book, key: fsq_quantized(h, levels),
        mean=lambda h, book: fsq_quantized(h, levels).z,
        draw=draw,
        standardize=True,  # or all vectors are rounded to one code, and stay there
    )


def gaussian(code_dim: int) -> Bottleneck:
    """Each vector says a diagonal Gaussian, its mean and then its log variance."""
    return Bottleneck(
        code_dim=code_dim,
        outputs=2 * code_dim,
        num_codes=None,
        code=lambda h, book, key: gaussian_coded(h, key),
        mean=lambda h, book: jnp.split(h, 2, axis=-1)[0],
        draw=lambda key, shape, book: jax.random.normal(key, (*shape, code_dim)),
    )


def vector_quantized(h: Map, codes: Array, *, commitment: float) -> Coded:
    """The nearest code of each vector; penalty: commitment sum |h - sg(e)|^2.

    It is the third term of van den Oord et al. 2017 (arXiv:1711.00937), eq. 3.
    """
    index = quantize.nearest_codes(h.reshape(-1, h.shape[-1]), codes)
    index = index.reshape(h.shape[:-1])
    z = jax.lax.stop_gradient(codes)[index]
    penalty = commitment * sum_over_dims(jnp.square(h - z))
    rate = uniform_rate(index, len(codes))
    return Coded(quantize.straight_through(h, z), rate, penalty, index)


def fsq_quantized(h: Map, levels: Levels) -> Coded:
    """The grid point of each vector."""
    z = quantize.fsq(h, levels)
    index = quantize.fsq_index(z, levels)
    rate = uniform_rate(index, quantize.fsq_num_codes(levels))
    return Coded(z, rate, jnp.zeros(len(h)), index)


def gaussian_coded(h: Float[Array, "b h w d2"], key: Key) -> Coded:
    """A draw of q(z|x); rate: its KL divergence from the standard normal."""
    q = Gaussian(*jnp.split(h, 2, axis=-1))
    return Coded(q.draw(key), sum_over_dims(q.kl()), jnp.zeros(len(h)))


def uniform_rate(index: Int[Array, "b h w"], num_codes: int) -> Float[Array, " b"]:
    """(places) log K for each example."""
    return jnp.full(len(index), index[0].size * jnp.log(num_codes))


# --- what training keeps beside the networks ------------------------------------------


class Kept(NamedTuple):
    """The codebook of `vq`, and how codes were used of late where there are codes."""

    book: Codebook | None
    use: CodeUse | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Upkeep:
    """How a codebook follows its vectors, and over how long its use is counted.

    `perplexity` is that of the mean frequencies of the codes over `usage_steps` steps;
    `codes_in_use` the share of them that were chosen at least once in these, however
    rarely. Codes chosen a few times each raise the one, not the other. A code that was
    restarted counts from its first real choice.
    """

    decay: Decay = 0.99  # of the moving averages (`quantize.ema_update`)
    smoothing: NonNegative = 1e-5  # added to each code's average count
    kmeans_iterations: Steps = 10  # k-means on the first batch; 0: random codes
    restart_below: Decay = 0.05  # restart codes below this share of the mean; 0: none
    usage_steps: Count = 157  # over which the use of codes is counted

    def init(self, key: Key, neck: Bottleneck) -> Kept:
        """Before the first step."""
        if neck.num_codes is None:
            return Kept(None, None)
        book = quantize.random_codebook(key, neck.num_codes, neck.code_dim)
        use = quantize.no_use(neck.num_codes, self.usage_steps)
        return Kept(book if neck.learned else None, use)

    def start(
        self,
        book: Codebook | None,
        encode: Callable[[], Map],
        step: Array,
        key: Key,
    ) -> Codebook | None:
        """The codebook, at step 0 the k-means of what encode() makes of the batch."""
        if book is None or not self.kmeans_iterations:
            return book
        num, iterations = len(book.codes), self.kmeans_iterations

        def of_batch() -> Codebook:
            h = encode()
            rows = h.reshape(-1, h.shape[-1])
            return quantize.kmeans(key, rows, num_codes=num, num_iterations=iterations)

        return jax.lax.cond(step == 0, of_batch, lambda: book)

    def follow(
        self, kept: Kept, h: Map, chosen: Array | None, step: Array, key: Key
    ) -> tuple[Kept, Metrics]:
        """After a batch, and what it says: the use of codes, the share restarted."""
        (book, use), metrics = kept, {}
        if book is not None:
            assert chosen is not None
            rows, index = h.reshape(-1, h.shape[-1]), chosen.ravel()
            book = quantize.ema_update(
                book, rows, index, decay=self.decay, smoothing=self.smoothing
            )
            book, unused = quantize.restart_unused(
                book, rows, key, below=self.restart_below
            )
            metrics["codes_restarted"] = jnp.mean(unused.astype(jnp.float32))
        if use is not None:
            assert chosen is not None
            use = quantize.note_use(use, chosen.ravel(), step, window=self.usage_steps)
            metrics["perplexity"] = quantize.perplexity(use.share)
            in_use = quantize.share_in_use(use, step, window=self.usage_steps)
            metrics["codes_in_use"] = in_use
        return Kept(book, use), metrics

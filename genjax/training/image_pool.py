"""Samples made earlier, for a discriminator (arXiv:1612.07828, section 2.3)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from genjax.typing import Array, Key


class Pool(NamedTuple):
    """Samples made earlier; the first min(num_seen, size) places are filled."""

    images: Float[Array, "size h w c"]
    num_seen: Int[Array, ""]


def empty_pool(size: int, shape: tuple[int, ...]) -> Pool:
    """A pool with `size` places for images of this shape."""
    return Pool(jnp.zeros((size, *shape)), jnp.zeros((), jnp.int32))


def query(
    pool: Pool, images: Float[Array, "b h w c"], key: Key
) -> tuple[Pool, Float[Array, "b h w c"]]:
    """(the pool afterwards, what the discriminator sees), image by image.

    Until the pool is full an image is kept and seen. Then, with probability 1/2, it
    takes a random place, and the one that was there is seen; or it is seen and not
    kept. A pool without places gives back what it is given.
    """
    size = len(pool.images)
    if size == 0:
        return pool, images

    def one(pool: Pool, given: tuple[Array, Key]) -> tuple[Pool, Array]:
        image, key = given
        coin_key, place_key = jax.random.split(key)
        filling = pool.num_seen < size
        swap = ~filling & jax.random.bernoulli(coin_key)
        place = jnp.where(
            filling, pool.num_seen, jax.random.randint(place_key, (), 0, size)
        )
        old = pool.images[place]
        kept = pool.images.at[place].set(jnp.where(filling | swap, image, old))
        num_seen = jnp.minimum(pool.num_seen + 1, size)
        return Pool(kept, num_seen), jnp.where(swap, old, image)

    return jax.lax.scan(one, pool, (images, jax.random.split(key, len(images))))

"""Further inputs for a network of noisy pixels.

  (1) (x_t - alpha v) / sigma, held between -FEATURE_LIMIT and FEATURE_LIMIT,

for v black, white, and the level nearest to x_t / alpha. It is eps itself where x0 = v.
Without them a network must enlarge the small noise on a black pixel up to
a thousand times.
"""

import jax.numpy as jnp
from jaxtyping import Float

from genjax.axes import per_example
from genjax.diffusion.paths import GaussianPath
from genjax.typing import Array

FEATURE_LIMIT = 5.0  # eps is hardly ever larger


def network_input(
    x: Float[Array, " b *d"],
    t: Float[Array, " b"],
    *,
    path: GaussianPath,
    num_levels: int,
) -> Float[Array, " b *d2"]:
    """x_t divided by sqrt(alpha^2 + sigma^2), and (1) as more channels.

    num_levels: 0: without (1).
    """
    alpha, sigma = per_example(path.alpha(t), x), per_example(path.sigma(t), x)
    scaled = x / jnp.sqrt(jnp.square(alpha) + jnp.square(sigma))
    if num_levels == 0:
        return scaled
    last = num_levels - 1
    place = jnp.round((jnp.clip(x / alpha, -1.0, 1.0) + 1.0) / 2.0 * last)
    values = [-jnp.ones_like(x), jnp.ones_like(x), 2.0 * place / last - 1.0]
    away = [(x - alpha * value) / sigma for value in values]
    away = [jnp.clip(each, -FEATURE_LIMIT, FEATURE_LIMIT) for each in away]
    return jnp.concatenate([scaled, *away], axis=-1)

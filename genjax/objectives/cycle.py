"""Two translations, each of which should undo the other (Zhu et al. 2017, eq. 2).

With F from domain A to B and G back, arXiv:1703.10593:

  (1) |G(F(a)) - a|, the error of there and back
  (2) |G(a) - a|, that of an image of A which needs no translation to A (section 5.2)
"""

from collections.abc import Callable, Mapping

import jax.numpy as jnp
from jaxtyping import Float

from genjax.axes import mean_over_dims
from genjax.typing import Array, Direction, Metrics

Images = Float[Array, "b h w c"]
Translate = Mapping[str, Callable[[Images], Images]]
"""{"a_to_b": F, "b_to_a": G}."""

BACK: dict[Direction, Direction] = {"a_to_b": "b_to_a", "b_to_a": "a_to_b"}


def l1(x: Images, y: Images) -> Float[Array, " b"]:
    """The mean absolute difference of two images."""
    return mean_over_dims(jnp.abs(x - y))


def rmse(x: Images, y: Images) -> Float[Array, " b"]:
    """The root of the mean squared difference of two images."""
    return jnp.sqrt(mean_over_dims(jnp.square(x - y)))


def there_and_back(
    translate: Translate, x: Images, direction: Direction
) -> list[Images]:
    """What x is translated to, that translated back, and x translated back at once."""
    there, back = translate[direction], translate[BACK[direction]]
    other = there(x)
    return [other, back(other), back(x)]


def errors(translate: Translate, a: Images, b: Images, *, aligned: bool) -> Metrics:
    """Errors of each image in [-1, 1], (B,), on the scale [0, 1] of a pixel.

    cycle_l1: (1); identity_l1: (2).
    aligned: a and b are pairs; then the rmse of translations too, and of the image
    untouched in its place.
    """
    fake_b, cycle_a, same_a = there_and_back(translate, a, "a_to_b")
    fake_a, cycle_b, same_b = there_and_back(translate, b, "b_to_a")
    values = {"cycle_l1_a": l1(cycle_a, a), "cycle_l1_b": l1(cycle_b, b)}
    values |= {"identity_l1_a": l1(same_a, a), "identity_l1_b": l1(same_b, b)}
    if aligned:
        values |= {"rmse_a_to_b": rmse(fake_b, b), "rmse_b_to_a": rmse(fake_a, a)}
        values["rmse_untouched"] = rmse(a, b)
    return {name: value / 2.0 for name, value in values.items()}

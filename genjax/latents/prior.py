"""Pictures of a code that can be decoded only, as a GAN's: walks between its draws."""

import jax
import numpy as np

from genjax.evaluation import walks
from genjax.evaluation.runner import choose_weights
from genjax.latents.pictures import DEFAULT_PAIRS, MANIFOLD_SIDE, Pictures
from genjax.latents.view import LATENT_STREAM, make_coder
from genjax.pictures import grids
from genjax.run_setup import Setup
from genjax.typing import UserError

PRIOR_DRAW = 2  # of LATENT_STREAM, whose 0 and 1 are those of `genjax.latents.view`


def look_at_prior(setup: Setup, state: object) -> tuple[Pictures, dict]:
    """Walks between draws of the prior, and the plane of a code of two numbers.

    (pictures, protocol). A row a pair, from one draw to the other: linear, and
    spherical along the arc, where draws of a Gaussian lie.
    Raises UserError for --pairs and --beside, which are of encoded images.
    """
    options, spec = setup.options, setup.dataset.spec
    for flag, value in {"pairs": options.pairs, "beside": options.beside}.items():
        if value is not None:
            raise UserError(
                f"--{flag} needs the codes of images, and experiments/"
                f"{setup.config.experiment}.py has no encode: leave it out"
            )
    state, weights = choose_weights(setup.experiment, state, options.weights)
    coder = make_coder(setup, state)
    key = jax.random.fold_in(jax.random.key(options.seed), LATENT_STREAM)
    assert setup.experiment.prior is not None
    draws = setup.experiment.prior(
        jax.random.fold_in(key, PRIOR_DRAW), 2 * DEFAULT_PAIRS
    )
    codes = np.asarray(draws)
    t = np.linspace(0.0, 1.0, options.num_images)

    def show(codes: np.ndarray, columns: int) -> grids.Picture:
        images = coder.decode(codes)
        return grids.image_grid(images, spec.num_levels, columns=columns)

    pictures, notes = {}, {}
    for name, walk in {"linear": walks.lerp, "spherical": walks.slerp}.items():
        ways = [walk(a, b, t) for a, b in zip(codes[::2], codes[1::2], strict=True)]
        pictures[f"interpolation_{name}"] = show(np.concatenate(ways), len(t))
        notes[f"interpolation_{name}"] = "rows: from one draw of the prior to another"
    if codes.shape[1] == 2:
        plane = walks.manifold_grid(MANIFOLD_SIDE)
        pictures["manifold"] = show(plane, MANIFOLD_SIDE)
        notes["manifold"] = "inverse normal CDF of a uniform grid"
    return pictures, {
        "data": spec.name,
        "code_dim": codes.shape[1],
        "weights": weights,
        "seed": options.seed,
        "pictures": notes,
    }

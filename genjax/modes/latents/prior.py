"""Pictures of a code that can be decoded only, as a GAN's: walks between its draws."""

from typing import Any

import numpy as np

from genjax.evaluation import walks
from genjax.modes.latents.coded import PRIOR, Options, make_coder
from genjax.modes.latents.pictures import DEFAULT_PAIRS, MANIFOLD_SIDE, Pictures
from genjax.modes.mode import data_and_weights, title_of
from genjax.pictures import grids
from genjax.pictures.frame import framed
from genjax.run import Run


def draw_prior(run: Run, options: Options) -> tuple[Pictures, dict[str, Any]]:
    """Walks between draws of the prior, and the plane of a code of two numbers.

    (pictures, protocol). A row a pair, from one draw to the other: linear, and
    spherical along the arc, where draws of a Gaussian lie.
    """
    state, weights = run.state(options.weights)
    coder = make_coder(run, options, state)
    assert run.experiment.code is not None and run.experiment.code.prior is not None
    draws = run.experiment.code.prior(options.key(PRIOR), 2 * DEFAULT_PAIRS)
    codes = np.asarray(draws)
    t = np.linspace(0.0, 1.0, options.num_images)

    def grid_of(name: str, codes: np.ndarray, columns: int) -> grids.Picture:
        images = coder.decode(codes)
        grid = grids.image_grid(images, run.spec.num_levels, columns=columns)
        return framed(grid, title_of(run, run.step, name.replace("_", ", ")))

    pictures, notes = {}, {}
    for name, walk in {"linear": walks.lerp, "spherical": walks.slerp}.items():
        rows = [walk(a, b, t) for a, b in zip(codes[::2], codes[1::2], strict=True)]
        named = f"interpolation_{name}"
        pictures[named] = grid_of(named, np.concatenate(rows), len(t))
        notes[named] = "rows: from one draw of the prior to another"
    if codes.shape[1] == 2:
        plane = walks.manifold_grid(MANIFOLD_SIDE)
        pictures["manifold"] = grid_of("manifold", plane, MANIFOLD_SIDE)
        notes["manifold"] = "inverse normal CDF of a uniform grid"
    protocol = data_and_weights(run, options, weights)
    return pictures, protocol | {"code_dim": codes.shape[1], "pictures": notes}

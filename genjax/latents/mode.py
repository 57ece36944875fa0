"""--mode=latents: what a trained model's code looks like, in pictures and numbers.

For every experiment with `encode` and `decode` on images; of one with `decode` and
`prior` alone, walks between draws of its prior (`genjax.latents.prior`). Pictures go to
<workdir>/latents/<step>_<name>.png, numbers to <workdir>/evaluation/<step>_latents.json
as {"step", "protocol", "metrics"}; the protocol says how each was taken.

The smoothness measure. A deterministic autoencoder is trained at the codes of the
training images only, and nothing holds the decoder between them. So images are decoded
there, and their distance to the data is measured:

    real_distance(x) = min over training images r of |x - r|, pixels in [0, 1]   (1)

real_distance_<of what> is the mean of (1) over
    of_test              test images themselves: the floor
    of_reconstructions   decode(encode(.)) of the same images
    between_codes        decode(a quarter, half and three quarters of the way on the
                         line between the codes of two of NUM_PAIRS random pairs)
    of_gaussian_codes    decode(draws of the Gaussian fitted to training codes)
    of_samples           the model's own samples, where it has a sampler
and <name>_ratio is that over the floor. A decoder that blurs is nearer to the data than
data are (below 1), so read between_codes against of_reconstructions, which blur alike.
"""

import json
import math
import sys
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

from genjax.beside import load_beside
from genjax.commandline import Options
from genjax.experiment import MakeExperiment
from genjax.latents.numbers import SCORERS
from genjax.latents.pictures import PAINTERS, Pictures, code_panel, scatter_codes
from genjax.latents.prior import look_at_prior
from genjax.latents.view import (
    check_has_code,
    check_images,
    check_stop,
    encode_splits,
    look,
    make_coder,
)
from genjax.pictures import grids
from genjax.pictures.scatter import Panel
from genjax.run_setup import Setup, load_trained, num_test
from genjax.train import distributed, metrics
from genjax.train.stop import StopRequest
from genjax.typing import UserError


def latents(
    options: Options,
    make_experiment: MakeExperiment,
    stop: StopRequest,
    *,
    find_experiment: Callable[[str], MakeExperiment],
) -> None:
    """Looks at the code of a checkpoint, and writes what this module's head says.

    With --weights=raw or another --seed the names end in _raw, _seed1.
    Raises UserError for a model without a code, points, a --pairs outside the test
    split, and a --beside that is no run of the same data.
    """
    setup, state, step = load_trained(options, make_experiment, stop)
    check_images(setup)
    if setup.experiment.encode is None and setup.experiment.prior is not None:
        check_has_code(setup, "decode")
        pictures, protocol = look_at_prior(setup, state)
        if distributed.is_first():
            write(setup, step, pictures, protocol, {})
        return
    check_has_code(setup, "encode", "decode")
    check_pairs(options.pairs or (), num_test(setup))
    beside = codes_beside(setup, find_experiment, stop)
    view = look(setup, state)
    first = distributed.is_first()
    pictures: Pictures = {}
    results: dict[str, Any] = {}
    with tqdm(total=len(PAINTERS) + len(SCORERS), disable=not first) as bar:
        for paint in PAINTERS:
            check_stop(setup)
            bar.set_description(paint.__name__)
            pictures |= paint(view)
            bar.update()
        if first:  # the others have shown what takes all of them
            pictures |= scatter_codes(view, beside)
        for score in SCORERS:
            check_stop(setup)
            bar.set_description(score.__name__)
            results |= score(view)
            bar.update()
    if first:
        write(setup, step, pictures, view.protocol, results)


def codes_beside(
    setup: Setup,
    find_experiment: Callable[[str], MakeExperiment],
    stop: StopRequest,
) -> Panel | None:
    """The test codes of the run in --beside, None without the flag.

    Raises UserError as `load_beside` does, and if that model has no code.
    """
    loaded = load_beside(setup, find_experiment, stop)
    if loaded is None:
        return None
    other, state, _ = loaded
    check_has_code(other, "encode")
    return code_panel(other, *encode_splits(other, make_coder(other, state)))


def write(
    setup: Setup,
    step: int,
    pictures: Pictures,
    protocol: dict[str, Any],
    results: dict[str, Any],
) -> None:
    """The files of the first process, and the numbers on the standard output."""
    options = setup.options
    suffix = "_raw" if options.weights == "raw" else ""
    suffix += f"_seed{options.seed}" if options.seed else ""
    for name, picture in pictures.items():
        path = setup.workdir / "latents" / f"{step}_{name}{suffix}.png"
        grids.save_png(path, picture)
    bad = [name for name, value in results.items() if not math.isfinite(value)]
    protocol["not_finite"] = bad
    result = {"protocol": protocol, "metrics": results}
    path = metrics.write_evaluation(
        setup.workdir, step, result, suffix=f"_latents{suffix}"
    )
    print(json.dumps({"step": step, **result}, indent=2))
    print(f"{len(pictures)} pictures in {setup.workdir / 'latents'}", file=sys.stderr)
    print(path, file=sys.stderr)


def check_pairs(pairs: tuple[tuple[int, int], ...], num: int) -> None:
    """Raises UserError for a row that is not among the num test images."""
    wrong = [row for pair in pairs for row in pair if row >= num]
    if wrong:
        raise UserError(
            f"--pairs: the test images that are looked at are 0 ... {num - 1}, not "
            f"{wrong[0]}; config.eval.limit says how many"
        )

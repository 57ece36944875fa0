"""--mode=latents: what a trained model's code looks like, in pictures and numbers.

For every experiment with a `code` on images; of one without `encode`, walks between
draws of its prior (`genjax.modes.latents.prior`). Pictures go to
<workdir>/latents/<step>_<name>.png, numbers to <workdir>/evaluation/<step>_latents.json
as {"step", "protocol", "metrics"}; the protocol says how each was taken.

The smoothness measure. A deterministic autoencoder is trained at the codes of the
training images only, and nothing trains the decoder between them. So images are
decoded there, and their distance to the data is measured:

    real_distance(x) = min over training images r of |x - r|, pixels in [0, 1]   (1)

real_distance_<of what> is the mean of (1) over
    of_test              test images themselves: the floor
    of_reconstructions   decode(encode(.)) of the same images
    between_codes        decode(a quarter, half and three quarters along the line
                         between the codes of each of NUM_PAIRS random pairs)
    of_gaussian_codes    decode(draws of the Gaussian fitted to training codes)
    of_samples           the model's own samples, where it has a sampler
and <name>_ratio is that over the floor. A decoder that blurs is nearer to the data than
data are (below 1), so read between_codes against of_reconstructions, which blur alike.
"""

from typing import Any

from tqdm import tqdm

from genjax.modes.beside import load_beside
from genjax.modes.latents.coded import (
    Options,
    encode_data,
    encode_splits,
    make_coder,
)
from genjax.modes.latents.numbers import SCORERS
from genjax.modes.latents.pictures import (
    PAINTERS,
    Pictures,
    code_panel,
    scatter_codes,
)
from genjax.modes.latents.prior import draw_prior
from genjax.modes.mode import Mode, check_stop, has, report, say
from genjax.pictures import grids
from genjax.pictures.scatter import Panel
from genjax.places import place
from genjax.run import Run
from genjax.training import distributed
from genjax.typing import UserError


def check(run: Run, options: Options) -> None:
    """Raises UserError for points, and flags that the model or the data do not fit."""
    spec, file = run.spec, f"experiments/{run.config.experiment}.py"
    if spec.dtype != "uint8":
        raise UserError(
            f"--mode=latents shows images, and {spec.name} has points of shape "
            f"{spec.shape}; choose a model of images"
        )
    if not has(run.experiment, "code.encode"):
        for flag in ("pairs", "beside"):
            if getattr(options, flag) is not None:
                raise UserError(
                    f"--{flag} needs the codes of images, and {file} has no encoder: "
                    "leave it out"
                )
    num = min(spec.num_eval, run.settings.evaluation.limit or spec.num_eval)
    wrong = [row for pair in options.pairs or () for row in pair if row >= num]
    if wrong:
        raise UserError(
            f"--pairs: the test images here are 0 ... {num - 1}, not {wrong[0]}; "
            "config.evaluation.limit says how many"
        )


def latents(run: Run, options: Options) -> None:
    """Shows the code of a checkpoint, and writes what this module's head says.

    With --weights=raw or another --seed the names end in _raw, _seed1.
    Raises UserError for a --beside that is no run of the same data.
    """
    if not has(run.experiment, "code.encode"):
        write(run, options, *draw_prior(run, options), {})
        return
    beside = codes_beside(run, options)
    data = encode_data(run, options)
    first = distributed.is_first()
    pictures: Pictures = {}
    numbers: dict[str, float] = {}
    with tqdm(total=len(PAINTERS) + len(SCORERS), disable=not first) as bar:
        for paint in PAINTERS:
            check_stop(run, "while drawing the codes")
            bar.set_description(paint.__name__)
            pictures |= paint(data)
            bar.update()
        if first:  # nothing here takes all processes
            pictures |= scatter_codes(data, beside)
        for score in SCORERS:
            check_stop(run, "while measuring the codes")
            bar.set_description(score.__name__)
            numbers |= score(data)
            bar.update()
    write(run, options, pictures, data.protocol, numbers)


def codes_beside(run: Run, options: Options) -> Panel | None:
    """The test codes of the run in --beside, None without the flag.

    Raises UserError as `load_beside` does, and if that model does not encode.
    """
    if options.beside is None:
        return None
    other = load_beside(run, place(options.beside, "--beside"))
    if not has(other.experiment, "code.encode"):
        raise UserError(
            f"--beside: experiments/{other.config.experiment}.py has no encoder: name "
            "the run of a model with one, like an autoencoder"
        )
    coder = make_coder(other, options, other.state()[0])
    return code_panel(other, *encode_splits(other, coder))


def write(
    run: Run,
    options: Options,
    pictures: Pictures,
    protocol: dict[str, Any],
    numbers: dict[str, float],
) -> None:
    """The pictures and the numbers."""
    folder, suffix = run.workdir / "latents", options.suffix
    if distributed.is_first():
        for name, picture in pictures.items():
            grids.save_png(folder / f"{run.step}_{name}{suffix}.png", picture)
        say(f"{len(pictures)} pictures in {folder}")
    report(run, f"{{step}}_latents{suffix}", protocol, numbers)


MODE = Mode(
    name="latents",
    summary="what a model's code looks like, in pictures and numbers",
    example="python launch.py --config=configs/vae_digits.py --mode=latents "
    "--pairs='3,17;5,8'",
    options=Options,
    needs=("code",),
    models="models with a code, like autoencoders and GANs",
    check=check,
    run=latents,
)

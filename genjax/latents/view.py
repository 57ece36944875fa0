"""What is looked at: a trained model, its codes, and the data around it."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from genjax.data.pipeline import eval_batches
from genjax.evaluation import code_metrics as scores
from genjax.evaluation.coder import Coder, Encoded
from genjax.evaluation.runner import choose_weights
from genjax.evaluation.sampling import compile_sample, generate
from genjax.evaluation.summary import MAX_DIMS
from genjax.evaluation.walks import draw_gaussian
from genjax.run_setup import Setup, test_batches
from genjax.train.sharding import batch_sharding
from genjax.typing import Stopped, UserError

LATENT_STREAM = 4  # of --seed; 2 and 3 are those of `genjax.modes`
MAX_TRAIN_CODES = 10_000  # training images encoded, evenly spaced over the split
MAX_REAL_BYTES = 2**30  # of training images held as float32: CIFAR-10 takes 614 MB


@dataclasses.dataclass(frozen=True)
class View:
    """A trained model, its codes, and the data around it.

    train: MAX_TRAIN_CODES images of the training split, or all.
    test: num_test images, and again: their reconstructions.
    real: training images as pixels, those that MAX_REAL_BYTES hold, or all.
    pca: of `real`, with as many components as the code has, and at least 2; None where
        protocol["not_available"] says why.
    protocol: filled as the work is done.
    """

    setup: Setup
    state: Any
    coder: Coder
    train: Encoded
    test: Encoded
    again: np.ndarray
    real: np.ndarray
    pca: scores.PrincipalComponents | None
    protocol: dict[str, Any]

    @property
    def dim(self) -> int:
        """How many numbers the code has."""
        return self.test.codes.shape[1]

    @property
    def pca_of_code(self) -> scores.PrincipalComponents | None:
        """PCA with as many components as the code has; None where there is none."""
        return self.pca if "pca" in self.protocol else None

    def pixels(self, images: np.ndarray) -> np.ndarray:
        """(n, P), in [0, 1]."""
        return scores.to_pixels(images, self.setup.dataset.spec.num_levels)

    def images(self, pixels: np.ndarray) -> np.ndarray:
        """The nearest images (n, h, w, c) of pixels, which may leave [0, 1]."""
        spec = self.setup.dataset.spec
        levels = np.clip(pixels, 0.0, 1.0) * (spec.num_levels - 1)
        return levels.round().astype(np.uint8).reshape(-1, *spec.shape)

    def rng(self, stream: int) -> np.random.Generator:
        """Draws of --seed, other ones for each stream."""
        return np.random.default_rng((self.setup.options.seed, stream))

    def missing(self, name: str, reason: str) -> None:
        """Notes in the protocol what cannot be had."""
        self.protocol["not_available"][name] = reason


def look(setup: Setup, state: Any) -> View:
    """Encodes the training and the test images, decodes the latter, fits PCA."""
    state, weights = choose_weights(setup.experiment, state, setup.options.weights)
    coder = make_coder(setup, state)
    train, test = encode_splits(setup, coder)
    real = read_real(setup)
    protocol: dict[str, Any] = {
        "data": setup.dataset.spec.name,
        "n_test": len(test.codes),
        "n_train_codes": len(train.codes),
        "n_real": len(real),
        "code_dim": test.codes.shape[1],
        "weights": weights,
        "seed": setup.options.seed,
        "not_available": {},
        "pictures": {},
        "squared_error": "summed over the pixels of an image, in [0, 1]; the model's "
        "images, and pca_image_, are clipped and rounded to pixel levels, pca_ is not",
    }
    pca = fit_pca(real, test.codes.shape[1], protocol)
    again = coder.decode(test.codes)
    return View(setup, state, coder, train, test, again, real, pca, protocol)


def make_coder(setup: Setup, state: Any) -> Coder:
    """`encode` and `decode` of the experiment, from --seed."""
    key = jax.random.fold_in(jax.random.key(setup.options.seed), LATENT_STREAM)
    return Coder(
        setup.experiment,
        state,
        key=jax.random.fold_in(key, 0),
        chunk=setup.config.eval.batch_size,
        mesh=setup.compiled.mesh,
        should_stop=setup.stop,
    )


def encode_splits(setup: Setup, coder: Coder) -> tuple[Encoded, Encoded]:
    """MAX_TRAIN_CODES of the training split, or all; and the test split."""
    rows = spread_rows(len(setup.dataset.train), MAX_TRAIN_CODES)
    train = coder.encode(train_batches(setup, rows), setup.dataset.train.name)
    return train, coder.encode(test_batches(setup), setup.dataset.eval.name)


def spread_rows(length: int, num: int) -> np.ndarray:
    """At most num rows, evenly spaced: a folder's rows may be sorted by class."""
    num = min(num, length)
    return np.arange(num) * length // num


def train_batches(setup: Setup, rows: np.ndarray) -> Iterator[tuple[dict, Any]]:
    """These rows of the training split: (batch, mask)."""
    return eval_batches(
        setup.dataset.train,
        batch_size=setup.config.eval.batch_size,
        sharding=batch_sharding(setup.compiled.mesh),
        rows=rows,
    )


def read_real(setup: Setup, chunk: int = 4096) -> np.ndarray:
    """Training images as pixels (n, P), as many as MAX_REAL_BYTES hold."""
    spec, split = setup.dataset.spec, setup.dataset.train
    size = math.prod(spec.shape)
    rows = spread_rows(len(split), max(MAX_REAL_BYTES // (4 * size), 1))
    real = np.empty((len(rows), size), np.float32)
    for start in range(0, len(rows), chunk):
        check_stop(setup)
        images = split.read(rows[start : start + chunk])["image"]
        real[start : start + chunk] = scores.to_pixels(images, spec.num_levels)
    return real


def fit_pca(
    real: np.ndarray, dim: int, protocol: dict[str, Any]
) -> scores.PrincipalComponents | None:
    """PCA of the training images, of at least two components for the scatter plot."""
    size = real.shape[1]
    if size > MAX_DIMS:
        reason = f"{size} pixels; the covariance is taken of at most {MAX_DIMS}"
        protocol["not_available"]["pca"] = reason
        return None
    if dim >= min(real.shape):
        reason = f"a code of {dim} numbers leaves nothing out of {min(real.shape)}"
        protocol["not_available"]["pca"] = reason
        return scores.principal_components(real, 2) if min(real.shape) >= 2 else None
    protocol["pca"] = f"{dim} components, fitted to {len(real)} training images"
    return scores.principal_components(real, max(dim, 2))


def draw(view: View, num: int) -> np.ndarray:
    """Samples of the model, z ~ p(z): the first num of always the same."""
    setup = view.setup
    assert setup.experiment.sample is not None
    key = jax.random.fold_in(jax.random.key(setup.options.seed), LATENT_STREAM)
    chunks = generate(
        compile_sample(setup.experiment.sample, mesh=setup.compiled.mesh),
        view.state,
        key=jax.random.fold_in(key, 1),
        num=num,
        chunk=setup.config.eval.batch_size,
        should_stop=setup.stop,
    )
    return np.concatenate(list(chunks))


def decode_gaussian(view: View, num: int) -> np.ndarray:
    """Images of codes drawn from the Gaussian fitted to the training codes."""
    return view.coder.decode(draw_gaussian(view.train.codes, num, view.rng(0)))


# What can be looked at


def check_images(setup: Setup) -> None:
    """Raises UserError unless the data are images."""
    spec = setup.dataset.spec
    if spec.dtype != "uint8":
        raise UserError(
            f"--mode=latents shows images, and {spec.name} has points of shape "
            f"{spec.shape}; choose a model of images"
        )


def check_has_code(setup: Setup, *needed: str) -> None:
    """Raises UserError if the experiment lacks one of the functions needed."""
    missing = [name for name in needed if getattr(setup.experiment, name) is None]
    if missing:
        raise UserError(
            f"experiments/{setup.config.experiment}.py has no {' and '.join(missing)}, "
            "so there is no code to look at; --mode=latents is for models with a code, "
            "like autoencoders"
        )


def check_stop(setup: Setup) -> None:
    """Raises Stopped if it was asked for."""
    if setup.stop():
        raise Stopped("while looking at the codes")

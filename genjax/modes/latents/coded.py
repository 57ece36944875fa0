"""A trained model's codes, and the data around it."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Annotated, Any

import jax
import numpy as np

from genjax.data.pipeline import eval_batches
from genjax.evaluation import code_metrics as scores
from genjax.evaluation.coder import Coder, Encoded
from genjax.evaluation.sampling import compile_sample, generate
from genjax.evaluation.summary import MAX_DIMS
from genjax.evaluation.walks import draw_gaussian
from genjax.fields import PlacePath, Range, Steps
from genjax.modes.mode import Trained, check_stop, data_and_weights
from genjax.run import Run
from genjax.streams import Stream, stream_key
from genjax.training.sharding import batch_sharding
from genjax.typing import Key, UserError

MAX_TRAIN_CODES = 10_000  # training images encoded, evenly spaced over the split
MAX_REAL_BYTES = 2**30  # of training images held as float32: CIFAR-10 takes 614 MB
CODER, SAMPLES, PRIOR = range(3)  # keys of Stream.LATENTS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(Trained):
    """The flags of --mode=latents."""

    num_images: Annotated[int, Range(2)] = 11  # images in a row of the pictures
    pairs: tuple[tuple[Steps, ...], ...] | None = None  # test rows to interpolate
    beside: PlacePath | None = None  # run folder of another model, to show its codes

    def __post_init__(self) -> None:
        wrong = [pair for pair in self.pairs or () if len(pair) != 2]
        if wrong:
            raise UserError(
                '--pairs takes pairs of test rows, like "3,17;5,8", not '
                f"{','.join(map(str, wrong[0]))!r}"
            )

    def key(self, use: int) -> Key:
        """The key for CODER, SAMPLES or PRIOR."""
        return jax.random.fold_in(stream_key(self.seed, Stream.LATENTS), use)


@dataclasses.dataclass(frozen=True)
class CodedData:
    """A trained model, its codes, and the data around it.

    train: MAX_TRAIN_CODES images of the training split, or all.
    test: num_test images. reconstructions: what the model makes of their codes.
    real: training images as pixels, those that MAX_REAL_BYTES hold, or all.
    pca: of `real`, with as many components as the code has, and at least 2; None where
        protocol["not_available"] says why.
    protocol: filled as the work is done.
    """

    run: Run
    options: Options
    state: Any
    coder: Coder
    train: Encoded
    test: Encoded
    reconstructions: np.ndarray
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
        return scores.to_pixels(images, self.run.spec.num_levels)

    def images(self, pixels: np.ndarray) -> np.ndarray:
        """The nearest images (n, h, w, c) of pixels, which may leave [0, 1]."""
        spec = self.run.spec
        levels = np.clip(pixels, 0.0, 1.0) * (spec.num_levels - 1)
        return levels.round().astype(np.uint8).reshape(-1, *spec.shape)

    def rng(self, stream: int) -> np.random.Generator:
        """A generator from --seed, a different one for each stream."""
        return np.random.default_rng((self.options.seed, stream))

    def missing(self, name: str, reason: str) -> None:
        """Notes in the protocol what is not available, and why."""
        self.protocol["not_available"][name] = reason

    def sample(self, num: int) -> np.ndarray:
        """Samples of the model; a smaller num gives the first of them."""
        sample = self.run.experiment.sample
        assert sample is not None
        chunks = generate(
            compile_sample(sample, mesh=self.run.compiled.mesh),
            self.state,
            key=self.options.key(SAMPLES),
            num=num,
            chunk=self.run.settings.evaluation.batch_size,
            should_stop=self.run.stop,
        )
        return np.concatenate(list(chunks))

    def decode_gaussian(self, num: int) -> np.ndarray:
        """Images of codes drawn from the Gaussian fitted to the training codes."""
        return self.coder.decode(draw_gaussian(self.train.codes, num, self.rng(0)))


def encode_data(run: Run, options: Options) -> CodedData:
    """Encodes the training and the test images, decodes the latter, fits PCA."""
    state, weights = run.state(options.weights)
    coder = make_coder(run, options, state)
    train, test = encode_splits(run, coder)
    real = read_real(run)
    protocol = data_and_weights(run, options, weights) | {
        "n_test": len(test.codes),
        "n_train_codes": len(train.codes),
        "n_real": len(real),
        "code_dim": test.codes.shape[1],
        "not_available": {},
        "pictures": {},
        "squared_error": "summed over the pixels of an image, in [0, 1]; the model's "
        "images, and pca_image_, are clipped and rounded to pixel levels, pca_ is not",
    }
    pca = fit_pca(real, test.codes.shape[1], protocol)
    decoded = coder.decode(test.codes)
    return CodedData(
        run, options, state, coder, train, test, decoded, real, pca, protocol
    )


def make_coder(run: Run, options: Options, state: Any) -> Coder:
    """`encode` and `decode` of the experiment, from --seed."""
    return Coder(
        run.experiment,
        state,
        key=options.key(CODER),
        chunk=run.settings.evaluation.batch_size,
        mesh=run.compiled.mesh,
        should_stop=run.stop,
    )


def encode_splits(run: Run, coder: Coder) -> tuple[Encoded, Encoded]:
    """MAX_TRAIN_CODES of the training split, or all; and the test split."""
    rows = spread_rows(len(run.dataset.train), MAX_TRAIN_CODES)
    train = coder.encode(train_batches(run, rows), run.dataset.train.name)
    return train, coder.encode(run.test_batches(), run.dataset.eval.name)


def spread_rows(length: int, num: int) -> np.ndarray:
    """At most num rows, evenly spaced: a folder's rows may be sorted by class."""
    num = min(num, length)
    return np.arange(num) * length // num


def train_batches(run: Run, rows: np.ndarray) -> Iterator[tuple[dict, Any]]:
    """These rows of the training split: (batch, mask)."""
    return eval_batches(
        run.dataset.train,
        batch_size=run.settings.evaluation.batch_size,
        sharding=batch_sharding(run.compiled.mesh),
        rows=rows,
    )


def read_real(run: Run, chunk: int = 4096) -> np.ndarray:
    """Training images as pixels (n, P), as many as MAX_REAL_BYTES hold."""
    spec, split = run.spec, run.dataset.train
    size = math.prod(spec.shape)
    rows = spread_rows(len(split), max(MAX_REAL_BYTES // (4 * size), 1))
    real = np.empty((len(rows), size), np.float32)
    for start in range(0, len(rows), chunk):
        check_stop(run, "while reading the training images")
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

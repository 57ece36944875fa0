"""An .npz of arrays as a data set, or as one set of examples."""

import hashlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from genjax.data.crop import CROPS, Crop
from genjax.data.picture_split import held_out
from genjax.data.split import Dataset, fingerprint_of, image_spec, split_from_arrays
from genjax.disk import DAMAGE, short
from genjax.places import place
from genjax.typing import UserError

Images = UInt8[np.ndarray, "n h w c"]

_ARRAYS = ("images", "labels", "test_images", "test_labels")


def npz(
    name: str = "npz",
    dir: str | None = None,
    *,
    image_size: int | None = None,
    crop: Crop = "square",
    eval_fraction: float | None = None,
) -> Dataset:
    """The arrays of one .npz, all in memory.

    dir: the file, also one in a bucket. It holds `images`, uint8 (n, h, w, c) with 1 or
        3 channels or (n, h, w), and may hold `labels`, whole numbers (n,) from 0. What
        is evaluated on are `test_images` with `test_labels`, or else the eval_fraction
        (0.1) of the images that `held_out` chooses by their numbers.
    image_size: cut out a square as `crop` says, resized to this side.

    Raises UserError for a file that is not like that.
    """
    if dir is None:
        raise UserError("the data set 'npz' needs data.dir, an .npz file with images")
    path = place(dir, "data.dir")
    arrays = read_arrays(path, *_ARRAYS)
    image, label = _examples(path, arrays, "", image_size, crop)
    if "test_images" in arrays:
        if eval_fraction is not None:
            raise UserError(
                f"{path} holds test_images, so nothing of its images is held out; "
                "leave data.eval_fraction out"
            )
        test_image, test_label = _examples(path, arrays, "test_", image_size, crop)
    else:
        names, fraction = [str(i) for i in range(len(image))], eval_fraction
        kept, out = held_out(list(range(len(image))), names, fraction)
        test_image, test_label = image[out], label[out]
        image, label = image[kept], label[kept]
    if test_image.shape[1:] != image.shape[1:]:
        raise UserError(
            f"{path} holds images of shape {image.shape[1:]} and test_images of shape "
            f"{test_image.shape[1:]}; set data.image_size, or store both alike"
        )
    highest = max(int(label.max()), int(test_label.max()))
    train = split_from_arrays(f"{path.name} train", image, label)
    test = split_from_arrays(f"{path.name} eval", test_image, test_label)
    spec = image_spec(
        name,
        train,
        test,
        shape=image.shape[1:],
        num_classes=highest + 1 if "labels" in arrays else 0,
    )
    parts = (image, label, test_image, test_label)
    fingerprint = fingerprint_of(spec, content=_digest(parts))
    return Dataset(spec=spec, train=train, eval=test, fingerprint=fingerprint)


def read_arrays(path: Path, *names: str) -> dict[str, np.ndarray]:
    """Those of these arrays that an .npz holds, no pickles among them.

    Raises UserError for a file that is none, and one that holds not one of them.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}; name an .npz with images")
    try:
        with path.open("rb") as file:
            stored = np.load(file, allow_pickle=False)
            if not isinstance(stored, np.lib.npyio.NpzFile):
                raise ValueError("it holds one array without a name, as an .npy does")
            known = ", ".join(stored.files) or "nothing"
            found = {name: stored[name] for name in names if name in stored.files}
    except DAMAGE as error:
        raise UserError(
            f"{path} cannot be read ({short(error)}): it must be an .npz of arrays, as "
            "np.savez(file, images=..., labels=...) writes it, without pickles"
        ) from error
    if not found:
        raise UserError(f"{path} holds {known}, and an array {names[0]!r} is needed")
    return found


def as_images(path: Path, name: str, image: np.ndarray) -> Images:
    """The array of that name as images (n, h, w, c). Raises UserError."""
    shown = f"{image.dtype}{list(image.shape)}"
    if image.dtype != np.uint8 or image.ndim not in (3, 4) or 0 in image.shape:
        raise UserError(
            f"{name} in {path} is {shown}, and images are uint8 (n, h, w, c) or (n, h, "
            "w) with values 0 ... 255"
        )
    if image.ndim == 3:
        image = image[..., None]  # gray images without an axis of channels
    if image.shape[-1] not in (1, 3):
        raise UserError(
            f"{name} in {path} is {shown}: the channels, 1 or 3 of them, must be the "
            "last axis"
        )
    return image


def _examples(
    path: Path,
    arrays: dict[str, np.ndarray],
    prefix: str,
    image_size: int | None,
    crop: Crop,
) -> tuple[Images, np.ndarray]:
    name = f"{prefix}images"
    if name not in arrays:
        raise UserError(f"{path} holds no {name}, but {', '.join(arrays)}")
    image = as_images(path, name, arrays[name])
    if len(image) < (1 if "test_images" in arrays else 2):
        raise UserError(
            f"{path} holds {len(image)} images and two are needed, to train and to "
            "evaluate"
        )
    label = _labels(path, arrays, prefix, len(image))
    if image_size is not None:
        image = _resized(image, image_size, crop)
    return image, label


def _labels(
    path: Path, arrays: dict[str, np.ndarray], prefix: str, num: int
) -> np.ndarray:
    """The labels (num,) int32, zeros where there are none."""
    name = f"{prefix}labels"
    if name not in arrays:
        if prefix and "labels" in arrays:
            raise UserError(
                f"{path} holds labels but no test_labels for its test_images; store "
                "both or neither"
            )
        return np.zeros(num, np.int32)
    label = arrays[name]
    if label.dtype.kind not in "iu" or label.shape != (num,):
        raise UserError(
            f"{name} in {path} is {label.dtype}{list(label.shape)}, and must be {num} "
            f"whole numbers, a class for each of {prefix}images"
        )
    if label.min() < 0 or label.max() > 2**20:
        raise UserError(
            f"{name} in {path} go from {label.min()} to {label.max()}, and classes are "
            "counted from 0"
        )
    return label.astype(np.int32)


def _resized(
    image: Images, size: int, crop: Crop
) -> UInt8[np.ndarray, "n {size} {size} c"]:
    brought = np.empty((len(image), size, size, image.shape[-1]), np.uint8)
    for one, out in zip(image, brought, strict=True):
        picture = Image.fromarray(one[..., 0] if one.shape[-1] == 1 else one)
        out[:] = np.asarray(CROPS[crop](picture, size)).reshape(out.shape)
    return brought


def _digest(arrays: tuple[np.ndarray, ...]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()

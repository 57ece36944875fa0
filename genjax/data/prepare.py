"""Downloading and preparing TFDS data sets without TensorFlow.

Reading a prepared directory needs no TensorFlow, but TFDS's own code for the MNIST and
CIFAR families uses it to prepare one: to unpack, to parse and to encode. Here classes
derived from those do this with NumPy and Pillow; keys, order, name and version stay, so
what is written holds what TFDS would have written, and is read under the official name.
"""

import contextlib
import fcntl
import gzip
import io
import os
import re
import socket
import tarfile
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from PIL import Image

from genjax.typing import UserError

_Example = tuple[int, dict[str, Any]]
_Path = os.PathLike[str]

# Without a network TFDS retries for 205 s; a reachable host answers far sooner.
_PROBE_SECONDS = 3.0


def prepare(builder: Any) -> None:
    """Download what `builder` needs and write its directory as array_record.

    Files laid by hand into <data dir>/downloads/manual, or left in <data dir>/downloads
    by an earlier try, are used (checksums are verified) and need no network.

    builder: as `tfds.builder` gives it.

    Raises UserError where there is no network, a download fails or is not what TFDS
    has registered, or the data set's code needs TensorFlow.
    """
    import tensorflow_datasets as tfds

    root = Path(builder.data_dir_root)
    _check_reachable(builder, root / "downloads")
    logging.info("preparing %s in %s", builder.info.full_name, root)
    # TFDS's bucket of prepared data sets has tfrecords, which cannot be read by row.
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    try:
        with _alone(root, builder.name):
            _without_tensorflow(builder).download_and_prepare(
                download_config=config, file_format="array_record"
            )
    except Exception as error:  # TFDS, requests and the decoders raise all sorts
        missing = _missing_package(error)
        if missing is not None:
            raise UserError(
                f"preparing {builder.name} needs {missing}, once (reading does not): "
                f"pip install {missing}, or set data.dir to where {builder.name} is "
                "prepared as array_record"
            ) from error
        first = re.sub(r"\s+", " ", str(error).strip())[:300]
        raise UserError(
            f"{builder.name} could not be prepared in {root} "
            f"({type(error).__name__}: {first}); try again, or set data.dir to where "
            "it is prepared"
        ) from error


def _missing_package(error: BaseException | None) -> str | None:
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and error.name:
            return error.name.partition(".")[0]
        error = error.__cause__ or error.__context__
    return None


@contextlib.contextmanager
def _alone(root: Path, name: str) -> Iterator[None]:
    """One process at a time; the others find the data set prepared after it."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = open(root / f".{name}.lock", "w")
    except OSError as error:
        raise UserError(
            f"cannot write {root} ({error}); set data.dir to a directory that you own"
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _without_tensorflow(builder: Any) -> Any:
    """A builder of the same name and version that reads the originals with NumPy."""
    from tensorflow_datasets.core import registered

    upstream = type(builder)
    if builder.name in ("mnist", "fashion_mnist", "kmnist"):
        split_generators: Any = _mnist_splits
    elif builder.name in ("cifar10", "cifar100"):
        split_generators = _cifar_splits
    else:
        return builder
    body = {
        "__module__": __name__,
        "name": builder.name,
        "_split_generators": split_generators,
    }
    with registered.skip_registration():
        derived: Any = type(upstream.__name__, (upstream,), body)
    return derived(data_dir=builder.data_dir_root, version=str(builder.version))


def _mnist_splits(self: Any, downloads: Any) -> dict[str, Iterator[_Example]]:
    splits = {"train": "train", "test": "t10k"}
    files = downloads.download(
        {
            (split, kind): urllib.parse.urljoin(self.URL, f"{stem}-{kind}-ubyte.gz")
            for split, stem in splits.items()
            for kind in ("images-idx3", "labels-idx1")
        }
    )
    return {
        split: _mnist_examples(files[split, "images-idx3"], files[split, "labels-idx1"])
        for split in splits
    }


def _mnist_examples(images: _Path, labels: _Path) -> Iterator[_Example]:
    """(index, example): TFDS shuffles by the hash of the index.

    The format, idx: big-endian int32 for a magic number and each axis, then bytes.
    """
    with gzip.open(images) as image_file, gzip.open(labels) as label_file:
        image_bytes, label_bytes = image_file.read(), label_file.read()
    magic, num, height, width = np.frombuffer(image_bytes, ">i4", 4).tolist()
    if [magic, *np.frombuffer(label_bytes, ">i4", 2)] != [2051, 2049, num]:
        raise ValueError(f"{images} and {labels} are no idx files of one length")
    image = np.frombuffer(image_bytes, np.uint8, offset=16).reshape(num, height, width)
    label = np.frombuffer(label_bytes, np.uint8, offset=8)
    for index in range(num):
        yield index, {"image": _png(image[index]), "label": int(label[index])}


def _cifar_splits(self: Any, downloads: Any) -> dict[str, Iterator[_Example]]:
    original = self._cifar_info
    archive = downloads.download(original.url)
    with tarfile.open(archive) as tar:
        for key, file in zip(original.label_keys, original.label_files, strict=True):
            names = _member(tar, original.prefix + file).decode().split("\n")
            self.info.features[key].names = [name for name in names if name]
    splits = {"train": original.train_files, "test": original.test_files}
    return {
        split: _cifar_examples(
            archive,
            [original.prefix + file for file in files],
            original.label_keys,
            split,
        )
        for split, files in splits.items()
    }


def _cifar_examples(
    archive: _Path, files: Sequence[str], label_keys: Sequence[str], split: str
) -> Iterator[_Example]:
    """(index, example): TFDS shuffles by the hash of the index.

    The format: https://www.cs.toronto.edu/~kriz/cifar.html, records of one byte a label
    and 3 x 32 x 32 bytes of red, green and blue.
    """
    with tarfile.open(archive) as tar:
        data = b"".join(_member(tar, file) for file in files)
    num_labels = len(label_keys)
    records = np.frombuffer(data, np.uint8).reshape(-1, num_labels + 3 * 32 * 32)
    images = records[:, num_labels:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    for index, (record, image) in enumerate(zip(records, images, strict=True)):
        yield (
            index,
            {
                "id": f"{split}_{index:05d}",
                "image": _png(np.ascontiguousarray(image)),
                **dict(zip(label_keys, record[:num_labels].tolist(), strict=True)),
            },
        )


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    if file is None:
        raise ValueError(f"{tar.name} holds no file {name}")
    with file:
        return file.read()


def _png(image: np.ndarray) -> io.BytesIO:
    """PNG bytes: TFDS takes them as they are, whereas arrays need TensorFlow."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    file.seek(0)
    return file


def _check_reachable(builder: Any, downloads: Path) -> None:
    """Raise UserError unless all files are at hand or some host with them answers."""
    wanted = _missing_urls(builder, downloads)
    if wanted is not None and not wanted:
        return
    hosts = sorted({_host(url) for url in wanted or ["https://storage.googleapis.com"]})
    # A data set may have many hosts; one that answers shows that there is a network.
    if any(_answers(*host) for host in hosts[:3]):
        return
    raise UserError(
        f"{builder.name} is not prepared in {builder.data_path}, and "
        f"{hosts[0][0]} does not answer, so it cannot be downloaded: set data.dir or "
        "TFDS_DATA_DIR to where it is prepared, or run once with a network"
    )


def _missing_urls(builder: Any, downloads: Path) -> list[str] | None:
    """The registered files that are neither cached nor laid by hand; None: unknown."""
    from tensorflow_datasets.core.download import resource

    if not builder.url_infos:
        return None
    missing = []
    for url, info in builder.url_infos.items():
        cached = resource.get_dl_fname(url, info.checksum)
        places = [downloads / builder.name / cached, downloads / cached]
        if info.filename:
            places.append(downloads / "manual" / info.filename)
        if not any(place.exists() for place in places):
            missing.append(url)
    return missing


def _host(url: str) -> tuple[str, int]:
    """Where a connection for this URL goes first: the host, or the proxy before it."""
    parts = urllib.parse.urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(parts.hostname or ""):
        parts = urllib.parse.urlsplit(proxy if "//" in proxy else f"//{proxy}")
    port = parts.port or (80 if parts.scheme == "http" else 443)
    return parts.hostname or "localhost", port


def _answers(host: str, port: int) -> bool:
    found = threading.Event()

    def connect() -> None:
        with contextlib.suppress(OSError):
            socket.create_connection((host, port), timeout=_PROBE_SECONDS).close()
            found.set()

    # In a thread: looking up a name knows no time-out, and may take far longer.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(_PROBE_SECONDS)
    return found.is_set()

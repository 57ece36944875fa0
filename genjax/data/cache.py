"""Decoded examples kept on disk: a data set that fits is decoded once, then mapped.

Each split is three files, named after the split and a hash of its sources: images and
labels as .npy, and a .json with their shapes and checksums. They are written under
another name and renamed when whole, the .json last; what a killed process leaves of
them is removed by the next one. A file that has been damaged since is noticed by its
checksum and made again.
"""

import contextlib
import hashlib
import json
import os
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from genjax.data.readahead import read_ahead
from genjax.data.split import Split, split_from_arrays
from genjax.disk import DAMAGE, from_json, remove_parts, replacing
from genjax.typing import UserError

# A split of up to this many decoded bytes is cached and mapped; a larger one is decoded
# as it is read. CIFAR-10 takes 150 MB, ImageNet at 32 x 32 pixels 3.7 GiB.
CACHE_BYTES = 4 * 2**30

_FORMAT = 1  # raise it when what the files mean changes: old ones are then not read
_CHUNK = 512  # examples decoded by one thread at a time


def in_memory(
    split: Split,
    *,
    shape: tuple[int, ...],
    source: Mapping[str, Any],
    cache_dir: str | None,
) -> Split:
    """The same split of uint8 images from the cache, decoded into it where need be.

    source: what the examples were made from and how, JSON values: when it changes, the
        split is decoded anew.
    cache_dir: where: see `folder_of`.

    Raises UserError where the directory cannot be written or an example not decoded.
    """
    key = json.dumps([_FORMAT, split.name, dict(source), shape], sort_keys=True)
    name = re.sub(r"[^A-Za-z0-9.]+", "_", split.name)
    name = f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    stem = folder_of(cache_dir) / name
    wanted = {
        "image": ((len(split), *shape), np.dtype(np.uint8)),
        "label": ((len(split),), np.dtype(np.int32)),
    }
    remove_parts(stem.parent)
    arrays = _open(stem, wanted)
    if arrays is None:
        try:
            _write(stem, split, wanted)
        except OSError as error:
            raise UserError(
                f"cannot keep the decoded {split.name} in {stem.parent} ({error}); set "
                "data.cache_dir or GENJAX_CACHE to a directory with room"
            ) from error
        arrays = _open(stem, wanted)
        if arrays is None:
            raise UserError(
                f"{stem.parent} does not keep what is written to it; set "
                "data.cache_dir or GENJAX_CACHE to another directory"
            )
    return split_from_arrays(split.name, arrays["image"], arrays["label"])


def folder_of(cache_dir: str | None) -> Path:
    """cache_dir, or $GENJAX_CACHE, or else ~/.cache/genjax."""
    folder = Path(cache_dir or os.environ.get("GENJAX_CACHE") or "~/.cache/genjax")
    return folder.expanduser().absolute()


def _open(
    stem: Path, wanted: Mapping[str, tuple[tuple[int, ...], np.dtype]]
) -> dict[str, np.ndarray] | None:
    """The mapped arrays; None where there are none, or with a message, not intact."""
    if not _file(stem, "json").exists():
        return None
    try:
        checksums = from_json(_file(stem, "json").read_text())
        arrays = {}
        for name, (shape, dtype) in wanted.items():
            mapped = np.load(
                _file(stem, f"{name}.npy"), mmap_mode="r", allow_pickle=False
            )
            array = np.asarray(mapped)
            if (array.shape, array.dtype) != (shape, dtype):
                raise ValueError(f"{name} is {array.dtype}{array.shape}")
            # Reads all: about a second a GB, and the run reads all of it anyway.
            if zlib.crc32(array.data) != checksums[name]:
                raise ValueError(f"the checksum of {name} differs")
            arrays[name] = array
    except DAMAGE as error:
        logging.warning("decoding again: the cached %s is damaged: %s", stem, error)
        return None
    return arrays


def _write(
    stem: Path,
    split: Split,
    wanted: Mapping[str, tuple[tuple[int, ...], np.dtype]],
) -> None:
    logging.info("decoding %s once, into %s", split.name, stem.parent)
    stem.parent.mkdir(parents=True, exist_ok=True)
    checksums = dict.fromkeys(wanted, 0)
    with contextlib.ExitStack() as stack:
        files = {}
        for name, (shape, dtype) in wanted.items():
            file = stack.enter_context(replacing(_file(stem, f"{name}.npy")))
            header = {
                "descr": np.lib.format.dtype_to_descr(dtype),
                "fortran_order": False,
                "shape": shape,
            }
            np.lib.format.write_array_header_1_0(file, header)
            files[name] = file

        def read(chunk: int) -> dict[str, np.ndarray]:
            rows = np.arange(chunk * _CHUNK, min((chunk + 1) * _CHUNK, len(split)))
            return split.read(rows)

        chunks = read_ahead(read, 0, -(-len(split) // _CHUNK))
        stack.callback(chunks.close)
        for examples in chunks:
            for name, file in files.items():
                part = np.ascontiguousarray(examples[name])
                checksums[name] = zlib.crc32(part.data, checksums[name])
                file.write(part.data)
    with replacing(_file(stem, "json")) as file:
        file.write(json.dumps(checksums).encode())


def _file(stem: Path, ending: str) -> Path:
    return stem.parent / f"{stem.name}.{ending}"

"""Weight files of other projects as named arrays: .pth, .safetensors, .npz.

A .pth is a pickle, which could run any code; here only what a dictionary of tensors is
made of is allowed, and torch is not needed. Two layouts are in use: a zip archive
(torch >= 1.6) and, before it, a chain of pickles followed by the raw numbers.
"""

import collections
import io
import math
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy

from genjax.disk import DAMAGE, short
from genjax.typing import UserError

_DTYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}

# torch.save wrote this number first, before it wrote zip archives.
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C

# How much larger than the file its arrays may be. Tied weights share their numbers, and
# zeros in an .npz can be packed; a small file that fills the memory is an attack.
_MAX_GROWTH, _ROOM = 64, 2**24


def read(path: Path) -> tuple[dict[str, np.ndarray], bytes]:
    """(the arrays by name, the file's bytes). Raises UserError if it cannot be read."""
    readers: dict[str, Callable[[bytes], dict[str, np.ndarray]]] = {
        ".pth": read_torch,
        ".pt": read_torch,
        ".safetensors": read_safetensors,
        ".npz": _read_npz,
    }
    if path.suffix not in readers:
        raise UserError(
            f"weights are read from {', '.join(readers)}, and {path} is none of them"
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"the weights {path} cannot be opened ({error.strerror or error})"
        ) from error
    try:
        return readers[path.suffix](content), content
    # a damaged pickle can fail in most of these ways
    except (*DAMAGE, pickle.UnpicklingError, safetensors.SafetensorError) as error:
        raise UserError(
            f"{path} cannot be read as weights ({short(error)}): it is damaged, or "
            "holds more than named tensors"
        ) from error


def read_torch(content: bytes) -> dict[str, np.ndarray]:
    """The tensors of a state dict that torch.save wrote."""
    if zipfile.is_zipfile(io.BytesIO(content)):
        return _read_torch_zip(content)
    return _read_torch_legacy(content)


def read_safetensors(content: bytes) -> dict[str, np.ndarray]:
    """The tensors of a .safetensors file."""
    return safetensors.numpy.load(content)


def _read_npz(content: bytes) -> dict[str, np.ndarray]:
    limit = _Limit(content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for info in archive.infolist():
            with archive.open(info) as file:
                limit.take(_npy_bytes(file))
            if info.file_size > limit.total:
                raise ValueError(f"{info.filename} is far larger than the file")
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return dict(file.items())


def _npy_bytes(file: Any) -> int:
    """What the header of an .npy says that its array takes."""
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    shape, _, dtype = read[version](file)
    return math.prod(shape) * dtype.itemsize


class _Limit:
    """Counts the bytes of arrays before they are made. ValueError if they are many."""

    def __init__(self, content: bytes):
        self.total = _MAX_GROWTH * len(content) + _ROOM
        self.left = self.total

    def take(self, num_bytes: int) -> None:
        self.left -= num_bytes
        if num_bytes < 0 or self.left < 0:
            raise ValueError("its arrays are far larger than the file")


class _Storage(NamedTuple):
    """The name of the numbers of one or more tensors, and how many there are."""

    dtype: str
    key: str
    length: int


class _Tensor(NamedTuple):
    """A view of a storage. As a tuple it has nothing that a pickle could replace."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def array(self, raw: bytes, limit: _Limit) -> np.ndarray:
        dtype = np.dtype(self.storage.dtype)
        flat = np.frombuffer(raw, dtype, count=self.storage.length)
        last = sum((n - 1) * s for n, s in zip(self.size, self.stride, strict=True))
        if min((*self.size, *self.stride, self.offset), default=0) < 0 or (
            0 not in self.size and self.offset + last >= len(flat)
        ):
            raise ValueError("a tensor reaches beyond its numbers")
        limit.take(math.prod(self.size) * dtype.itemsize)
        strides = tuple(s * dtype.itemsize for s in self.stride)
        view = np.lib.stride_tricks.as_strided(flat[self.offset :], self.size, strides)
        return view.copy()


class _Unpickler(pickle.Unpickler):
    """Knows tensors and ordered dictionaries, and refuses all else."""

    def __init__(self, file: io.BytesIO):
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        # Functions made anew each time: a pickle may set attributes of what it gets,
        # and must not reach a class that others use.
        known: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): lambda *a: collections.OrderedDict(*a),
            ("torch._utils", "_rebuild_tensor_v2"): (
                lambda storage, offset, size, stride, *_: _Tensor(
                    storage, offset, size, stride
                )
            ),
            ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
        }
        if (module, name) in known:
            return known[module, name]
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a tensor")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, count, *_ = pid
        if kind != "storage" or dtype not in _DTYPES.values():
            raise pickle.UnpicklingError(f"{kind!r} of {dtype!r} is no storage")
        return self.storages.setdefault(key, _Storage(dtype, key, count))


def _read_torch_zip(content: bytes) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        root = names[0].removesuffix("data.pkl")

        def stored(name: str) -> bytes:
            # torch packs nothing, so a part is never larger than the file
            if archive.getinfo(name).file_size > len(content):
                raise ValueError(f"{name} is larger than the file")
            return archive.read(name)

        unpickler = _Unpickler(io.BytesIO(stored(names[0])))
        tree = unpickler.load()
        raw = {key: stored(f"{root}data/{key}") for key in unpickler.storages}
    return _arrays(tree, raw, _Limit(content))


def _read_torch_legacy(content: bytes) -> dict[str, np.ndarray]:
    file = io.BytesIO(content)
    magic, _, _ = (_Unpickler(file).load() for _ in range(3))  # version, machine
    if magic != _LEGACY_MAGIC:
        raise ValueError("it does not begin as a file of torch.save does")
    unpickler = _Unpickler(file)
    tree = unpickler.load()
    raw = {}
    for key in _Unpickler(file).load():
        storage = unpickler.storages[key]
        if int.from_bytes(file.read(8), "little") != storage.length:
            raise ValueError("a tensor has another size than is said")
        raw[key] = file.read(storage.length * np.dtype(storage.dtype).itemsize)
    return _arrays(tree, raw, _Limit(content))


def _arrays(tree: Any, raw: dict[str, bytes], limit: _Limit) -> dict[str, np.ndarray]:
    return {
        name: value.array(raw[value.storage.key], limit)
        for name, value in tree.items()
        if isinstance(value, _Tensor)
    }

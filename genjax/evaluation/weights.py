"""Weight files of other projects as named arrays: .pth, .safetensors, .npz.

A .pth is a pickle, which could run any code; here only what a dictionary of tensors is
made of is allowed, and torch is not needed. Two layouts are in use: a zip archive
(torch >= 1.6) and, before it, a chain of pickles followed by the raw numbers.
"""

import collections
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from genjax.typing import UserError

_DTYPES = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}
_SAFETENSORS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4"}

# torch.save wrote this number first, before it wrote zip archives.
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


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
    # A damaged pickle can fail in any of these ways, and others that derive from them.
    except (
        ValueError,  # UnicodeDecodeError, JSONDecodeError
        LookupError,
        TypeError,
        AttributeError,
        EOFError,
        OverflowError,
        NotImplementedError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
    ) as error:
        raise UserError(
            f"{path} cannot be read as weights ({error}): it is damaged, or holds "
            "more than named tensors"
        ) from error


def read_torch(content: bytes) -> dict[str, np.ndarray]:
    """The tensors of a state dict that torch.save wrote."""
    if zipfile.is_zipfile(io.BytesIO(content)):
        return _read_torch_zip(content)
    return _read_torch_legacy(content)


def read_safetensors(content: bytes) -> dict[str, np.ndarray]:
    """The tensors of a .safetensors file: 8 bytes of size, a JSON header, the rest."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    body = memoryview(content)[8 + size :]
    arrays = {}
    for name, entry in header.items():
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            dtype = np.dtype(_SAFETENSORS[entry["dtype"]])
            array = np.frombuffer(body[first:last], dtype)
            arrays[name] = array.reshape(entry["shape"])
    return arrays


def _read_npz(content: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return dict(file.items())


class _Storage:
    """The numbers of one or more tensors, filled in when they have been read."""

    def __init__(self, dtype: np.dtype, count: int):
        self.dtype, self.count = dtype, count
        self.flat: np.ndarray | None = None

    def fill(self, raw: bytes) -> None:
        self.flat = np.frombuffer(raw, self.dtype, count=self.count)


class _Tensor:
    """A view of a storage: what torch._utils._rebuild_tensor_v2 is called with."""

    def __init__(self, storage: _Storage, offset: int, size: tuple, stride: tuple, *_):
        self.storage, self.offset, self.size, self.stride = (
            storage,
            offset,
            size,
            stride,
        )

    def array(self) -> np.ndarray:
        flat, dtype = self.storage.flat, self.storage.dtype
        if flat is None:
            raise ValueError("a tensor has no numbers")
        last = sum((n - 1) * s for n, s in zip(self.size, self.stride, strict=True))
        if min((*self.size, *self.stride, self.offset), default=0) < 0 or (
            0 not in self.size and self.offset + last >= len(flat)
        ):
            raise ValueError("a tensor reaches beyond its numbers")
        strides = tuple(s * dtype.itemsize for s in self.stride)
        view = np.lib.stride_tricks.as_strided(flat[self.offset :], self.size, strides)
        return view.copy()


class _Parameter:
    """What torch._utils._rebuild_parameter gives: the tensor in it."""

    def __new__(cls, tensor: _Tensor, *_):
        return tensor


class _Unpickler(pickle.Unpickler):
    """Knows tensors and ordered dictionaries, and refuses all else."""

    def __init__(self, file: io.BytesIO):
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
            ("torch._utils", "_rebuild_parameter"): _Parameter,
        }
        if (module, name) in known:
            return known[module, name]
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a tensor")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, count, *_ = pid
        if kind != "storage":
            raise pickle.UnpicklingError(f"{kind!r} is no storage")
        return self.storages.setdefault(key, _Storage(dtype, count))


def _read_torch_zip(content: bytes) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        root = names[0].removesuffix("data.pkl")
        unpickler = _Unpickler(io.BytesIO(archive.read(names[0])))
        tree = unpickler.load()
        for key, storage in unpickler.storages.items():
            storage.fill(archive.read(f"{root}data/{key}"))
    return _arrays(tree)


def _read_torch_legacy(content: bytes) -> dict[str, np.ndarray]:
    file = io.BytesIO(content)
    magic, _, _ = (_Unpickler(file).load() for _ in range(3))  # version, machine
    if magic != _LEGACY_MAGIC:
        raise ValueError("it does not begin as a file of torch.save does")
    unpickler = _Unpickler(file)
    tree = unpickler.load()
    for key in _Unpickler(file).load():
        storage = unpickler.storages[key]
        if int.from_bytes(file.read(8), "little") != storage.count:
            raise ValueError("a tensor has another size than is said")
        storage.fill(file.read(storage.count * storage.dtype.itemsize))
    return _arrays(tree)


def _arrays(tree: Any) -> dict[str, np.ndarray]:
    return {
        name: value.array()
        for name, value in tree.items()
        if isinstance(value, _Tensor)
    }

"""Summaries of data sets, computed once and kept on disk.

One .npz for each data set, split and extractor, named after a hash of the data's
fingerprint, the extractor's digest and the format. An .npz carries checksums, so that a
damaged file is noticed; it is then named and not used.
"""

import dataclasses
import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from genjax.disk import DAMAGE
from genjax.evaluation import extractors
from genjax.evaluation.extractors import Extractor
from genjax.evaluation.frechet import SampleMoments
from genjax.evaluation.summary import Summary

# A summary with more is not kept: 50,000 images of CIFAR with features and logits of
# the Inception network take 0.9 GB.
MAX_BYTES = 2**30

_FORMAT = 1  # raise it when what a summary holds changes: old files are then not read


def path_of(
    fingerprint: str, split: str, extractor: Extractor | None, *, keep: bool
) -> Path | None:
    """The file of a split, in references/ beside `extractors.folder()`.

    keep: of a summary with its rows, see `summarize`.
    None for an extractor without a digest: nobody could tell that it has changed.
    """
    if extractor is None:
        identity, features = "", "raw"
    elif extractor.digest is None:
        return None
    else:
        identity, features = extractor.digest, extractor.name
    key = json.dumps([_FORMAT, fingerprint, split, features, identity, keep])
    name = re.sub(r"[^A-Za-z0-9.]+", "_", f"{split}-{features}")
    name = f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
    return extractors.folder().parent / "references" / name


def find(
    fingerprint: str, split: str, extractor: Extractor | None, *, keep: bool
) -> Summary | None:
    """The kept summary; None if there is none, or if it is damaged, with a message.

    Without `keep`, one that was kept with its rows will do, and they are left out.
    """
    wanted = [keep] if keep else [False, True]
    paths = [path_of(fingerprint, split, extractor, keep=rows) for rows in wanted]
    path = next((path for path in paths if path and path.exists()), None)
    if path is None:
        return None
    try:
        found = from_bytes(path.read_bytes())
        return found if keep else without_rows(found)
    except DAMAGE as error:
        logging.warning("not used: the kept summary %s is damaged: %s", path, error)
        return None


def without_rows(summary: Summary) -> Summary:
    """What `summarize` gives with keep=False."""
    return dataclasses.replace(summary, rows=None, feature_rows=None, logits=None)


def size_of(summary: Summary) -> int:
    """The size of the summary in bytes."""
    return sum(np.asarray(array).nbytes for array in _arrays(summary).values())


def to_bytes(summary: Summary) -> bytes:
    """An .npz: <field> for arrays, <field>.count, .mean and .scatter for moments."""
    content = io.BytesIO()
    np.savez(content, **_arrays(summary))
    return content.getvalue()


def from_bytes(content: bytes) -> Summary:
    """The summary that `to_bytes` was given. Raises many errors for other bytes."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = dict(file.items())
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(Summary):
        if f"{field.name}.count" in arrays:
            count = int(arrays.pop(f"{field.name}.count"))
            mean, scatter = (
                arrays.pop(f"{field.name}.{p}") for p in ("mean", "scatter")
            )
            fields[field.name] = SampleMoments(count, mean, scatter)
        else:
            value = arrays.pop(field.name, None)
            # A name or a count was an array of no axes.
            fields[field.name] = (
                value.item() if value is not None and value.ndim == 0 else value
            )
    if arrays:
        raise ValueError(f"it holds {sorted(arrays)}, which a summary has not")
    return Summary(**fields)


def _arrays(summary: Summary) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    for field in dataclasses.fields(Summary):
        value = getattr(summary, field.name)
        if isinstance(value, SampleMoments):
            parts = dataclasses.asdict(value)
            arrays |= {f"{field.name}.{part}": v for part, v in parts.items()}
        elif value is not None:
            arrays[field.name] = np.asarray(value)
    return arrays

"""Scores of samples from anywhere, against any data: no model is needed.

What `python -m genjax.evaluation` does with --samples and --reference.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from genjax.data import datasets, toy
from genjax.data.files import read_files
from genjax.data.split import Split
from genjax.disk import from_json, write_atomically
from genjax.evaluation import extractors, references
from genjax.evaluation.density_modes import Modes
from genjax.evaluation.extractors import Extractor
from genjax.evaluation.panel import Panel
from genjax.evaluation.samples import (
    floor_protocol,
    floors,
    not_available,
    sample_metrics,
    sample_protocol,
)
from genjax.evaluation.summary import Summary, summarize
from genjax.training import distributed
from genjax.typing import DataSpec, SaveError, UserError

SPLITS = ("train", "test")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """What samples are compared with: one split, and the other one if there is one."""

    spec: DataSpec
    fingerprint: str
    split: Split
    other: Split | None


def open_source(
    data: str, split: str, *, image_size: int | None, data_dir: str | None
) -> Source:
    """A folder or an .npz where `data` is one, else the data set of that name.

    split: "train" or "test"; a folder or an .npz is a single one, whatever it says.
    Raises UserError.
    """
    path = Path(data).expanduser()
    if path.exists() or path.suffix == ".npz" or len(path.parts) > 1:
        files = read_files(path, image_size=image_size)
        return Source(
            spec=files.spec,
            fingerprint=files.fingerprint,
            split=files.split,
            other=None,
        )
    dataset = datasets.load(data, data_dir, image_size=image_size)
    pair = dataset.train, dataset.eval
    chosen, other = pair if split == "train" else pair[::-1]
    return Source(
        spec=dataset.spec, fingerprint=dataset.fingerprint, split=chosen, other=other
    )


def summary_of(
    split: Split,
    spec: DataSpec,
    fingerprint: str,
    extractor: Extractor | None,
    *,
    keep: bool = True,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[Summary, Path | None]:
    """The summary of a split: read from disk, or computed and kept there.

    fingerprint: of the data set. keep: with its rows, see `summarize`.
    Returns it with its file; None where it is not kept: the extractor has no digest, it
    is too large, or the disk is full. Raises as `summarize` does.
    """
    path = references.path_of(fingerprint, split.name, extractor, keep=keep)
    found = references.find(fingerprint, split.name, extractor, keep=keep)
    if found is not None:
        return found, path
    summary = summarize(
        split.chunks(),
        name=split.name,
        spec=spec,
        extractor=extractor,
        keep=keep,
        should_stop=should_stop,
    )
    if path is None or not distributed.is_first():
        return summary, None
    if references.size_of(summary) > references.MAX_BYTES:
        logging.warning("the summary of %s is too large to be kept", split.name)
        return summary, None
    try:
        write_atomically(path, references.to_bytes(summary))
    except SaveError as error:
        logging.warning("the summary of %s is not kept: %s", split.name, error)
        return summary, None
    return summary, path


def keep_floors(key: str, work: Callable[[], dict[str, float]]) -> dict[str, float]:
    """What work() gives, from floors/<key>.json beside the references if it is there.

    The file begins with a hash of what follows, so that damage is noticed.
    """
    path = extractors.folder().parent / "floors" / f"{key}.json"
    try:
        digest, content = path.read_text().split("\n", 1)
        if digest == _sha256(content):
            return from_json(content)
        logging.warning("not used: the kept floors %s are damaged", path)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        logging.warning("not used: the kept floors %s: %s", path, error)
    found = work()
    if distributed.is_first():
        content = json.dumps(found)
        try:
            write_atomically(path, f"{_sha256(content)}\n{content}".encode())
        except SaveError as error:
            logging.warning("the floors are not kept: %s", error)
    return found


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def score(samples: Path, source: Source, extractor: str | None) -> dict[str, Any]:
    """{"protocol": {...}, "metrics": {name: float}}, as --mode=evaluate has them.

    Raises UserError for samples that are not like the data.
    """
    network = load_extractor(extractor, source)
    drawn = summarize_files(samples, source, network)
    reference, _ = summary_of(source.split, source.spec, source.fingerprint, network)
    test = None
    if source.other is not None:
        test, _ = summary_of(source.other, source.spec, source.fingerprint, network)
    modes = known_modes(source.spec.name)
    common: dict[str, Any] = {
        "reference": reference,
        "extractor": network,
        "num_classes": source.spec.num_classes,
    }
    found = sample_metrics(drawn, test=test, modes=modes, **common)
    if test is not None:
        found |= floors(test=test, num_samples=drawn.count, **common)
    protocol: dict[str, Any] = {
        "data": source.spec.name,
        "data_fingerprint": source.fingerprint[:12],
        "samples": str(samples),
        "test_split": None if test is None else test.name,
        "n_test": 0 if test is None else test.count,
        "not_available": not_available(reference, source.spec),
    }
    protocol |= sample_protocol(num_samples=drawn.count, modes=modes, **common)
    if test is not None:
        protocol |= floor_protocol(test, drawn.count)
    scored, said, missing = panel_of(drawn, source, reference, test, network)
    found |= scored
    protocol |= said
    if missing is not None:
        protocol["not_available"]["panel"] = missing
    protocol["not_finite"] = [k for k, v in found.items() if not math.isfinite(v)]
    return {"protocol": protocol, "metrics": found}


def panel_of(
    drawn: Summary,
    source: Source,
    reference: Summary,
    test: Summary | None,
    network: Extractor | None,
) -> tuple[dict[str, float], dict[str, Any], str | None]:
    """(metrics, protocol, None) of the panel, or ({}, {}, why there is none)."""
    if test is None:
        return {}, {}, f"{source.spec.name} is one set: there is no test split"
    panel = Panel(
        reference,
        test,
        spec=source.spec,
        extractor=None if network is None else network.name,
        keep_floors=keep_floors,
    )
    missing = panel.missing(drawn.count)
    if missing is not None:
        return {}, {}, missing
    return panel(drawn), panel.protocol(drawn.count), None


def keep_reference(source: Source, extractor: str | None) -> dict[str, Any]:
    """Computes what `score` and --mode=evaluate need of a split, and keeps it.

    Returns what it is, for the user, with the "file" that it lies in.
    Raises UserError for an extractor without a digest.
    """
    network = load_extractor(extractor, source)
    if network is not None and network.digest is None:
        raise UserError(
            f"nothing is kept in features of {extractor}: nobody could tell when your "
            "function changes; give it with --samples alone"
        )
    summary, path = summary_of(source.split, source.spec, source.fingerprint, network)
    said = sample_protocol(reference=summary, num_samples=0, extractor=network)
    return {
        "data": source.spec.name,
        "data_fingerprint": source.fingerprint[:12],
        "reference_split": summary.name,
        "n_reference": summary.count,
        "extractor": said["extractor"],
        "file": None if path is None else str(path),
    }


def load_extractor(name: str | None, source: Source) -> Extractor | None:
    """The extractor of that name, for these data; None without a name."""
    return None if name is None else extractors.load(name, source.spec)


def summarize_files(path: Path, source: Source, extractor: Extractor | None) -> Summary:
    """The summary of the samples in a folder or an .npz. Raises UserError."""
    files = read_files(path, like=source.spec)
    highest = max(source.spec.num_levels - 1, 0)

    def checked() -> Iterator[np.ndarray]:
        for chunk in files.split.chunks():
            if highest and chunk.max() > highest:
                raise UserError(
                    f"{path} holds values up to {chunk.max()}, and {source.spec.name} "
                    f"0 ... {highest}"
                )
            yield chunk

    return summarize(
        checked(), name="samples", spec=source.spec, extractor=extractor, keep=True
    )


def known_modes(name: str) -> Modes | None:
    """The modes of the toy density of that name, where they are Gaussians."""
    if name not in toy.NAMES:
        return None
    p = toy.density(name)
    if p.centers is None or p.sigma is None:
        return None
    return Modes(p.centers, p.sigma)

"""Random edits of the bytes of files that are read: never a traceback.

A weights file is read or refused in a sentence. A cache is never an error, and never
gives other numbers than were kept. As in tests/test_fuzz.py, `--slow` makes all edits.
"""

import io
import json
import random
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from genjax.data import cache
from genjax.data.split import split_from_arrays
from genjax.evaluation import references, score, weights
from genjax.evaluation.summary import summarize
from genjax.training import metrics, workdir
from genjax.typing import UserError
from tests import specs
from tests.test_fuzz import outcomes

PEERS = Path(__file__).parent / "evaluation" / "peers"
ARRAYS = {"a.weight": np.arange(60.0).reshape(6, 10), "steps": np.array(7)}
IMAGES = np.arange(40 * 12, dtype=np.uint8).reshape(40, 2, 6, 1)
LABELS = np.arange(40, dtype=np.int32)


def edited(content: bytes, rng: random.Random) -> bytes:
    """One to three edits: bits, bytes, a piece cut, doubled, zeroed or moved."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        start = rng.randrange(len(data) + 1)
        end = min(len(data), start + rng.choice([1, 1, 2, 8, 100]))
        piece = data[start:end]
        match rng.choice(["bit", "byte", "cut", "end", "double", "zero", "high"]):
            case "bit" if piece:
                data[start] ^= 1 << rng.randrange(8)
            case "byte" if piece:
                data[start] = rng.randrange(256)
            case "cut":
                del data[start:end]
            case "end":
                del data[start:]
            case "double":
                data[start:start] = piece
            case "zero":
                data[start:end] = bytes(len(piece))
            case "high":
                data[start:end] = b"\xff" * len(piece)
    return bytes(data)


def of_npz(save: Callable[..., None]) -> bytes:
    content = io.BytesIO()
    save(content, **ARRAYS)
    return content.getvalue()


WEIGHTS = {
    "a.safetensors": safetensors.numpy.save(ARRAYS),
    "stored.npz": of_npz(np.savez),
    "packed.npz": of_npz(np.savez_compressed),
    "zip.pth": (PEERS / "tiny_zip.pth").read_bytes(),
    "legacy.pth": (PEERS / "tiny_legacy.pth").read_bytes(),
}


def check_weights(folder: Path, tries: int) -> None:
    def attempt(rng: random.Random) -> None:
        name = rng.choice(list(WEIGHTS))
        path = folder / name
        path.write_bytes(edited(WEIGHTS[name], rng))
        arrays, _ = weights.read(path)
        assert sum(array.nbytes for array in arrays.values()) < 2**25

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of names that come twice
        counts = outcomes(tries, attempt, "weights")
    print(dict(counts))
    assert counts["sentence"] > 0.3 * tries and counts["fine"] > 0


def test_some_edits_of_weights(tmp_path):
    check_weights(tmp_path, 200)


@pytest.mark.slow
def test_1000_edits_of_weights(tmp_path):
    check_weights(tmp_path, 1000)


# --- what is kept to save time --------------------------------------------------------


def decoded(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    kept = cache.in_memory(
        split_from_arrays("toy train", IMAGES, LABELS),
        shape=IMAGES.shape[1:],
        source={},
        cache_dir=str(folder),
    )
    assert kept.arrays is not None
    return kept.arrays["image"], kept.arrays["label"]


def summarized():
    spec = specs.of_images("toy", IMAGES.shape[1:])
    return summarize([IMAGES], name="toy train", spec=spec, extractor=None, keep=True)


def check_caches(folder: Path, tries: int) -> None:
    """Examples, a summary and floors: damaged and then asked for again."""
    decoded(folder)
    files = {path: path.read_bytes() for path in folder.iterdir()}
    summary, floors = summarized(), {"kid_floor": 0.25}
    path = references.path_of("a", "train", None, keep=True)
    assert path is not None
    score.keep_floors("fuzz", lambda: floors)
    kept = path.parent.parent / "floors" / "fuzz.json"
    content = {path: references.to_bytes(summary), kept: kept.read_bytes()}

    def attempt(rng: random.Random) -> None:
        chosen = rng.choice([*files, *content])
        chosen.parent.mkdir(parents=True, exist_ok=True)
        chosen.write_bytes(edited({**files, **content}[chosen], rng))
        if chosen in files:
            images, labels = decoded(folder)
            np.testing.assert_array_equal(images, IMAGES)
            np.testing.assert_array_equal(labels, LABELS)
        elif chosen == kept:
            assert score.keep_floors("fuzz", lambda: floors) == floors
        else:
            found = references.find("a", "train", None, keep=True)
            if found is not None:
                np.testing.assert_array_equal(found.rows, summary.rows)

    counts = outcomes(tries, attempt, "cache")
    print(dict(counts))
    assert counts["fine"] == tries


def test_some_edits_of_caches(tmp_path):
    check_caches(tmp_path, 100)


@pytest.mark.slow
def test_1000_edits_of_caches(tmp_path):
    check_caches(tmp_path, 1000)


# --- the files of a run ---------------------------------------------------------------


def test_edits_of_a_runs_own_files(tmp_path):
    """config.json and metrics.jsonl: read, or a sentence that names the file."""
    workdir.write_config(tmp_path, {"seed": 0, "data": {"name": "digits"}})
    lines = [{"step": i, "split": "train", "loss": 0.5} for i in (2, 4, 6)]
    text = "".join(json.dumps(line) + "\n" for line in lines).encode()
    config = (tmp_path / "config.json").read_bytes()

    def attempt(rng: random.Random) -> None:
        (tmp_path / "config.json").write_bytes(edited(config, rng))
        (tmp_path / "metrics.jsonl").write_bytes(edited(text, rng))
        metrics.read_lines(tmp_path, "train")
        try:
            metrics.MetricWriter(tmp_path, 4, say=lambda text: None).close()
        except UserError as error:
            assert "metrics.jsonl" in str(error)
        workdir.read_run(tmp_path)

    counts = outcomes(100, attempt, "run")
    assert counts["sentence"] > 30 and counts["fine"] > 0


def test_brackets_without_end_are_a_sentence(tmp_path):
    for name in ("metrics.jsonl", "config.json"):
        (tmp_path / name).write_bytes(b'{"a":' * 20_000 + b"\n{}\n")
    with pytest.raises(UserError, match="line 1 of .*metrics.jsonl is no line"):
        metrics.MetricWriter(tmp_path, None)
    with pytest.raises(UserError, match="config.json is damaged"):
        workdir.read_run(tmp_path)

"""No two uses of a seed share a key."""

import ast
import itertools
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from genjax.streams import Stream, stream_key

ROOT = Path(__file__).parent.parent
FIXED = {  # keys of no run's seed, each with its reason
    "genjax/streams.py": "the one place",
    "genjax/training/compile.py": "shapes of a state, no values",
    "genjax/models/backbone.py": "shapes of a network, no values",
    "genjax/evaluation/inception.py": "shapes of a network, no values",
    "genjax/evaluation/__main__.py": "the weights of a judge, the same for everybody",
    "genjax/data/toy.py": "the data: of data.seed",
    "genjax/modes/implicit/read.py": "a decoder that draws nothing",
    "experiments/vqvae.py": "a bottleneck that draws nothing",
    "experiments/gan.py": "shapes of a network, no values",
}
FILES = [*(ROOT / "genjax").rglob("*.py"), *(ROOT / "experiments").glob("*.py")]


def data(key) -> tuple[int, ...]:
    return tuple(np.asarray(jax.random.key_data(key)).tolist())


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_the_streams_of_a_seed_differ(seed):
    keys = [data(stream_key(seed, stream)) for stream in Stream]
    # and what is folded into them: a chunk of one is no step or batch of another
    for stream in Stream:
        key = stream_key(seed, stream)
        keys += [data(jax.random.fold_in(key, i)) for i in range(5)]
    assert len(set(keys)) == len(keys) == 6 * len(Stream)


def test_every_stream_has_its_own_number():
    numbers = [int(stream) for stream in Stream.__members__.values()]
    assert len(set(numbers)) == len(numbers)


def test_a_chunk_of_samples_is_no_step_of_training():
    """Once they shared a key, where --seed was that of the config."""
    sample, train = stream_key(0, Stream.SAMPLE), stream_key(0, Stream.TRAIN)
    for chunk, step in itertools.product(range(4), repeat=2):
        drawn = jax.random.fold_in(sample, chunk)
        assert data(drawn) != data(jax.random.fold_in(train, step))


def calls(path: Path) -> list[str]:
    """The calls of jax.random.key in a file, as they are written."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if re.fullmatch(r"(jax\.)?random\.(key|PRNGKey)", name):
                found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_key_is_made_elsewhere(path):
    name = str(path.relative_to(ROOT))
    if name not in FIXED:
        assert not calls(path), "take a stream of genjax.streams"
    elif name not in ("genjax/streams.py", "genjax/data/toy.py"):
        assert set(calls(path)) <= {"jax.random.key(0)"}


def test_every_stream_has_a_use():
    text = {path: path.read_text() for path in FILES if path.name != "streams.py"}
    for stream in Stream:
        users = [p for p, source in text.items() if f"Stream.{stream.name}" in source]
        assert users, f"nothing uses {stream.name}"

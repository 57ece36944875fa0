"""The row stream is a law; resident and streamed batches follow it alike."""

import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from genjax.data.pipeline import TrainFeed, eval_batches, gather, rows
from genjax.data.split import Split, split_from_arrays
from genjax.typing import UserError


def _sharding(num_devices=4):
    devices = np.array(jax.devices()[:num_devices]).reshape(-1, 1)
    return NamedSharding(
        Mesh(devices, ("data", "fsdp")), PartitionSpec(("data", "fsdp"))
    )


@pytest.fixture
def split():
    image = np.random.default_rng(0).integers(0, 256, (37, 4, 4, 1), np.uint8)
    return split_from_arrays("tiny train", image, np.arange(37, dtype=np.int32) % 10)


@pytest.mark.parametrize("batch_size", [1, 5, 8, 37])
def test_every_example_comes_once_an_epoch(batch_size):
    stream = np.concatenate(
        [
            rows(3, step, batch_size=batch_size, num_examples=37)
            for step in range(3 * 37)
        ]
    )
    for epoch in range(3 * batch_size):
        one = stream[37 * epoch : 37 * (epoch + 1)]
        np.testing.assert_array_equal(np.sort(one), np.arange(37))


def test_the_stream_does_not_depend_on_how_it_is_cut():
    whole = rows(0, 0, batch_size=100, num_examples=1000)
    parts = [rows(0, step, batch_size=20, num_examples=1000) for step in range(5)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


def test_another_batch_size_goes_on_where_the_rows_were():
    """3 steps of 8, then steps 3 and 4 of 16."""
    whole = rows(0, 0, batch_size=56, num_examples=100)
    size = {"num_examples": 100}
    parts = [rows(0, step, batch_size=8, **size) for step in range(3)]
    offset = 3 * 8 - 3 * 16
    parts += [rows(0, step, batch_size=16, offset=offset, **size) for step in (3, 4)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_seeds_and_epochs_differ():
    def epoch(seed, number):
        return rows(seed, number, batch_size=1000, num_examples=1000)

    for other in (epoch(1, 0), epoch(0, 1), epoch(-1, 0)):
        assert np.mean(other == epoch(0, 0)) < 0.02  # one in a thousand by chance


def test_permutations_are_uniform():
    """First element and number of fixed points over many epochs of 8 examples."""
    epochs = [rows(0, i, batch_size=8, num_examples=8) for i in range(4000)]
    first = np.bincount([e[0] for e in epochs], minlength=8)
    assert abs(first - 500).max() < 5 * np.sqrt(500)
    fixed = np.array([(e == np.arange(8)).sum() for e in epochs])  # mean 1, variance 1
    assert fixed.mean() == pytest.approx(1.0, abs=5 / np.sqrt(4000))


def test_streamed_batches_are_the_resident_ones(split):
    resident = TrainFeed(split, seed=1, batch_size=8, sharding=_sharding())
    streamed = TrainFeed(
        split, seed=1, batch_size=8, sharding=_sharding(), resident=False
    )
    assert set(resident.resident) == {"image", "label"} and streamed.resident == {}
    gathered = jax.jit(gather)
    for step in (0, 3, 6, 4):  # goes on, then back to a step that had passed
        index, batches = resident.get(step, 3), streamed.get(step, 3)
        assert set(index) == {"index"} and set(batches) == {"image", "label", "index"}
        for i in range(3):
            ours = gathered(resident.resident, {k: v[i] for k, v in index.items()})
            for name, array in ours.items():
                np.testing.assert_array_equal(array, batches[name][i])
                assert array.dtype == batches[name].dtype
            wanted = rows(1, step + i, batch_size=8, num_examples=37)
            np.testing.assert_array_equal(ours["index"], wanted)
            np.testing.assert_array_equal(ours["image"], split.read(wanted)["image"])
    streamed.close()


def test_batches_are_sharded_and_the_split_replicated(split):
    for resident in (True, False):
        feed = TrainFeed(
            split, seed=0, batch_size=8, sharding=_sharding(), resident=resident
        )
        for array in feed.get(0, 2).values():
            assert array.sharding.spec == PartitionSpec(None, ("data", "fsdp"))
            assert array.sharding.shard_shape(array.shape)[:2] == (2, 2)
        for array in feed.resident.values():
            assert array.sharding.is_fully_replicated
        feed.close()
    batch, mask = next(iter(eval_batches(split, batch_size=8, sharding=_sharding())))
    assert batch["image"].sharding.spec == mask.sharding.spec == _sharding().spec


def test_float_examples_pass_unchanged():
    points = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    split = split_from_arrays("points", points, np.zeros(20, np.int32))
    for resident in (True, False):
        feed = TrainFeed(
            split, seed=0, batch_size=4, sharding=_sharding(), resident=resident
        )
        batch = gather(feed.resident, {k: v[0] for k, v in feed.get(0, 1).items()})
        np.testing.assert_array_equal(
            batch["image"], points[np.asarray(batch["index"])]
        )
        feed.close()


@pytest.mark.parametrize(("limit", "covered"), [(None, 37), (10, 10), (99, 37)])
def test_evaluation_covers_each_example_once(split, limit, covered):
    seen = []
    for batch, mask in eval_batches(
        split, batch_size=8, sharding=_sharding(), limit=limit
    ):
        assert batch["image"].shape == (8, 4, 4, 1) and mask.shape == (8,)
        index = np.asarray(batch["index"])
        np.testing.assert_array_equal(batch["image"], split.read(index)["image"])
        seen.append(index[np.asarray(mask)])
    np.testing.assert_array_equal(np.concatenate(seen), np.arange(covered))


@pytest.mark.parametrize(("limit", "covered"), [(None, 11), (10, 10)])
def test_evaluation_of_some_rows_keeps_their_order_and_number(split, limit, covered):
    wanted = np.arange(36, 3, -3)
    seen = []
    for batch, mask in eval_batches(
        split, batch_size=8, sharding=_sharding(), limit=limit, rows=wanted
    ):
        index = np.asarray(batch["index"])
        np.testing.assert_array_equal(batch["image"], split.read(index)["image"])
        seen.append(index[np.asarray(mask)])
    np.testing.assert_array_equal(np.concatenate(seen), wanted[:covered])


def test_an_unreadable_example_stops_the_feed_each_time_it_is_asked_for(split):
    def read_examples(wanted):
        if 11 in wanted:
            raise UserError("example 11 of tiny train cannot be decoded")
        return split.read_examples(wanted)

    broken = Split(name="tiny train", num_examples=37, read_examples=read_examples)
    bad = next(i for i in range(5) if 11 in rows(0, i, batch_size=8, num_examples=37))
    feed = TrainFeed(broken, seed=0, batch_size=8, sharding=_sharding())
    assert feed.resident == {}
    for _ in range(2):
        with pytest.raises(UserError, match="example 11 of tiny train"):
            feed.get(0, 5)
    np.testing.assert_array_equal(
        feed.get(bad + 1, 1)["index"][0],
        rows(0, bad + 1, batch_size=8, num_examples=37),
    )
    feed.close()
    with pytest.raises(UserError, match="example 11 of tiny train"):
        list(eval_batches(broken, batch_size=8, sharding=_sharding()))
    with pytest.raises(UserError, match="does not fit in memory"):
        TrainFeed(broken, seed=0, batch_size=8, sharding=_sharding(), resident=True)


def test_batch_sizes_that_do_not_fit_are_refused(split):
    with pytest.raises(UserError, match="38 must lie between 1 and the 37 examples"):
        TrainFeed(split, seed=0, batch_size=38, sharding=_sharding(1))
    with pytest.raises(UserError, match="6 must divide by the 4 devices.*try 4"):
        TrainFeed(split, seed=0, batch_size=6, sharding=_sharding())
    with pytest.raises(UserError, match="3 must divide by the 4 devices.*try 4"):
        eval_batches(split, batch_size=3, sharding=_sharding())
    with pytest.raises(UserError, match="positive batch size and limit, got 8 and 0"):
        eval_batches(split, batch_size=8, sharding=_sharding(), limit=0)


_WORKER = """
    import sys
    import jax, numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 2)
    port, process, out = sys.argv[1:]
    jax.distributed.initialize(
        f"localhost:{port}", 2, int(process), initialization_timeout=60
    )
    from genjax.data.pipeline import TrainFeed, eval_batches, gather
    from genjax.data.split import Split

    read = []
    image = np.arange(37, dtype=np.float32)[:, None] * np.ones(3, np.float32)
    label = np.arange(37, dtype=np.int32)

    def read_examples(rows):
        read.append(rows)
        return image[rows], label[rows]

    split = Split(
        name="tiny", num_examples=37, read_examples=read_examples,
        arrays={"image": image, "label": label},
    )
    # Each process owns every other device of the mesh: its rows are no one block.
    devices = np.array(jax.devices()).reshape(2, 2).T.reshape(4, 1)
    mesh = Mesh(devices, ("data", "fsdp"))
    sharding = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
    whole = jax.jit(lambda x: x, out_shardings=NamedSharding(mesh, PartitionSpec()))
    found = {}
    for resident in (True, False):
        feed = TrainFeed(
            split, seed=5, batch_size=8, sharding=sharding, resident=resident
        )
        batches = feed.get(2, 2)
        one = jax.jit(gather)(feed.resident, jax.tree.map(lambda x: x[1], batches))
        feed.close()
        found |= {f"{k}{resident}": np.asarray(whole(v)) for k, v in one.items()}
    found["read"] = np.array(read)
    evaluation = eval_batches(split, batch_size=8, sharding=sharding)
    covered = sum(int(np.asarray(whole(mask)).sum()) for _, mask in evaluation)
    np.savez(out, covered=covered, **found)
"""


def test_two_processes_see_the_rows_of_one(tmp_path):
    import socket

    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    outs = [tmp_path / f"{i}.npz" for i in range(2)]
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(_WORKER), port, str(i), str(out)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for i, out in enumerate(outs)
    ]
    for worker in workers:
        _, errors = worker.communicate(timeout=120)
        assert worker.returncode == 0, errors[-2000:]
    wanted = rows(5, 3, batch_size=8, num_examples=37)
    own = [wanted[[0, 1, 4, 5]], wanted[[2, 3, 6, 7]]]  # devices alternate in the mesh
    for process, out in enumerate(outs):
        with np.load(out) as found:
            for resident in (True, False):
                np.testing.assert_array_equal(found[f"index{resident}"], wanted)
                np.testing.assert_array_equal(found[f"label{resident}"], wanted)
                np.testing.assert_array_equal(found[f"image{resident}"][:, 1], wanted)
            assert found["covered"] == 37
            assert found["read"].shape[1] == 4  # never a whole batch
            assert (found["read"] == own[process]).all(1).any()
            assert not (found["read"] == own[1 - process]).all(1).any()

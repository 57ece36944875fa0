import asyncio
import builtins
import errno
import functools
import gc
import logging
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from genjax.training.checkpoint import Checkpointer, digest, folder, tree
from genjax.training.checkpoint import checkpointer as module
from genjax.typing import DivergedError, SaveError, UserError


@functools.cache
def make_state(step, width=4):
    """All kinds of leaves; every one that can depends on the step."""
    key = jax.random.key(step)
    params = {
        "kernel": jax.random.normal(key, (8, width)),
        "bias": jax.random.normal(key, (width,), jnp.bfloat16),
    }
    return {
        "params": params,
        "opt": optax.adam(1e-3).init(params),
        "step": jnp.int32(step),
        "pool": jax.random.randint(key, (2, 3, 3, 1), 0, 256).astype(jnp.uint8),
        "mask": jax.random.bernoulli(key, 0.5, (5,)),
        "fp8": jnp.full((3,), step % 7, jnp.float8_e4m3fn),
        "noise": jax.random.normal(
            key, (4096,)
        ),  # most of the bytes, hence of the flips
        "empty": jnp.zeros((0, 3)),
        "nothing": None,
    }


def abstract(state):
    return jax.eval_shape(lambda: state)


ABSTRACT = abstract(make_state(0))


def assert_same(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert x.dtype == y.dtype and x.shape == y.shape
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def mesh_shardings(state, axes):
    """Every leaf whose first axis divides by 4 is cut over 4 devices."""
    mesh = Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ("data", "fsdp"))

    def sharding(leaf):
        cut = leaf.ndim > 0 and leaf.shape[0] > 0 and leaf.shape[0] % 4 == 0
        return NamedSharding(mesh, PartitionSpec(axes) if cut else PartitionSpec())

    return jax.tree.map(sharding, state)


@pytest.fixture(scope="module", autouse=True)
def quick_collection():
    """A failed read collects garbage: not among all that the other tests keep."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


four_devices = pytest.mark.skipif(
    jax.device_count() < 4,
    reason="needs 4 devices: XLA_FLAGS=--xla_force_host_platform_device_count=4",
)


# Round trips


def test_round_trip_is_bit_for_bit(tmp_path):
    meta = {"config_hash": "abc", "tuple": (1, 2), "nan": float("nan")}
    with Checkpointer(tmp_path / "ckpt", meta=meta) as checkpointer:
        assert checkpointer.restore(ABSTRACT) is None
        assert checkpointer.save(1, make_state(1))
        assert checkpointer.save(2, make_state(2))
        assert not checkpointer.save(2, make_state(3))
        restored = checkpointer.restore(ABSTRACT)
        assert restored is not None and restored.step == 2
        assert_same(restored.state, make_state(2))
        assert restored.meta["config_hash"] == "abc"
        older = checkpointer.restore(ABSTRACT, step=1)
        assert older is not None
        assert_same(older.state, make_state(1))


@pytest.mark.parametrize("state", [jnp.ones(()), (), {}, [jnp.ones(3)], None])
def test_any_tree_will_do(tmp_path, state):
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(0, state)
        restored = checkpointer.restore(abstract(state))
        assert restored is not None
        assert_same(restored.state, state)


def test_extreme_finite_and_signed_zero_values_survive(tmp_path):
    info = jnp.finfo(jnp.float32)
    state = {"x": jnp.array([-0.0, 0.0, info.max, info.min, info.tiny])}
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(0, state)
        restored = checkpointer.restore(abstract(state))
        assert restored is not None
        assert_same(restored.state, state)


def test_a_relative_path_and_home_are_resolved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for directory in ("one/ckpt", "~/two"):
        with Checkpointer(directory) as checkpointer:
            checkpointer.save(0, {"x": jnp.ones(2)})
    assert (tmp_path / "one" / "ckpt" / "0").is_dir()
    assert (tmp_path / "two" / "0").is_dir()


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    for directory in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match="cannot be written"):
            Checkpointer(directory)
    with pytest.raises(UserError, match="gs://bucket/folder"):
        Checkpointer("s3://bucket/run")


def test_donating_after_save_does_no_harm(tmp_path):
    overwrite = jax.jit(lambda s: {"x": 0.5 * s["x"] - 1}, donate_argnums=0)
    with Checkpointer(tmp_path, keep_last=9) as checkpointer:
        for step in range(4):
            state = {"x": jax.random.normal(jax.random.key(step), (500, 500))}
            checkpointer.save(step, state)
            # On CPU the buffer is only given up when the save lets go of it.
            for _ in range(3):
                state = jax.block_until_ready(overwrite(state))
        for step in range(4):
            restored = checkpointer.restore(
                {"x": jax.ShapeDtypeStruct((500, 500), jnp.float32)}, step
            )
            assert restored is not None
            want = jax.random.normal(jax.random.key(step), (500, 500))
            assert_same(restored.state, {"x": want})


# Shardings


@four_devices
@pytest.mark.parametrize("axes", ["fsdp", ("data", "fsdp")])
def test_restores_into_another_sharding(tmp_path, axes):
    state = make_state(3)
    shardings = mesh_shardings(state, axes)
    sharded = jax.device_put(state, shardings)

    def wanted(sharding, leaf):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    with Checkpointer(tmp_path, keep_last=2) as checkpointer:
        checkpointer.save(1, state)
        checkpointer.save(2, sharded)
        on_mesh = checkpointer.restore(jax.tree.map(wanted, shardings, state), 1)
        on_one = checkpointer.restore(abstract(state), 2)
    assert on_mesh is not None and on_one is not None
    assert_same(on_mesh.state, state)
    assert_same(on_one.state, state)
    assert on_mesh.state["params"]["kernel"].sharding.is_equivalent_to(
        shardings["params"]["kernel"], 2
    )
    assert len(on_one.state["params"]["kernel"].sharding.device_set) == 1


@four_devices
def test_digests_do_not_depend_on_the_sharding():
    state = make_state(5)
    alone, _ = digest.digests(tree.named_leaves(state))
    for axes in ("fsdp", ("data", "fsdp")):
        spread = jax.device_put(state, mesh_shardings(state, axes))
        digests, _ = digest.digests(tree.named_leaves(spread))
        assert digests == alone


@four_devices
def test_an_impossible_sharding_is_not_taken_for_damage(tmp_path):
    mesh = Mesh(np.array(jax.devices()[:4]), ("fsdp",))
    sharding = NamedSharding(mesh, PartitionSpec("fsdp"))
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(0, {"x": jnp.ones(6)})
        with pytest.raises(ValueError, match="6"):
            checkpointer.restore(
                {"x": jax.ShapeDtypeStruct((6,), jnp.float32, sharding=sharding)}
            )
        assert checkpointer.steps() == [0]


# Digests


@pytest.mark.parametrize(
    "dtype", ["float32", "bfloat16", "int32", "uint8", "bool", "complex64"]
)
def test_every_single_change_shows_in_the_digest(dtype):
    x = jnp.arange(12).reshape(3, 4).astype(dtype)
    variants = [x, x[::-1], x[:, ::-1]]
    if dtype == "bool":
        variants = [x, x[::-1]] + [x.at[0, i].set(i == 0) for i in range(4)]
        variants = list({np.asarray(v).tobytes(): v for v in variants}.values())
    else:
        bits = np.asarray(x).view(np.uint8)
        for position in range(bits.size):
            flipped = bits.copy()
            flipped.flat[position] ^= 1 << position % 8
            variants.append(jnp.asarray(flipped.view(x.dtype)))
    hashed = jax.jit(digest.digest)
    digests = {tuple(np.asarray(hashed(v))[:2]) for v in variants}
    assert len(digests) == len(variants) > 3


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_state_that_is_not_finite_is_never_saved(tmp_path, bad, dtype):
    state = {"a": jnp.ones(3), "b": {"c": jnp.zeros((2, 2), dtype).at[1, 0].set(bad)}}
    with Checkpointer(tmp_path) as checkpointer:
        with pytest.raises(DivergedError, match="step 7 is not finite.*: b/c$"):
            checkpointer.save(7, state)
        checkpointer.wait()
        assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("leaf", "message"),
    [
        (jax.random.key(0), "'a/0' is a typed key"),
        (np.ones(3), "'a/0' must be a jax.Array to be saved, not ndarray"),
        ("text", "'a/0' must be a jax.Array to be saved, not str"),
    ],
)
def test_what_is_no_array_is_refused(tmp_path, leaf, message):
    with (
        Checkpointer(tmp_path) as checkpointer,
        pytest.raises(UserError, match=message),
    ):
        checkpointer.save(0, {"a": [leaf]})


# Damage


def files_below(path):
    return sorted(p for p in path.rglob("*") if p.is_file())


def damage(file, how):
    data = bytearray(file.read_bytes())
    if how == "delete":
        file.unlink()
        return
    if how == "empty":
        data = data[:0]
    elif how == "half":
        data = data[: len(data) // 2]
    elif how == "zeros":
        middle = len(data) // 2
        data[middle : middle + 64] = bytes(len(data[middle : middle + 64]))
    else:
        bit = how % (8 * len(data))
        data[bit // 8] ^= 1 << bit % 8
    file.write_bytes(data)


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    """A folder with steps 1 and 2."""
    directory = tmp_path_factory.mktemp("intact") / "ckpt"
    with Checkpointer(directory) as checkpointer:
        for step in (1, 2):
            checkpointer.save(step, make_state(step))
    return directory


def assert_survives(directory):
    """The newest intact state comes back."""
    with Checkpointer(directory) as checkpointer:
        restored = checkpointer.restore(ABSTRACT)
        assert restored is not None
        assert_same(restored.state, make_state(restored.step))
        if restored.step == 1:
            assert (directory / "corrupt-2").is_dir()
            assert checkpointer.steps() == [1]
    return restored.step


def assert_goes_on(directory, step):
    """Training can go on from there."""
    with Checkpointer(directory) as checkpointer:
        assert checkpointer.save(step + 1, make_state(step + 1))
        again = checkpointer.restore(ABSTRACT)
    assert again is not None and again.step == step + 1
    assert_same(again.state, make_state(again.step))


def test_damage_to_any_file_is_never_silent(tmp_path, intact, capfd):
    relative = [file.relative_to(intact) for file in files_below(intact / "2")]
    generator = random.Random(0)
    cases = [(file, how) for file in relative for how in ("delete", "empty", "half")]
    cases += [(file, "zeros") for file in relative]
    # Flips where the bytes are: a file is drawn by its size.
    sizes = [(intact / file).stat().st_size for file in relative]
    drawn = generator.choices(relative, sizes, k=24)
    cases += [(file, generator.randrange(1 << 40)) for file in drawn]
    cases = [(f, how) for f, how in cases if (intact / f).stat().st_size or how == 0]
    survivors = []
    for number, (file, how) in enumerate(cases):
        directory = shutil.copytree(intact, tmp_path / str(number))
        damage(directory / file, how)
        survivors.append(assert_survives(directory))
        if number % 10 == 0:
            assert_goes_on(directory, survivors[-1])
    assert survivors.count(1) > len(cases) // 4  # not all of it in unused bytes
    printed = capfd.readouterr().err
    assert "Traceback" not in printed, printed


def test_one_line_names_the_damaged_step(tmp_path, intact, caplog):
    directory = shutil.copytree(intact, tmp_path / "ckpt")
    shutil.rmtree(directory / "2" / "state" / "d")
    (directory / "corrupt-2").mkdir()  # taken by an earlier mishap
    with Checkpointer(directory) as checkpointer:
        restored = checkpointer.restore(ABSTRACT)
    assert restored is not None and restored.step == 1
    assert (directory / "corrupt-2-2" / "state").is_dir()
    (record,) = caplog.records
    assert record.getMessage().startswith("checkpoint 2 is damaged (")
    assert len(record.getMessage().splitlines()) == 1


def test_a_damaged_step_that_is_asked_for_is_not_replaced(tmp_path, intact):
    directory = shutil.copytree(intact, tmp_path / "ckpt")
    shutil.rmtree(directory / "2" / "state" / "d")
    with Checkpointer(directory) as checkpointer:
        with pytest.raises(UserError, match=r"checkpoint 2 .* is damaged .*steps: 1$"):
            checkpointer.restore(ABSTRACT, step=2)
        with pytest.raises(UserError, match=r"no checkpoint 5 .*steps: 1, 2$"):
            checkpointer.restore(ABSTRACT, step=5)
    assert (directory / "2").is_dir()


def test_when_all_are_damaged_nothing_is_lost_and_no_new_run_starts(tmp_path, intact):
    directory = shutil.copytree(intact, tmp_path / "ckpt")
    for step in ("1", "2"):
        shutil.rmtree(directory / step / "meta")
    for _ in range(2):  # and the second start is not taken for a new run either
        with (
            Checkpointer(directory) as checkpointer,
            pytest.raises(UserError, match="no checkpoint in .* is intact"),
        ):
            checkpointer.restore(ABSTRACT)
        assert sorted(os.listdir(directory)) == ["corrupt-1", "corrupt-2"]


def test_a_renamed_step_is_found_out(tmp_path, intact):
    directory = shutil.copytree(intact, tmp_path / "ckpt")
    (directory / "2").rename(directory / "3")
    with Checkpointer(directory) as checkpointer:
        restored = checkpointer.restore(ABSTRACT)
    assert restored is not None and restored.step == 1
    assert (directory / "corrupt-3").is_dir()


def test_a_symbolic_link_is_not_followed(tmp_path, intact):
    directory = shutil.copytree(intact, tmp_path / "ckpt")
    (directory / "2").rename(tmp_path / "2")
    (directory / "2").symlink_to(tmp_path / "2")
    with Checkpointer(directory) as checkpointer:
        assert checkpointer.steps() == [1]
        restored = checkpointer.restore(ABSTRACT)
    assert restored is not None and restored.step == 1
    assert len(files_below(tmp_path / "2")) > 5


def test_junk_is_never_the_latest_step(tmp_path, intact):
    directory = shutil.copytree(intact, tmp_path / "ckpt")
    (directory / "10").mkdir()
    (directory / "notes").mkdir()
    (directory / "99.txt").write_text("x")
    (directory / "7.orbax-checkpoint-tmp").mkdir()
    (directory / "discarded" / "0").mkdir(parents=True)
    (directory / "mine.orbax-checkpoint-tmp").mkdir()
    with Checkpointer(directory) as checkpointer:
        assert checkpointer.steps() == [1, 2]
        # Without a restore before it: the empty folder must not push out step 1.
        assert checkpointer.save(3, make_state(3))
        checkpointer.wait()
        assert checkpointer.steps() == [2, 3]
    assert sorted(os.listdir(directory)) == [
        "2",
        "3",
        "99.txt",
        "corrupt-10",
        "mine.orbax-checkpoint-tmp",
        "notes",
    ]


def test_a_reader_leaves_a_save_in_flight_alone(tmp_path, intact):
    directory = shutil.copytree(intact, tmp_path / "ckpt")
    (directory / "7.orbax-checkpoint-tmp").mkdir()
    with Checkpointer(directory) as reader:
        assert reader.restore(ABSTRACT) is not None
    assert (directory / "7.orbax-checkpoint-tmp").is_dir()


# Failures of the machine


FAULTS = [
    OSError(errno.EIO, os.strerror(errno.EIO)),
    OSError(errno.ESTALE, os.strerror(errno.ESTALE)),
    OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
    TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)),
    RuntimeError("can't start new thread"),
    RuntimeError("RESOURCE_EXHAUSTED: Out of memory"),
    ValueError("NOT_FOUND: Error reading 2/d/x: [OS error 5: Input/output error]"),
    MemoryError(),
]
by_fault = pytest.mark.parametrize("fault", FAULTS, ids=str)


class Failing:
    """A function that raises in its first calls, as often as it is told to."""

    def __init__(self, function, fault, times):
        self.function, self.fault, self.times = function, fault, times

    def __call__(self, *args, **kwargs):
        if self.times > 0:
            self.times -= 1
            raise self.fault
        return self.function(*args, **kwargs)


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(module, "PAUSES", (0.0, 0.0, 0.0))


PLACES = [
    (module.ocp.CheckpointManager, "restore"),
    (digest, "digests"),
    (digest, "unseal"),
    (folder.os, "listdir"),
]


@by_fault
@pytest.mark.parametrize(("owner", "name"), PLACES, ids=[name for _, name in PLACES])
def test_a_passing_failure_of_the_machine_is_waited_for(
    tmp_path, intact, monkeypatch, at_once, fault, owner, name
):
    if name == "listdir" and not isinstance(fault, OSError):
        pytest.skip("a folder is listed without threads")
    directory = shutil.copytree(intact, tmp_path / "ckpt")
    with Checkpointer(directory) as checkpointer:
        failing = Failing(getattr(owner, name), fault, times=1)
        monkeypatch.setattr(owner, name, lambda *a, **k: failing(*a, **k))
        restored = checkpointer.restore(ABSTRACT)
    assert failing.times == 0
    assert restored is not None and restored.step == 2
    assert_same(restored.state, make_state(2))
    assert sorted(os.listdir(directory)) == ["1", "2"]


@pytest.mark.parametrize(
    ("fault", "owner", "name"),
    [(fault, *PLACES[0]) for fault in FAULTS] + [(FAULTS[-1], *PLACES[1])],
    ids=str,
)
def test_a_lasting_failure_of_the_machine_renames_nothing(
    tmp_path, intact, monkeypatch, at_once, fault, owner, name
):
    directory = shutil.copytree(intact, tmp_path / "ckpt")
    with Checkpointer(directory) as checkpointer:
        failing = Failing(getattr(owner, name), fault, times=99)
        monkeypatch.setattr(owner, name, lambda *a, **k: failing(*a, **k))
        for step in (None, 2):
            with pytest.raises(UserError, match="checkpoint 2 .* cannot be read") as e:
                checkpointer.restore(ABSTRACT, step)
            assert len(str(e.value).splitlines()) == 1
    assert sorted(os.listdir(directory)) == ["1", "2"]


def test_a_folder_that_cannot_be_listed_is_no_new_run(
    tmp_path, intact, monkeypatch, at_once
):
    directory = shutil.copytree(intact, tmp_path / "ckpt")
    with Checkpointer(directory) as checkpointer:
        failing = Failing(os.listdir, FAULTS[0], times=99)
        monkeypatch.setattr(os, "listdir", lambda *a: failing(*a))
        with pytest.raises(UserError, match="cannot be listed .*left as they are$"):
            checkpointer.restore(ABSTRACT)


def test_words_of_orbax_for_an_unreadable_file_are_no_damage(
    tmp_path, intact, monkeypatch, at_once
):
    directory = shutil.copytree(intact, tmp_path / "ckpt")
    with Checkpointer(directory) as checkpointer:
        failing = Failing(None, ValueError("no array found"), times=99)
        monkeypatch.setattr(module.ocp.CheckpointManager, "restore", failing)
        unreadable = Failing(open, FAULTS[0], times=99)
        monkeypatch.setattr(builtins, "open", lambda *a, **k: unreadable(*a, **k))
        with pytest.raises(UserError, match="checkpoint 2 .* cannot be read here"):
            checkpointer.restore(ABSTRACT)
    monkeypatch.undo()
    assert sorted(os.listdir(directory)) == ["1", "2"]


# Another model


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s | {"ema": jnp.ones(3)}, r"ema float32\[3\] is missing\."),
        (lambda s: {k: s[k] for k in s if k != "mask"}, r"mask bool\[5\] is unexp"),
        (
            lambda s: s | {"step": jnp.ones(())},
            r"step is int32\[\], wanted float32\[\]",
        ),
        (
            lambda s: s | {"empty": jnp.ones(3)},
            r"is float32\[0, 3\], wanted float32\[3",
        ),
        (lambda s: make_state(0, width=5), r"kernel is .*; and 1 more\."),
        (lambda s: s | {"guide": None}, r"guide is None now\."),
    ],
)
def test_another_model_is_an_error_and_not_damage(tmp_path, intact, change, message):
    directory = shutil.copytree(intact, tmp_path / "ckpt")
    wanted = abstract(change(make_state(0)))
    with Checkpointer(directory) as checkpointer:
        for step in (None, 1):
            with pytest.raises(UserError, match=message) as caught:
                checkpointer.restore(wanted, step)
            assert "another workdir" in str(caught.value)
            assert len(str(caught.value)) < 800
        assert checkpointer.steps() == [1, 2]


# Retention


def save_all(directory, metrics, **kwargs):
    with Checkpointer(directory, **kwargs) as checkpointer:
        for step, values in enumerate(metrics):
            checkpointer.save(step, {"x": jnp.float32(step)}, metrics=values)
        checkpointer.wait()
        return checkpointer.steps()


def test_the_last_the_best_and_every_kth_are_kept(tmp_path):
    fids = [9.0, 1.0, 5.0, 2.0, 6.0, 7.0, 8.0, 9.0, 9.0]
    metrics = [{"fid": fid} for fid in fids]
    kept = save_all(
        tmp_path, metrics, keep_last=2, keep_best=2, best_metric="fid", keep_every=4
    )
    assert kept == [0, 1, 3, 4, 7, 8]


def test_the_largest_is_best_in_mode_max(tmp_path):
    metrics = [{"score": s} for s in (1.0, 9.0, 5.0, 2.0)]
    kept = save_all(
        tmp_path, metrics, keep_last=1, best_metric="score", best_mode="max"
    )
    assert kept == [1, 3]


def test_nan_or_no_metric_is_never_best(tmp_path):
    nan, inf = float("nan"), float("inf")
    metrics = [{"fid": nan}, {"fid": -inf}, None, {"fid": 5.0}, {"loss": 0.0}, None]
    assert save_all(tmp_path, metrics, keep_last=1, best_metric="fid") == [3, 5]


def test_the_best_is_remembered_by_the_next_process(tmp_path):
    save_all(tmp_path, [{"fid": 3.0}, {"fid": 1.0}, None, None], best_metric="fid")
    with Checkpointer(tmp_path, keep_last=1, best_metric="fid") as checkpointer:
        checkpointer.save(4, {"x": jnp.ones(())}, metrics={"fid": 2.0})
        checkpointer.wait()
        assert checkpointer.steps() == [1, 4]


def test_keeping_nothing_is_refused(tmp_path):
    with pytest.raises(UserError, match="keep_last"):
        Checkpointer(tmp_path, keep_last=0)


# Ways to end


def test_an_exception_does_not_lose_the_save_in_flight(tmp_path):
    state = {"x": jnp.ones((1000, 1000))}
    with (
        pytest.raises(ZeroDivisionError),
        Checkpointer(tmp_path) as checkpointer,
    ):
        checkpointer.save(1, state)
        1 / 0  # noqa: B018
    with Checkpointer(tmp_path) as checkpointer:
        restored = checkpointer.restore(abstract(state))
    assert restored is not None
    assert_same(restored.state, state)


KILLED = textwrap.dedent("""
    import itertools, sys
    import jax
    import jax.numpy as jnp
    from genjax.training.checkpoint import Checkpointer

    with Checkpointer(sys.argv[1]) as checkpointer:
        restored = checkpointer.restore({"x": jax.ShapeDtypeStruct((100_000,), "f4")})
        first = 0 if restored is None else restored.step + 1
        for step in itertools.count(first):
            checkpointer.save(step, {"x": jnp.arange(100_000.0) * step})
            print(step, flush=True)
""")


def test_kill_9_at_any_time_leaves_an_intact_step(tmp_path):
    generator = random.Random(0)
    x = np.arange(100_000, dtype=np.float32)
    newest = -1
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        first = int(process.stdout.readline())
        time.sleep(generator.random())
        process.send_signal(signal.SIGKILL)
        reported = [first, *map(int, process.stdout.read().split())]
        process.stdout.close()
        process.wait()
        with Checkpointer(tmp_path) as checkpointer:
            restored = checkpointer.restore(
                {"x": jax.ShapeDtypeStruct((100_000,), jnp.float32)}
            )
        assert restored is not None and not list(tmp_path.glob("corrupt-*"))
        np.testing.assert_array_equal(restored.state["x"], x * restored.step)
        # The save before the last one that was begun is on disk.
        assert restored.step >= max(reported[-1] - 1, newest)
        newest = restored.step


# Disk full


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 12 MB."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"mounting a small tmpfs is not permitted: {mounted.stderr}")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def big_state(step):
    """4 MB that do not compress."""
    return {"x": jax.random.normal(jax.random.key(step), (1_000_000,))}


def assert_holds_only_step_1(directory):
    assert os.listdir(directory) == ["1"]
    with Checkpointer(directory) as checkpointer:
        restored = checkpointer.restore(abstract(big_state(1)))
    assert restored is not None and restored.step == 1
    assert_same(restored.state, big_state(1))


def test_too_little_space_is_found_before_writing(small_disk):
    directory = small_disk / "ckpt"
    with Checkpointer(directory) as checkpointer:
        checkpointer.save(1, big_state(1))
        checkpointer.wait()
        (small_disk / "filler").write_bytes(bytes(5_000_000))
        message = (
            r"checkpoint 2 could not be written to .*ckpt: the disk is full "
            r"\([\d,]+ bytes free, 4,800,000 bytes needed\)"
        )
        with pytest.raises(SaveError, match=message):
            checkpointer.save(2, big_state(2))
        assert_holds_only_step_1(directory)
        (small_disk / "filler").unlink()
        assert checkpointer.save(2, big_state(2))
    assert checkpointer.steps() == [1, 2]


@pytest.mark.parametrize("surfaces_in", ["wait", "close", "save"])
def test_a_disk_that_fills_up_while_writing(small_disk, monkeypatch, surfaces_in):
    directory = small_disk / "ckpt"
    monkeypatch.setattr(module, "SPACE_FACTOR", 0.0)  # look at nothing before
    checkpointer = Checkpointer(directory)
    checkpointer.save(1, big_state(1))
    checkpointer.wait()
    (small_disk / "filler").write_bytes(bytes(6_000_000))
    with pytest.raises(SaveError, match=r"checkpoint [23] .*the disk is full \("):
        checkpointer.save(2, big_state(2))
        if surfaces_in == "save":
            checkpointer.save(3, big_state(3))
        else:
            getattr(checkpointer, surfaces_in)()
    assert_holds_only_step_1(directory)
    checkpointer.close()


def test_the_next_save_goes_on_when_there_is_space_again(
    small_disk, monkeypatch, caplog
):
    directory = small_disk / "ckpt"
    monkeypatch.setattr(module, "SPACE_FACTOR", 0.0)
    with Checkpointer(directory) as checkpointer:
        checkpointer.save(1, big_state(1))
        checkpointer.wait()
        filler = small_disk / "filler"
        filler.write_bytes(bytes(6_000_000))
        assert checkpointer.save(2, big_state(2))
        while checkpointer._manager.is_saving_in_progress():
            time.sleep(0.01)
        filler.unlink()
        assert checkpointer.save(3, big_state(3))
        assert "checkpoint 2 could not be written" in caplog.text
        assert checkpointer.steps() == [1, 3]
        restored = checkpointer.restore(abstract(big_state(3)))
    assert restored is not None and restored.step == 3
    assert_same(restored.state, big_state(3))


def test_what_a_killed_run_left_is_removed_to_make_space(small_disk):
    directory = small_disk / "ckpt"
    leftover = directory / "2.orbax-checkpoint-tmp"
    leftover.mkdir(parents=True)
    (leftover / "data").write_bytes(bytes(9_000_000))
    with Checkpointer(directory) as checkpointer:
        checkpointer.save(1, big_state(1))
    assert_holds_only_step_1(directory)


def test_a_folder_that_is_gone_is_a_save_error(tmp_path):
    directory = tmp_path / "ckpt"
    with Checkpointer(directory) as checkpointer:
        checkpointer.save(1, make_state(1))
        checkpointer.wait()
        shutil.rmtree(directory)
        directory.write_text("in the way")
        with pytest.raises(SaveError, match="checkpoint 2 could not be written"):
            checkpointer.save(2, make_state(2))


# Noise


def test_nothing_is_printed_by_a_good_run(tmp_path, capfd, caplog):
    caplog.set_level(logging.INFO)
    logging.getLogger("absl").setLevel(logging.INFO)
    with Checkpointer(tmp_path) as checkpointer:
        for step in range(3):
            checkpointer.save(step, make_state(step))
        checkpointer.restore(ABSTRACT)
    printed = capfd.readouterr()
    assert printed.out == printed.err == caplog.text == ""


def test_tasks_of_others_are_still_reported(tmp_path, caplog):
    async def abandoned():
        raise ValueError("of somebody else")

    async def main():
        task = asyncio.ensure_future(abandoned())
        await asyncio.sleep(0)
        del task
        gc.collect()

    with Checkpointer(tmp_path):
        asyncio.run(main())
    assert "Task exception was never retrieved" in caplog.text


def test_logging_is_as_before_once_it_is_closed(tmp_path):
    def now():
        loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
        return sys.unraisablehook, [list(logger.filters) for logger in loggers]

    before = now()
    outer = Checkpointer(tmp_path)
    with Checkpointer(tmp_path):
        assert now() != before
    assert now()[0] != before[0]
    outer.close()
    assert now() == before


# Several processes


WORKER = textwrap.dedent("""
    import sys
    import jax
    directory, port, index = sys.argv[1], sys.argv[2], int(sys.argv[3])
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 2)
    jax.config.update("jax_enable_preemption_service", False)
    jax.distributed.initialize(
        f"localhost:{port}", 2, index, initialization_timeout=60
    )
    import jax.numpy as jnp
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec
    from genjax.training.checkpoint import Checkpointer

    mesh = Mesh(np.array(jax.devices()), ("fsdp",))
    sharding = NamedSharding(mesh, PartitionSpec("fsdp"))
    make = jax.jit(lambda s: {"x": jnp.arange(8.0) * s}, out_shardings=sharding)
    wanted = {"x": jax.ShapeDtypeStruct((8,), jnp.float32, sharding=sharding)}
    with Checkpointer(directory) as checkpointer:
        restored = checkpointer.restore(wanted)
        first = 1 if restored is None else restored.step + 1
        for step in (first, first + 1):
            assert checkpointer.save(step, make(float(step)))
        checkpointer.wait()
        for shard in checkpointer.restore(wanted).state["x"].addressable_shards:
            want = np.arange(8.0)[shard.index] * (first + 1)
            np.testing.assert_array_equal(np.asarray(shard.data), want)
        print(first)
""")


def run_two_processes(directory):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(directory), str(port), str(index)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for index in range(2)
    ]
    answers = [worker.communicate(timeout=120) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], answers
    return [out.split()[-1] for out, _ in answers]  # gloo is talkative


def test_two_processes_agree_on_the_damaged_step(tmp_path):
    assert run_two_processes(tmp_path) == ["1", "1"]
    shutil.rmtree(tmp_path / "2" / "state" / "d")
    assert run_two_processes(tmp_path) == ["2", "2"]
    assert sorted(os.listdir(tmp_path)) == ["2", "3", "corrupt-2"]
    with Checkpointer(tmp_path) as checkpointer:
        restored = checkpointer.restore({"x": jax.ShapeDtypeStruct((8,), jnp.float32)})
    assert restored is not None and restored.step == 3
    np.testing.assert_array_equal(restored.state["x"], np.arange(8.0) * 3)

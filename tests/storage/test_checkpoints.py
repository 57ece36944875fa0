"""Checkpoints in a bucket: committed, kept, believed and set aside."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.training.checkpoint import Checkpointer, checkpointer
from genjax.typing import SaveError, UserError


def state_of(step):
    values = jnp.arange(3000.0) + 1000 * step
    return {"weights": values.reshape(30, 100), "count": jnp.int32(step)}


ABSTRACT = jax.eval_shape(lambda: state_of(0))


def saved(folder, *steps, **options):
    with Checkpointer(folder, **options) as checkpoints:
        for step in steps:
            assert checkpoints.save(step, state_of(step))
            checkpoints.wait()


def restored(folder, step=None):
    with Checkpointer(folder) as checkpoints:
        return checkpoints.restore(ABSTRACT, step)


def assert_is(found, step):
    assert found.step == step
    for name, leaf in state_of(step).items():
        np.testing.assert_array_equal(found.state[name], leaf)


def steps_of(folder):
    with Checkpointer(folder) as checkpoints:
        return checkpoints.steps()


def data_of(server, folder, step):
    """The largest object of a step: its arrays."""
    below = server.names(f"{folder.name}/{step}/state/")
    data = [n for n in below if "/d/" in n and "ocdbt.process" in n]
    return max(data, key=lambda name: len(server.read(name)))


@pytest.fixture
def at_once(monkeypatch):
    """Reads are tried again without a pause."""
    monkeypatch.setattr(checkpointer, "PAUSES", (0.0, 0.0, 0.0))


def test_what_is_saved_comes_back_and_what_is_not_wanted_goes(server, folder):
    saved(folder, 1, 2, 3, 4, keep_last=2, keep_every=2)
    assert steps_of(folder) == [2, 3, 4]
    assert server.names(f"{folder.name}/1/") == []
    assert_is(restored(folder), 4)
    assert_is(restored(folder, step=2), 2)
    with pytest.raises(UserError, match="no checkpoint 1 .* available steps: 2, 3, 4"):
        restored(folder, step=1)


def test_an_empty_folder_holds_no_checkpoint(folder):
    assert restored(folder) is None


def test_a_damaged_object_is_marked_and_an_older_step_is_used(server, folder, caplog):
    saved(folder, 1, 2)
    name = data_of(server, folder, 2)
    content = bytearray(server.read(name))
    content[len(content) // 2] ^= 1
    server.put(name, bytes(content))
    assert_is(restored(folder), 1)
    assert "checkpoint 2 is damaged" in caplog.text
    assert f"{folder}/2/CORRUPT" in caplog.text
    asked = len(server.asked)
    assert_is(restored(folder), 1)
    tried = [line for line in server.asked[asked:] if f"{folder.name}/2/state" in line]
    assert tried == []
    # The run goes on: the step makes room for a new one, and is kept all the same.
    before = server.names(f"{folder.name}/2/")
    saved(folder, 2)
    assert_is(restored(folder), 2)
    moved = server.names(f"{folder.name}/corrupt-2/")
    assert [n.replace("/corrupt-2/", "/2/") for n in moved] == before
    assert server.read(name.replace("/2/", "/corrupt-2/")) == content


def test_an_object_that_is_gone_is_damage(server, folder):
    saved(folder, 1, 2)
    del server.objects[data_of(server, folder, 2)]
    assert_is(restored(folder), 1)
    assert server.names(f"{folder.name}/2/CORRUPT")


def test_when_all_are_damaged_it_says_so(server, folder):
    saved(folder, 1)
    server.put(f"{folder.name}/1/meta/metadata", b"{}")
    for _ in range(2):  # also where it is known already
        with pytest.raises(UserError, match="is intact; they were marked by an object"):
            restored(folder)


def test_a_save_that_was_cut_short_is_no_checkpoint(server, folder):
    saved(folder, 1, 2)
    del server.objects[f"{folder.name}/2/commit_success.txt"]
    assert steps_of(folder) == [1]
    assert_is(restored(folder), 1)
    assert server.names(f"{folder.name}/2/")  # a reader touches nothing
    saved(folder, 3, keep_last=3)
    assert server.names(f"{folder.name}/2/") == []
    assert steps_of(folder) == [1, 3]


def test_a_removal_that_was_cut_short_leaves_no_half_of_a_step(server, folder, caplog):
    def only_the_first(method, target):
        stays = method == "DELETE" and "/1/" in target and "1/commit" not in target
        return 403 if stays else None

    with Checkpointer(folder, keep_last=1) as checkpoints:
        checkpoints.save(1, state_of(1))
        checkpoints.wait()
        server.fault = only_the_first
        checkpoints.save(2, state_of(2))
        checkpoints.wait()
        assert "old checkpoints were not removed" in caplog.text
        assert server.names(f"{folder.name}/1/state/")
        assert checkpoints.steps() == [2]
        server.fault = lambda method, target: None
        checkpoints.save(3, state_of(3))
        checkpoints.wait()
        assert server.names(f"{folder.name}/1/") == []
        assert checkpoints.steps() == [3]


@pytest.mark.parametrize("status", [401, 403])
def test_lost_permission_is_no_damage(server, folder, at_once, status):
    saved(folder, 1, 2)
    before = server.names(f"{folder.name}/")
    of_the_step = f"{folder.name}/2/"
    server.fault = lambda method, target: status if of_the_step in target else None
    with pytest.raises(
        UserError, match="checkpoints in gs://.* cannot be read: .*refuses"
    ):
        restored(folder)
    # the arrays alone
    server.fault = lambda method, target: (
        status if of_the_step in target and "alt=media" in target else None
    )
    with pytest.raises(UserError, match="cannot be read here .* left as it is"):
        restored(folder)
    server.fault = lambda method, target: None
    assert server.names(f"{folder.name}/") == before
    assert_is(restored(folder), 2)


def test_a_save_without_permission_is_told_in_a_sentence(server, folder, caplog):
    caplog.set_level(logging.ERROR)
    with Checkpointer(folder) as checkpoints:
        checkpoints.save(1, state_of(1))
        checkpoints.wait()
        server.fault = lambda method, target: 403 if method == "POST" else None
        message = r"checkpoint 2 could not be written to gs://.* bytes to write\)"
        with pytest.raises(SaveError, match=message):
            checkpoints.save(2, state_of(2))
            checkpoints.wait()
        server.fault = lambda method, target: None
        checkpoints.save(3, state_of(3))
        checkpoints.wait()
    assert caplog.text == ""
    assert_is(restored(folder), 3)


@pytest.mark.parametrize("status", [503, 0])
def test_a_storm_of_failing_requests_is_waited_out(server, folder, status):
    saved(folder, 1)
    failed = set()

    def storm(method, target):
        """Each object's first request of each kind fails, as long as it rages."""
        what = method, target.partition("?")[0]
        if what in failed or len(failed) > 4:
            return None
        failed.add(what)
        return status

    server.fault = storm
    assert_is(restored(folder), 1)
    failed.clear()
    saved(folder, 2)
    assert len(failed) == 5
    assert_is(restored(folder), 2)
    assert not [name for name in server.names(f"{folder.name}/") if "CORRUPT" in name]

"""Processes that differ are refused; here they are threads with a real coordinator."""

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from jax._src.lib import _jax

from genjax.training import agreement
from genjax.training.agreement import Agreement
from genjax.typing import LostProcess, UserError


@contextlib.contextmanager
def processes(count: int) -> Iterator[list[Agreement]]:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    service = _jax.get_distributed_runtime_service(f"localhost:{port}", count)
    clients = [
        _jax.get_distributed_runtime_client(f"localhost:{port}", i, init_timeout=20)
        for i in range(count)
    ]
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(lambda client: client.connect(), clients))
        yield [Agreement(client, i, count) for i, client in enumerate(clients)]
        list(pool.map(lambda client: client.shutdown(), clients))
    service.shutdown()


def outcomes(
    agreements: list[Agreement], act: Callable[[Agreement, int], object]
) -> list[str]:
    """What each process is told; "" where it may go on."""

    def one(i: int) -> str:
        try:
            act(agreements[i], i)
        except UserError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(len(agreements)) as pool:
        return list(pool.map(one, range(len(agreements))))


def test_the_same_facts_let_all_go_on():
    with processes(3) as all_three:
        facts = {"config.lr": 0.1, "--mode": "train"}
        assert outcomes(all_three, lambda a, i: a.on("x", facts)) == ["", "", ""]


def test_a_difference_is_named_with_both_values_in_every_process():
    with processes(3) as all_three:
        told = outcomes(
            all_three,
            lambda a, i: a.on("x", {"config.lr": 0.5 if i == 2 else 0.1, "n": 1}),
        )
    assert len(set(told)) == 1
    assert "config.lr is 0.1 in process 0 and 0.5 in process 2" in told[0]
    assert "n is" not in told[0]


def test_a_field_that_one_lacks_and_many_that_differ():
    with processes(2) as both:
        told = outcomes(both, lambda a, i: a.on("x", {f"f{i}{j}": j for j in range(5)}))
    assert "f00 is 0 in process 0 and absent in process 1" in told[1]
    assert "and 6 more differ" in told[1] and told[0] == told[1]


def test_one_folder_under_two_names_is_shared_and_left_as_it_was(tmp_path):
    (tmp_path / "disk").mkdir()
    os.symlink(tmp_path / "disk", tmp_path / "link")
    paths = [tmp_path / "disk/a/b", tmp_path / "link/a/b"]
    with processes(2) as both:
        told = outcomes(both, lambda a, i: a.on_folder(paths[i]))
    assert told == ["", ""]
    assert list((tmp_path / "disk").iterdir()) == []


def test_two_folders_of_one_name_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(agreement, "FOLDER_SECONDS", 0.5)
    with processes(3) as all_three:
        told = outcomes(all_three, lambda a, i: a.on_folder(tmp_path / f"disk{i}/run"))
    assert "of process 1 on" in told[0] and "1 more differ" in told[0]
    assert told[0] == told[1] == told[2]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_process_0_cannot_write_ends_all(tmp_path):
    (tmp_path / "file").write_text("")
    with processes(2) as both:
        told = outcomes(both, lambda a, i: a.on_folder(tmp_path / "file"))
    assert told[0] == told[1] and "cannot be written" in told[0]


def test_the_one_that_knows_later_is_told_without_waiting():
    with processes(3) as (first, second, third):
        first.without_waiting("data", "abc", of="mnist")
        second.without_waiting("data", "abc", of="mnist")
        second.without_waiting("data", "other", of="cifar10")  # 0 has not loaded it
        with pytest.raises(UserError, match="data is abc in process 0 and abd in proc"):
            third.without_waiting("data", "abd", of="mnist")
        with pytest.raises(UserError, match="process 0 and other in process 1"):
            first.without_waiting("data", "mine", of="cifar10")


def test_one_that_does_not_answer_is_lost(monkeypatch):
    monkeypatch.setattr(agreement, "SECONDS", 0.2)
    with processes(2) as (first, _), pytest.raises(LostProcess):
        first.on("x", {})

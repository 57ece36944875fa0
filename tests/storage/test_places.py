"""Paths of a bucket, leases, and files that grow."""

import json
import logging
import os
import socket
import threading
import time
from pathlib import Path

import pytest

import genjax.places
from genjax import disk
from genjax.places import BucketError, bucket, growing, lease, place
from genjax.places.growing import Growing
from genjax.training import workdir
from genjax.typing import SaveError, Stopped, UserError


def silent(text):
    del text


# Paths


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "--workdir needs a path, and is empty"),
        ("s3://a/b", "--workdir=s3://a/b is neither a local path nor gs://"),
        ("hdfs://a/b", "neither a local path nor gs://"),
        ("gs://", "names no bucket: write it like gs://bucket/run"),
        ("gs:///run", "names no bucket"),
        ("gs://bucket/b?c", "holds one of"),
        ("gs://bucket/a/../b", "a part '..'"),
    ],
)
def test_a_path_of_no_known_place_is_refused(text, said):
    with pytest.raises(UserError) as caught:
        place(text, "--workdir")
    assert said in str(caught.value)


def test_a_bucket_without_its_packages_is_refused(monkeypatch):
    monkeypatch.setattr(genjax.places, "PACKAGES", ("gcsfs", "not_there.at_all"))
    with pytest.raises(UserError, match=r"pip install 'genjax-models\[gcs\]'"):
        place("gs://bucket/run")


def test_a_path_of_a_bucket_is_put_together_as_any_path(folder):
    path = place("gs://bucket//a/b.json")
    assert isinstance(path, Path)
    assert str(path) == os.fspath(path) == f"{path}" == "gs://bucket/a/b.json"
    assert path.parent / "c" == place("gs://bucket/a/c")
    assert place(path) == path.absolute() == path.expanduser() == path
    assert (path.name, path.suffix, path.stem) == ("b.json", ".json", "b")
    assert str(path.with_suffix(".md")) == "gs://bucket/a/b.md"
    assert str(path.relative_to(place("gs://bucket"))) == "a/b.json"


def test_a_folder_of_a_bucket_has_what_lies_below_it(folder):
    (folder / "a" / "one.txt").write_text("é\n")
    (folder / "b.npy").write_bytes(b"123")
    (folder / "a" / "deep" / "two").write_bytes(b"")
    assert (folder / "a" / "one.txt").read_text() == "é\n"
    assert sorted(p.name for p in folder.iterdir()) == ["a", "b.npy"]
    assert [p.name for p in folder.glob("*.npy")] == ["b.npy"]
    assert [p.is_dir() for p in (folder, folder / "a", folder / "b.npy")] == [1, 1, 0]
    assert (folder / "b.npy").is_file() and not (folder / "a").is_file()
    assert (folder / "a").exists() and not (folder / "b").exists()
    assert (folder / "b.npy").stat().st_size == 3
    assert len(folder.objects()) == 3
    (folder / "b.npy").unlink()
    (folder / "b.npy").unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        (folder / "b.npy").read_bytes()
    with pytest.raises(FileNotFoundError):
        (folder / "b.npy").unlink()


def test_a_file_is_put_whole_or_not_at_all(folder):
    path = folder / "file"
    with path.open("w") as file:
        file.write("whole")
    with pytest.raises(ZeroDivisionError), disk.replacing(path) as file:
        file.write(b"half")
        1 / 0  # noqa: B018
    with pytest.raises(ZeroDivisionError), path.open("wb") as file:
        file.write(b"half")
        1 / 0  # noqa: B018
    with path.open() as file:
        assert file.read() == "whole"
    disk.write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    disk.check_writable(folder, "--out=")
    assert [p.name for p in folder.iterdir()] == ["file"]


@pytest.mark.parametrize("status", [503, 429, 0])
def test_a_request_that_fails_is_made_again(server, folder, status):
    failed = set()

    def once(method, target):
        seen = method, target in failed
        failed.add(target)
        return None if seen[1] else status

    (folder / "file").write_bytes(b"before")
    server.fault = once
    assert (folder / "file").read_bytes() == b"before"
    (folder / "file").write_bytes(b"after")
    assert server.read(f"{folder.name}/file") == b"after"


def test_lost_permission_and_a_dead_server_are_told_in_a_sentence(
    server, folder, monkeypatch
):
    monkeypatch.setattr(bucket, "PATIENCE", 0.2)
    server.fault = lambda method, target: 403
    refused = r"--out=gs://bucket/.* cannot be written: .* refuses access \(403\)"
    with pytest.raises(UserError, match=refused):
        disk.check_writable(folder, "--out=")
    with pytest.raises(BucketError, match="refuses access"):
        (folder / "file").exists()
    server.fault = lambda method, target: 503
    unsaved = "cannot write gs://bucket/.*: Google Cloud Storage does not answer"
    with pytest.raises(SaveError, match=unsaved):
        disk.write_atomically(folder / "file", b"x")


def test_missing_credentials_are_told_in_a_sentence(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(bucket, "_client", bucket._client.__wrapped__)
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    monkeypatch.setenv("GCE_METADATA_HOST", "localhost:9")  # no VM of Google's
    monkeypatch.setenv("HOME", str(tmp_path))
    for ask in (folder.exists, folder.is_dir, (folder / "file").read_bytes):
        with pytest.raises(UserError, match=r"no credentials .*`gcloud auth appl"):
            ask()


def test_a_bucket_that_is_not_there_is_named(server):
    with pytest.raises(UserError, match="there is no bucket elsewhere"):
        disk.check_writable(place("gs://elsewhere/run"), "--out=")


# Leases


def a_lease(seconds, host="other"):
    """As a run on another machine writes it."""
    own = {"host": host, "pid": 7, "started": "2026-01-02T03:04:05+00:00"}
    return json.dumps({**own, "seconds": seconds, "nonce": "a"}).encode()


def test_a_second_run_is_refused_and_told_by_whom(server, folder):
    with workdir.lock(folder, lease_seconds=1.0) as check:
        said = []
        message = rf"in use by process {os.getpid()} on {socket.gethostname()} since "
        with (
            pytest.raises(UserError, match=message + r"20\S+, with a lease until 20"),
            workdir.lock(folder, lease_seconds=1.0, say=said.append),
        ):
            pytest.fail("entered")
        check()
        assert ["is leased by" in line for line in said] == [True]
    assert server.names(f"{folder.name}/") == []  # given back
    with workdir.lock(folder):
        pass


def test_the_lease_of_a_killed_run_is_taken_over_and_told(server, folder):
    server.put(f"{folder.name}/LOCK", a_lease(seconds=0.5))
    said, began = [], time.monotonic()
    with workdir.lock(folder, say=said.append) as check:
        assert time.monotonic() - began > 0.5  # it might have been alive
        assert json.loads((folder / "LOCK").read_bytes())["pid"] == os.getpid()
        check()
    assert "the lease of process 7 on other since 2026-01-02T03:04:05" in said[-1]
    assert "ran out at 20" in said[-1] and "taken over" in said[-1]


def test_who_is_asked_to_stop_waits_no_longer(server, folder):
    server.put(f"{folder.name}/LOCK", a_lease(seconds=60))
    with (
        pytest.raises(Stopped, match="while waiting for a lease"),
        workdir.lock(folder, stop=lambda: True),
    ):
        pytest.fail("entered")
    assert server.read(f"{folder.name}/LOCK") == a_lease(seconds=60)


def test_of_two_that_wait_for_a_dead_run_one_gets_the_folder(server, folder):
    server.put(f"{folder.name}/LOCK", a_lease(seconds=0.5))
    outcomes, both = [], threading.Barrier(2, timeout=10)

    def compete():
        try:
            with workdir.lock(folder, lease_seconds=1.0):
                outcomes.append("in")
                both.wait()
        except UserError:
            outcomes.append("refused")
            both.wait()

    threads = [threading.Thread(target=compete) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["in", "refused"]


def test_a_run_whose_lease_was_taken_stops(server, folder):
    with workdir.lock(folder, lease_seconds=1.0) as check:
        server.put(f"{folder.name}/LOCK", a_lease(seconds=60, host="thief"))
        deadline = time.monotonic() + 5
        with pytest.raises(SaveError, match="taken over by process 7 on thief"):
            while time.monotonic() < deadline:
                check()
                time.sleep(0.05)
    # what is another's stays
    assert json.loads(server.read(f"{folder.name}/LOCK"))["host"] == "thief"


def test_a_run_that_slept_too_long_asks_before_it_goes_on(server, folder):
    one = lease._Lease(folder, 0.3)  # no thread renews it, as in a stopped process
    one.take(silent)
    time.sleep(0.4)
    asked = len(server.asked)
    one.check()
    assert len(server.asked) == asked + 1
    server.put(f"{folder.name}/LOCK", a_lease(seconds=60))
    one.check()  # its own time is not over: it has not asked yet
    time.sleep(0.4)
    with pytest.raises(SaveError, match="taken over by process 7"):
        one.check()


def test_a_lease_that_cannot_be_renewed_ends_the_run(server, folder, monkeypatch):
    monkeypatch.setattr(bucket, "PATIENCE", 0.2)
    one = lease._Lease(folder, 0.3)
    one.take(silent)
    server.fault = lambda method, target: 503
    one.check()
    time.sleep(0.4)
    with pytest.raises(SaveError, match="ran out and could not be renewed"):
        one.check()


def test_a_renewal_whose_answer_was_lost_is_no_loss(server, folder):
    with workdir.lock(folder, lease_seconds=1.0) as check:
        answered = threading.Event()

        def lose(method, target):
            """Does what is asked, and breaks the connection."""
            if method != "POST" or answered.is_set():
                return None
            answered.set()
            return -1

        server.fault = lose
        assert answered.wait(5)
        time.sleep(1.5)
        check()


# Files that grow


def test_a_file_grows_here_and_lies_whole_in_the_bucket(server, folder, monkeypatch):
    name = f"{folder.name}/lines"
    server.put(name, b"old\n")
    files = Growing(folder, "lines")
    with open(files.folder / "lines", "ab", buffering=0) as file:
        file.write(b"one\n")
        files.sync()  # a moment after the last upload: not yet
        assert server.read(name) == b"old\n"
        files.sync(now=True)
        assert server.read(name) == b"old\none\n"
        asked = len(server.asked)
        files.sync(now=True)  # nothing is new
        assert len(server.asked) == asked
        monkeypatch.setattr(files._copy, "_wait", 0.0)
        file.write(b"two\n")
        files.sync()
        assert server.read(name) == b"old\none\ntwo\n"
        file.write(b"three\n")
    here = files.folder
    files.close()
    assert server.read(name).endswith(b"three\n")
    assert not here.exists()


def test_what_another_run_wrote_is_not_written_over(server, folder):
    files = Growing(folder, "lines")
    (files.folder / "lines").write_bytes(b"mine\n")
    server.put(f"{folder.name}/lines", b"another's\n")
    with pytest.raises(FileExistsError, match="changed by another"):
        files.close()
    assert server.read(f"{folder.name}/lines") == b"another's\n"


def test_an_upload_that_fails_is_told_once_and_made_later(
    server, folder, monkeypatch, caplog
):
    monkeypatch.setattr(bucket, "PATIENCE", 0.2)
    monkeypatch.setattr(growing, "PERIOD", 0.0)
    monkeypatch.setattr(growing, "SHARE", 0)
    caplog.set_level(logging.WARNING)
    files = Growing(folder, "lines")
    (files.folder / "lines").write_bytes(b"1")
    server.fault = lambda method, target: 503
    files.sync()
    files.sync()
    assert [r.message.count("trying again later") for r in caplog.records] == [1]
    with pytest.raises(BucketError, match="does not answer"):
        files.sync(now=True)
    server.fault = lambda method, target: None
    files.sync()
    assert server.read(f"{folder.name}/lines") == b"1"
    files.close()

import json
import os
import subprocess
import sys
import textwrap

import pytest

from genjax.training import workdir
from genjax.typing import UserError
from tests.specs import MNIST as SPEC

CONFIG = {
    "experiment": "ddpm",
    "seed": 0,
    "data": {"name": "mnist", "dir": None},
    "model": {"channels": (32, 64), "dropout": 0.1},
    "optim": {"learning_rate": 1e-3, "clip": float("nan")},
    "training": {"num_steps": 1000, "log_every": 10, "keep_last": 2},
    "sampler": {"num_steps": 50},
    "evaluation": {"batch_size": 8},
    "mesh": {"fsdp": 1},
}


def changed(**fields):
    config = json.loads(json.dumps(CONFIG))
    for name, value in fields.items():
        section, field = name.split("__")
        config[section][field] = value
    return config


# The lock


HOLD = textwrap.dedent("""
    import sys, time
    from genjax.training import workdir
    with workdir.lock(sys.argv[1]):
        print("held", flush=True)
        time.sleep(60)
""")


@pytest.fixture
def holder(tmp_path):
    """A second process that holds the lock of tmp_path."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=os.getcwd(),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_run_is_refused_and_touches_nothing(tmp_path, holder):
    def everything():
        return {
            path: (path.read_bytes(), path.stat().st_mtime_ns)
            for path in tmp_path.iterdir()
        }

    before = everything()
    message = rf"in use by process {holder.pid} on .+ since 20\d\d-"
    with pytest.raises(UserError, match=message), workdir.lock(tmp_path):
        pytest.fail("entered")
    assert everything() == before
    assert list(before) == [tmp_path / "LOCK"]


def test_the_lock_of_a_killed_run_is_free(tmp_path, holder):
    holder.kill()
    holder.wait()
    with workdir.lock(tmp_path):
        assert json.loads((tmp_path / "LOCK").read_text())["pid"] == os.getpid()


def test_the_lock_is_free_after_an_exception(tmp_path):
    with pytest.raises(ZeroDivisionError), workdir.lock(tmp_path):
        1 / 0  # noqa: B018
    with workdir.lock(tmp_path) as check:
        check()


def test_lock_makes_the_folder_and_resolves_the_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with workdir.lock("~/runs/one"):
        assert (tmp_path / "runs" / "one").is_dir()


def test_a_workdir_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(UserError, match=r"file cannot be written: File exists"),
        workdir.lock(tmp_path / "file"),
    ):
        pytest.fail("entered")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_workdir_that_cannot_be_written_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="Permission denied"), workdir.lock(tmp_path):
        pytest.fail("entered")


def test_a_read_only_file_system_is_refused():
    # procfs, like a read-only mount, refuses new files even to root
    with pytest.raises(UserError, match="cannot be "), workdir.lock("/proc"):
        pytest.fail("entered")


def test_a_file_system_without_locks_only_warns(tmp_path, monkeypatch, caplog):
    def unsupported(file, operation):
        raise OSError(workdir.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(workdir.fcntl, "flock", unsupported)
    with workdir.lock(tmp_path):
        assert "without locks" in caplog.text


# config.json


def test_config_round_trip(tmp_path):
    workdir.write_config(tmp_path, CONFIG)
    read = workdir.read_config(tmp_path)
    assert read["model"]["channels"] == [32, 64]
    assert read["optim"]["clip"] != read["optim"]["clip"]  # NaN
    assert {**read, "model": 0, "optim": 0} == {**CONFIG, "model": 0, "optim": 0}
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    record = json.loads((tmp_path / "config.json").read_text())
    assert record["config_hash"] == workdir.config_hash(CONFIG)
    assert set(record) == {
        "config",
        "config_hash",
        "config_file",
        "data",
        "data_notes",
        "code",
        "init_from",
        "genjax_version",
        "jax_version",
        "git_revision",
    }


def test_a_run_comes_back_as_it_was_written(tmp_path):
    file = tmp_path / "mine.py"
    file.touch()
    known = {"spec": SPEC, "fingerprint": "abc", "code": {"a.py": "def"}}
    workdir.write_config(tmp_path, CONFIG, **known, config_file=file)
    stored = workdir.read_run(tmp_path)
    assert stored.config["model"]["channels"] == (32, 64)  # a tuple again
    assert (stored.spec, stored.fingerprint, stored.code) == tuple(known.values())
    assert stored.config_file == file
    file.unlink()
    assert workdir.read_run(tmp_path).config_file is None


@pytest.mark.parametrize(
    "wrong", [{"code": [1]}, {"init_from": "x"}, {"data": [2]}, {"data": "ab"}]
)
def test_a_record_of_other_types_is_damaged(tmp_path, wrong):
    workdir.write_config(tmp_path, CONFIG)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | wrong))
    with pytest.raises(UserError, match=r"config\.json is damaged"):
        workdir.read_run(tmp_path)


def test_a_run_may_be_made_longer_and_not_shorter(tmp_path):
    """num_steps may rise, and decay_steps with it; else all is as it was."""

    def of(num_steps, decay_steps, seed=0):
        training = {"num_steps": num_steps}
        return {"training": training, "optim": {"decay_steps": decay_steps}, "s": seed}

    check = workdir.check_same_config
    workdir.write_config(tmp_path, of(40, 40))
    for longer in (of(40, 40), of(80, 40), of(80, 80)):
        check(tmp_path, longer)
    for other in (of(30, 40), of(40, 80), of(80, 30), of(80, 40, seed=1)):
        with pytest.raises(UserError, match="another config"):
            check(tmp_path, other)
    with pytest.raises(UserError, match="--extend_to=40 to go on as far as it was"):
        check(tmp_path, of(30, 40))
    check(tmp_path, of(30, 30), to_train=False)
    steps = {"training.num_steps": (40, 80)}
    assert workdir.raised(tmp_path, of(80, 40)) == steps
    assert workdir.raised(tmp_path, of(30, 40)) == {}


def test_a_run_of_which_little_is_known(tmp_path):
    workdir.write_config(tmp_path, CONFIG)
    stored = workdir.read_run(tmp_path)
    assert (stored.spec, stored.fingerprint, stored.code) == (None, None, None)


def test_data_that_are_garbled_are_refused(tmp_path):
    workdir.write_config(tmp_path, CONFIG, spec=SPEC)
    file = tmp_path / "config.json"
    file.write_text(file.read_text().replace('"num_levels"', '"levels"'))
    with pytest.raises(UserError, match=r"config\.json is damaged"):
        workdir.read_run(tmp_path)


def test_git_revision_is_that_of_the_code(tmp_path):
    workdir.write_config(tmp_path, CONFIG)
    revision = json.loads((tmp_path / "config.json").read_text())["git_revision"]
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    if head.returncode != 0:
        pytest.skip("not in a git repository with a commit")
    assert revision.removesuffix("-dirty") == head.stdout.strip()


def test_a_failed_write_leaves_the_old_config(tmp_path):
    workdir.write_config(tmp_path, CONFIG)
    with pytest.raises(TypeError):
        workdir.write_config(tmp_path, {"seed": object()})
    assert workdir.read_config(tmp_path)["experiment"] == "ddpm"
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_missing_config_is_named(tmp_path):
    with pytest.raises(UserError, match=r"there is no .*config\.json"):
        workdir.read_config(tmp_path)


@pytest.mark.parametrize("keep", [0, 1, 100])
def test_a_truncated_config_is_refused(tmp_path, keep):
    workdir.write_config(tmp_path, CONFIG)
    file = tmp_path / "config.json"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"config\.json is damaged"):
        workdir.read_config(tmp_path)
    with pytest.raises(UserError, match=r"config\.json is damaged"):
        workdir.check_same_config(tmp_path, CONFIG)


@pytest.mark.parametrize("text", ["[]", "{}", '{"config": 3}', "\udcff", "null"])
def test_a_garbled_config_is_refused(tmp_path, text):
    data = text.encode(errors="surrogateescape")
    (tmp_path / "config.json").write_bytes(data)
    with pytest.raises(UserError, match=r"config\.json is damaged"):
        workdir.read_config(tmp_path)


# The same config or another?


def test_the_same_config_may_go_on(tmp_path):
    workdir.check_same_config(tmp_path, CONFIG)  # a new run
    workdir.write_config(tmp_path, CONFIG)
    workdir.check_same_config(tmp_path, CONFIG)
    workdir.check_same_config(tmp_path, changed())  # lists for tuples


@pytest.mark.parametrize(
    "free",
    [
        {"sampler__num_steps": 7},
        {"evaluation__batch_size": 7},
        {"mesh__fsdp": 4},
        {"data__dir": "elsewhere"},
        {"training__log_every": 1},
        {"training__keep_last": 9},
        {"training__keep_every": 9},
    ],
)
def test_free_fields_may_change(tmp_path, free):
    workdir.write_config(tmp_path, CONFIG)
    workdir.check_same_config(tmp_path, changed(**free))
    assert workdir.config_hash(changed(**free)) == workdir.config_hash(CONFIG)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"optim__learning_rate": 0.01}, "optim.learning_rate: 0.001 -> 0.01"),
        ({"training__num_steps": 7}, "training.num_steps: 1000 -> 7"),
        ({"model__channels": (32, 65)}, r"model.channels: \[32, 64\] -> \[32, 65\]"),
        ({"optim__clip": 1.0}, "optim.clip: NaN -> 1"),
        ({"optim__new": 1}, "optim.new: absent -> 1"),
        ({"data__name": True}, 'data.name: "mnist" -> true'),
    ],
)
def test_a_changed_field_is_shown(tmp_path, given, line):
    workdir.write_config(tmp_path, CONFIG)
    with pytest.raises(UserError, match=line) as caught:
        workdir.check_same_config(tmp_path, changed(**given))
    assert str(caught.value).count(" -> ") == 1
    assert "--workdir" in str(caught.value)
    assert "--override_config" in str(caught.value)
    assert workdir.config_hash(changed(**given)) != workdir.config_hash(CONFIG)


def test_many_changes_are_cut_short(tmp_path):
    workdir.write_config(tmp_path, CONFIG)
    many = changed(**{f"optim__extra{i}": i for i in range(11)})
    with pytest.raises(UserError, match="and 3 more") as caught:
        workdir.check_same_config(tmp_path, many)
    assert str(caught.value).count(" -> ") == 8


def test_a_number_is_equal_as_integer_and_as_float(tmp_path):
    workdir.write_config(tmp_path, changed(optim__clip=1))
    workdir.check_same_config(tmp_path, changed(optim__clip=1.0))
    with pytest.raises(UserError, match="1 -> true"):
        workdir.check_same_config(tmp_path, changed(optim__clip=True))


def test_config_hash_known_value():
    # printf '{"a.b": [1, 2], "c": null}' | sha256sum
    assert workdir.config_hash({"c": None, "a": {"b": (1.0, 2)}}) == (
        "826756dccf47e238e7f76105573907ddf3ef34f586e62295fae2cb60289bf1e8"
    )

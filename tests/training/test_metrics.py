import contextlib
import json
import resource
import struct

import jax.numpy as jnp
import numpy as np
import pytest

from genjax.training.metrics import (
    MetricWriter,
    read_lines,
    write_atomically,
    write_evaluation,
)
from genjax.typing import SaveError, UserError


def lines(workdir):
    text = (workdir / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def write_steps(workdir, steps, resume_step=None):
    said = []
    with MetricWriter(workdir, resume_step, say=said.append) as writer:
        for step in steps:
            writer.write(
                step, "train", {"loss": 1 / step}, images_seen=8 * step, seconds=1.5
            )
    return said


@pytest.fixture
def full_disk():
    """A context in which no file may grow: the system refuses every write."""

    @contextlib.contextmanager
    def full():
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return full


def tensorboard_events(workdir):
    """All events of all files in the order of their names, read as tfrecords."""
    from tensorboardX.proto import event_pb2

    events = []
    for path in sorted((workdir / "tensorboard").iterdir()):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            events.append(event_pb2.Event.FromString(content[12 : 12 + length]))
            content = content[16 + length :]
    return events


def test_a_line_is_readable_as_soon_as_it_is_written(tmp_path):
    with MetricWriter(tmp_path, None) as writer:
        writer.write(
            3, "eval", {"loss": jnp.float32(0.5)}, images_seen=24, seconds=1.23456
        )
        assert lines(tmp_path) == [
            {
                "step": 3,
                "split": "eval",
                "images_seen": 24,
                "seconds": 1.235,
                "loss": 0.5,
            }
        ]


def test_what_is_not_finite_is_null(tmp_path):
    with MetricWriter(tmp_path, None) as writer:
        writer.write(1, "train", {"loss": np.nan}, images_seen=1, seconds=0.0)
    assert lines(tmp_path)[0]["loss"] is None
    assert np.isnan(read_lines(tmp_path, "train")[0]["loss"])


@pytest.mark.parametrize("step", ["Infinity", "NaN", '"x"', "null"])
def test_a_step_that_is_no_number_is_named(tmp_path, step):
    bad = f'{{"step": {step}, "split": "train"}}\n'
    (tmp_path / "metrics.jsonl").write_text(bad + '{"step": 2, "split": "train"}\n')
    with pytest.raises(UserError, match="line 1 of .* is no line of metrics"):
        MetricWriter(tmp_path, 1)


def test_lines_are_read_as_they_were_written(tmp_path):
    assert read_lines(tmp_path, "train") == []
    write_steps(tmp_path, [1, 2])
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 3, "split": "tr')  # a crash
    found = read_lines(tmp_path, "train")
    assert [(line["step"], line["loss"]) for line in found] == [(1, 1.0), (2, 0.5)]
    assert read_lines(tmp_path, "eval") == []


def test_a_metric_cannot_take_the_name_of_a_field(tmp_path):
    with (
        MetricWriter(tmp_path, None) as writer,
        pytest.raises(ValueError, match="step"),
    ):
        writer.write(1, "train", {"step": 2.0}, images_seen=1, seconds=0.0)


def test_resuming_drops_later_lines(tmp_path):
    write_steps(tmp_path, [1, 2, 3, 4])
    (said,) = write_steps(tmp_path, [3, 5], resume_step=2)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 5]
    assert "dropped 2 lines" in said and "step 2" in said


def test_resuming_where_nothing_is_later_says_nothing(tmp_path):
    write_steps(tmp_path, [1, 2])
    assert write_steps(tmp_path, [3], resume_step=2) == []
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3]


@pytest.mark.parametrize("cut", [1, 5, 60])
def test_a_line_cut_short_by_a_crash_is_dropped(tmp_path, cut):
    write_steps(tmp_path, [1, 2])
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    (said,) = write_steps(tmp_path, [2], resume_step=2)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2]
    assert "dropped 1 line " in said


def test_a_run_that_begins_again_drops_everything(tmp_path):
    write_steps(tmp_path, [1, 2])
    assert "dropped 2 lines" in write_steps(tmp_path, [1])[0]
    assert [line["step"] for line in lines(tmp_path)] == [1]


def test_damage_before_the_last_line_is_not_hidden(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\nrubbish\n{"step": 2}\n')
    with pytest.raises(UserError, match=r"line 2 of .*metrics\.jsonl"):
        MetricWriter(tmp_path, 2)
    assert "rubbish" in (tmp_path / "metrics.jsonl").read_text()


def test_tensorboard_has_the_scalars_and_hides_what_is_redone(tmp_path):
    write_steps(tmp_path, [1, 2])
    write_steps(tmp_path, [2], resume_step=1)
    events = tensorboard_events(tmp_path)
    scalars = [
        (e.step, value.tag, value.simple_value)
        for e in events
        for value in e.summary.value
    ]
    assert scalars == [
        (1, "train/loss", 1.0),
        (2, "train/loss", 0.5),
        (2, "train/loss", 0.5),
    ]
    starts = [e.step for e in events if e.HasField("session_log")]
    assert starts == [0, 2]  # TensorBoard purges from this step on


def test_tensorboard_has_the_pictures(tmp_path):
    import io

    from PIL import Image

    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    with MetricWriter(tmp_path, None) as writer:
        writer.images(4, "samples", picture)
    (value,) = [v for e in tensorboard_events(tmp_path) for v in e.summary.value]
    decoded = Image.open(io.BytesIO(value.image.encoded_image_string))
    np.testing.assert_array_equal(np.asarray(decoded), picture)


def test_evaluations_are_one_file_a_step(tmp_path):
    result = {"protocol": {"weights": "ema"}, "metrics": {"nll_nats": 2.5}}
    path = write_evaluation(tmp_path, 70, result)
    assert path == tmp_path / "evaluation" / "70.json"
    assert json.loads(path.read_text()) == {"step": 70, **result}
    assert list(path.parent.iterdir()) == [path]
    bad = {"metrics": {"fid": np.inf, "all": [1.0, (np.nan, 2)]}}
    text = write_evaluation(tmp_path, 71, bad, suffix="_bad").read_text()
    assert json.loads(text)["metrics"] == {"fid": None, "all": [1.0, [None, 2]]}
    other = write_evaluation(tmp_path, 70, {"metrics": {}}, suffix="_raw")
    assert other == tmp_path / "evaluation" / "70_raw.json"
    assert json.loads(path.read_text()) == {"step": 70, **result}


def test_a_full_disk_is_a_save_error_and_leaves_whole_lines(tmp_path, full_disk):
    write_steps(tmp_path, [1])
    message = r"metrics\.jsonl: File too large; [\d,]+ bytes are free"
    with MetricWriter(tmp_path, 1) as writer:
        with full_disk(), pytest.raises(SaveError, match=message):
            writer.write(2, "train", {"loss": 1.0}, images_seen=1, seconds=0.0)
    assert [line["step"] for line in lines(tmp_path)] == [1]


def test_a_full_disk_keeps_what_was_there_before(tmp_path, full_disk):
    path = tmp_path / "file"
    write_atomically(path, b"before")
    with full_disk(), pytest.raises(SaveError, match="file: File too large"):
        write_atomically(path, b"after it")
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("how", ["removed", "renamed", "renamed and made anew"])
def test_a_folder_that_goes_away_is_a_save_error(tmp_path, how):
    workdir = tmp_path / "run"
    with MetricWriter(workdir, None) as writer:
        writer.write(1, "train", {"loss": 1.0}, images_seen=8, seconds=1.0)
        if how == "removed":
            (workdir / "metrics.jsonl").unlink()
        else:
            workdir.rename(tmp_path / "elsewhere")
        if how == "renamed and made anew":
            workdir.mkdir()
            (workdir / "metrics.jsonl").touch()
        with pytest.raises(SaveError, match="removed, renamed or replaced"):
            writer.write(2, "train", {"loss": 1.0}, images_seen=16, seconds=2.0)

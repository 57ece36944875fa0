"""--mode=translate: on a model whose answer is known, and on one of the library."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from genjax.evaluation.extractors import Extractor
from genjax.experiment import Experiment
from genjax.modes import translate
from genjax.modes.translate import MODE, Options
from genjax.typing import UserError
from tests.modes.runs import run_of

DOMAINS = {"name": "domains", "a": {"name": "digits"}, "known_map": "inverted"}
MUTE = Experiment(
    init=lambda key: jnp.zeros(()),
    train_step=lambda state, batch, key: (state, {"loss": state}),
)


def inverter(state, images, direction):
    """a_to_b inverts, as the data's map does; b_to_a leaves everything as it is."""
    return 16 - images if direction == "a_to_b" else images


def run_for(workdir, translation, data, limit=32):
    experiment = Experiment(
        init=MUTE.init, train_step=MUTE.train_step, translate=translation
    )
    changes = {"data": data, "evaluation": {"limit": limit, "batch_size": 16}}
    return run_of(workdir, "flow_matching_digits:tiny", experiment, changes=changes)


def start(workdir, translation=inverter, data=DOMAINS, **flags):
    run = run_for(workdir, translation, data)
    flags = {k: str(v) if k in ("input", "out") else v for k, v in flags.items()}
    MODE.start(run, Options(**flags))


@pytest.fixture
def pictures(tmp_path):
    """A wide picture, and one below it of another kind, 8 x 8."""
    folder = tmp_path / "pictures"
    (folder / "deeper").mkdir(parents=True)
    wide = np.zeros((80, 120, 3), np.uint8)
    wide[:, 20:100] = 255  # the centered square
    Image.fromarray(wide).save(folder / "wide.png")
    small = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    Image.fromarray(small).save(folder / "deeper" / "small.bmp")
    return folder


def test_pictures_of_a_folder(pictures, tmp_path):
    out = tmp_path / "out"
    start(tmp_path, input=pictures, direction="a_to_b", out=out)
    written = {str(p.relative_to(out)) for p in out.rglob("*.png")}
    assert written == {"wide.png", "deeper/small.png"}
    white = np.asarray(Image.open(out / "wide.png"))
    np.testing.assert_array_equal(white, np.zeros((8, 8)))
    small = np.asarray(Image.open(pictures / "deeper/small.bmp"), float)
    got = np.asarray(Image.open(out / "deeper/small.png"), float)
    np.testing.assert_allclose(got, 255 - small, atol=255 / 16)  # 17 levels
    assert set(np.unique(got)) <= set(np.round(np.arange(17) * 255 / 16))


def test_a_file_and_the_default_folder(pictures, tmp_path):
    start(tmp_path, input=pictures / "deeper/small.bmp", direction="b_to_a")
    small = np.asarray(Image.open(pictures / "deeper/small.bmp"), float)
    got = np.asarray(Image.open(tmp_path / "translated/small.png"), float)
    np.testing.assert_allclose(got, small, atol=8.5)


def test_a_model_of_the_library(tmp_path, pictures):
    run = run_of(tmp_path, "cyclegan_digits:tiny")
    MODE.start(run, Options(input=str(pictures), direction="b_to_a", weights="raw"))
    for name in ("wide.png", "deeper/small.png"):
        with Image.open(tmp_path / "translated" / name) as picture:
            assert picture.size == (8, 8)


def test_label_preservation_of_known_answers(tmp_path, monkeypatch, capsys):
    """The judge sees whether the corner is dark: label 0, else 1; so all labels 0."""

    def dark(images):
        brightness = jnp.asarray(images)[:, 0, 0, 0]
        return brightness, jax.nn.one_hot((brightness > 8).astype(jnp.int32), 10)

    judge = Extractor(name="corner", apply=dark, note="by hand")
    monkeypatch.setattr(translate, "load_judge", lambda name, spec: judge)
    start(tmp_path, extractor="corner")
    result = json.loads((tmp_path / "evaluation/translate_2.json").read_text())
    assert json.loads(capsys.readouterr().out) == result
    metrics = result["metrics"]
    zeros = metrics["judge_accuracy_a"]  # all corners are dark: the share of zeros
    assert 0 < zeros < 0.3 and metrics["judge_accuracy_b"] == zeros
    # inverted, then undone: as the source; untouched, and undone: all corners bright
    assert metrics["label_preservation_a_to_b"] == zeros
    ones = metrics["label_preservation_untouched_a_to_b"]
    assert ones != zeros and 0 < ones < 0.3
    # B left as it is, has bright corners, and is read as it is in domain A
    assert metrics["label_preservation_b_to_a"] == ones
    assert result["protocol"]["n_test"] == {"a": 32, "b": 32}
    assert result["protocol"]["domain_b_read"] == "after the map is undone"


def test_each_image_of_the_shorter_domain_counts_once(tmp_path, monkeypatch):
    """45 test images of 3 and 48 of 4: the shorter domain begins anew."""

    def corner(images):
        return images, jax.nn.one_hot(jnp.zeros(len(images), jnp.int32), 10)

    judge = Extractor(name="zero", apply=corner, note="by hand")
    monkeypatch.setattr(translate, "load_judge", lambda name, spec: judge)
    data = {"name": "domains", "a": {"name": "digits", "label": 3}}
    data["b"] = {"name": "digits", "label": 4}
    run = run_for(tmp_path, inverter, data, limit=1000)
    short, long = sorted(run.spec.eval_sizes)
    _, protocol = translate.score(run, Options(extractor="zero"), run.state(None)[0])
    assert short < long == run.spec.num_eval
    assert tuple(protocol["n_test"].values()) == run.spec.eval_sizes


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({}, "needs pictures, --input"),
        ({"input": "x.png"}, "--input needs --direction"),
        (
            {"input": "x", "direction": "a_to_b", "extractor": "e"},
            "leave --input out",
        ),
        ({"input": "/none", "direction": "a_to_b"}, "neither a file nor a dir"),
        ({"extractor": "mnist_lenet512_v1"}, r"reads images of shape \(28, 28, 1\)"),
    ],
)
def test_flags_that_say_too_little(tmp_path, flags, message):
    with pytest.raises(UserError, match=message):
        start(tmp_path, **flags)


def test_pictures_that_cannot_be_translated(pictures, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"broken.png is no picture, or damaged"):
        start(tmp_path, input=broken, direction="a_to_b")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no pictures"):
        start(tmp_path, input=tmp_path / "empty", direction="a_to_b")
    Image.new("L", (8, 8)).save(pictures / "wide.bmp")
    with pytest.raises(UserError, match=r"wide\.bmp and .*wide\.png would both"):
        start(tmp_path, input=pictures, direction="a_to_b")


def test_what_cannot_be_translated_is_said(tmp_path, pictures):
    with pytest.raises(UserError, match="--mode=translate needs .* like cyclegan"):
        start(tmp_path, None, input=pictures, direction="a_to_b")
    with pytest.raises(UserError, match="no labels to preserve"):
        data = {"name": "domains", "a": {"name": "digits", "label": 3}}
        data["b"] = {"name": "digits", "label": 5}
        start(tmp_path, data=data, extractor="mnist_lenet512_v1")

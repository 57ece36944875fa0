"""An exported model is the run, without its training; what is damaged is refused."""

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import safetensors.numpy
from jax.interpreters import partial_eval

import genjax
import launch
from genjax.evaluation.frechet import frechet_distance
from genjax.export import folder as export
from genjax.export import parts
from genjax.modes import export as mode
from genjax.run import Run
from genjax.training.checkpoint import tree
from genjax.typing import UserError
from tests.contract.cases import all_experiments, case, one_each
from tests.modes.runs import run_of

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    made = run_of(tmp_path_factory.mktemp("export") / "run", "flow_matching_toy2d:tiny")
    state = made.trained[0]
    raw = jax.tree.map(lambda x: 0.5 * x, state.params)
    made.__dict__["trained"] = state._replace(params=raw), 2
    return made


@pytest.fixture(scope="module")
def given(run) -> Path:
    """The exported folder."""
    mode.MODE.start(run, mode.Options())
    return run.workdir / "exported" / "2"


@pytest.fixture
def copy(given, tmp_path) -> Path:
    """The same, to be damaged."""
    return Path(shutil.copytree(given, tmp_path / "copy"))


def test_an_exported_model_samples_bit_for_bit_as_the_run(run, given):
    again = genjax.load(given)
    assert again.step == 2 and again.spec == run.spec
    np.testing.assert_array_equal(again.sample(8, seed=1), run.sample(8, seed=1))
    held = safetensors.numpy.load_file(given / "weights.safetensors")
    moved = tree.named_leaves(run.state()[0].ema_params)
    assert set(held) == {"step", *(f"params/{name}" for name in moved)}
    with pytest.raises(UserError, match="ema weights alone"):
        again.sample(8, weights="raw")
    with pytest.raises(UserError, match="step 2 alone, not of 1"):
        genjax.load(given, step=1)


def test_raw_weights_are_exported_and_called_so(run):
    mode.MODE.start(run, mode.Options(weights="raw"))
    again = genjax.load(run.workdir / "exported" / "2_raw")
    assert again.state()[1] == "raw"
    raw = run.sample(8, weights="raw")
    np.testing.assert_array_equal(again.sample(8), raw)
    assert not np.array_equal(raw, run.sample(8))
    with pytest.raises(UserError, match="raw weights alone"):
        again.check_weights("ema")


def test_the_command_line_takes_the_folder(run, given, tmp_path, capsys):
    flags = ("--mode=sample", "--num_samples=8", f"--out={tmp_path}")
    assert launch.main([f"--workdir={given}", *flags]) == 0
    samples = np.load(tmp_path / "samples.npz")["arr_0"]
    np.testing.assert_array_equal(samples, run.sample(8))
    for flags, words in [
        (["--config=flow_matching_toy2d:tiny"], "choose another --workdir"),
        (["--mode=export"], "copy the folder"),
        (["--mode=sample", "--weights=raw"], "ema weights alone"),
    ]:
        assert launch.main([f"--workdir={given}", *flags]) == 2
        assert words in capsys.readouterr().err


def test_the_card_names_the_scores(run, given):
    assert "was not evaluated" in (given / "README.md").read_text()
    path = run.workdir / "evaluation" / "2.json"
    path.parent.mkdir()
    record = {"metrics": {"nll_nats": 1.25}, "protocol": {"n_test": 7, "seed": 0}}
    path.write_text(json.dumps(record))
    mode.MODE.start(run, mode.Options())  # again: the same weights, with scores
    text = (given / "README.md").read_text()
    assert "| `nll_nats` | 1.25 |" in text and "`n_test`: 7" in text
    assert "gaussians8" in text and 'genjax.load("exported/2")' in text


def test_a_folder_with_other_files_is_left_alone(run, given, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "file").touch()
    for out in (tmp_path, run.workdir, run.workdir / "exported", tmp_path / "file"):
        with pytest.raises(UserError, match="holds other files|cannot be made"):
            mode.MODE.start(run, mode.Options(out=str(out)))
    other = dataclasses.replace(mode.Options(), weights="raw", out=str(given))
    with pytest.raises(UserError, match="holds other files"):
        mode.MODE.start(run, other)


# --- damage ---------------------------------------------------------------------------


def _flip(folder: Path) -> None:
    content = bytearray((folder / export.WEIGHTS).read_bytes())
    content[-5] ^= 1
    (folder / export.WEIGHTS).write_bytes(content)


def _cut(folder: Path) -> None:
    content = (folder / export.WEIGHTS).read_bytes()
    (folder / export.WEIGHTS).write_bytes(content[: len(content) // 2])


def _config(change: Callable[[dict], Any]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        record = json.loads((folder / "config.json").read_text())
        change(record)
        (folder / "config.json").write_text(json.dumps(record))

    return damage


DAMAGE = {
    "is not the file that was exported": _flip,
    "cannot be read as weights": _cut,
    "does not say what": _config(lambda record: record.pop("exported")),
    "say what weights": _config(lambda record: record["exported"].update(step="2")),
    "params/.* is .*, wanted": _config(
        lambda record: record["config"]["model"].update(width=8)
    ),
    "no config.json|there is no": lambda folder: (folder / "config.json").unlink(),
}


@pytest.mark.parametrize("words", DAMAGE)
def test_damage_is_one_sentence(copy, words):
    DAMAGE[words](copy)
    with pytest.raises(UserError, match=words) as caught:
        _ = genjax.load(copy).trained
    assert "\n" not in str(caught.value)


def test_missing_and_foreign_arrays_are_named(run):
    abstract = run.compiled.abstract_state
    arrays = {k: np.asarray(x) for k, x in parts.exported(run.trained[0]).items()}
    whole = parts.restored(arrays, abstract)
    assert jax.tree.structure(whole) == jax.tree.structure(abstract)
    name = next(iter(arrays))
    for changed in (
        {k: x for k, x in arrays.items() if k != name},
        {**arrays, name: np.zeros((1, 2, 3), np.float32)},
        {**arrays, "params/other": np.zeros(3, np.float32)},
    ):
        parts.restored(changed | arrays, abstract, ["params/other"])
        with pytest.raises(UserError, match="another model") as caught:
            parts.restored(changed, abstract)
        assert name in str(caught.value) or "params/other" in str(caught.value)


# --- every family ---------------------------------------------------------------------


@pytest.mark.parametrize("name", one_each())
def test_only_training_reads_what_is_left_out(name):
    law = case(name)
    model, state = law.experiment, jax.eval_shape(law.experiment.init, KEY)
    kept = parts.exported(state, model.training_only)
    names, left_out = list(tree.named_leaves(state)), set()
    for leaf in names:
        as_exported = re.sub(r"(^|/)ema_", r"\1", leaf)
        averaged = re.sub(r"(^|/)(params|stats)/", r"\1ema_\2/", leaf)
        if as_exported not in kept or (averaged != leaf and averaged in names):
            left_out.add(leaf)
    assert left_out or "pca" in name
    assert not any("opt_state" in leaf for leaf in set(names) - left_out)
    for function in uses(law, model):
        closed = jax.make_jaxpr(function)(state)
        outputs = [True] * len(closed.jaxpr.outvars)
        _, read = partial_eval.dce_jaxpr(closed.jaxpr, outputs)
        used = {leaf for leaf, yes in zip(names, read, strict=True) if yes}
        assert not used & left_out


def uses(law: Any, model: Any) -> list[Callable[[Any], Any]]:
    """What a model does for others, as functions of its state."""
    batch, found = law.batch(2), []
    image = batch["image"]
    if model.sample is not None:
        found.append(lambda s: model.sample(s, KEY, 2))
    if model.likelihood is not None:
        found.append(lambda s: model.likelihood.log_prob(s, batch, KEY))
    if model.code is not None and model.code.encode is not None:
        found.append(lambda s: model.code.encode(s, batch, KEY))
    if model.discriminate is not None:
        found.append(lambda s: model.discriminate(s, image))
    if model.translate is not None:
        found.append(lambda s: model.translate(s, image[:, 0], "a_to_b"))
    if model.evaluate is not None:
        found.append(lambda s: model.evaluate(s, batch, KEY))
    if model.images is not None:
        found.append(lambda s: model.images(s, batch, KEY))
    return found


# --- what comes with the package ------------------------------------------------------


def test_every_shipped_model_can_be_read_and_is_small():
    sizes, families = [], set()
    for name in export.shipped():
        run = genjax.load(f"trained/{name}")
        assert run.workdir == Path("runs/trained", name).absolute()
        assert run.step == run.trained[1] > 0
        families.add(run.settings.experiment)
        home = export.SHIPPED / name
        sizes.append(sum(path.stat().st_size for path in home.iterdir()))
        text = (home / "config.json").read_text() + (home / "README.md").read_text()
        assert "/home" not in text and "/tmp" not in text and "| score |" in text
    assert families == set(all_experiments())
    assert max(sizes) < 2**20 and sum(sizes) < 8 * 2**20


def test_a_shipped_model_makes_digits(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["--workdir=trained/ddpm_digits", "--mode=sample", "--num_samples=256"]
    faster = ["--config.sampler.num_steps=10", "--config.evaluation.batch_size=256"]
    assert launch.main([*command, *faster]) == 0
    (found,) = tmp_path.glob("runs/trained/ddpm_digits/generated/*/samples.npz")
    data = genjax.load("trained/ddpm_digits").dataset
    train, test = (
        np.concatenate(list(part.chunks())) for part in (data.train, data.eval)
    )
    assert distance(train, np.load(found)["arr_0"]) < 1.2 * distance(train, test)
    pixels = np.random.default_rng(0).permuted(train.reshape(1000, 64), axis=0)
    assert distance(train, pixels) > 5 * distance(train, test)  # pixels by themselves


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """The Fréchet distance of two sets of digits, pixels in [0, 1]."""
    moments = []
    for images in (a, b):
        rows = images.reshape(len(images), -1) / 16.0
        moments += [rows.mean(axis=0), np.cov(rows.T)]
    return frechet_distance(*moments)


def test_names_that_are_not_shipped(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="there are .*trained/vae_digits"):
        genjax.load("trained/nothing")
    with pytest.raises(UserError, match="trained/vae_digits comes with genjax"):
        genjax.load("vae_digits")
    assert launch.main(["--workdir=vae_digits", "--mode=sample"]) == 2
    assert "trained/vae_digits comes with genjax" in capsys.readouterr().err

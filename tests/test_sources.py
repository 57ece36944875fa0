"""What a model is made of, found by its imports; which of it has changed."""

import shutil
from pathlib import Path

from genjax import sources

ROOT = Path(__file__).parent.parent


def test_a_model_is_what_its_experiment_imports_directly_or_not():
    found = sources.source_hashes(ROOT / "experiments/ddpm.py")
    assert {
        "experiments/ddpm.py",
        "genjax/models/backbone.py",
        "genjax/models/unet.py",  # imported by backbone
        "genjax/nn/norms.py",  # imported by unet
        "genjax/training/optim.py",
    } <= found.keys()
    # neither other families nor what only runs it
    for other in ("genjax/models/dcgan.py", "genjax/run.py", "genjax/training/loop.py"):
        assert other not in found


def test_a_changed_model_is_named(tmp_path, monkeypatch):
    for name in ("experiments", "genjax"):
        shutil.copytree(ROOT / name, tmp_path / name)
    monkeypatch.setattr(sources, "INSTALLED", tmp_path)
    experiment = tmp_path / "experiments/ddpm.py"
    before = sources.source_hashes(experiment)
    file = tmp_path / "genjax/nn/norms.py"
    file.write_text(file.read_text() + "\n")
    (tmp_path / "genjax/run.py").write_text("")
    after = sources.source_hashes(experiment)
    assert sources.changed(before, after) == ["genjax/nn/norms.py"]
    assert sources.changed(before, before) == []


def test_changes_in_words():
    assert sources.in_words(["a.py"]) == "a.py has changed"
    assert sources.in_words(["a.py", "b.py"]) == "a.py and b.py have changed"
    many = [f"{x}.py" for x in "abcde"]
    assert sources.in_words(many) == "a.py and b.py and c.py and 2 more have changed"

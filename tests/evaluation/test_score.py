import hashlib
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genjax.data import datasets
from genjax.evaluation import __main__ as command
from genjax.evaluation import extractors, references, score
from genjax.evaluation.frechet import frechet_distance, moments

USERS = """
import numpy as np

calls = []

def corners(images):
    assert images.dtype == np.uint8
    calls.append(len(images))
    return images[:, ::7, ::7, 0].reshape(len(images), 4).astype(float)

def flat(images):
    return images.sum(axis=(1, 2, 3))
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The cache, with a module of the user's beside it."""
    monkeypatch.setenv("GENJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "users_own.py").write_text(USERS)
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def digits():
    dataset = datasets.load("digits")
    return next(dataset.train.chunks()), next(dataset.eval.chunks())


@pytest.fixture
def samples(tmp_path, digits):
    path = tmp_path / "samples.npz"
    np.savez(path, digits[1][:100])
    return path


def run(capsys, *arguments):
    """(exit code, the JSON that was printed or None, the error)."""
    code = command.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else None, err


def frechet(a, b, scale=16.0):
    x, y = moments(a / scale), moments(b / scale)
    return frechet_distance(x.mean, x.cov, y.mean, y.cov)


def test_samples_are_scored_against_a_data_set(capsys, samples, digits, tmp_path):
    out = tmp_path / "score.json"
    arguments = (f"--samples={samples}", "--data=digits", f"--out={out}")
    code, result, _ = run(capsys, *arguments)
    assert code == 0 and json.loads(out.read_text()) == result
    found = result["metrics"]
    train, test = digits
    assert found["frechet_pixels"] == pytest.approx(frechet(train, test[:100]))
    assert found["frechet_pixels_floor"] == pytest.approx(frechet(train, test))
    protocol = result["protocol"]
    assert protocol["reference_split"] == "digits train"
    assert (protocol["n_reference"], protocol["n_generated"]) == (1000, 100)
    assert (protocol["test_split"], protocol["n_test"]) == ("digits test", 447)
    assert found["duplicates"] == 0.0 and found["kid_pixels"] < 0.1
    again = run(capsys, *arguments)[1]  # now from the references that were kept
    assert again == result


def test_floors_are_kept_and_damage_to_them_is_noticed(capsys, caplog, samples, cache):
    arguments = (f"--samples={samples}", "--data=digits")
    first = run(capsys, *arguments)[1]
    (path,) = (cache / "floors").iterdir()
    digest, content = path.read_text().split("\n")
    other = content.replace('"duplicates_floor": 0.0', '"duplicates_floor": 0.5')
    path.write_text(hashlib.sha256(other.encode()).hexdigest() + "\n" + other)
    read = run(capsys, *arguments)[1]["metrics"]
    assert read == first["metrics"] | {"duplicates_floor": 0.5}
    path.write_text(digest + "\n" + other)
    assert run(capsys, *arguments)[1] == first
    assert "are damaged" in caplog.text
    assert path.read_text() == digest + "\n" + content


def test_the_other_split_can_be_the_reference(capsys, samples, digits):
    code, result, _ = run(
        capsys, f"--samples={samples}", "--data=digits", "--split=test"
    )
    expected = frechet(digits[1], digits[1][:100])
    assert result["metrics"]["frechet_pixels"] == pytest.approx(expected)
    assert result["protocol"]["reference_split"] == "digits test"


def test_a_folder_is_scored_against_an_archive(capsys, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 4, 3)).astype(np.uint8)
    np.savez(tmp_path / "data.npz", images)
    (tmp_path / "drawn").mkdir()
    for i, image in enumerate(images[:10]):
        Image.fromarray(image).save(tmp_path / "drawn" / f"{i}.png")
    code, result, _ = run(
        capsys, f"--samples={tmp_path}/drawn", f"--data={tmp_path}/data.npz"
    )
    assert code == 0
    expected = frechet(images, images[:10], 255.0)
    assert result["metrics"]["frechet_pixels"] == pytest.approx(expected)
    assert result["protocol"]["test_split"] is None
    assert "no test split" in result["protocol"]["not_available"]["panel"]


def test_points_are_scored(capsys, tmp_path):
    points = np.random.default_rng(0).normal(size=(40, 2))
    np.savez(tmp_path / "points.npz", points)
    code, result, _ = run(
        capsys, f"--samples={tmp_path}/points.npz", "--data=gaussians8"
    )
    assert code == 0
    assert result["metrics"]["energy_distance"] > 0.01
    assert "got 40" in result["protocol"]["not_available"]["panel"]
    assert result["metrics"]["modes"] <= 8.0


def test_a_function_of_the_users_is_an_extractor(capsys, samples, digits, cache):
    code, result, _ = run(
        capsys,
        f"--samples={samples}",
        "--data=digits",
        "--extractor=users_own:corners",
    )
    train, test = (part[:, ::7, ::7] for part in digits)
    name = "frechet_users_own_corners"
    assert result["metrics"][name] == pytest.approx(frechet(train, test[:100], 1.0))
    assert (
        "function users_own.corners, without a hash"
        in (result["protocol"]["extractor"])
    )
    # Nobody can tell when the function changes: nothing of it is kept.
    assert not (cache / "references").exists()


def test_a_reference_is_kept_and_used(capsys, samples, digits, cache, monkeypatch):
    code, said, _ = run(capsys, "--reference=digits")
    assert code == 0
    assert (said["reference_split"], said["n_reference"]) == ("digits train", 1000)
    kept = references.from_bytes(Path(said["file"]).read_bytes())
    expected = digits[0].reshape(1000, 64) / 16.0
    np.testing.assert_allclose(kept.moments.mean, expected.mean(0))
    np.testing.assert_allclose(kept.moments.cov, np.cov(expected.T))
    source = score.open_source("digits", "train", image_size=None, data_dir=None)
    monkeypatch.setattr(score, "summarize", None)  # it must not be asked again
    again, _ = score.summary_of(source.split, source.spec, source.fingerprint, None)
    assert again.name == "digits train" and again.points is None
    np.testing.assert_array_equal(again.levels, kept.levels)


def test_a_damaged_reference_is_named_and_made_again(capsys, caplog, samples):
    path = Path(run(capsys, "--reference=digits")[1]["file"])
    whole = path.read_bytes()
    middle = len(whole) // 2
    changed = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    for content in (b"", whole[:middle], changed):
        path.write_bytes(content)
        with caplog.at_level("WARNING"):
            run(capsys, "--reference=digits")
        assert f"{path} is damaged" in caplog.text
        caplog.clear()
        assert references.from_bytes(path.read_bytes()).count == 1000


def test_references_differ_by_what_they_are_of():
    def extractor(name, digest):
        return extractors.Extractor(name, lambda x: (x, None), "", digest=digest)

    paths = {
        references.path_of(data, split, network, keep=keep)
        for data in ("one", "two")
        for split in ("train", "test")
        for network in (None, extractor("a", "x"), extractor("a", "y"))
        for keep in (True, False)
    }
    assert len(paths) == 24
    own = extractor("a", None)
    assert references.path_of("one", "train", own, keep=True) is None


@pytest.mark.parametrize(
    "arguments, said",
    [
        (
            ["--data=gaussians8"],
            r"shape \(8, 8, 1\), and gaussians8 float32 of shape \(2,\)",
        ),
        (["--data=/nowhere/at/all"], "no folder or file"),
        (["--data=digit"], "did you mean 'digits'"),
        (["--data=digits", "--out=s3://a/b.json"], "--out=s3://a/b.json is neither a"),
        (["--data=digits", "--out=/proc/x/b.json"], "/proc/x cannot be written"),
        (["--data=digits", "--extractor=users_own:flat"], r"gave \(100,\)"),
        (["--data=digits", "--extractor=users_own:no"], "users_own has no no"),
        (["--data=digits", "--extractor=nowhere:no"], "cannot be imported"),
        (["--data=digits", "--extractor=users_own:calls"], "is no function"),
        (["--data=digits", "--extractor=lenet"], "known: mnist_lenet512_v1, fashion"),
        (["--data=digits", "--extractor=inception:x.pth"], "with 256 levels"),
    ],
)
def test_mistakes_are_one_sentence(capsys, samples, arguments, said):
    code, result, error = run(capsys, f"--samples={samples}", *arguments)
    assert code == 2 and result is None
    assert error.startswith("genjax: ") and re.search(said, error)


@pytest.mark.parametrize("place", ["empty", "nowhere", ""])
def test_samples_that_are_not_there(capsys, tmp_path, place):
    (tmp_path / "empty").mkdir()
    given = tmp_path / place if place else ""
    code, _, error = run(capsys, f"--samples={given}", "--data=digits")
    assert code == 2 and error.startswith("genjax: ") and error.count("\n") == 1


def test_a_reader_that_has_had_enough_ends_it_quietly(capsys, samples, monkeypatch):
    """As in `python -m genjax.evaluation ... | head`."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as output:
        monkeypatch.setattr("sys.stdout", output)
        code = command.main([f"--samples={samples}", "--data=digits"])
    assert code == 141 and "Traceback" not in capsys.readouterr().err


def test_values_that_the_data_has_not(capsys, tmp_path, digits):
    np.savez(tmp_path / "loud.npz", digits[1] * 15)
    code, _, error = run(capsys, f"--samples={tmp_path}/loud.npz", "--data=digits")
    assert code == 2 and "values up to 240, and digits 0 ... 16" in error


def test_a_reference_of_a_function_is_refused(capsys):
    code, _, error = run(capsys, "--reference=digits", "--extractor=users_own:corners")
    assert code == 2 and "nothing is kept" in error

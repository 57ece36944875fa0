"""Two domains: which images meet, what a known map makes, and what is refused."""

import numpy as np
import pytest
from PIL import Image

from genjax.data.datasets import load
from genjax.data.domains import MAPS, bring
from genjax.typing import UserError

DIGITS = {"name": "digits"}


def everything(split):
    return split.read(np.arange(len(split)))


def as_set(images):
    return {image.tobytes() for image in images}


@pytest.mark.parametrize("known_map", sorted(MAPS))
def test_a_known_map_is_hidden_from_training_and_known_to_evaluation(known_map):
    dataset = load("domains", a=DIGITS, known_map=known_map)
    plain, spec = load("digits"), dataset.spec
    assert spec.shape == (2, 8, 8, 1) and spec.num_levels == 17 and spec.aligned
    assert (spec.num_train, spec.num_eval, spec.num_classes) == (500, 447, 10)

    held_out = everything(dataset.eval)
    test = everything(plain.eval)
    a, b = held_out["image"][:, 0], held_out["image"][:, 1]
    np.testing.assert_array_equal(a, test["image"])
    np.testing.assert_array_equal(b, MAPS[known_map].apply(a, 17))
    np.testing.assert_array_equal(held_out["label"], test["label"][:, None][:, [0, 0]])

    train = everything(dataset.train)
    a, b = train["image"][:, 0], train["image"][:, 1]
    images = everything(plain.train)["image"]
    mapped = MAPS[known_map].apply(images, 17)
    assert as_set(a) <= as_set(images) and as_set(b) <= as_set(mapped)
    # no image is on both sides: together they are all, and each is in one half
    assert not as_set(MAPS[known_map].apply(a, 17)) & as_set(b)
    assert len(as_set(a)) == 500


def test_maps_by_hand():
    image = np.array([[0, 1], [2, 16]], np.uint8)[None, ..., None]
    inverted = MAPS["inverted"].apply(image, 17)
    np.testing.assert_array_equal(inverted[0, ..., 0], [[16, 15], [14, 0]])
    rotated = MAPS["rotated"].apply(image, 17)
    np.testing.assert_array_equal(rotated[0, ..., 0], [[1, 16], [0, 2]])
    step = np.zeros((1, 5, 6, 1), np.uint8)
    step[:, :, 3:] = 7
    found = MAPS["edges"].apply(step, 17)[0, ..., 0]
    np.testing.assert_array_equal(found, [[0, 0, 7, 7, 0, 0]] * 5)
    picture = np.random.default_rng(0).integers(0, 256, (3, 6, 6, 1), np.uint8)
    for name in ("inverted", "rotated"):
        there = MAPS[name].apply(picture, 256)
        np.testing.assert_array_equal(MAPS[name].undo(there, 256), picture)
        assert there.dtype == np.uint8


def test_two_classes_of_one_set():
    dataset = load("domains", a={**DIGITS, "label": 3}, b={**DIGITS, "label": 8})
    train = everything(dataset.train)
    assert (train["label"] == [3, 8]).all()
    digits = everything(load("digits").train)
    count = [int((digits["label"] == y).sum()) for y in (3, 8)]
    assert len(train["label"]) == max(count)
    for side, y in enumerate((3, 8)):  # the shorter one begins anew
        mine = as_set(digits["image"][digits["label"] == y])
        assert as_set(train["image"][:, side]) == mine
    assert dataset.spec.num_classes == 0 and not dataset.spec.aligned
    sizes = dataset.spec.eval_sizes
    assert max(sizes) == dataset.spec.num_eval and len(set(sizes)) == 2


@pytest.fixture
def pictures(tmp_path):
    """Two folders of pictures of different sizes, numbered by their red."""
    for name, num in (("horses", 4), ("zebras", 6)):
        (tmp_path / name).mkdir()
        for i in range(num):
            color = np.full((8 + i, 12, 3), (10 * i, 100, 200), np.uint8)
            Image.fromarray(color).save(tmp_path / name / f"{i}.png")
    return tmp_path


def test_two_folders_of_pictures(pictures):
    sides = {
        side: {"name": "folder", "dir": str(pictures / name)}
        for side, name in (("a", "horses"), ("b", "zebras"))
    }
    cache = str(pictures / "cache")
    dataset = load("domains", **sides, image_size=8, cache_dir=cache)
    assert dataset.spec.shape == (2, 8, 8, 3)
    assert len(dataset.train) == 5  # 3 horses and 5 zebras
    reds = everything(dataset.train)["image"][:, :, 0, 0, 0]
    assert sorted(reds[:3, 0]) == sorted(set(reds[:, 0]))
    assert len(set(reds[:, 1])) == 5
    gray = load("domains", **sides, image_size=8, color="gray", cache_dir=cache)
    assert gray.spec.shape == (2, 8, 8, 1)
    assert gray.fingerprint != dataset.fingerprint


def test_bad_pictures_of_a_domain_are_named_or_left_out(pictures):
    (pictures / "horses" / "1.png").write_text("no picture")
    horses = {"name": "folder", "dir": str(pictures / "horses")}
    options = {"image_size": 8, "cache_dir": str(pictures / "cache")}
    with pytest.raises(UserError, match="(?s)1 of 4 .*1.png is no .*skip_bad=True"):
        load("domains", a=horses, known_map="inverted", **options)
    dataset = load("domains", a=horses, known_map="inverted", skip_bad=True, **options)
    assert dataset.notes["a"]["left_out"] == {"1.png": "is no picture, or damaged"}
    with pytest.raises(UserError, match="skip_bad is for pictures in files, and dig"):
        load("domains", a={"name": "digits"}, known_map="inverted", skip_bad=True)


def test_images_are_brought_to_one_form():
    digits = everything(load("digits").train)["image"][:5]
    same = bring(digits, num_levels=17, shape=(8, 8, 1), to_levels=256)
    np.testing.assert_array_equal(same, np.round(digits * (255 / 16)).astype(np.uint8))
    large = bring(digits, num_levels=17, shape=(28, 28, 1), to_levels=256)
    pillow = Image.fromarray(same[0, ..., 0]).resize((28, 28), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(large[0, ..., 0], np.asarray(pillow))
    back = bring(same, num_levels=256, shape=(8, 8, 1), to_levels=17)
    np.testing.assert_array_equal(back, digits)
    color = bring(digits, num_levels=17, shape=(8, 8, 3), to_levels=256)
    np.testing.assert_array_equal(color, same.repeat(3, axis=-1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"a": DIGITS}, "either data.b.name or data.known_map"),
        ({"a": DIGITS, "b": DIGITS, "known_map": "edges"}, "either data.b.name or"),
        ({"a": {"label": 3}, "b": DIGITS}, "data.a has label but no data.a.name"),
        ({"a": {**DIGITS, "labels": 3}, "b": DIGITS}, "'labels' .*it has: name, dir"),
        ({"a": DIGITS, "known_map": "mirrored"}, "known: inverted, rotated, edges"),
        ({"a": DIGITS, "b": {"name": "moons"}}, "a domain is a set of images"),
        ({"a": {**DIGITS, "label": 11}, "b": DIGITS}, "no images of class 11"),
        ({"a": DIGITS, "b": DIGITS, "color": "red"}, "'rgb' or 'gray', not 'red'"),
    ],
)
def test_what_makes_no_domains(options, message):
    with pytest.raises(UserError, match=message):
        load("domains", **options)


def test_sizes_that_differ_ask_for_one(pictures):
    horses = {"name": "folder", "dir": str(pictures / "horses")}
    for i in range(1, 4):
        (pictures / "horses" / f"{i}.png").unlink()
    Image.new("RGB", (12, 8)).save(pictures / "horses" / "another.png")
    cache = str(pictures / "cache")
    with pytest.raises(UserError, match="set data.image_size to bring them"):
        load("domains", a=horses, b=DIGITS, cache_dir=cache)
    with pytest.raises(UserError, match="set data.color to bring them"):
        load("domains", a=horses, b=DIGITS, image_size=8, cache_dir=cache)
    with pytest.raises(UserError, match="only squares can be turned"):
        load("domains", a=horses, known_map="rotated", cache_dir=cache)

"""A folder of pictures: sizes, classes, what is held out, and damaged files."""

import numpy as np
import pytest
from PIL import Image

from genjax.data.crop import center_square
from genjax.data.datasets import load
from genjax.typing import UserError


def _write(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


@pytest.fixture
def pictures(tmp_path):
    """Two classes of ten; each picture has one color, its number in red."""
    for i in range(20):
        color = np.full((4, 6, 3), (i, 100, 200), np.uint8)
        folder = tmp_path / "pictures" / ("cat" if i % 2 else "ant") / "deeper"
        _write(folder / f"{i:02d}.PNG", color)
    (tmp_path / "pictures" / "notes.txt").write_text("not a picture")
    return tmp_path / "pictures"


@pytest.fixture
def load_folder(tmp_path):
    def loaded(dir, **options):
        return load("folder", str(dir), cache_dir=str(tmp_path / "cache"), **options)

    return loaded


def _all(split):
    return split.read(np.arange(len(split)))


def test_every_picture_once_with_its_class(pictures, load_folder):
    dataset = load_folder(pictures, eval_fraction=0.25)
    spec = dataset.spec
    assert (spec.shape, spec.num_classes, spec.num_levels) == ((4, 6, 3), 2, 256)
    assert (spec.num_train, spec.num_eval) == (15, 5)
    train, held_out = _all(dataset.train), _all(dataset.eval)
    numbers = [b["image"][:, 0, 0, 0] for b in (train, held_out)]
    np.testing.assert_array_equal(np.sort(np.concatenate(numbers)), np.arange(20))
    for batch, number in zip((train, held_out), numbers, strict=True):
        np.testing.assert_array_equal(batch["label"], number % 2)  # ant 0, cat 1
        assert (batch["image"][..., 1:] == [100, 200]).all()
    assert (np.diff(train["label"]) >= 0).all()  # sorted by path


def test_streamed_is_cached(pictures, load_folder):
    cached, streamed = (load_folder(pictures, in_memory=m) for m in (None, False))
    assert cached.train.arrays is not None and streamed.train.arrays is None
    assert cached.fingerprint == streamed.fingerprint
    for one, other in ((cached.train, streamed.train), (cached.eval, streamed.eval)):
        for name, array in _all(one).items():
            np.testing.assert_array_equal(array, _all(other)[name])


def test_the_choice_and_the_fingerprint_do_not_depend_on_the_place(
    pictures, load_folder
):
    before = load_folder(pictures)
    moved = pictures.rename(pictures.parent / "moved")
    after = load_folder(moved)
    assert before.fingerprint == after.fingerprint
    np.testing.assert_array_equal(_all(before.eval)["image"], _all(after.eval)["image"])
    (moved / "ant" / "deeper" / "00.PNG").unlink()
    assert load_folder(moved).fingerprint != before.fingerprint


@pytest.mark.parametrize("in_memory", [None, False])
def test_pictures_of_equal_names_and_sizes_are_told_apart(tmp_path, in_memory):
    """BMP files of one shape have one size."""
    for name, low in (("dark", 0), ("bright", 200)):
        for i in range(4):
            image = np.full((4, 4, 3), low + i, np.uint8)
            _write(tmp_path / name / f"{i}.bmp", image)
    options = {"cache_dir": str(tmp_path / "cache"), "in_memory": in_memory}
    found = [load("folder", str(tmp_path / n), **options) for n in ("dark", "bright")]
    assert found[0].fingerprint != found[1].fingerprint
    again = load("folder", str(tmp_path / "dark"), **options)
    assert again.fingerprint == found[0].fingerprint
    # overwritten in place
    _write(tmp_path / "dark" / "0.bmp", np.full((4, 4, 3), 99, np.uint8))
    changed = load("folder", str(tmp_path / "dark"), **options)
    assert changed.fingerprint != found[0].fingerprint


def test_a_changed_picture_is_seen(pictures, load_folder):
    load_folder(pictures)
    for path in pictures.rglob("*.PNG"):
        _write(path, np.full((4, 6, 3), 7, np.uint8))
    assert (_all(load_folder(pictures).train)["image"] == 7).all()


def test_crop_and_resize(tmp_path, load_folder):
    """4 x 8 stripes to 2 x 2: the middle square, whose columns are 0, 0, 200, 200.

    The bicubic kernel (a = -1/2), twice as wide, has weights 0.867, 0.867, 0.227 and
    -0.070 there: (0.227 - 0.070) / 1.891 of 200 leaks over the middle.
    """
    picture = np.zeros((4, 8, 3), np.uint8)
    picture[:, 4:6] = 200
    picture[:, :2] = picture[:, 6:] = 255  # cropped away
    for i in range(2):
        _write(tmp_path / "p" / f"{i}.png", picture)
    dataset = load_folder(tmp_path / "p", image_size=2, color="gray")
    assert dataset.spec.shape == (2, 2, 1) and dataset.spec.num_classes == 0
    image = _all(dataset.train)["image"][0, ..., 0].astype(int)
    np.testing.assert_allclose(image, [[16.5, 183.5], [16.5, 183.5]], atol=1)


def test_shrinking_does_not_alias():
    """A one-pixel checkerboard shrunk eightfold is even gray, not a pattern."""
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    small = np.asarray(center_square(Image.fromarray(board), 8)).astype(int)
    assert abs(small - 127).max() <= 2


def test_pictures_are_turned_upright(tmp_path, load_folder):
    picture = np.zeros((4, 4, 3), np.uint8)
    picture[0] = 255  # a white first row, stored lying on its side (orientation 6)
    exif = Image.Exif()
    exif[0x0112] = 6
    for i in range(2):
        _write(tmp_path / "p" / f"{i}.png", picture, exif=exif)
    image = _all(load_folder(tmp_path / "p").train)["image"][0, ..., 0]
    np.testing.assert_array_equal(image[:, -1], 255)
    np.testing.assert_array_equal(image[:, :-1], 0)


@pytest.mark.parametrize("damage", ["truncated", "text", "16-bit", "huge"])
@pytest.mark.parametrize("in_memory", [None, False])
def test_a_bad_picture_is_named(pictures, load_folder, damage, in_memory):
    bad = pictures / "cat" / "deeper" / "05.PNG"
    if damage == "truncated":
        bad.write_bytes(bad.read_bytes()[:45])
    elif damage == "text":
        bad.write_text("hello")
    elif damage == "16-bit":
        Image.fromarray(np.full((4, 6), 40_000, np.uint16)).save(bad)
    else:
        Image.new("1", (9000, 9000)).save(bad)
    with pytest.raises(UserError, match=r"the picture .*cat.deeper.05\.PNG"):
        dataset = load_folder(pictures, image_size=4, in_memory=in_memory)
        _all(dataset.train), _all(dataset.eval)


def test_mixed_sizes_need_image_size(pictures, load_folder):
    _write(pictures / "cat" / "wide.png", np.zeros((4, 9, 3), np.uint8))
    with pytest.raises(UserError, match="is 9 x 4, the first 6 x 4; set data.image_s"):
        load_folder(pictures)
    assert load_folder(pictures, image_size=3).spec.shape == (3, 3, 3)


def test_mistakes_are_named(pictures, load_folder, tmp_path):
    with pytest.raises(UserError, match="needs data.dir"):
        load("folder")
    with pytest.raises(UserError, match="nowhere is not a directory"):
        load_folder(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds 0 pictures"):
        load_folder(tmp_path / "empty")
    with pytest.raises(UserError, match="'rgb' or 'gray', not 'grey'"):
        load_folder(pictures, color="grey")
    with pytest.raises(UserError, match="between 0 and 1, got 1"):
        load_folder(pictures, eval_fraction=1.0)
    with pytest.raises(UserError, match="image_size must be positive, got 0"):
        load_folder(pictures, image_size=0)
    _write(pictures / "loose.png", np.zeros((4, 6, 3), np.uint8))
    with pytest.raises(UserError, match="loose.png, ...*beside sub-folders"):
        load_folder(pictures)


def test_split_folders_are_not_taken_for_classes(pictures, load_folder):
    (pictures / "ant").rename(pictures / "train")
    (pictures / "cat").rename(pictures / "test")
    with pytest.raises(UserError, match="train, test|test, train"):
        load_folder(pictures)

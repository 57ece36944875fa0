"""A folder of pictures: sizes, classes, what is held out, and damaged files."""

import os
import re

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
    # overwritten in place, with the old time
    path = tmp_path / "dark" / "0.bmp"
    times = os.stat(path).st_atime_ns, os.stat(path).st_mtime_ns
    _write(path, np.full((4, 4, 3), 99, np.uint8))
    os.utime(path, ns=times)
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


DAMAGES = {
    "truncated": "cannot be decoded",
    "text": "is no picture, or damaged",
    "empty": "is empty",
    "float": r"has more than 16 bits a channel \(mode F\)",
    "huge": r"has 9000 x 9000 pixels, over 2\^26",
    "dead link": "is a dead link",
}


def damaged(path, damage):
    """Does that to a picture, whose name does not tell what it holds."""
    whole = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(whole[:45])
    elif damage == "text":
        path.write_text("hello")
    elif damage == "empty":
        path.touch()
    elif damage == "float":
        Image.fromarray(np.ones((4, 6), np.float32)).save(path, format="tiff")
    elif damage == "huge":
        Image.new("1", (9000, 9000)).save(path)
    else:
        path.symlink_to(path.parent / "nowhere.png")


@pytest.mark.parametrize("in_memory", [None, False])
def test_all_bad_pictures_are_listed_at_once(pictures, load_folder, in_memory):
    for i, damage in enumerate(DAMAGES):
        damaged(pictures / "cat" / "deeper" / f"{2 * i + 1:02d}.PNG", damage)
    with pytest.raises(UserError) as raised:
        load_folder(pictures, image_size=4, in_memory=in_memory)
    said = str(raised.value)
    assert said.startswith(f"6 of 20 pictures in {pictures} cannot be used:\n")
    assert "--config.data.skip_bad=True" in said
    for i, problem in enumerate(DAMAGES.values()):
        assert re.search(rf"  cat/deeper/{2 * i + 1:02d}\.PNG {problem}", said)


def test_bad_pictures_are_left_out_and_named(pictures, load_folder, caplog):
    for i, damage in enumerate(DAMAGES):
        damaged(pictures / "cat" / "deeper" / f"{2 * i + 1:02d}.PNG", damage)
    for _ in range(2):  # the second time they are remembered, and named again
        caplog.clear()
        dataset = load_folder(pictures, skip_bad=True)
        assert (dataset.spec.num_train, dataset.spec.num_eval) == (13, 1)
        assert "6 of 20 pictures" in caplog.text and "is a dead link" in caplog.text
        left_out = dataset.notes["left_out"]
        assert len(left_out) == 6 and left_out["cat/deeper/05.PNG"] == "is empty"
    images = np.concatenate([_all(s)["image"] for s in (dataset.train, dataset.eval)])
    numbers = set(images[:, 0, 0, 0].tolist())
    assert numbers == set(range(20)) - {1, 3, 5, 7, 9, 11}
    before = dataset.fingerprint
    _write(pictures / "cat/deeper/01.PNG", np.full((4, 6, 3), 1, np.uint8))
    assert load_folder(pictures, skip_bad=True).fingerprint != before


def test_twenty_bad_pictures_are_named_and_the_others_counted(tmp_path, load_folder):
    for i in range(30):
        _write(tmp_path / "p" / f"{i:02d}.png", np.zeros((2, 2), np.uint8))
        if i < 25:
            (tmp_path / "p" / f"{i:02d}.png").write_text("hello")
    with pytest.raises(
        UserError, match=r"(?s)^25 of 30 .*\n  and 5 more\nmend"
    ) as raised:
        load_folder(tmp_path / "p")
    assert str(raised.value).count(".png is no picture") == 20


def test_a_folder_with_nothing_good_has_no_way_on(tmp_path, load_folder):
    (tmp_path / "p").mkdir()
    for i in range(2):
        (tmp_path / "p" / f"{i}.png").write_text("hello")
    with pytest.raises(UserError, match="(?s)^2 of 2 .*mend or remove them$"):
        load_folder(tmp_path / "p", skip_bad=True)


def test_a_picture_that_goes_bad_later_is_named(pictures, load_folder):
    dataset = load_folder(pictures, in_memory=False)
    (pictures / "cat/deeper/05.PNG").write_text("hello")
    with pytest.raises(UserError, match=r"cat/deeper/05.PNG in .* is no picture"):
        _all(dataset.train), _all(dataset.eval)


def test_hidden_files_and_folders_are_not_there(pictures, load_folder):
    before = load_folder(pictures)
    for hidden in (".thumbnails", "cat/.ipynb_checkpoints"):
        _write(pictures / hidden / "00.png", np.zeros((4, 6, 3), np.uint8))
    (pictures / "cat" / "._00.png").write_text("of a Macintosh")
    after = load_folder(pictures)
    assert after.notes["classes"] == ["ant", "cat"]
    assert after.fingerprint == before.fingerprint


def test_linked_folders_are_classes_and_loops_end(pictures, load_folder, caplog):
    for i in range(4):
        _write(pictures.parent / "far" / f"{i}.png", np.full((4, 6, 3), 99, np.uint8))
    (pictures / "bee").symlink_to(pictures.parent / "far")
    # a loop, a way up, a second way to one that is there
    (pictures / "ant" / "loop").symlink_to(pictures)
    (pictures / "ant" / "up").symlink_to(pictures.parent)
    (pictures / "cow").symlink_to(pictures / "cat")
    dataset = load_folder(pictures)
    assert dataset.notes["classes"] == ["ant", "bee", "cat"]
    assert dataset.spec.num_train + dataset.spec.num_eval == 24
    parts = [_all(split) for split in (dataset.train, dataset.eval)]
    for image, label in zip(
        *(np.concatenate([p[k] for p in parts]) for k in ("image", "label")),
        strict=True,
    ):
        assert (image[0, 0, 0] == 99) == (label == 1)
    named = re.findall(r"the linked folder (\S+) is passed over", caplog.text)
    assert {name.removeprefix(f"{pictures}/") for name in named} == {
        "ant/loop",
        "ant/up",
        "cow",
    }


def test_gray_pictures_stay_gray_and_mixed_ones_are_told(tmp_path, load_folder, caplog):
    for i in range(4):
        _write(tmp_path / "p" / f"{i}.png", np.full((4, 4), i, np.uint8))
    assert load_folder(tmp_path / "p").spec.shape == (4, 4, 1)
    assert load_folder(tmp_path / "p", color="rgb").spec.shape == (4, 4, 3)
    assert "are gray" not in caplog.text
    _write(tmp_path / "p" / "color.png", np.zeros((4, 4, 3), np.uint8))
    assert load_folder(tmp_path / "p").spec.shape == (4, 4, 3)
    assert "4 of the 5 pictures" in caplog.text and "are gray" in caplog.text
    assert load_folder(tmp_path / "p", color="gray").spec.shape == (4, 4, 1)


def test_a_background_is_another_data_set(tmp_path, load_folder):
    glyph = np.zeros((4, 4, 4), np.uint8)
    glyph[1:3, 1:3, 3] = 255  # black on nothing
    for i in range(2):
        _write(tmp_path / "p" / f"{i}.png", glyph)
    white, black = (
        load_folder(tmp_path / "p", background=b) for b in ("white", "black")
    )
    assert white.fingerprint != black.fingerprint
    image = _all(white.train)["image"][0]
    assert (image[1:3, 1:3] == 0).all() and image.mean() == 255 * 12 / 16
    assert (_all(black.train)["image"] == 0).all()


def test_the_model_is_asked_before_the_pictures_are_read(pictures, load_folder):
    asked = []

    def check(spec):
        asked.append((spec.shape, spec.num_classes))
        raise UserError("no")

    bad = pictures / "cat" / "deeper" / "05.PNG"
    bad.write_text("hello")
    for image_size, shape in ((None, (4, 6, 3)), (3, (3, 3, 3))):
        with pytest.raises(UserError, match="^no$"):
            load_folder(pictures, image_size=image_size, check=check)
        assert asked.pop() == (shape, 2)
    load_folder(pictures, skip_bad=True)
    load_folder(pictures, skip_bad=True, check=check)  # it is known: nothing is read
    assert not asked


def test_what_is_remembered_of_the_pictures_may_be_damaged(
    pictures, load_folder, tmp_path
):
    before = load_folder(pictures)
    (kept,) = (tmp_path / "cache").glob("pictures-*.json")
    whole = kept.read_bytes()
    for damage in (b"", whole[:100], whole.replace(b'"num": 20', b'"num": 21')):
        kept.write_bytes(damage)
        assert load_folder(pictures).fingerprint == before.fingerprint
        assert kept.read_bytes() == whole


def test_mixed_sizes_need_image_size(pictures, load_folder):
    _write(pictures / "cat" / "wide.png", np.zeros((4, 9, 3), np.uint8))
    with pytest.raises(
        UserError, match="wide.png is 9 x 4, the first 6 x 4; set data.i"
    ):
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

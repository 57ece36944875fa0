"""All pictures of a set read once: which are bad, gray, of which size, and a digest.

So everything that is wrong with them is said at once and before the work. The answer is
remembered until a picture changes.
"""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from absl import logging

from genjax.data import cache
from genjax.data.picture import MODES, BadPicture, Facts, Form, look_at
from genjax.disk import write_atomically
from genjax.typing import SaveError, UserError

_FORMAT = 1  # raise it when what a survey means changes: old ones are then not read
_CHUNK = 4096  # pictures handed to the threads at a time
_SHOWN = 20  # bad pictures that a message names


@dataclasses.dataclass(frozen=True, kw_only=True)
class PictureSet:
    """Pictures by number, wherever they lie.

    where: the place, for messages. names: one each, for messages and the digest.
    source: the file of a picture, or its bytes. Raises OSError or BadPicture.
    key: changes when a picture may have; None: nobody can tell.
    """

    where: str
    names: Sequence[str]
    source: Callable[[int], Path | bytes]
    key: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Survey:
    """What was found in a set of pictures.

    content: a digest of the names and the bytes of all that are good.
    num: of all; num_gray: of the good ones that have no colors.
    bad: {name: what is wrong with it}.
    size: (width, height) of the first good one; None where there is none.
    other: (name, width, height) of the first of another size; num_other: of them all.
    """

    content: str
    num: int
    num_gray: int
    bad: dict[str, str]
    size: tuple[int, int] | None
    other: tuple[str, int, int] | None
    num_other: int

    def problems(self, where: str) -> str:
        """How many are bad, and the first of them, one a line."""
        lines = [f"  {name} {what}" for name, what in self.bad.items()]
        if len(lines) > _SHOWN:
            lines[_SHOWN:] = [f"  and {len(lines) - _SHOWN} more"]
        head = f"{len(self.bad)} of {self.num} pictures in {where} cannot be used:"
        return "\n".join([head, *lines])


def survey(
    pictures: PictureSet,
    *,
    skip_bad: bool | None = None,
    cache_dir: str | None = None,
    before: Callable[[], None] = lambda: None,
) -> Survey:
    """What all of these pictures are; it is remembered in cache_dir.

    skip_bad: True: say which are bad and go on. None: it is not to be had.
    before: called if they must be read, which may take minutes.
    Raises UserError that lists the bad ones, unless skip_bad, and where none is good.
    """
    found = _remembered(pictures, cache_dir, before)
    if not found.bad:
        return found
    problems = found.problems(pictures.where)
    if not skip_bad or found.size is None:
        way = ", or go on without them: --config.data.skip_bad=True"
        way = "" if skip_bad is None or found.size is None else way
        raise UserError(f"{problems}\nmend or remove them{way}")
    logging.warning("%s\nthese are left out (data.skip_bad)", problems)
    return found


def form_of(
    found: Survey,
    where: str,
    *,
    color: str | None = None,
    image_size: int | None = None,
    **form,
) -> tuple[Form, tuple[int, int, int]]:
    """(the form that pictures are brought to, the shape that they then have).

    color: "rgb" or "gray"; None: gray where all are. The rest is as `Form` has it.
    Raises UserError where their sizes differ and no image_size is given.
    """
    if color not in (None, *MODES):
        raise UserError(f"color must be 'rgb' or 'gray', not {color!r}; set data.color")
    if image_size is not None and image_size < 1:
        raise UserError(f"image_size must be positive, got {image_size}")
    num = found.num - len(found.bad)
    if color is None and 0 < found.num_gray < num:
        logging.warning(
            "%d of the %d pictures in %s are gray, and are read in color like the "
            "others; data.color=gray reads all in gray",
            found.num_gray,
            num,
            where,
        )
    color = color or ("gray" if found.num_gray == num else "rgb")
    wanted = Form(mode=MODES[color], image_size=image_size, **form)
    if image_size is not None:
        return wanted, (image_size, image_size, wanted.channels)
    assert found.size is not None
    width, height = found.size
    if found.other is not None:
        name, other_width, other_height = found.other
        raise UserError(
            f"{found.num_other} of the {num} pictures in {where} differ in size from "
            f"the first: {name} is {other_width} x {other_height}, the first {width} x "
            f"{height}; set data.image_size to crop and resize them all"
        )
    return wanted, (height, width, wanted.channels)


# --- the work -------------------------------------------------------------------------


def _remembered(
    pictures: PictureSet, cache_dir: str | None, before: Callable[[], None]
) -> Survey:
    if pictures.key is None:
        before()
        return _look_at_all(pictures)[0]
    key = sha256(json.dumps([_FORMAT, pictures.key]))
    path = cache.folder_of(cache_dir) / f"pictures-{key}.json"
    # the file begins with a hash of what follows, so that damage is noticed
    with contextlib.suppress(OSError, ValueError):
        digest, content = path.read_text().split("\n", 1)
        if digest == sha256(content):
            return _from_json(content)
    before()
    found, lasting = _look_at_all(pictures)
    if lasting:
        content = json.dumps(dataclasses.asdict(found))
        with contextlib.suppress(SaveError):  # then they are looked at again
            write_atomically(path, f"{sha256(content)}\n{content}".encode())
    return found


def _from_json(content: str) -> Survey:
    fields = json.loads(content)
    for name in ("size", "other"):
        fields[name] = None if fields[name] is None else tuple(fields[name])
    return Survey(**fields)


def _look_at_all(pictures: PictureSet) -> tuple[Survey, bool]:
    """(what they are, whether it will be the same until one of them changes)."""
    names, digests, bad, lasting = pictures.names, [], {}, True
    num_gray, num_other, size, other = 0, 0, None, None
    logging.info("looking at %d pictures in %s", len(names), pictures.where)

    def look(i: int) -> tuple[Facts | None, str, bool]:
        return _look_at_one(pictures.source, i)

    with ThreadPoolExecutor() as pool:
        for start in range(0, len(names), _CHUNK):
            chunk = range(start, min(start + _CHUNK, len(names)))
            for i, (facts, said, lasts) in zip(
                chunk, pool.map(look, chunk), strict=True
            ):
                lasting &= lasts
                if facts is None:
                    bad[names[i]] = said
                    continue
                digests.append((names[i], said))
                num_gray += facts.gray
                size = size or facts.size
                if facts.size != size:
                    num_other, other = num_other + 1, other or (names[i], *facts.size)
    found = Survey(
        content=sha256(repr(digests)),
        num=len(names),
        num_gray=num_gray,
        bad=bad,
        size=size,
        other=other,
        num_other=num_other,
    )
    return found, lasting


def _look_at_one(
    source: Callable[[int], Path | bytes], i: int
) -> tuple[Facts | None, str, bool]:
    """(facts, digest of the bytes, True) or (None, what is wrong, if for good)."""
    try:
        content = source(i)
        if isinstance(content, Path):
            content = read_bytes(content)
        return look_at(content), hashlib.sha256(content).hexdigest(), True
    except BadPicture as error:
        return None, str(error), True
    except OSError as error:  # of the disk, which may be well again tomorrow
        return None, f"cannot be read ({error.strerror or error})", False


def read_bytes(path: Path) -> bytes:
    """The file's. Raises BadPicture for a dead link and an empty file, OSError."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        if path.is_symlink():
            raise BadPicture("is a dead link") from error
        raise
    if not content:
        raise BadPicture("is empty")
    return content


def sha256(text: str) -> str:
    """Of a text, in hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()

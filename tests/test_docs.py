"""What README.md and docs/ name exists: links, configs, flags and fields."""

import re
import shlex
from pathlib import Path

import pytest

from genjax import commandline, configs, fields
from genjax.modes.table import find_mode

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
BY_NAME = {str(page.relative_to(ROOT)): page for page in sorted(PAGES)}
EXPERIMENTS = sorted(p.stem for p in (ROOT / "experiments").glob("*.py"))
RUN = {"README.md": 1, "docs/diffusion.md": 1, "docs/tutorial.md": 2}
NOT_RUN = {"docs/weights.md"}  # needs PyTorch and a pickle
each_page = pytest.mark.parametrize("page", BY_NAME.values(), ids=BY_NAME)


def without_code(text: str) -> str:
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`]*`", "", text)


def anchors(page: Path) -> set[str]:
    """Of the headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", head.lower()) for head in heads)
    return {head.replace(" ", "-") for head in plain}


def code_spans(page: Path) -> list[str]:
    """What stands in backticks inside a line."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]


def commands(page: Path) -> list[list[str]]:
    """The words of each command line of genjax in a block, without the program."""
    found = []
    for block in re.findall(r"^```bash\n(.*?)^```", page.read_text(), re.S | re.M):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:2] == ["python", "launch.py"]:
                found.append(words[2:])
    return found


@each_page
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
        if re.match(r"\w+:", target):
            assert target.startswith("https://"), target
            continue
        place, _, anchor = target.partition("#")
        found = (page.parent / place).resolve() if place else page
        assert found.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(found), f"{page.name}: {target}"


@each_page
def test_configs_and_modes_exist(page):
    text = page.read_text()
    for location in re.findall(r"--config=(\w[\w/:.]*+)(?!<)", text):
        if not location.isupper() and not is_made(location, text):
            check_config(location)
    for mode in re.findall(r"--mode=([a-z]+)", text):
        find_mode(mode)
    for span in code_spans(page):
        name, _, variant = span.partition(":")
        if re.fullmatch(r"\w+", name) and name not in EXPERIMENTS:
            if any(name.startswith(f"{known}_") for known in EXPERIMENTS):
                check_config(span)


def is_made(location: str, text: str) -> bool:
    """Whether the page itself makes the config, as by `cp ... configs/mine.py`."""
    name = Path(location.partition(":")[0]).stem
    return re.search(rf"^cp .* configs/{name}\.py$", text, re.MULTILINE) is not None


def check_config(location: str) -> None:
    file, _, variant = location.partition(":")
    path = configs.find_config(file)
    if variant and variant != "tiny":
        assert f"{variant}=" in path.read_text(), location


@each_page
def test_commands_are_read(page):
    """Every flag and field, by the command line itself."""
    made = page.read_text()
    for words in commands(page):
        given = dict(commandline.words(words))
        location = given.get("config") or ""
        if "config" in given and location.isupper():  # --config=FILE
            continue
        if "config" in given and not is_made(location, made):
            commandline.parse(words)
        mode = find_mode(given.get("mode") or "train")
        known = fields.fields_of(commandline.Flags) | fields.fields_of(mode.options)
        assert {n for n in given if not n.startswith("config.")} <= set(known), words


def test_python_is_run_by_a_test():
    """By tests/test_readme.py and tests/test_tutorial.py."""
    found = {
        name: page.read_text().count("```python") for name, page in BY_NAME.items()
    }
    assert {name: n for name, n in found.items() if n and name not in NOT_RUN} == RUN


@each_page
def test_fields_in_the_text_exist(page):
    """Like `method.coupling=optimal_transport` and `--config.likelihood.method=ode`."""
    known = known_fields()
    for span in code_spans(page):
        for name in re.findall(r"(?:^|--config\.|^config\.)(\w+\.\w[\w.]*\w)=", span):
            assert name in known, f"{page.name}: {name}"


def known_fields() -> set[str]:
    """Fields of any config here."""
    if not _KNOWN:
        for path in (ROOT / "configs").glob("*.py"):
            _KNOWN.update(configs.flatten(configs.load(str(path))))
    return _KNOWN


_KNOWN: set[str] = set()

"""Random edits of what a user writes or keeps: each ends well or in one sentence.

A fixed seed, so that a failure comes again; `--slow` makes all the edits, and without
it a part of them. The user's mistakes are UserErrors: anything else is a bug of ours.
"""

import collections
import functools
import random
from pathlib import Path
from typing import Any

import jax
import pytest

from genjax import commandline, configs
from genjax.modes.table import MODES, find_mode
from genjax.typing import UserError
from tests import specs

ROOT = Path(__file__).parent.parent
CONFIGS = {
    "ddpm_digits": specs.DIGITS,
    "edm_digits": specs.DIGITS,
    "flow_matching_digits_dit": specs.DIGITS,
    "flow_matching_toy2d": specs.of_points("gaussians8", 8),
    "gan_digits": specs.DIGITS,
    "score_sde_toy2d": specs.of_points("moons", 2),
    "vae_digits": specs.DIGITS,
    "vdm_toy2d": specs.of_points("moons", 2),
    "vqvae_digits": specs.DIGITS,
}
NUMBERS = [0, -1, 1, 3, 7, 2**31 - 1, 2**31, 10**20, 0.0, -0.5, 1e-30, 1e30, 1e308]
NUMBERS += [float("nan"), float("inf"), -float("inf")]
TEXTS = ["", " ", "x", "None", "é", "1e3", "--", "gs://a/b", "()", "(1,", "a=b", "\0"]
OTHERS = [None, True, (), (0,), (-1,), (3, 5), ("a",), [[1]], {}, {"x": 1}, b"a"]
KEYS = ["", "x", "name", "method", "learning_rte", "a.b", "é", "__class__"]


def outcomes(tries: int, attempt: Any, seed: str) -> collections.Counter[str]:
    """How often `attempt(random)` ended well and in a sentence. All else is raised."""
    counts = collections.Counter()
    for number in range(tries):
        try:
            attempt(random.Random(f"{seed} {number}"))
            counts["fine"] += 1
        except UserError as error:
            assert str(error).count("\n") == 0 and len(str(error)) < 600, error
            counts["sentence"] += 1
        except Exception as error:
            raise AssertionError(f"edit {number} of {seed!r}") from error
    return counts


def check_counts(counts: collections.Counter[str]) -> None:
    """Edits that all fail, or none, would try nothing."""
    print(dict(counts))
    assert counts["sentence"] > 0.2 * counts.total() and counts["fine"] > 0


@functools.cache
def stated_by(name: str) -> dict[str, Any]:
    return configs.load(f"{ROOT}/configs/{name}.py:tiny").to_dict()


def build(config: Any, name: str) -> None:
    """The experiment, as far as it goes without a computation."""
    experiment = configs.make_experiment(config, CONFIGS[name])
    jax.eval_shape(experiment.init, jax.random.key(0))


def a_value(rng: random.Random) -> Any:
    return rng.choice([*NUMBERS, *TEXTS, *OTHERS])


# --- configs --------------------------------------------------------------------------


def edit_config(stated: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """One to three changes of a nested config, here or in a section of it."""
    changed = {k: v for k, v in stated.items()}
    for _ in range(rng.randint(1, 2)):
        sections = [k for k, v in changed.items() if isinstance(v, dict) and v]
        if sections and rng.random() < 0.7:
            section = rng.choice(sections)
            changed[section] = edit_config(changed[section], rng)
            continue
        match rng.choice(["remove", "set", "set", "add", "rename"]):
            case "remove" if changed:
                changed.pop(rng.choice(list(changed)))
            case "set" if changed:
                changed[rng.choice(list(changed))] = a_value(rng)
            case "rename" if changed:
                name = rng.choice(list(changed))
                changed[name[1:] or "x"] = changed.pop(name)
            case _:
                changed[rng.choice(KEYS)] = a_value(rng)
    return changed


def try_config(rng: random.Random) -> None:
    name = rng.choice(list(CONFIGS))
    build(configs.complete(edit_config(stated_by(name), rng)), name)


# --- the command line -----------------------------------------------------------------


def a_flag(rng: random.Random, name: str) -> str:
    """A flag of the config, of the mode or of no one, with any value."""
    fields = [f"config.{field}" for field in configs.flatten(stated_by(name))]
    own = commandline.fields.fields_of(find_mode(rng.choice(list(MODES))).options)
    shared = commandline.fields.fields_of(commandline.Flags)
    flag = rng.choice([*fields, *fields, *own, *shared, *KEYS])
    return f"--{flag}" if rng.random() < 0.1 else f"--{flag}={a_value(rng)}"


def misspelled(word: str, rng: random.Random) -> str:
    """One letter more, less or another, anywhere."""
    place, letter = rng.randrange(len(word) + 1), rng.choice("abc=.-_:1é \0")
    return word[:place] + rng.choice([letter, ""]) + word[place + rng.randint(0, 1) :]


def try_command(rng: random.Random) -> None:
    name = rng.choice(list(CONFIGS))
    argv = [f"--config={ROOT}/configs/{name}.py:tiny", "--workdir=nowhere"]
    argv += [f"--mode={rng.choice(list(MODES))}"] * rng.randint(0, 1)
    for _ in range(rng.randint(1, 2)):
        if rng.random() < 0.7:
            argv.append(a_flag(rng, name))
        else:
            place = rng.randrange(len(argv))
            argv[place] = misspelled(argv[place], rng)
    command = commandline.parse(argv)
    build(command.config, name)


ATTEMPTS = {"config": try_config, "command": try_command}


@pytest.mark.parametrize("kind", ATTEMPTS)
def test_some_random_edits_are_fine_or_one_sentence(kind):
    check_counts(outcomes(40, ATTEMPTS[kind], kind))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ATTEMPTS)
def test_300_random_edits_are_fine_or_one_sentence(kind):
    check_counts(outcomes(300, ATTEMPTS[kind], kind))

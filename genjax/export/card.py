"""The model card: what an exported model is, in plain words for README.md."""

import ast
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genjax.typing import DataSpec

CARD = """\
# {name}

{summary}

| | |
|---|---|
| experiment | `experiments/{experiment}.py` |
| data | {data} |
| weights | {weights} |
| parameters | {num_parameters:,}, in `weights.safetensors` by name |
| config | `config.json`, every field |

## Use

```python
import genjax

run = genjax.load("{folder}")
{first_call}
```

```
{command}
```

## Scores

{scores}

## Licence

Not stated. Whoever publishes this model chooses one, with the licence of the data in
mind, and writes it here.
"""

CALLS = {
    "sample": ("images = run.sample(16, seed=0)", "--mode=sample"),
    "code": ("codes = run.encode(images)", "--mode=latents"),
    "translate": ("scores = run.evaluate()", "--mode=translate"),
}
"""What to type first, by the first of these parts that a model has."""


def write_card(
    *,
    name: str,
    folder: str,
    experiment: str,
    code: Path,
    spec: DataSpec,
    weights: str,
    num_parameters: int,
    can: str | None,
    scores: str,
) -> str:
    """The card. code: the experiment's file. can: a key of CALLS, what the model does.

    folder: as it is written in a command. weights, scores: in words.
    """
    call, mode = CALLS.get(can or "", ("scores = run.evaluate()", "--mode=evaluate"))
    return CARD.format(
        name=name,
        summary=summary_of(code),
        experiment=experiment,
        data=data_in_words(spec),
        weights=weights,
        num_parameters=num_parameters,
        folder=folder,
        first_call=call,
        command=f"python launch.py --workdir={folder} {mode}",
        scores=scores,
    )


def summary_of(code: Path) -> str:
    """The first line of the file's docstring."""
    return (ast.get_docstring(ast.parse(code.read_text())) or "").partition("\n")[0]


def data_in_words(spec: DataSpec) -> str:
    """Name, shape and sizes."""
    shape = "x".join(map(str, spec.shape))
    levels = f", {spec.num_levels} levels" if spec.num_levels else ""
    classes = f", {spec.num_classes} classes" if spec.num_classes else ""
    sizes = f"{spec.num_train:,} to train on and {spec.num_eval:,} held out"
    return f"{spec.name}: {shape}{levels}{classes}; {sizes}"


def scores_in_words(files: Mapping[str, Path]) -> str:
    """A table and the protocol of each evaluation; a sentence without one.

    files: {heading: the evaluation's JSON}; those that are absent are left out.
    """
    parts = []
    for heading, path in files.items():
        try:
            record = json.loads(path.read_text())
            metrics, protocol = record["metrics"], record["protocol"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        lines = [heading, "", "| score | |", "|---|---|"]
        lines += [f"| `{name}` | {_number(x)} |" for name, x in metrics.items()]
        lines += ["", "Protocol:", ""]
        plain = {k: v for k, v in protocol.items() if v and not isinstance(v, dict)}
        lines += [f"- `{name}`: {value}" for name, value in plain.items()]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) or "This run was not evaluated at this step."


def _number(x: Any) -> str:
    finite = isinstance(x, int | float) and math.isfinite(x)
    return f"{x:.5g}" if finite else "not finite"

"""The same digits by every family, above bars of nats: the picture of the README.

    python benchmarks/families.py --runs=runs --out=families.png

A column is a run on scikit-learn's 8x8 digits; the folder --runs holds them by the
names of their configs. Its pictures are the first of NUM samples, at seed 0, that the
nearest training image reads as 0, 1, ..., 9; a model without a sampler redraws the
first such test images. Its bar is the mean over the 447
test images of -log p(x), as the run's evaluation says; the line is the same of
independent pixels. Writes the numbers beside the picture, as JSON.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import matplotlib
import numpy as np
from sklearn.neighbors import KNeighborsClassifier

import genjax
from genjax.run import Run
from genjax.typing import UserError

matplotlib.use("agg")
from matplotlib import pyplot  # noqa: E402  (after the backend is chosen)

FAMILIES = {
    "pca_digits": "PCA",
    "autoencoder_digits": "auto-\nencoder",
    "vae_digits": "VAE",
    "vqvae_digits": "VQ-VAE",
    "gan_digits": "GAN",
    "ddpm_digits": "DDPM",
    "edm_digits": "EDM",
    "score_sde_digits": "score\nSDE",
    "vdm_digits": "VDM",
    "flow_matching_digits": "flow\nmatching",
}
NUM, CLASSES = 500, 10
COLOR, LINE = "#4878a8", "#b03030"


def read(split: Any) -> tuple[np.ndarray, np.ndarray]:
    """(images, labels), whole."""
    batch = split.read(np.arange(len(split)))
    return batch["image"], batch["label"]


def pictures_of(run: Run) -> np.ndarray:
    """(10, 8, 8), NaN where no sample is read as that digit."""
    dataset = run.dataset
    images, labels = read(dataset.train)
    reader = KNeighborsClassifier(n_neighbors=1).fit(flat(images), labels)
    if run.experiment.sample is not None:
        drawn = run.sample(NUM)
        digits = reader.predict(flat(drawn))
    else:
        originals, digits = read(dataset.eval)
        drawn = run.decode(run.encode(originals))
    return first_of_each(drawn, digits)


def first_of_each(drawn: np.ndarray, digits: np.ndarray) -> np.ndarray:
    found = np.full((CLASSES, *drawn.shape[1:3]), np.nan)
    for digit in range(CLASSES):
        (places,) = np.nonzero(digits == digit)
        if len(places):
            found[digit] = drawn[places[0], ..., 0]
    return found


def flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float32)


def nats_of(run: Run) -> dict[str, Any]:
    """What the run's evaluation says of its likelihood; {} without one."""
    path = run.workdir / "evaluation" / f"{run.step}.json"
    kept = path.is_file()
    result = json.loads(path.read_text()) if kept else run.evaluate(full=False)
    metrics, protocol = result["metrics"], result["protocol"]
    if "nll_nats" not in metrics:
        return {}
    return {
        "step": run.step,
        "nats": metrics["nll_nats"],
        "stderr": metrics["nll_nats_stderr"],
        "independent_pixels": metrics["independent_pixels_nll_nats"],
        "kind": protocol["likelihood_kind"],
        "given": protocol["likelihood_given"],
        "note": protocol["likelihood_note"],
    }


def draw(columns: dict[str, np.ndarray], nats: dict[str, dict], path: Path) -> None:
    """columns: title to (10, 8, 8). nats: title to `nats_of`."""
    width, height = len(columns), CLASSES
    figure, axes = pyplot.subplots(
        2,
        1,
        figsize=(width, 0.62 * height + 3.4),
        height_ratios=(0.62 * height, 2.6),
        layout="constrained",
    )
    above, below = axes
    framed = np.stack(list(columns.values()))  # (columns, digits, 8, 8)
    margins = ((0, 0), (0, 0), (1, 1), (4, 4))  # pixels: so they are drawn square
    framed = np.pad(framed, margins, constant_values=np.nan)
    above.imshow(
        np.block([list(row) for row in framed.swapaxes(0, 1)]),
        cmap="gray_r",
        vmin=0,
        vmax=16,
        extent=(-0.5, width - 0.5, height, 0),
        aspect="auto",
    )
    above.set_xticks(range(width), columns, fontsize=11)
    above.xaxis.tick_top()
    above.set_yticks(np.arange(height) + 0.5, [str(d) for d in range(CLASSES)])
    above.tick_params(length=0)
    above.set_frame_on(False)
    draw_bars(below, list(columns), nats)
    figure.savefig(path, dpi=110)


def draw_bars(axes: Any, titles: list[str], nats: dict[str, dict]) -> None:
    for place, title in enumerate(titles):
        found = nats.get(title, {})
        if not found:
            said = "" if title == titles[0] else "none"
            axes.text(place, 3, said, ha="center", color="gray", fontsize=10)
            continue
        axes.bar(place, found["nats"], color=COLOR, width=0.6)
        sign = {"lower_bound": "≤ ", "estimate": "≈ "}.get(found["kind"], "")
        star = "*" if found["given"] == "label" else ""
        text = f"{sign}{found['nats']:.1f}{star}"
        label = axes.text(place, found["nats"] + 3, text, ha="center", fontsize=10)
        label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.8})
    line = next(found["independent_pixels"] for found in nats.values() if found)
    axes.axhline(line, color=LINE, linestyle="--", linewidth=1.2)
    axes.text(-0.45, line + 3, f"no model\n{line:.1f}", color=LINE, fontsize=10)
    axes.set_xlim(-0.5, len(titles) - 0.5)
    axes.set_ylim(0, 1.15 * max(found["nats"] for found in nats.values() if found))
    axes.set_xticks([])
    axes.set_ylabel("nats an image\n(lower is better)")
    axes.set_xlabel(
        "≤: at most, by a bound.  *: given the label.\n"
        "no model: independent pixels, counted on the training images"
    )
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", default="runs", help="folder of the runs, by config")
    parser.add_argument("--out", type=Path, default=Path("families.png"))
    args = parser.parse_args()
    columns, nats = {}, {}
    for name, title in FAMILIES.items():
        try:
            run = genjax.load(f"{args.runs}/{name}")
        except UserError as error:
            print(f"without {name}: {error}")
            continue
        if not columns:
            columns["data"] = first_of_each(*read(run.dataset.eval))
        columns[title], nats[title] = pictures_of(run), nats_of(run)
        print(name, nats[title].get("nats"), flush=True)
    if not any(nats.values()):
        sys.exit(f"there is no run with a likelihood in {args.runs}")
    draw(columns, nats, args.out)
    named = {name: nats[t] for name, t in FAMILIES.items() if t in nats}
    args.out.with_suffix(".json").write_text(json.dumps(named, indent=2) + "\n")


if __name__ == "__main__":
    main()

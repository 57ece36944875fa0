"""Rows of the measurements as a table and as a picture."""

from typing import Any

from genjax.pictures.figures import new_figure, picture_of
from genjax.pictures.grids import Picture

Rows = list[dict[str, Any]]
MARKERS = "osv^<>DPX*dp"


def table(rows: Rows, protocol: dict[str, Any]) -> str:
    """Markdown: a head that says how, then a row a trial, in the order of the rows."""
    name, chunk = protocol["distance"], protocol["sample_chunk"]
    head = (
        f"{protocol['experiment']} on {protocol['data']}, step {protocol['step']}: "
        f"{name} of {protocol['n_generated']} samples {protocol['distance_note']}. "
        f"Floor {protocol['floor']:.4g}. Seconds: of {chunk} samples, compiled and "
        f"warm, the median; on {protocol['device']}. {protocol['network_calls']}."
    )
    columns = ["solver", "steps", "evaluations", "network calls", "seconds", name]
    lines = [
        f"| {' | '.join(columns)} |",
        f"|{' --- |' * len(columns)}",
        *(f"| {' | '.join(cells(row))} |" for row in rows),
    ]
    missing = [f"- {what}: {why}" for what, why in protocol["not_available"].items()]
    parts = [head, "\n".join(lines)]
    if missing:
        parts.append("Not available:\n\n" + "\n".join(missing))
    if not protocol["complete"]:
        parts.append("Stopped before the end: the same command goes on.")
    return "\n\n".join(parts) + "\n"


def cells(row: dict[str, Any]) -> list[str]:
    """A row of the table in words."""
    steps = row["num_steps"]
    if steps is None:
        steps = f"error {row['tolerance']:g}"
    return [
        row["solver"],
        str(steps),
        f"{row['evaluations']:g}",
        f"{row['network_calls']:g}",
        f"{row['seconds_per_chunk']:.3g}",
        f"{row['distance']:.4g}",
    ]


def plot(rows: Rows, protocol: dict[str, Any]) -> Picture:
    """The distance against evaluations and against seconds, a line a solver."""
    from matplotlib.ticker import LogLocator, NullFormatter

    figure = new_figure(12.0, 5.0)
    chunk = protocol["sample_chunk"]
    costs = {
        "evaluations": "evaluations of the model",
        "seconds_per_chunk": f"seconds for {chunk} samples",
    }
    names = list(dict.fromkeys(row["solver"] for row in rows))
    for place, (field, label) in enumerate(costs.items(), start=1):
        axes = figure.add_subplot(1, 2, place)
        for i, name in enumerate(names):
            points = sorted(
                (row[field], row["distance"]) for row in rows if row["solver"] == name
            )
            axes.plot(
                *zip(*points, strict=True),
                marker=MARKERS[i % len(MARKERS)],
                color=f"C{i % 10}",
                linestyle="--" if i >= 10 else "-",
                markersize=4,
                linewidth=1,
                label=name,
            )
        axes.axhline(protocol["floor"], color="black", linestyle=":", label="floor")
        axes.set(xscale="log", yscale="log", xlabel=label, ylabel=protocol["distance"])
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3)
    lines, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside right upper")
    figure.suptitle(
        f"{protocol['experiment']} on {protocol['data']}, step {protocol['step']}"
    )
    return picture_of(figure)

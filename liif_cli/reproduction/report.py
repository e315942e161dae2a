"""Reports of a reproduced table: Markdown, CSV and a plot, with the published numbers."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from liif_cli.errors import UsageError
from liif_cli.evaluation.plot import draw_plot
from liif_cli.evaluation.scores import Row, Score
from liif_cli.reproduction.tables import Table

Scores = Mapping[str, Mapping[str, Mapping[str, float]]]
"""PSNR in dB by row, data set and scale (as text, "2")."""


def markdown(table: Table, scores: Scores, differences: Sequence[str]) -> str:
    """The report of a table as Markdown: the differences from the paper, and a table for each data set."""
    parts = [
        f"# {table.title}",
        "PSNR in dB: measured here (published).",
        "\n".join(f"- {each}." for each in differences),
    ]
    for dataset in _datasets(scores):
        parts += [f"## {dataset}", _table(table, scores, dataset)]
    return "\n\n".join(part for part in parts if part) + "\n"


def figure(table: Table, image: str, panels: Sequence[str], differences: Sequence[str]) -> str:
    """The report of a figure as Markdown. image: the path of the figure. panels: its labels."""
    listed = "\n".join(f"- {each}." for each in differences)
    return f"# {table.title}\n\n![{', '.join(panels)}]({image})\n\n{listed}\n"


def as_csv(table: Table, scores: Scores) -> str:
    """The scores as CSV: a line for each row, data set and scale, with the measured and the published PSNR."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["table", "row", "dataset", "scale", "psnr", "published"])
    for line in table.lines:
        for dataset, found in scores.get(line.name, {}).items():
            published = line.published.get(dataset, {})
            writer.writerows(
                [table.name, line.name, dataset, scale, f"{psnr:.4f}", published.get(float(scale), "")]
                for scale, psnr in found.items()
            )
    return out.getvalue()


def plot(table: Table, scores: Scores, path: Path, say: Callable[[str], None]) -> None:
    """Plot PSNR against scale, with a panel for each data set. Without matplotlib, only `say` is called with the reason."""
    rows = [
        Row(dataset, float(scale), line.name, table.protocol, True, (Score("", psnr, 0.0, 0.0),))
        for dataset in _datasets(scores)
        for line in table.lines
        for scale, psnr in scores.get(line.name, {}).get(dataset, {}).items()
    ]
    try:
        draw_plot(rows, path)
    except UsageError as error:
        say(f"no plot: {error}")


def _datasets(scores: Scores) -> list[str]:
    return list(dict.fromkeys(dataset for sets in scores.values() for dataset in sets))


def _table(table: Table, scores: Scores, dataset: str) -> str:
    scales = sorted({float(s) for sets in scores.values() for s in sets.get(dataset, {})})
    lines = [["method", *(f"x{scale:g}" for scale in scales)], ["---", *("--:" for _ in scales)]]
    for line in table.lines:
        found, published = scores.get(line.name, {}).get(dataset), line.published.get(dataset, {})
        if found is not None:
            lines.append([line.name, *(_cell(found.get(f"{s:g}"), published.get(s)) for s in scales)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(measured: float | None, published: float | None) -> str:
    ours = "-" if measured is None else f"{measured:.2f}"
    return ours if published is None else f"{ours} ({published:.2f})"

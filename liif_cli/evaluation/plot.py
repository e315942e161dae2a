"""A chart of PSNR against scale, one line per method. Needs matplotlib (the extra `plot`)."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from liif_cli.errors import UsageError
from liif_cli.evaluation.scores import Row


def check_matplotlib() -> None:
    """Raises UsageError, with the command that installs it, if matplotlib is missing."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise UsageError("cannot draw a plot: it needs matplotlib", hint="pip install 'liif[plot]'") from error


def draw_plot(rows: Sequence[Row], path: Path) -> None:
    """Draw the rows, one panel per set, into a file whose suffix matplotlib knows. Needs no display. Raises UsageError."""
    check_matplotlib()
    from matplotlib.figure import Figure

    groups = [(name, list(group)) for name, group in groupby(rows, key=lambda row: (row.dataset, row.label()))]
    figure = Figure(figsize=(6 * len(groups), 4.5), layout="constrained")
    for index, ((dataset, label), group) in enumerate(groups, 1):
        axes = figure.add_subplot(1, len(groups), index)
        for method in dict.fromkeys(row.method for row in group):
            points = [(row.scale, row.psnr) for row in group if row.method == method and row.psnr is not None]
            axes.plot(*zip(*points, strict=True), marker="o", label=method) if points else None
        scales = sorted({row.scale for row in group})
        axes.set_xscale("log")
        axes.set_xticks(scales, [f"×{scale:g}" for scale in scales])
        axes.minorticks_off()
        axes.set(title=f"{dataset} ({label})", xlabel="scale", ylabel="PSNR in dB")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    figure.savefig(path, dpi=144)

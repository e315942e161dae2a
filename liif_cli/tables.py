"""Scores as a table for people."""

import io
import sys
from collections.abc import Sequence
from typing import Any

from liif_cli.scores import Row, Score, number

_WIDE = 140  # columns where no terminal says how many there are


def render(rows: Sequence[Row], per_image: bool = False, caption: str = "") -> str:
    """The rows as a table for standard output: every number with its protocol; a line a picture too with `per_image`."""
    from rich.console import Console
    from rich.table import Table

    terminal, out = sys.stdout.isatty(), io.StringIO()
    width = None if terminal else _WIDE
    console = Console(file=out, force_terminal=terminal, width=width, highlight=False, markup=False)
    odd = "* not standard: the low-resolution pictures are not the protocol's"
    lines = [*([] if all(row.standard for row in rows) else [odd]), *([caption] if caption else [])]
    table = Table(caption="\n".join(lines) or None, caption_justify="left")
    for name, justify in (("set", "left"), ("scale", "right"), ("method", "left"), ("protocol", "left")):
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for name in ("images", "PSNR dB", "SSIM", "s/image"):
        table.add_column(name, justify="right", no_wrap=True)
    before: Row | None = None
    for row in rows:
        if before and (before.dataset, before.scale) != (row.dataset, row.scale):
            table.add_section()
        table.add_row(row.dataset, f"×{row.scale:g}", row.method, _protocol(row), str(row.images), *_values(row))
        for score in row.scores if per_image else ():
            table.add_row("", "", f"  {score.image}", "", "", *_values(score))
        before = row
    console.print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _protocol(row: Row) -> str:
    return row.protocol if row.standard else f"{row.protocol} *"


def _values(value: Row | Score) -> tuple[Any, ...]:
    return number(value.psnr, 3), number(value.ssim, 4), number(value.seconds, 2)

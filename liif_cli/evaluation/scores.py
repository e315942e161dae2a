"""Rows of a benchmark's result, and how they are written down: JSON, CSV, Markdown."""

import csv
import io
import json
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean
from typing import Any


@dataclass(frozen=True)
class Score:
    """One picture: its file's name, PSNR in dB, SSIM, and the seconds that the method took."""

    image: str
    psnr: float
    ssim: float
    seconds: float


@dataclass(frozen=True)
class Row:
    """One method on one set at one scale, measured by `protocol`; `standard` unless the LR pictures were made otherwise.

    The values are means over the pictures that took part, of per-picture dB (not of the error); None without any.
    """

    dataset: str
    scale: float
    method: str
    protocol: str
    standard: bool
    scores: tuple[Score, ...] = ()

    @property
    def images(self) -> int:
        """How many pictures took part."""
        return len(self.scores)

    @property
    def psnr(self) -> float | None:
        """Mean PSNR in dB."""
        return self._mean([score.psnr for score in self.scores])

    @property
    def ssim(self) -> float | None:
        """Mean SSIM."""
        return self._mean([score.ssim for score in self.scores])

    @property
    def seconds(self) -> float | None:
        """Mean seconds a picture."""
        return self._mean([score.seconds for score in self.scores])

    @staticmethod
    def _mean(values: Sequence[float]) -> float | None:
        return fmean(values) if values else None

    def to_dict(self) -> dict[str, Any]:
        """The row as JSON has it; whole scales are integers, what is not a finite number is None."""
        scale = int(self.scale) if self.scale == int(self.scale) else self.scale
        values = {"images": self.images, "psnr": self.psnr, "ssim": self.ssim, "seconds": self.seconds}
        names = {"dataset": self.dataset, "scale": scale, "method": self.method}
        labels = {"protocol": self.protocol, "standard": self.standard}
        return names | labels | {key: _finite(value) for key, value in values.items()}

    def label(self) -> str:
        """The protocol, and what is to be known about it."""
        return self.protocol if self.standard else f"{self.protocol} (non-standard LR)"


COLUMNS = ("dataset", "scale", "method", "protocol", "standard", "images", "psnr", "ssim", "seconds")


def to_json(rows: Iterable[Row], per_image: bool = False) -> str:
    """One object, `{"rows": [...]}`; with `per_image` every row lists its pictures under `per_image`."""
    listed = []
    for row in rows:
        entry = row.to_dict()
        if per_image:
            entry["per_image"] = [{key: _finite(value) for key, value in vars(score).items()} for score in row.scores]
        listed.append(entry)
    return json.dumps({"rows": listed}, indent=2, allow_nan=False)


def to_csv(rows: Iterable[Row], per_image: bool = False) -> str:
    """A header and a line a row; with `per_image` a line a picture follows, named in the column `image`."""
    out = io.StringIO()
    writer = csv.DictWriter(out, (*COLUMNS, *(["image"] if per_image else [])), restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(row.to_dict())
        if per_image:
            writer.writerows(row.to_dict() | {"images": 1} | vars(score) for score in row.scores)
    return out.getvalue()


def to_markdown(rows: Sequence[Row], per_image: bool = False) -> str:
    """For each set a line that names set and protocol, and a table: a line a scale, a column a method, PSNR / SSIM."""
    parts = []
    for (dataset, label), group in groupby(rows, key=lambda row: (row.dataset, row.label())):
        parts.append(f"**{dataset}**, protocol `{label}`, PSNR in dB / SSIM:\n\n{_table(list(group), per_image)}")
    return "\n\n".join(parts)


def _table(rows: Sequence[Row], per_image: bool) -> str:
    methods = list(dict.fromkeys(row.method for row in rows))
    lines = [["scale", "images", *methods], ["--:", "--:", *("--:" for _ in methods)]]
    for scale, group in groupby(rows, key=lambda row: row.scale):
        at = {row.method: row for row in group}
        count = str(max(row.images for row in at.values()))
        lines.append([f"×{scale:g}", count, *(_cell(at.get(method)) for method in methods)])
        if per_image:
            lines.extend(_picture_lines(at, methods))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _picture_lines(at: dict[str, Row], methods: Sequence[str]) -> list[list[str]]:
    scores = {method: {score.image: score for score in row.scores} for method, row in at.items()}
    names = dict.fromkeys(name for images in scores.values() for name in images)
    return [["", name, *(_cell(scores.get(method, {}).get(name)) for method in methods)] for name in names]


def _cell(value: Row | Score | None) -> str:
    return "–" if value is None else f"{number(value.psnr, 2)} / {number(value.ssim, 4)}"


def number(value: float | None, digits: int) -> str:
    """A number for people; a dash for none."""
    return "–" if value is None else "∞" if math.isinf(value) else f"{value:.{digits}f}"


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


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

"""The rows of a benchmark, as a table, JSON, CSV and Markdown."""

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
    """The score of one image: file name, PSNR in dB, SSIM, and the method's seconds."""

    image: str
    psnr: float
    ssim: float
    seconds: float


@dataclass(frozen=True)
class Row:
    """The scores of one method on one set at one scale.

    standard: whether LR images were made as the protocol requires. degraded: how the LR images were degraded
    (`images.degrade`), "" if they were not; this is a protocol of liif's own. Values are means over the images that were
    included (of dB, not of the error), or None if there was no image.
    """

    dataset: str
    scale: float
    method: str
    protocol: str
    standard: bool
    scores: tuple[Score, ...] = ()
    degraded: str = ""

    @property
    def images(self) -> int:
        """The number of images that were included."""
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
        """Mean seconds per image."""
        return self._mean([score.seconds for score in self.scores])

    @staticmethod
    def _mean(values: Sequence[float]) -> float | None:
        return fmean(values) if values else None

    def to_dict(self) -> dict[str, Any]:
        """The row for JSON: scales without a fraction become integers, infinite values None."""
        scale = int(self.scale) if self.scale == int(self.scale) else self.scale
        values = {"images": self.images, "psnr": self.psnr, "ssim": self.ssim, "seconds": self.seconds}
        names = {"dataset": self.dataset, "scale": scale, "method": self.method}
        labels = {"protocol": self.protocol, "standard": self.standard, "degraded": self.degraded}
        return names | labels | {key: _finite(value) for key, value in values.items()}

    def label(self) -> str:
        """The protocol's name, with a remark if LR images were not made as it requires."""
        if self.degraded:
            return f"{self.protocol} + {self.degraded} (liif's own)"
        return self.protocol if self.standard else f"{self.protocol} (non-standard LR)"


COLUMNS = ("dataset", "scale", "method", "protocol", "standard", "degraded", "images", "psnr", "ssim", "seconds")


def to_json(rows: Iterable[Row], per_image: bool = False) -> str:
    """The rows as a JSON object, `{"rows": [...]}`; with `per_image`, every row lists the scores of its images."""
    listed = []
    for row in rows:
        entry = row.to_dict()
        if per_image:
            entry["per_image"] = [{key: _finite(value) for key, value in vars(score).items()} for score in row.scores]
        listed.append(entry)
    return json.dumps({"rows": listed}, indent=2, allow_nan=False)


def to_csv(rows: Iterable[Row], per_image: bool = False) -> str:
    """The rows as CSV with a header; with `per_image`, each is followed by a line per image, with its name in `image`."""
    out = io.StringIO()
    writer = csv.DictWriter(out, (*COLUMNS, *(["image"] if per_image else [])), restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(row.to_dict())
        if per_image:
            writer.writerows(row.to_dict() | {"images": 1} | vars(score) for score in row.scores)
    return out.getvalue()


def to_markdown(rows: Sequence[Row], per_image: bool = False) -> str:
    """The rows as Markdown: for each set, its name and protocol, and a table with a line per scale and a column per method."""
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
            lines.extend(_image_lines(at, methods))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _image_lines(at: dict[str, Row], methods: Sequence[str]) -> list[list[str]]:
    scores = {method: {score.image: score for score in row.scores} for method, row in at.items()}
    names = dict.fromkeys(name for images in scores.values() for name in images)
    return [["", name, *(_cell(scores.get(method, {}).get(name)) for method in methods)] for name in names]


def _cell(value: Row | Score | None) -> str:
    return "–" if value is None else f"{number(value.psnr, 2)} / {number(value.ssim, 4)}"


def number(value: float | None, digits: int) -> str:
    """A number as text for users; a dash for None."""
    return "–" if value is None else "∞" if math.isinf(value) else f"{value:.{digits}f}"


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


_WIDE = 140  # columns if standard output is not a terminal


def render(rows: Sequence[Row], per_image: bool = False, caption: str = "") -> str:
    """The rows as a table for the terminal; with `per_image`, also one line per image. caption: text below the table."""
    from rich.console import Console
    from rich.table import Table

    terminal, out = sys.stdout.isatty(), io.StringIO()
    width = None if terminal else _WIDE
    console = Console(file=out, force_terminal=terminal, width=width, highlight=False, markup=False)
    odd = "* not standard: LR images were not made as the protocol requires"
    own = "+ degraded LR images: a protocol of liif's own, comparable only with such rows"
    marks = {odd: any(not row.standard and not row.degraded for row in rows), own: any(row.degraded for row in rows)}
    lines = [*(text for text, wanted in marks.items() if wanted), *([caption] if caption else [])]
    table = Table(caption="\n".join(lines) or None, caption_justify="left")
    for name, justify in (("set", "left"), ("scale", "right"), ("method", "left"), ("protocol", "left")):
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for name in ("images", "PSNR dB", "SSIM", "s/image"):
        table.add_column(name, justify="right", no_wrap=True)
    before: Row | None = None
    for row in rows:
        if before and (before.dataset, before.degraded, before.scale) != (row.dataset, row.degraded, row.scale):
            table.add_section()
        table.add_row(row.dataset, f"×{row.scale:g}", row.method, _protocol(row), str(row.images), *_values(row))
        for score in row.scores if per_image else ():
            table.add_row("", "", f"  {score.image}", "", "", *_values(score))
        before = row
    console.print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _protocol(row: Row) -> str:
    if row.degraded:
        return f"{row.protocol} + {row.degraded}"
    return row.protocol if row.standard else f"{row.protocol} *"


def _values(value: Row | Score) -> tuple[Any, ...]:
    return number(value.psnr, 3), number(value.ssim, 4), number(value.seconds, 2)

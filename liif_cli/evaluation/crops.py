"""A picture to judge by eye: the same crop by every method beside the ground truth (the paper's figure 5)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from liif_cli.errors import UsageError

Bytes = NDArray[np.uint8]
Floats = NDArray[np.floating[Any]]
PANEL = 240
"""Side of the square that each crop is shown in, in pixels."""
_GAP, _LINE, _RED = 8, 20, (230, 30, 30)


@dataclass(frozen=True)
class Box:
    """A rectangle of the ground truth, in its pixels."""

    left: int
    top: int
    width: int
    height: int

    @classmethod
    def parse(cls, text: str) -> "Box":
        """`X,Y,W,H` as users write it. Raises UsageError for anything else."""
        parts = text.replace(" ", "").split(",")
        if len(parts) != 4 or not all(part.isdecimal() for part in parts) or "0" in (parts[2], parts[3]):
            raise UsageError(f"{text!r} is not a crop", hint="X,Y,WIDTH,HEIGHT in pixels, as in 40,60,64,64")
        return cls(*map(int, parts))

    def check(self, height: int, width: int) -> None:
        """UsageError unless the box lies within a height x width picture."""
        if self.left + self.width > width or self.top + self.height > height:
            raise UsageError(
                f"the crop {self.left},{self.top},{self.width},{self.height} leaves the {width}x{height} picture"
            )

    def of(self, image: NDArray[Any]) -> NDArray[Any]:
        """The box's part of an (H, W, ...) picture."""
        return image[self.top : self.top + self.height, self.left : self.left + self.width]


@dataclass(frozen=True)
class Panel:
    """A whole picture, (H, W, 3) uint8, and the lines under it."""

    pixels: Bytes
    title: str
    note: str = ""


def telling_box(first: Floats, second: Floats, side: int | None = None) -> Box:
    """The square where two (H, W, 3) pictures differ most, on average; its side is by default a quarter of theirs."""
    height, width = first.shape[:2]
    side = min(side or max(min(height, width) // 4, 16), height, width)
    sums = np.zeros((height + 1, width + 1))
    sums[1:, 1:] = np.abs(first.astype(np.float64) - second).sum(axis=2).cumsum(axis=0).cumsum(axis=1)
    windows = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = np.unravel_index(int(np.argmax(windows)), windows.shape)
    return Box(int(left), int(top), side, side)


def draw_figure(truth: Panel, panels: Sequence[Panel], box: Box) -> Image.Image:
    """The whole truth with the box marked, then the box of each panel and of the truth, enlarged without smoothing.

    Raises UsageError when the box does not lie in the picture, ValueError when the panels differ in size.
    """
    if any(panel.pixels.shape != truth.pixels.shape for panel in panels):
        raise ValueError("all panels of a figure have one size")
    box.check(*truth.pixels.shape[:2])
    parts = [_overview(truth, box), *(_crop(panel, box) for panel in (*panels, truth))]
    width = sum(part.width for part in parts) + _GAP * (len(parts) + 1)
    sheet = Image.new("RGB", (width, PANEL + 2 * _LINE + 2 * _GAP), "white")
    left = _GAP
    for part in parts:
        sheet.paste(part, (left, _GAP))
        left += part.width + _GAP
    return sheet


def _overview(truth: Panel, box: Box) -> Image.Image:
    height, width = truth.pixels.shape[:2]
    shown = Image.fromarray(truth.pixels).resize(
        (max(round(width * PANEL / height), 1), PANEL), Image.Resampling.LANCZOS
    )
    ratio = PANEL / height
    corners = [n * ratio for n in (box.left, box.top, box.left + box.width, box.top + box.height)]
    ImageDraw.Draw(shown).rectangle(corners, outline=_RED, width=2)
    return _labelled(shown, Panel(truth.pixels, "whole picture", f"{width}x{height}"))


def _crop(panel: Panel, box: Box) -> Image.Image:
    part = Image.fromarray(np.ascontiguousarray(box.of(panel.pixels)))
    size = max(round(box.width * PANEL / box.height), 1), PANEL
    return _labelled(part.resize(size, Image.Resampling.NEAREST), panel)


def _labelled(picture: Image.Image, panel: Panel) -> Image.Image:
    font = ImageFont.load_default(size=14)
    lines = [line for line in (panel.title, panel.note) if line]
    room = [round(font.getlength(line)) for line in lines]
    out = Image.new("RGB", (max(picture.width, *room), PANEL + 2 * _LINE), "white")
    out.paste(picture, ((out.width - picture.width) // 2, 0))
    pen = ImageDraw.Draw(out)
    for index, line in enumerate(lines):
        pen.text((out.width / 2, PANEL + 2 + _LINE * index), line, "black", cast(Any, font), anchor="ma")
    return out

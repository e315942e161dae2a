"""Draws labelled images on a single sheet."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from liif_cli.coords import Grid

Bytes = NDArray[np.uint8]
GAP = 8
PAPER, INK = (255, 255, 255), (20, 20, 20)


@dataclass(frozen=True)
class Panel:
    """An image of a sheet: pixels (h, w, 3) uint8, and a label of one or more lines."""

    label: str
    pixels: Bytes


def draw_sheet(shown: Sequence[Panel], columns: int | None = None) -> Bytes:
    """A sheet (h, w, 3) uint8 of all panels, `columns` per row (default: all), each with its label above it.

    Panels may differ in size: a column is as wide as its widest panel, and a row is as high as its highest.
    """
    columns = min(columns or len(shown), len(shown))
    font = load_font(min(max(min(panel.pixels.shape[1] for panel in shown) // 14, 12), 32))
    line = int(font.getbbox("Ag")[3]) + GAP
    lines = [shown[start : start + columns] for start in range(0, len(shown), columns)]
    widths = [max(panel.pixels.shape[1] for panel in shown[column::columns]) for column in range(columns)]
    strips = [line * max(panel.label.count("\n") + 1 for panel in row) for row in lines]
    heights = [max(panel.pixels.shape[0] for panel in row) for row in lines]
    lefts, tops = _starts(widths), _starts([a + b for a, b in zip(strips, heights, strict=True)])
    sheet = Image.new("RGB", (lefts[-1], tops[-1]), PAPER)
    draw = ImageDraw.Draw(sheet)
    for row, top, strip in zip(lines, tops, strips, strict=False):
        for panel, left, width in zip(row, lefts, widths, strict=False):
            for index, text in enumerate(panel.label.split("\n")):
                draw.text((left, top + index * line), shortened(text, width, font), fill=INK, font=font)
            sheet.paste(Image.fromarray(panel.pixels), (left, top + strip))
    return np.asarray(sheet)


def stacked(sheets: Sequence[Bytes]) -> Bytes:
    """Sheets (h, w, 3) uint8, stacked vertically. Narrower sheets are padded to the width of the widest."""
    whole = np.full((sum(len(sheet) for sheet in sheets), max(sheet.shape[1] for sheet in sheets), 3), PAPER, np.uint8)
    top = 0
    for sheet in sheets:
        whole[top : top + len(sheet), : sheet.shape[1]] = sheet
        top += len(sheet)
    return whole


def _starts(lengths: Sequence[int]) -> list[int]:
    """The start of each part, with a gap before every part; the last number is the total length."""
    return list(accumulate(lengths, lambda start, length: start + length + GAP, initial=GAP))


def enlarged(pixels: Bytes, height: int, width: int | None = None) -> Bytes:
    """Pixels (h, w, 3) uint8, resized by nearest neighbour. width: by default, keeps the aspect ratio."""
    width = max(round(pixels.shape[1] * height / pixels.shape[0]), 1) if width is None else width
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize((width, height), Image.Resampling.NEAREST))


def sheet_shape(grid: Grid, count: int, columns: int | None = None) -> tuple[int, int]:
    """The (height, width) in pixels of a sheet of `count` panels of the grid's size, not counting labels."""
    height, width = grid.shape
    columns = min(columns or count, count)
    return -(-count // columns) * (height + GAP) + GAP, columns * (width + GAP) + GAP


def load_font(size: int) -> "ImageFont.FreeTypeFont":
    """Pillow's default font. It is scalable, unless Pillow was built without FreeType."""
    return cast("ImageFont.FreeTypeFont", ImageFont.load_default(size))


def shortened(text: str, width: int, font: "ImageFont.FreeTypeFont") -> str:
    """The text, with its middle replaced by dots if it is wider than `width` pixels."""
    if font.getlength(text) <= width:
        return text
    for kept in range(len(text) - 1, 1, -1):
        short = f"{text[: (kept + 1) // 2]}...{text[len(text) - kept // 2 :]}"
        if font.getlength(short) <= width:
            return short
    return text[:1]

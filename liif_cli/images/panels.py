"""Pictures side by side on one sheet, each with its label."""

from collections.abc import Sequence
from dataclasses import dataclass
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
    """One way to show it. pixels: (h, w, 3) uint8."""

    label: str
    pixels: Bytes


def draw_sheet(shown: Sequence[Panel], columns: int | None = None) -> Bytes:
    """All panels, of one size, on one (h, w, 3) uint8 sheet, `columns` in a row (default: all), each with its label above."""
    height, width = shown[0].pixels.shape[:2]
    columns = min(columns or len(shown), len(shown))
    font = load_font(min(max(width // 14, 12), 32))
    strip = int(font.getbbox("Ag")[3]) + GAP
    rows = -(-len(shown) // columns)
    sheet = Image.new("RGB", (columns * (width + GAP) + GAP, rows * (height + strip + GAP) + GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, panel in enumerate(shown):
        left = GAP + index % columns * (width + GAP)
        top = GAP + index // columns * (height + strip + GAP)
        draw.text((left, top), shortened(panel.label, width, font), fill=INK, font=font)
        sheet.paste(Image.fromarray(panel.pixels), (left, top + strip))
    return np.asarray(sheet)


def sheet_shape(grid: Grid, count: int, columns: int | None = None) -> tuple[int, int]:
    """(height, width) that the sheet of `count` panels of this grid will have at least."""
    height, width = grid.shape
    columns = min(columns or count, count)
    return -(-count // columns) * (height + GAP) + GAP, columns * (width + GAP) + GAP


def load_font(size: int) -> "ImageFont.FreeTypeFont":
    """Pillow's own font: scalable, or of one size where Pillow lacks FreeType."""
    return cast("ImageFont.FreeTypeFont", ImageFont.load_default(size))


def shortened(text: str, width: int, font: "ImageFont.FreeTypeFont") -> str:
    """`text`, its middle left out where it is wider than `width` pixels."""
    if font.getlength(text) <= width:
        return text
    for kept in range(len(text) - 1, 1, -1):
        short = f"{text[: (kept + 1) // 2]}...{text[len(text) - kept // 2 :]}"
        if font.getlength(short) <= width:
            return short
    return text[:1]

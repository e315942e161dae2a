"""A sheet to look at: one part of a picture by bicubic, Lanczos and each model, side by side, labelled."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from liif_cli.coords import Axis, Grid
from liif_cli.resize import Filter, resample
from liif_cli.savers import as_floats, quantize
from liif_cli.upscaler import Upscaler

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
FILTERS: dict[str, Filter] = {"bicubic": "bicubic", "Lanczos": "lanczos"}
GAP = 8
PAPER, INK = (255, 255, 255), (20, 20, 20)


@dataclass(frozen=True)
class Panel:
    """One way to show it. pixels: (h, w, 3) uint8."""

    label: str
    pixels: Bytes


def panels(
    pixels: NDArray[Any],
    grid: Grid,
    upscalers: Sequence[Upscaler],
    progress: Callable[[int], None] = lambda pixels: None,
) -> Iterator[Panel]:
    """The pixels of `grid` over a picture (H, W, C) uint8 or uint16, by Pillow's bicubic and Lanczos and by each model.

    Transparency is shown on white. All panels have the size of the grid. progress: is told of pixels that a model finished.
    """
    rgb = opaque(pixels)
    for name, filter in FILTERS.items():
        yield Panel(name, filtered(rgb, grid, filter))
    for upscaler in upscalers:
        renderer = upscaler.renderer(8)
        rows = [rows for _, rows in upscaler.rows(renderer, rgb, [grid], progress)]
        yield Panel(upscaler.name, quantize(np.concatenate(rows), np.uint8))


def opaque(pixels: NDArray[Any]) -> Floats:
    """(H, W, C) of 1 to 4 channels -> (H, W, 3) float32 in [0, 1], on white."""
    values = as_floats(pixels)
    if values.shape[2] in (2, 4):
        alpha = values[..., -1:]
        values = values[..., :-1] * alpha + (1 - alpha)
    return np.ascontiguousarray(np.broadcast_to(values, (*values.shape[:2], 3)))


def filtered(rgb: Floats, grid: Grid, filter: Filter) -> Bytes:
    """The grid's pixels by one of Pillow's filters: (h, w, 3) uint8 from (H, W, 3) float32 in [0, 1]."""
    (top, bottom), (left, right) = _span(grid.rows), _span(grid.columns)
    height, width = grid.shape
    return quantize(resample(rgb, height, width, filter, (top, left, bottom, right)), np.uint8)


def _span(axis: Axis) -> tuple[float, float]:
    """Where the axis' pixels begin and end, in pixels of the picture."""
    step = axis.extent / axis.count
    return axis.offset + axis.start * step, axis.offset + axis.stop * step


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

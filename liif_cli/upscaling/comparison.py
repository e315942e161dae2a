"""A sheet to look at: one part of a picture by bicubic, Lanczos and each model, side by side, labelled."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liif_cli.coords import Axis, Grid
from liif_cli.images.levels import as_floats, quantize
from liif_cli.images.panels import Panel
from liif_cli.images.resize import Filter, resample
from liif_cli.upscaling.upscaler import Upscaler

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
FILTERS: dict[str, Filter] = {"bicubic": "bicubic", "Lanczos": "lanczos"}


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

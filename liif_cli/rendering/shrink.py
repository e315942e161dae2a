"""Axes that shrink: they are resized with an antialiased bicubic filter instead of the network.

Below ×1, the network would take sparse samples, with cells that it was not trained for.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liif_cli.coords import Axis, Grid
from liif_cli.images.levels import as_floats
from liif_cli.images.resize import reach, resample

Image = NDArray[Any]
Colours = NDArray[np.float32]
BAND_PIXELS = 2**21


def is_reduced(axis: Axis) -> bool:
    """Whether the axis's scale is below 1."""
    return axis.count < axis.extent


def needs_network(grid: Grid) -> bool:
    """Whether an axis grows, or no axis changes its size; otherwise the filter alone makes the output."""
    axes = (grid.rows, grid.columns)
    return not any(map(is_reduced, axes)) or any(axis.count > axis.extent for axis in axes)


def groups(grids: Sequence[Grid]) -> list[list[int]]:
    """Indices of the grids that share an encoding: those that shrink no axis, and each of the others alone."""
    reduced = [is_reduced(grid.rows) or is_reduced(grid.columns) for grid in grids]
    together = [index for index, alone in enumerate(reduced) if not alone]
    return [group for group in [together, *([i] for i, alone in enumerate(reduced) if alone)] if group]


def working_size(size: tuple[int, int], grids: Sequence[Grid]) -> tuple[tuple[int, int], Sequence[Grid]] | None:
    """For one of the `groups` over an image of `size` (height, width): the size of the network's input, and the grids over
    it; None if the network is not needed."""
    if not needs_network(grids[0]):
        return None
    if len(grids) == 1:
        grids = [reduced_grid(grids[0])]
    return (grids[0].rows.size, grids[0].columns.size), grids


def reduce_source(image: Image, grid: Grid) -> tuple[Image, Grid]:
    """The image (H, W, C) after resizing the axes that the grid shrinks, and the grid over the result.

    An image whose axes do not shrink is returned unchanged; otherwise the result is float32 in [0, 1].
    """
    if not is_reduced(grid.rows) and not is_reduced(grid.columns):
        return image, grid
    over = reduced_grid(grid)
    return np.concatenate(list(_bands(image, grid, 0, over.rows.size, over.columns.size))), over


def reduced_grid(grid: Grid) -> Grid:
    """The grid over the image that `reduce_source` returns."""
    return Grid(_reduced(grid.rows), _reduced(grid.columns))


def reduced_bands(image: Image, grid: Grid) -> Iterator[tuple[int, Colours]]:
    """A grid without growing axes, in bands: (first row, (h, w, C) float32 in [0, 1])."""
    top = 0
    for band in _bands(image, grid, grid.rows.start, grid.rows.stop, grid.columns.count):
        yield top, band[:, grid.columns.start : grid.columns.stop]
        top += len(band)


def _reduced(axis: Axis) -> Axis:
    return replace(axis, size=axis.count, offset=0, extent=axis.count) if is_reduced(axis) else axis


def _box(axis: Axis) -> tuple[int, int]:
    """The part of the image's axis to map: the grid's extent if it shrinks, otherwise all of it."""
    return (axis.offset, axis.offset + axis.extent) if is_reduced(axis) else (0, axis.size)


def _bands(image: Image, grid: Grid, start: int, stop: int, width: int) -> Iterator[Colours]:
    """Rows [start, stop) of the resized image, in bands. Only the rows that a band reads are converted to floats."""
    top, bottom = _box(grid.rows)
    left, right = _box(grid.columns)
    height = grid.rows.count if is_reduced(grid.rows) else grid.rows.size
    ratio = (bottom - top) / height
    margin = reach(bottom - top, height)
    step = max(1, int(BAND_PIXELS / (image.shape[1] * ratio)))
    for first in range(start, stop, step):
        last = min(first + step, stop)
        low, high = top + first * ratio, top + last * ratio
        begin, end = max(0, int(low) - margin), min(image.shape[0], int(high) + margin + 1)
        slab = as_floats(image[begin:end])
        box = (low - begin, float(left), high - begin, float(right))
        yield np.clip(resample(slab, last - first, width, box=box), 0, 1)

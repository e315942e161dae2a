"""The panels of a comparison sheet: an image unchanged, and enlarged by bicubic, by Lanczos and by each model."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liif_cli.coords import Axis, Grid
from liif_cli.errors import Note
from liif_cli.images.degrade import Degradation
from liif_cli.images.levels import as_floats, quantize
from liif_cli.images.panels import Panel
from liif_cli.images.picture import Picture
from liif_cli.images.resize import Filter, resample
from liif_cli.models.restore import Restore, needed_counterpart
from liif_cli.rendering.sizes import RAW, Cell
from liif_cli.upscaling.restoration import decide
from liif_cli.upscaling.upscaler import Upscaler

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
FILTERS: dict[str, Filter] = {"input": "nearest", "bicubic": "bicubic", "Lanczos": "lanczos"}


@dataclass(frozen=True)
class Variant:
    """A model, its restoration strength (0 to 1), and the cell size passed to its decoder."""

    upscaler: Upscaler
    strength: float = 0.0
    cell: Cell = RAW

    @property
    def label(self) -> str:
        """The model's name, with the strength and the cell if they are not the defaults."""
        restored = [f"restored {self.strength:g}"] if self.strength else []
        return ", ".join([self.upscaler.name, *restored, *([] if self.cell == RAW else [f"cell {self.cell.text}"])])


def check_wanted(upscalers: Sequence[Upscaler], wanted: Sequence[Restore]) -> None:
    """Raises `UsageError` if a strength in `wanted` needs a counterpart that a model does not have."""
    if any(each not in ("auto", 0) for each in wanted):
        for upscaler in upscalers:
            needed_counterpart(upscaler.checkpoint)


def variants_for(
    upscalers: Sequence[Upscaler],
    wanted: Sequence[Restore],
    picture: Picture,
    how: Degradation,
    cells: Sequence[Cell] = (RAW,),
) -> tuple[list[Variant], list[Note]]:
    """Each model with each `wanted` strength and each cell, for an image that is first degraded; and notes.

    The strength "auto" depends on the compression of the degradation, or, if it has none, of the file.
    """
    form, quality = how.compression or (picture.format, picture.metadata.quality)
    chosen = [
        (upscaler, decide(each, upscaler.checkpoint, quality, form)) for upscaler, each in product(upscalers, wanted)
    ]
    notes = [note for _, restored in chosen for note in restored.notes]
    return [Variant(upscaler, restored.strength, cell) for upscaler, restored in chosen for cell in cells], notes


def panels(
    pixels: NDArray[Any],
    grid: Grid,
    variants: Sequence[Variant],
    progress: Callable[[int], None] = lambda pixels: None,
) -> Iterator[Panel]:
    """The pixels of `grid` over an image (H, W, C), uint8 or uint16, one panel after the other.

    The first shows the input by nearest neighbour, the next two are Pillow's bicubic and Lanczos, and the others are those of
    the models. Transparency is shown on white. All panels have the size of the grid. progress: called with the number of
    pixels that a model has finished.
    """
    rgb = opaque(pixels)
    for name, filter in FILTERS.items():
        yield Panel(name, filtered(rgb, grid, filter))
    for variant in variants:
        renderer = variant.upscaler.renderer(8, variant.strength)
        rows = [rows for _, rows in variant.upscaler.rows(renderer, rgb, [variant.cell.over(grid)], progress)]
        yield Panel(variant.label, quantize(np.concatenate(rows), np.uint8))


def degraded(pixels: NDArray[Any], how: Degradation, name: str) -> NDArray[Any]:
    """An image (H, W, C), uint8 or uint16, degraded as 8-bit RGB on white; unchanged if `how` has no steps. name: the seed."""
    return how.apply(quantize(opaque(pixels), np.uint8), name) if how.steps else pixels


def opaque(pixels: NDArray[Any]) -> Floats:
    """An image (H, W, C) of 1 to 4 channels as RGB on white, (H, W, 3) float32 in [0, 1]."""
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
    """The (start, end) of the axis' pixels, in pixels of the image."""
    step = axis.extent / axis.count
    return axis.offset + axis.start * step, axis.offset + axis.stop * step

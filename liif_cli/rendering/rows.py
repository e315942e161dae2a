"""Renders an image and grids to finished rows: network, filter for shrinking axes, grayscale and alpha, output depth."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from liif_cli.coords import Grid
from liif_cli.images.levels import quantize
from liif_cli.rendering.alpha import ScaledAlpha
from liif_cli.rendering.assembly import Colours, Piece, RowAssembler
from liif_cli.rendering.channels import network_input, network_output
from liif_cli.rendering.renderer import Renderer
from liif_cli.rendering.shrink import groups, needs_network, reduce_source, reduced_bands

Pixels = NDArray[Any]
Progress = Callable[[int], None]
Store = Callable[[Colours], Pixels]


def render_rows(
    renderer: Renderer,
    pixels: Pixels,
    grids: Sequence[Grid],
    *,
    budget: int | None = None,
    side: int | None = None,
    progress: Progress = lambda pixels: None,
    stores: Sequence[Store] = (),
) -> Iterator[tuple[int, Pixels]]:
    """The rows of each grid from the top, as (index of the grid, (h, w, C) of the image's dtype or of its `stores`).

    pixels: (H, W, C) uint8, uint16, or float32 in [0, 1]; C = 1 grayscale, 2 with alpha, 3 RGB, 4 RGBA. budget and side: see
    `Renderer.plan`. progress: called with the number of newly finished output pixels. stores: one per grid, converts float32
    (h, w, C), pixel by pixel, to the stored samples (`Writer.finish`). Grids that shrink no axis share one encoding.

    Raises `UsageError` if the model does not support a grid; `OutOfMemory` and `DeviceError` like `Renderer.pieces`.
    """
    stores = stores or [_stored_as(pixels.dtype)] * len(grids)
    assemblers = [
        RowAssembler(grid.shape, _finisher(pixels, grid, store)) for grid, store in zip(grids, stores, strict=True)
    ]
    source = network_input(pixels)
    sample_bytes = pixels.shape[2] * pixels.itemsize
    for group in groups(grids):
        chosen = [grids[index] for index in group]
        for piece in _pieces(renderer, source, chosen, sample_bytes, budget, side):
            index = group[piece.grid]
            for rows in assemblers[index].add(replace(piece, grid=index)):
                yield index, rows
            progress(piece.rgb.shape[0] * piece.rgb.shape[1])
    for assembler in assemblers:
        assembler.close()


def _stored_as(dtype: DTypeLike) -> Store:
    if np.dtype(dtype).kind == "f":
        return lambda finished: finished.clip(0, 1)
    return lambda finished: quantize(finished, dtype)


def _finisher(pixels: Pixels, grid: Grid, store: Store) -> Callable[[Colours, int, int], Pixels]:
    """A function that converts the network's colours at (top, left) of a grid to stored samples."""
    channels = pixels.shape[2]
    alpha = ScaledAlpha.over(pixels[..., -1], grid) if channels in (2, 4) else None

    def finish(rgb: Colours, top: int, left: int) -> Pixels:
        scaled = rgb[..., 3] if rgb.shape[2] == 4 else None
        height, width = rgb.shape[:2]
        part = alpha.part(top, left, height, width, scaled) if alpha else None
        return store(network_output(rgb, part, channels))

    return finish


def _pieces(
    renderer: Renderer, source: Pixels, grids: Sequence[Grid], sample_bytes: int, budget: int | None, side: int | None
) -> Iterator[Piece]:
    if not needs_network(grids[0]):
        for top, rgb in reduced_bands(source, grids[0]):
            yield Piece(0, top, 0, rgb, top + len(rgb))
        return
    if len(grids) == 1:
        source, grid = reduce_source(source, grids[0])
        grids = [grid]
    size, alpha = (source.shape[0], source.shape[1]), source.shape[2] == 4
    plan = renderer.plan(size, grids, sample_bytes, budget=budget, side=side, alpha=alpha)
    yield from renderer.pieces(source, grids, plan)

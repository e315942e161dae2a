"""Finished rows of a picture: what the network renders, what the filter reduces, gray, and in the end whole numbers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from liif_cli.alpha import network_input, network_output
from liif_cli.bands import Bands, Colours, Piece
from liif_cli.coords import Grid
from liif_cli.reduction import is_reduced, needs_network, reduce_source, reduced_bands
from liif_cli.render import Renderer
from liif_cli.savers import quantize

Pixels = NDArray[Any]
Progress = Callable[[int], None]


def render_rows(
    renderer: Renderer,
    pixels: Pixels,
    grids: Sequence[Grid],
    *,
    budget: int | None = None,
    side: int | None = None,
    progress: Progress = lambda pixels: None,
) -> Iterator[tuple[int, Pixels]]:
    """Rows of each grid from the top, as (index of the grid, (h, w, C) of the picture's dtype).

    pixels: (H, W, C) uint8, uint16, or float32 in [0, 1]; C = 1 gray, 3 RGB. budget and side: see `Renderer.plan`. progress:
    is called with the number of output pixels that were finished. Grids that shrink no axis share one encoding.
    """

    def finish(rgb: Colours, top: int, left: int) -> Pixels:
        finished = network_output(rgb, None, pixels.shape[2])
        return finished.clip(0, 1) if pixels.dtype.kind == "f" else quantize(finished, pixels.dtype)

    bands = [Bands(grid.shape, finish) for grid in grids]
    source = network_input(pixels)
    sample_bytes = pixels.shape[2] * pixels.itemsize
    for group in _groups(grids):
        chosen = [grids[index] for index in group]
        for piece in _pieces(renderer, source, chosen, sample_bytes, budget, side):
            index = group[piece.grid]
            for rows in bands[index].add(replace(piece, grid=index)):
                yield index, rows
            progress(piece.rgb.shape[0] * piece.rgb.shape[1])
    for band in bands:
        band.close()


def _groups(grids: Sequence[Grid]) -> list[list[int]]:
    """Indices of grids that are rendered together: those over the picture as it is, and each of the others alone."""
    reduced = [is_reduced(grid.rows) or is_reduced(grid.columns) for grid in grids]
    together = [index for index, alone in enumerate(reduced) if not alone]
    return [group for group in [together, *([i] for i, alone in enumerate(reduced) if alone)] if group]


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
    plan = renderer.plan((source.shape[0], source.shape[1]), grids, sample_bytes, budget=budget, side=side)
    yield from renderer.pieces(source, grids, plan)

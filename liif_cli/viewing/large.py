"""Images that do not fit into memory: tiled TIFFs, of which only the tiles that a request needs are decoded."""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import ceil, floor, log2
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from liif_cli.coords import Axis, Grid
from liif_cli.images import colour
from liif_cli.images.picture import Header
from liif_cli.images.source import Source
from liif_cli.rendering.canvas import Canvas
from liif_cli.rendering.renderer import Renderer
from liif_cli.rendering.shrink import is_reduced
from liif_cli.rendering.tiles import Tile

Pixels = NDArray[Any]
BLOCK = 512  # whole blocks are encoded, so that neighbouring requests share encodings
MOST = 16  # cached encodings of blocks
MOST_LEVELS = 32  # levels of a pyramid that are examined
MARGIN = 8  # pixels that the filter reads around a part of a level


class Windows:
    """A tiled TIFF of 8-bit RGB, in sRGB. levels: the smaller copies of the image, if the file is a pyramid.

    Its methods raise pyvips.Error if a part cannot be decoded.
    """

    def __init__(self, image: Any, levels: Sequence[Any] = ()) -> None:
        self._image, self._lock = image, threading.Lock()
        self._levels = sorted(levels, key=lambda level: int(level.width))
        self._canvases: OrderedDict[tuple[Any, ...], Canvas] = OrderedDict()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return int(self._image.height), int(self._image.width)

    @property
    def bytes(self) -> int:
        """The bytes of memory that it holds."""
        with self._lock:
            canvases = list(self._canvases.values())
        return sum(canvas.pixels.nbytes + canvas.cache.bytes for canvas in canvases)

    def forget(self) -> None:
        """Drop the encodings of all blocks except the latest."""
        with self._lock:
            while len(self._canvases) > 1:
                self._canvases.popitem(last=False)

    def part(self, tile: Tile) -> Pixels:
        """The pixels of a part of the image, (h, w, 3) uint8."""
        pixels: Pixels = self._image.crop(tile.left, tile.top, tile.width, tile.height).numpy()
        return pixels

    def shrunk(self, grid: Grid) -> Pixels:
        """The pixels of a grid that shrinks the image, (h, w, 3) uint8.

        They are computed from the smallest level of the pyramid that has enough pixels, or otherwise by libvips from the image,
        which is decoded row by row.
        """
        for level in self._levels:
            ratios = _ratio(level.height, grid.rows.size), _ratio(level.width, grid.columns.size)
            if all(a.extent * ratio >= a.count for a, ratio in zip((grid.rows, grid.columns), ratios, strict=True)):
                return _reduced(level, grid, ratios)
        (top, bottom), (left, right) = _edges(grid.rows), _edges(grid.columns)
        part = self._image.crop(left, top, right - left, bottom - top)
        out: Pixels = part.thumbnail_image(len(grid.columns), height=len(grid.rows), size="force").numpy()
        return out

    def render(self, grid: Grid, key: tuple[Any, ...], renderer: Renderer, kept: int) -> Pixels:
        """The pixels of a grid, (h, w, 3) uint8, rendered by a model.

        key: identifies the renderer. kept: bytes of encodings to cache for each block.
        """
        rows, columns = (_blocks(axis) for axis in (grid.rows, grid.columns))
        model, core = renderer.model, Tile(*rows, *columns)
        window = core.window(model.halo, self.size, model.alignment)
        with self._lock:
            canvas = self._canvases.get((*key, core))
        if canvas is None:
            canvas = Canvas(self.part(window), renderer, kept)
            with self._lock:
                canvas = self._canvases.setdefault((*key, core), canvas)
                while len(self._canvases) > MOST:
                    self._canvases.popitem(last=False)
        return canvas.render(shifted(grid, window))[0]


def _ratio(small: int, large: int) -> float:
    """The scale of a level. Sizes that were halved and rounded count as exact powers of two."""
    ratio = 2.0 ** round(log2(small / large))
    return ratio if floor(large * ratio) <= small <= ceil(large * ratio) else small / large


def _reduced(level: Any, grid: Grid, ratios: tuple[float, float]) -> Pixels:
    """The pixels of a grid, computed from a level. ratios: the level's scale, (y, x)."""
    (top, bottom), (left, right) = (
        [ratio * (axis.offset + edge * axis.extent / axis.count) for edge in (axis.start, axis.stop)]
        for axis, ratio in zip((grid.rows, grid.columns), ratios, strict=True)
    )
    first, last = max(0, floor(top) - MARGIN), min(level.height, ceil(bottom) + MARGIN)
    begin, end = max(0, floor(left) - MARGIN), min(level.width, ceil(right) + MARGIN)
    part = level.crop(begin, first, end - begin, last - first).numpy()
    part = Image.fromarray(np.pad(part, ((0, 1), (0, 1), (0, 0)), "edge"))  # halving may have dropped the last pixel
    box = (left - begin, top - first, min(end + 1, right) - begin, min(last + 1, bottom) - first)
    return np.asarray(part.resize((len(grid.columns), len(grid.rows)), Image.Resampling.BICUBIC, box))


def shifted(grid: Grid, window: Tile) -> Grid:
    """The grid relative to a part of the image, with the same output pixels."""
    rows = replace(grid.rows, size=window.height, offset=grid.rows.offset - window.top)
    return Grid(rows, replace(grid.columns, size=window.width, offset=grid.columns.offset - window.left))


def shrinks(grid: Grid) -> bool:
    """Whether the grid shrinks an axis of the image."""
    return is_reduced(grid.rows) or is_reduced(grid.columns)


def _edges(axis: Axis) -> tuple[int, int]:
    begin, end = (axis.offset + edge * axis.extent / axis.count for edge in (axis.start, axis.stop))
    first = min(max(0, floor(begin)), axis.size - 1)
    return first, max(first + 1, min(axis.size, ceil(end)))


def _blocks(axis: Axis) -> tuple[int, int]:
    """The (start, end) of the whole blocks that contain the axis' pixels and the neighbouring latent codes."""
    first, last = _edges(axis)
    return max(0, first - 2) // BLOCK * BLOCK, min(axis.size, -(-(last + 2) // BLOCK) * BLOCK)


def windows(path: Path, header: Header) -> Windows | None:
    """The image, if it is an upright tiled TIFF of 8-bit RGB, otherwise None. Raises pyvips.Error."""
    if header.format != "tiff" or header.channels != 3 or header.bits != 8:
        return None
    image = Source(path).vips("tiffload", access="random")
    turned = image.get_typeof("orientation") and image.get("orientation") > 1
    if not _is_plain(image) or turned or not image.get_typeof("tile-width"):
        return None
    return Windows(_in_srgb(image), [_in_srgb(level) for level in _levels(path, image)])


def _is_plain(image: Any) -> bool:
    return bool(image.format == "uchar" and image.bands == 3 and image.interpretation == "srgb")


def _in_srgb(image: Any) -> Any:
    if not image.get_typeof("icc-profile-data"):
        return image
    return colour.to_srgb(image, bytes(image.get("icc-profile-data")))[0]


def _levels(path: Path, image: Any) -> Iterator[Any]:
    """The levels of the pyramid in the file, stored as sub-IFDs or as further pages, each smaller than the previous one."""
    counts = {"subifd": "n-subifds", "page": "n-pages"}
    places = [
        {name: index}
        for name, count in counts.items()
        if image.get_typeof(count)
        for index in range(0 if name == "subifd" else 1, min(image.get(count), MOST_LEVELS))
    ]
    width = image.width
    for place in places:
        level = Source(path).vips("tiffload", access="random", **place)
        alike = abs(level.height * image.width - image.height * level.width) <= 2 * image.width
        if _is_plain(level) and alike and level.width <= 0.75 * width and level.get_typeof("tile-width"):
            width = level.width
            yield level

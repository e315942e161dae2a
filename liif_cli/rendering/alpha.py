"""How grayscale and alpha are upscaled by a network that knows RGB only.

Grayscale is replicated to three channels; the output is the luma (Rec. 601) of the network's three channels.

Alpha: colours are extended into fully transparent areas first, because hidden colours, often black or white, would cause
fringes. A soft mask, with values between transparent and opaque, goes through the network like grayscale. A binary mask uses
a bicubic filter, because the network would sharpen its staircase edges (`tests/benchmarks/bench_alpha.py` measures both).
Either way, every value is clamped to the range of its four neighbours, so constant areas stay exact and hard edges do not
ring.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liif_cli.coords import Axis, Grid
from liif_cli.images.levels import as_floats
from liif_cli.images.resize import cubic
from liif_cli.rendering.shrink import is_reduced, reduce_source, reduced_grid

BAND_ROWS = 256
Pixels = NDArray[Any]
Floats = NDArray[np.float32]


def is_soft(plane: Pixels) -> bool:
    """Whether an alpha plane (H, W) has values between transparent and opaque."""
    top = 1 if plane.dtype.kind == "f" else np.iinfo(plane.dtype).max
    return any(bool(((rows > 0) & (rows < top)).any()) for rows in plane)


def bled(pixels: Pixels) -> Pixels:
    """The colours (H, W, C - 1) of an image (H, W, C) with alpha last. Fully transparent pixels get the colours around them.

    Push-pull (Gortler et al., "The Lumigraph", 1996, section 3.4): colours, weighted with alpha, are averaged in 2x2
    blocks until no block is empty, and the blocks fill the empty ones below. dtype and visible pixels do not change.
    """
    colour, alpha = pixels[..., :-1], pixels[..., -1]
    if alpha.all() or not alpha.any():
        return colour
    level = _weighted_blocks(pixels)
    filled = _filled(level)
    out = colour.copy()
    for top in range(0, len(out), BAND_ROWS):
        rows = slice(top, min(top + BAND_ROWS, len(out)))
        hidden = alpha[rows] == 0
        if hidden.any():
            fill = _doubled(filled, out.shape[:2], rows)[hidden]
            out[rows][hidden] = np.rint(fill) if out.dtype.kind == "u" else fill
    return out


def _weighted_blocks(pixels: Pixels) -> Floats:
    """Sums of colour x alpha, and of alpha, over 2x2 blocks: (ceil(H / 2), ceil(W / 2), C)."""
    height, width, channels = pixels.shape
    out = np.zeros((-(-height // 2), -(-width // 2), channels), np.float32)
    for top in range(0, height, BAND_ROWS):
        band = pixels[top : top + BAND_ROWS].astype(np.float32)
        band[..., :-1] *= band[..., -1:]
        halved = _halved(band)
        out[top // 2 : top // 2 + len(halved)] = halved
    return out


def _halved(sums: Floats) -> Floats:
    height, width = sums.shape[:2]
    padded = np.pad(sums, ((0, height % 2), (0, width % 2), (0, 0)))
    return padded[::2, ::2] + padded[1::2, ::2] + padded[::2, 1::2] + padded[1::2, 1::2]


def _filled(sums: Floats) -> Floats:
    """Colours (h, w, C - 1) of weighted sums (h, w, C); if a weight is 0, the colour of the coarser level."""
    weight = sums[..., -1:]
    empty = weight[..., 0] == 0
    colour = np.divide(sums[..., :-1], weight, out=np.zeros_like(sums[..., :-1]), where=weight > 0)
    if empty.any() and sums.shape[:2] != (1, 1):
        coarse = _filled(_halved(sums))
        colour[empty] = _doubled(coarse, sums.shape[:2], slice(0, len(sums)))[empty]
    return colour


def _doubled(coarse: Floats, size: tuple[int, int], rows: slice) -> Floats:
    """The given rows of `coarse` at twice its size, bilinear, with clamped borders."""
    upper, lower, down = _halves(np.arange(rows.start, rows.stop), len(coarse))
    left, right, across = _halves(np.arange(size[1]), coarse.shape[1])
    lines: Floats = coarse[upper] * (1 - down)[:, None, None] + coarse[lower] * down[:, None, None]
    out: Floats = lines[:, left] * (1 - across)[:, None] + lines[:, right] * across[:, None]
    return out


def _halves(index: NDArray[np.intp], size: int) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    position = (index + 0.5) / 2 - 0.5
    first = np.floor(position).astype(np.intp)
    return first.clip(0, size - 1), (first + 1).clip(0, size - 1), (position - first).astype(np.float32)


@dataclass(frozen=True)
class ScaledAlpha:
    """An alpha plane, (H, W) uint8, uint16 or float32 in [0, 1], and a grid over it that shrinks no axis."""

    plane: Pixels
    grid: Grid

    @classmethod
    def over(cls, plane: Pixels, grid: Grid) -> "ScaledAlpha":
        """A plane and any grid over it. Axes that shrink are resized first.

        A soft mask is resized with the antialiased filter, like colours. A binary mask is replaced by the share of each pixel
        that it covers, so that thin lines are not lost.
        """
        if (is_reduced(grid.rows) or is_reduced(grid.columns)) and not is_soft(plane):
            return cls(_coverage(_coverage(plane, grid.rows).T, grid.columns).T, reduced_grid(grid))
        reduced, rest = reduce_source(plane[..., None], grid)
        return cls(reduced[..., 0], rest)

    def part(self, top: int, left: int, height: int, width: int, scaled: Floats | None = None) -> Floats:
        """Alpha of `height` x `width` output pixels at (top, left): (height, width) float32 in [0, 1].

        scaled: the network's output, to be clamped to the range of its neighbours; None for the bicubic filter. Taps and
        their order follow from a pixel's position on the whole grid, so parts equal the whole bit for bit.
        """
        rows, columns = self.grid.rows, self.grid.columns
        down = _taps(rows.part(rows.start + top, rows.start + top + height))
        across = _taps(columns.part(columns.start + left, columns.start + left + width))
        first, last = int(across[0].min()), int(across[0].max()) + 1
        lines = [as_floats(self.plane[index, first:last]) for index in down[0]]
        columns_of = [index - first for index in across[0]]
        if scaled is None:
            mixed = _mixed(lines, down[1][..., None])
            scaled = _mixed([mixed[:, index] for index in columns_of], across[1][:, None, :])
        least, most = np.minimum(lines[1], lines[2]), np.maximum(lines[1], lines[2])
        near, far = columns_of[1], columns_of[2]
        return np.clip(scaled, np.minimum(least[:, near], least[:, far]), np.maximum(most[:, near], most[:, far]))


def _coverage(plane: Pixels, axis: Axis) -> Pixels:
    """A plane (H, W), resized along its first axis if `axis` shrinks it: (count, W) float32, means over each pixel's area."""
    if not is_reduced(axis):
        return plane
    edges = axis.offset + np.arange(axis.count + 1) * (axis.extent / axis.count)
    out = np.empty((axis.count, plane.shape[1]), np.float32)
    for first in range(0, axis.count, BAND_ROWS):
        own = edges[first : first + BAND_ROWS + 1]
        start = int(own[0])
        band = as_floats(plane[start : math.ceil(own[-1])])
        sums = np.concatenate([np.zeros((1, band.shape[1])), np.cumsum(band, axis=0, dtype=np.float64)])
        whole = np.minimum((own - start).astype(np.intp), len(band) - 1)
        upto = sums[whole] + band[whole] * (own - start - whole)[:, None]
        out[first : first + BAND_ROWS] = np.diff(upto, axis=0) * (axis.count / axis.extent)
    return out.clip(0, 1)


def _taps(axis: Axis) -> tuple[NDArray[np.int64], Floats]:
    """The four source pixels of each output pixel, (4, n), clamped to the image, and their bicubic weights, (4, n) float32."""
    lower, t = axis.split()
    index = np.clip(lower + np.arange(-1, 3)[:, None], 0, axis.size - 1)
    weights = cubic(t - np.arange(-1, 3)[:, None])
    return index, weights.astype(np.float32)


def _mixed(lines: Sequence[Floats], weights: Floats) -> Floats:
    total: Floats = lines[0] * weights[0]
    for line, weight in zip(lines[1:], weights[1:], strict=True):
        total += line * weight
    return total

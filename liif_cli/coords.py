"""The positions of an output's pixels on the grid of latent codes.

An axis of n LR pixels carries n latent codes, code i at *position* i (float64, in LR pixels of the whole image). The
paper's coordinates run from -1 to 1: `position = (coord + 1) * n / 2 - 0.5`. The centre of pixel I of N over the whole
axis has the coord `-1 + (2I + 1) / N`, so its position is `(2I + 1) n / 2N - 1/2`: a rational number, whose integer part
and remainder are exact integer arithmetic at any size. Order is (y, x) everywhere.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Axis:
    """The pixel centres `start <= I < stop` of a regular grid of `count` pixels over `extent` LR pixels from `offset`.

    `size` is the number of LR pixels (latent codes) of the whole image on this axis; codes are clamped into it. Without a
    region `offset` is 0 and `extent` is `size`. `cell` is the length of one output pixel in LR pixels, `extent / count`,
    unless it is overridden (paper, figure 7).
    """

    size: int
    count: int
    start: int
    stop: int
    offset: int = 0
    extent: int = 0
    cell_override: float | None = None

    @classmethod
    def whole(cls, size: int, count: int) -> "Axis":
        """All `count` pixels over all `size` LR pixels."""
        return cls(size, count, 0, count, 0, size)

    def part(self, start: int, stop: int) -> "Axis":
        """The pixels `start <= I < stop` of the same grid."""
        return replace(self, start=start, stop=stop)

    def with_cell(self, cell: float) -> "Axis":
        """The same pixels, each with a cell of `cell` LR pixels."""
        return replace(self, cell_override=cell)

    def reversed(self) -> "Axis":
        """The same pixels on the axis seen from its other end."""
        offset = self.size - self.offset - self.extent
        return replace(self, start=self.count - self.stop, stop=self.count - self.start, offset=offset)

    def window(self, first: int, last: int, count: int) -> "Axis":
        """`count` of the grid's pixels, those in the middle of `[first, last)`, given in whole LR pixels of the image."""
        # In output pixels the window begins at start = (first + last - 2 offset) count / 2 extent - n / 2, rounded half up.
        middle = (first + last - 2 * self.offset) * self.count
        start = ((middle - count * self.extent) + self.extent) // (2 * self.extent)
        start = min(max(start, 0), self.count - count)
        return self.part(start, start + count)

    def first_from(self, code: int) -> int:
        """The first pixel of the grid, within start and stop, whose position is at or beyond `code`."""
        # position(I) = offset + ((2I + 1) extent - count) / 2 count >= code, solved for I in integers.
        index = _ceil_div(2 * self.count * (code - self.offset) + self.count - self.extent, 2 * self.extent)
        return min(max(index, self.start), self.stop)

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def cell(self) -> float:
        """Length of the cell in LR pixels; the paper's relative cell is twice this."""
        return self.extent / self.count if self.cell_override is None else self.cell_override

    def split(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Integer and fractional part of each position: `floor(p)` (int64, may be -1 or beyond the last code) and
        `p - floor(p)` in [0, 1) (float64). Exact: a position that is a code has the fraction 0.
        """
        index = np.arange(self.start, self.stop, dtype=np.int64)
        numerator = (2 * index + 1) * self.extent - self.count
        lower, remainder = np.divmod(numerator, 2 * self.count)
        return lower + self.offset, remainder / (2 * self.count)

    def positions(self) -> NDArray[np.float64]:
        """The positions as float64, (stop - start,)."""
        lower, fraction = self.split()
        return lower + fraction

    def codes(self) -> tuple[int, int]:
        """First and one past the last latent code that the local ensemble of these pixels reads."""
        ends = [self.part(i, i + 1).split()[0][0] for i in (self.start, self.stop - 1)]
        last = self.size - 1
        return int(min(max(ends[0], 0), last)), int(min(max(ends[1] + 1, 0), last)) + 1


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)


@dataclass(frozen=True)
class Grid:
    """A regular grid of output pixels: its two axes."""

    rows: Axis
    columns: Axis

    @classmethod
    def whole(cls, size: tuple[int, int], count: tuple[int, int]) -> "Grid":
        """All `count` (height, width) pixels over a whole image of `size` (height, width)."""
        return cls(Axis.whole(size[0], count[0]), Axis.whole(size[1], count[1]))

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in output pixels."""
        return len(self.rows), len(self.columns)


def pixel_centres(n: int) -> NDArray[np.float64]:
    """The coords of n pixel centres in [-1, 1], `-1 + (2i + 1) / n` (paper, section 3), float64, (n,)."""
    return (2 * np.arange(n) + 1) / n - 1


def to_position(coord: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """Coords in [-1, 1], (..., 2) in (y, x) order, as positions in LR pixels of an image of `size` (height, width)."""
    return (np.asarray(coord, np.float64) + 1) * np.asarray(size, np.float64) / 2 - 0.5

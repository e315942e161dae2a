"""Tile geometry: rectangles of latent codes, and the output pixels that belong to them."""

from collections.abc import Sequence
from dataclasses import dataclass

from liif_cli.coords import Axis, Grid


@dataclass(frozen=True)
class Tile:
    """A rectangle of latent codes, [top, bottom) x [left, right), whose output pixels are rendered together."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def height(self) -> int:
        """The number of rows of codes."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """The number of columns of codes."""
        return self.right - self.left

    def halves(self) -> tuple["Tile", "Tile"]:
        """The two halves along the longer side, top or left first."""
        if self.height >= self.width:
            middle = (self.top + self.bottom) // 2
            return Tile(self.top, middle, self.left, self.right), Tile(middle, self.bottom, self.left, self.right)
        middle = (self.left + self.right) // 2
        return Tile(self.top, self.bottom, self.left, middle), Tile(self.top, self.bottom, middle, self.right)

    def window(self, halo: int | None, size: tuple[int, int], alignment: int = 1) -> "Tile":
        """The tile and `halo` LR pixels around it, within an image of `size` (height, width); None: the whole image.

        It begins at multiples of `alignment`, and ends at one or at the image's end.
        """
        if halo is None:
            return Tile(0, size[0], 0, size[1])
        return Tile(
            max(0, self.top - halo) // alignment * alignment,
            min(size[0], -(-(self.bottom + halo) // alignment) * alignment),
            max(0, self.left - halo) // alignment * alignment,
            min(size[1], -(-(self.right + halo) // alignment) * alignment),
        )

    def turned(self, turn: int, size: tuple[int, int]) -> "Tile":
        """The same codes of an image of `size` (height, width) that is rotated left by `turn` quarters."""
        height, width = size
        return (
            self,
            Tile(width - self.right, width - self.left, self.top, self.bottom),
            Tile(height - self.bottom, height - self.top, width - self.right, width - self.left),
            Tile(self.left, self.right, height - self.bottom, height - self.top),
        )[turn]

    def part_of(self, grid: Grid, whole: "Tile") -> Grid:
        """The pixels of `grid` whose lower code is in this tile. Pixels before the first and after the last code of `whole`,
        the union of all tiles, belong to the tiles at its edges."""
        rows = _part(grid.rows, self.top, self.bottom, whole.top, whole.bottom)
        return Grid(rows, _part(grid.columns, self.left, self.right, whole.left, whole.right))


def _part(axis: Axis, first: int, last: int, edge: int, end: int) -> Axis:
    start = axis.start if first == edge else axis.first_from(first)
    stop = axis.stop if last == end else axis.first_from(last)
    return axis.part(start, max(start, stop))


def needed(grids: Sequence[Grid]) -> Tile:
    """The smallest rectangle of codes that all the grids' pixels read."""
    rows, columns = [grid.rows.codes() for grid in grids], [grid.columns.codes() for grid in grids]
    return Tile(
        min(r[0] for r in rows), max(r[1] for r in rows), min(c[0] for c in columns), max(c[1] for c in columns)
    )

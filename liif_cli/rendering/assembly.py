"""Assembles the pieces of an output, in the order in which tiles finish, into complete rows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Colours = NDArray[np.float32]
Pixels = NDArray[Any]


@dataclass(frozen=True)
class Piece:
    """A rendered part of output number `grid` at (top, left): `rgb` is (h, w, 3), or (h, w, 4) with alpha, float32,
    nominally in [0, 1], not clamped.

    bottom: one past the last output row of its tile, and so of the whole row of tiles.
    """

    grid: int
    top: int
    left: int
    rgb: Colours
    bottom: int


class RowAssembler:
    """Assembles pieces into rows, which are returned from the top as soon as they are complete.

    finish: converts colours (h, w, 3 or 4) float32 at (top, left) of the output to finished pixels (h, w, C) of any dtype.
    """

    def __init__(self, shape: tuple[int, int], finish: Callable[[Colours, int, int], Pixels]) -> None:
        self.height, self.width = shape
        self.finish = finish
        self.done = 0
        self._rows: Pixels | None = None
        self._filled: NDArray[np.int64] = np.zeros(0, np.int64)

    def add(self, piece: Piece) -> Iterator[Pixels]:
        """Add a piece. Yields the rows, (h, width, C), that it completes."""
        pixels = self.finish(piece.rgb, piece.top, piece.left)
        height, width = pixels.shape[:2]
        if width == self.width and piece.top == self.done and self._rows is None:
            self.done += height
            yield pixels
            return
        self._make_room(max(piece.bottom, piece.top + height) - self.done, pixels)
        assert self._rows is not None
        rows = slice(piece.top - self.done, piece.top - self.done + height)
        self._rows[rows, piece.left : piece.left + width] = pixels
        self._filled[rows] += width
        yield from self._complete_rows()

    def _make_room(self, height: int, like: Pixels) -> None:
        old = len(self._filled)
        if height <= old and self._rows is not None:
            return
        rows = np.empty((max(height, old), self.width, like.shape[2]), like.dtype)
        if self._rows is not None:
            rows[:old] = self._rows
        self._rows = rows
        self._filled = np.concatenate([self._filled, np.zeros(max(0, height - old), np.int64)])

    def _complete_rows(self) -> Iterator[Pixels]:
        assert self._rows is not None
        unfinished = np.flatnonzero(self._filled < self.width)
        complete = int(unfinished[0]) if len(unfinished) else len(self._filled)
        if complete:
            rows, self._rows = self._rows[:complete], self._rows[complete:] if len(unfinished) else None
            if self._rows is not None:
                rows = rows.copy()  # so that keeping these rows does not keep all the others in memory
            self._filled = self._filled[complete:]
            self.done += complete
            yield rows

    def close(self) -> None:
        """Raises AssertionError if rows are missing: a bug, which must never produce a file that looks complete."""
        if self.done != self.height:
            raise AssertionError(f"{self.height - self.done} rows were never rendered")

"""From pieces of an output, in the order in which tiles finish, to whole rows from the top."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Colours = NDArray[np.float32]
Pixels = NDArray[Any]


@dataclass(frozen=True)
class Piece:
    """Finished colours: `rgb` (h, w, 3), or (h, w, 4) with alpha, float32, nominally in [0, 1], not clamped, at (top, left) of
    the output `grid`.

    bottom: one past the last output row of the tile that this is a part of; its other parts and its row of tiles reach there.
    """

    grid: int
    top: int
    left: int
    rgb: Colours
    bottom: int


class Bands:
    """Puts pieces together: whole rows leave, from the top, as soon as they are complete.

    finish: turns colours (h, w, 3) float32 at (top, left) of the output into finished pixels (h, w, C) of any dtype.
    """

    def __init__(self, shape: tuple[int, int], finish: Callable[[Colours, int, int], Pixels]) -> None:
        self.height, self.width = shape
        self.finish = finish
        self.done = 0
        self._rows: Pixels | None = None
        self._filled: NDArray[np.int64] = np.zeros(0, np.int64)

    def add(self, piece: Piece) -> Iterator[Pixels]:
        """Take a piece; gives the rows, (h, width, C), that are complete with it."""
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
        yield from self._leave()

    def _make_room(self, height: int, like: Pixels) -> None:
        old = len(self._filled)
        if height <= old and self._rows is not None:
            return
        rows = np.empty((max(height, old), self.width, like.shape[2]), like.dtype)
        if self._rows is not None:
            rows[:old] = self._rows
        self._rows = rows
        self._filled = np.concatenate([self._filled, np.zeros(max(0, height - old), np.int64)])

    def _leave(self) -> Iterator[Pixels]:
        assert self._rows is not None
        unfinished = np.flatnonzero(self._filled < self.width)
        complete = int(unfinished[0]) if len(unfinished) else len(self._filled)
        if complete:
            # A copy, so that a reader who holds on to the last rows does not hold on to all of them.
            rows, self._rows = self._rows[:complete].copy(), self._rows[complete:] if len(unfinished) else None
            self._filled = self._filled[complete:]
            self.done += complete
            yield rows

    def close(self) -> None:
        """Raises AssertionError when rows are missing: a bug, which must never leave a file that looks finished."""
        if self.done != self.height:
            raise AssertionError(f"{self.height - self.done} rows were never rendered")

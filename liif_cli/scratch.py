"""Rows of a picture that wait on disk for the saver, so that memory need not hold them."""

import shutil
import tempfile
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyvips
from numpy.typing import DTypeLike, NDArray

from liif_cli.errors import OutputError
from liif_cli.outputs import check_room

STRIP_ROWS = 512
IN_MEMORY = 64 * 2**20
"""Pictures up to this many bytes wait in memory."""


class Scratch:
    """(height, width, channels) of uint8 or uint16, appended from the top and then read once by libvips.

    A picture up to 64 MiB stays in memory. A larger one goes to files of 512 rows each, in a hidden folder inside
    `folder`: libvips maps and unmaps them one by one, while one large map would count in full in the process's peak.
    Raises OutputError when the disk has no room for `height * width * channels * itemsize + extra` bytes.
    """

    def __init__(
        self, folder: Path, height: int, width: int, channels: int, dtype: DTypeLike, *, extra: int = 0
    ) -> None:
        self.shape = height, width, channels
        self.dtype = np.dtype(dtype)
        self.rows = 0
        self.bytes = height * width * channels * self.dtype.itemsize
        self._strips: list[Path] = []
        self._memory: NDArray[Any] | None = None
        self._folder: Path | None = None
        self._closed = False
        check_room(folder, (self.bytes if self.bytes > IN_MEMORY else 0) + extra)
        if self.bytes > IN_MEMORY:
            self._folder = Path(tempfile.mkdtemp(prefix=".liif-", suffix=".scratch", dir=folder))
        else:
            self._memory = np.empty(self.shape, self.dtype)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, rows: NDArray[Any]) -> None:
        """Take the next rows, (h, width, channels) of the scratch's dtype."""
        if rows.shape[1:] != self.shape[1:] or rows.dtype != self.dtype or self.rows + len(rows) > self.shape[0]:
            raise ValueError(f"rows {rows.shape} {rows.dtype} do not continue {self.shape} at row {self.rows}")
        if self._memory is not None:
            self._memory[self.rows : self.rows + len(rows)] = rows
            self.rows += len(rows)
            return
        while len(rows):
            room = STRIP_ROWS - self.rows % STRIP_ROWS
            self._append_to_strip(rows[:room])
            rows = rows[room:]

    def _append_to_strip(self, rows: NDArray[Any]) -> None:
        assert self._folder is not None
        if self.rows % STRIP_ROWS == 0:
            self._strips.append(self._folder / f"{len(self._strips)}.raw")
        try:
            with self._strips[-1].open("ab") as file:
                file.write(np.ascontiguousarray(rows).data)
        except OSError as error:
            raise OutputError(f"the scratch file cannot be written: {error.strerror}") from error
        self.rows += len(rows)

    def image(self) -> Any:
        """The rows as one pyvips image, valid until `close`; all rows must have been appended."""
        if self.rows != self.shape[0]:
            raise ValueError(f"{self.rows} of {self.shape[0]} rows were written")
        if self._memory is not None:
            return pyvips.Image.new_from_array(self._memory)
        _, width, channels = self.shape
        form = "uchar" if self.dtype == np.uint8 else "ushort"
        strips = [
            pyvips.Image.rawload(str(path), width, self._rows_of(i), channels, format=form, access="sequential")
            for i, path in enumerate(self._strips)
        ]
        return pyvips.Image.arrayjoin(strips, across=1).crop(0, 0, width, self.shape[0])

    def _rows_of(self, strip: int) -> int:
        return min(STRIP_ROWS, self.shape[0] - strip * STRIP_ROWS)

    def close(self) -> None:
        """Remove the files; no error when they are gone."""
        self._memory = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

"""Keeps the rows of an output on disk, instead of in memory, until they are saved."""

import contextlib
import os
import sys
import tempfile
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
import pyvips
from numpy.typing import DTypeLike, NDArray

from liif_cli.errors import OutputError
from liif_cli.machine.files import check_room

STRIP_ROWS = 512
MOST_STRIPS = 40
"""Each strip takes two open files while it is read, and a process may open about a thousand (256 on macOS)."""
NAMELESS = sys.platform == "linux"
"""Whether an unnamed file can be reopened through /proc."""
IN_MEMORY = 64 * 2**20
"""Images of up to this many bytes are kept in memory."""


class Scratch:
    """An image (height, width, channels) of uint8 or uint16 that is appended from the top and then read once by libvips.

    An image of up to `IN_MEMORY` bytes is kept in memory. A larger one is written to hidden files in `folder`, each of
    `STRIP_ROWS` rows (more, if there would be over `MOST_STRIPS` files). libvips maps and unmaps these one by one; a single
    large map would count in full towards the process's peak memory, and `rawload` accepts no offset beyond 1 GB. On Linux the
    files have no name, so that they disappear however the process ends; elsewhere `close` removes them. Raises OutputError if
    the disk has no room for the image and `extra` more bytes.
    """

    def __init__(
        self, folder: Path, height: int, width: int, channels: int, dtype: DTypeLike, *, extra: int = 0
    ) -> None:
        self.folder, self.shape, self.dtype = folder, (height, width, channels), np.dtype(dtype)
        self.rows = 0
        self.step = max(STRIP_ROWS, -(-height // MOST_STRIPS))
        self._memory: NDArray[Any] | None = None
        self._strips: list[_Strip] = []
        size = scratch_bytes(height, width, channels, dtype)
        check_room(folder, size + extra)
        if not size:
            self._memory = np.empty(self.shape, self.dtype)

    @property
    def held(self) -> int:
        """The bytes of memory that the rows take."""
        return 0 if self._memory is None else self._memory.nbytes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, rows: NDArray[Any]) -> None:
        """Append rows (h, width, channels) of the image's dtype.

        Raises OutputError if the disk is full, and ValueError for rows of another shape or dtype, or too many.
        """
        if rows.shape[1:] != self.shape[1:] or rows.dtype != self.dtype or self.rows + len(rows) > self.shape[0]:
            raise ValueError(f"rows {rows.shape} {rows.dtype} do not continue {self.shape} at row {self.rows}")
        if self._memory is not None:
            self._memory[self.rows : self.rows + len(rows)] = rows
            self.rows += len(rows)
            return
        while len(rows):
            if self.rows % self.step == 0:
                self._strips.append(_Strip(self.folder))
            room = self.step - self.rows % self.step
            self._strips[-1].write(np.ascontiguousarray(rows[:room]).data)
            self.rows += len(rows[:room])
            rows = rows[room:]

    def image(self) -> Any:
        """The image as a pyvips image, valid until `close`. Raises ValueError unless all rows have been appended."""
        height, width, channels = self.shape
        if self.rows != height:
            raise ValueError(f"{self.rows} of {height} rows were written")
        if self._memory is not None:
            return pyvips.Image.new_from_array(self._memory)
        form = "uchar" if self.dtype == np.uint8 else "ushort"
        strips = [
            pyvips.Image.rawload(
                strip.path,
                width,
                min(self.step, height - index * self.step),
                channels,
                format=form,
                access="sequential",
            )
            for index, strip in enumerate(self._strips)
        ]
        return pyvips.Image.arrayjoin(strips, across=1).crop(0, 0, width, height)

    def close(self) -> None:
        """Discard the rows and remove their files. May be called again."""
        self._memory = None
        for strip in self._strips:
            strip.close()
        self._strips.clear()


class _Strip:
    """A file that is written once, from start to end. `path` opens it until `close`. Raises OutputError if the disk is full."""

    def __init__(self, folder: Path) -> None:
        self._named: Path | None = None
        try:
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 closed by `close`
            self.path = f"/proc/self/fd/{self._file.fileno()}"
            if not (NAMELESS and Path(self.path).exists()):
                self._file.close()
                handle, self.path = tempfile.mkstemp(prefix=".liif-", suffix=".scratch", dir=folder)
                self._named, self._file = Path(self.path), os.fdopen(handle, "wb", buffering=0)
        except OSError as error:
            raise OutputError(f"cannot write to {folder}: {error.strerror}") from error

    def write(self, rows: memoryview) -> None:
        data = rows.cast("B")
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            raise OutputError(f"cannot write the scratch file: {error.strerror}") from error

    def close(self) -> None:
        self._file.close()
        if self._named is not None:
            with contextlib.suppress(OSError):
                self._named.unlink(missing_ok=True)


def scratch_bytes(height: int, width: int, channels: int, dtype: DTypeLike) -> int:
    """The bytes of disk space that a `Scratch` of this shape takes; 0 if it is kept in memory."""
    size = height * width * channels * np.dtype(dtype).itemsize
    return size if size > IN_MEMORY else 0

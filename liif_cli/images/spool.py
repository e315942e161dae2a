"""Keeps rows of an image on disk until they are saved, instead of in memory."""

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
"""Each strip is two open files while it is read, and systems allow a process a thousand (macOS 256)."""
NAMELESS = sys.platform == "linux"
"""Whether a file without a name can be opened again, through /proc."""
IN_MEMORY = 64 * 2**20
"""Images up to this many bytes wait in memory."""


class Scratch:
    """(height, width, channels) of uint8 or uint16, appended from the top and then read once by libvips.

    An image up to 64 MiB stays in memory. A larger one goes to hidden files of 512 rows in `folder` (more rows where there
    would be over forty): libvips maps and unmaps them one by one, while one large map would count in full in the process's
    peak, and its `rawload` takes no offset beyond 1 GB. Where the system allows (Linux) the files never have a name, so
    that they are gone however the process ends; elsewhere `close` removes them. Raises OutputError when the disk has no
    room for the image and `extra` bytes.
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
        """Bytes of memory that the rows take."""
        return 0 if self._memory is None else self._memory.nbytes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, rows: NDArray[Any]) -> None:
        """Take the next rows, (h, width, channels) of the scratch's dtype. OutputError when the disk is full."""
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
        """The rows as one pyvips image, valid until `close`; all rows must have been appended."""
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
        """Remove what waited; no error when it is gone."""
        self._memory = None
        for strip in self._strips:
            strip.close()
        self._strips.clear()


class _Strip:
    """One file, written once from start to end; `path` opens it while it lives. OutputError when the disk is full."""

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
    """Bytes on disk that an image takes while it waits; 0 if it waits in memory."""
    size = height * width * channels * np.dtype(dtype).itemsize
    return size if size > IN_MEMORY else 0

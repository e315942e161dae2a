"""Rows of a picture that wait on disk for the saver, so that memory need not hold them."""

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyvips
from numpy.typing import DTypeLike, NDArray

from liif_cli.errors import OutputError
from liif_cli.outputs import check_room

STRIP_ROWS = 512
MOST_STRIPS = 200
"""libvips keeps one file open for each strip, and systems allow a process about a thousand (macOS 256)."""
IN_MEMORY = 64 * 2**20
"""Pictures up to this many bytes wait in memory."""


class Scratch:
    """(height, width, channels) of uint8 or uint16, appended from the top and then read once by libvips.

    A picture up to 64 MiB stays in memory. A larger one goes to a hidden file in `folder`, which libvips reads as strips
    of 512 rows: it maps and unmaps them one by one, while one large map would count in full in the process's peak. Where
    the system allows (Linux) the file never has a name, so that it is gone however the process ends; elsewhere `close`
    removes it. Raises OutputError when the disk has no room for the picture and `extra` bytes.
    """

    def __init__(
        self, folder: Path, height: int, width: int, channels: int, dtype: DTypeLike, *, extra: int = 0
    ) -> None:
        self.shape = height, width, channels
        self.dtype = np.dtype(dtype)
        self.rows = 0
        self._memory: NDArray[Any] | None = None
        self._named: Path | None = None
        self._file: Any = None
        size = scratch_bytes(height, width, channels, dtype)
        check_room(folder, size + extra)
        if size:
            self._open(folder)
        else:
            self._memory = np.empty(self.shape, self.dtype)

    def _open(self, folder: Path) -> None:
        try:
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 closed by `close`
            self._path = Path(f"/proc/self/fd/{self._file.fileno()}")
            if not self._path.exists():
                self._file.close()
                handle, name = tempfile.mkstemp(prefix=".liif-", suffix=".scratch", dir=folder)
                self._path = self._named = Path(name)
                self._file = os.fdopen(handle, "wb", buffering=0)
        except OSError as error:
            raise OutputError(f"{folder} cannot be written to: {error.strerror}") from error

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
        else:
            self._write(memoryview(np.ascontiguousarray(rows).data).cast("B"))
        self.rows += len(rows)

    def _write(self, data: memoryview) -> None:
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            raise OutputError(f"the scratch file cannot be written: {error.strerror}") from error

    def image(self) -> Any:
        """The rows as one pyvips image, valid until `close`; all rows must have been appended."""
        height, width, _ = self.shape
        if self.rows != height:
            raise ValueError(f"{self.rows} of {height} rows were written")
        if self._memory is not None:
            return pyvips.Image.new_from_array(self._memory)
        step = max(STRIP_ROWS, -(-height // MOST_STRIPS))
        strips = [self._strip(top, min(step, height - top)) for top in range(0, height, step)]
        return pyvips.Image.arrayjoin(strips, across=1).crop(0, 0, width, height)

    def _strip(self, top: int, rows: int) -> Any:
        _, width, channels = self.shape
        return pyvips.Image.rawload(
            str(self._path),
            width,
            rows,
            channels,
            offset=top * width * channels * self.dtype.itemsize,
            format="uchar" if self.dtype == np.uint8 else "ushort",
            access="sequential",
        )

    def close(self) -> None:
        """Remove what waited; no error when it is gone."""
        if self._file is not None:
            self._file.close()
        self._memory = None
        if self._named is not None:
            with contextlib.suppress(OSError):
                self._named.unlink(missing_ok=True)


def scratch_bytes(height: int, width: int, channels: int, dtype: DTypeLike) -> int:
    """Bytes on disk in which a picture waits; 0 where it waits in memory."""
    size = height * width * channels * np.dtype(dtype).itemsize
    return size if size > IN_MEMORY else 0

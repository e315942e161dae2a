"""A file that appears whole or not at all."""

import os
import tempfile
from pathlib import Path

from liif_cli.errors import OutputError


def check_target(path: Path, overwrite: bool) -> None:
    """OutputError when `path` exists and may not be overwritten, or its folder does not exist."""
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists", hint="--overwrite replaces it")
    if not path.parent.is_dir():
        raise OutputError(f"the folder {path.parent} does not exist", hint="create it first")


class OutputFile:
    """Context manager: a temporary file beside `path` that takes its place on a clean exit and vanishes on any other.

    The data is on disk (fsync) before the name changes hands; without `overwrite` a file that appeared meanwhile is
    left alone (OutputError).
    """

    def __init__(self, path: Path, overwrite: bool = False) -> None:
        self.path, self.overwrite = path, overwrite

    def __enter__(self) -> Path:
        try:
            handle, name = tempfile.mkstemp(prefix=".liif-", suffix=self.path.suffix, dir=self.path.parent)
        except OSError as error:
            raise OutputError(f"{self.path.parent} cannot be written to: {error.strerror}") from error
        os.close(handle)
        self.temporary = Path(name)
        return self.temporary

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._put_in_place()
        finally:
            self.temporary.unlink(missing_ok=True)

    def _put_in_place(self) -> None:
        with self.temporary.open("rb+") as file:
            os.fsync(file.fileno())
        check_target(self.path, self.overwrite)
        mask = os.umask(0)
        os.umask(mask)
        self.temporary.chmod(0o666 & ~mask)
        try:
            self.temporary.replace(self.path)
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written: {error.strerror}") from error


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data` at once, making its folder where needed. Raises `OutputError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with OutputFile(path, overwrite=True) as temporary:
        temporary.write_bytes(data)

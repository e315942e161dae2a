"""Output files that appear whole or not at all, and never harm an existing file."""

import contextlib
import hashlib
import os
import secrets
import shutil
from pathlib import Path

from liif_cli.errors import OutputError


def check_target(path: Path, overwrite: bool) -> None:
    """Raises OutputError if `path` exists and may not be overwritten, is not a regular file, or cannot be created."""
    if path.is_dir():
        raise OutputError(f"{path} is a folder", hint="give the name of a file in it")
    if path.exists() and not path.is_file():
        raise OutputError(f"{path} is a device or a pipe, not a file", remedy="stream")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists", remedy="overwrite")
    if not path.parent.is_dir():
        raise OutputError(f"the folder {path.parent} does not exist", hint="create it first")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"cannot write to the folder {path.parent}")


def check_room(folder: Path, needed: int) -> None:
    """Raises OutputError if the disk of `folder` has fewer than `needed` free bytes."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise OutputError(f"cannot use the folder {folder}: {error.strerror}") from error
    if needed > free:
        raise OutputError(
            f"not enough disk space in {folder}: {free / 2**20:,.0f} MiB are free, and the output needs up to "
            f"{needed / 2**20:,.0f} MiB",
            hint="free some space or write to another disk",
        )


class OutputFile:
    """Context manager: a temporary file next to `path` that replaces it on a clean exit and is removed on any other.

    The data is synced to disk (fsync) before the rename. Without `overwrite`, a file that appeared in the meantime is not
    replaced. A new file gets its mode from the umask; an overwritten file keeps its mode. Raises OutputError.
    """

    def __init__(self, path: Path, overwrite: bool = False) -> None:
        path = path.resolve() if path.is_symlink() else path  # the link stays; its target is replaced
        self.path, self.overwrite = path, overwrite
        self.temporary = path.parent / f".liif-{secrets.token_hex(6)}{path.suffix}"

    def __enter__(self) -> Path:
        try:
            self.temporary.open("xb").close()  # not mkstemp: only the owner may read its files
        except OSError as error:
            raise OutputError(f"cannot write to {self.path.parent}: {error.strerror}") from error
        return self.temporary

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._put_in_place()
        finally:
            with contextlib.suppress(OSError):
                self.temporary.unlink(missing_ok=True)

    def _put_in_place(self) -> None:
        try:
            with self.temporary.open("rb+") as file:
                os.fsync(file.fileno())
            check_target(self.path, self.overwrite)
            if self.path.exists():
                shutil.copymode(self.path, self.temporary)
            self.temporary.replace(self.path)
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}") from error


def write_bytes(path: Path, data: bytes, *, overwrite: bool = True) -> None:
    """Write the file `path` atomically, creating its folder if needed; for checkpoints and reports. Raises `OutputError`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with OutputFile(path, overwrite) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

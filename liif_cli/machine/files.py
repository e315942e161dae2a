"""Files that appear whole or not at all, and never harm what was there."""

import contextlib
import hashlib
import os
import secrets
import shutil
from pathlib import Path

from liif_cli.errors import OutputError


def check_target(path: Path, overwrite: bool) -> None:
    """OutputError when `path` exists and may not be overwritten, is no plain file, or its folder does not exist."""
    if path.is_dir():
        raise OutputError(f"{path} is a folder", hint="name a file in it")
    if path.exists() and not path.is_file():
        raise OutputError(f"{path} is a device or a pipe, not a file", hint="-o - writes to standard output")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists", hint="--overwrite replaces it")
    if not path.parent.is_dir():
        raise OutputError(f"the folder {path.parent} does not exist", hint="create it first")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"the folder {path.parent} cannot be written to")


def check_room(folder: Path, needed: int) -> None:
    """OutputError when the disk under `folder` has fewer than `needed` bytes free."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise OutputError(f"the folder {folder} cannot be used: {error.strerror}") from error
    if needed > free:
        raise OutputError(
            f"{folder} has {free / 2**20:,.0f} MiB free and this output needs up to {needed / 2**20:,.0f} MiB",
            hint="free some space, or write to another disk",
        )


class OutputFile:
    """Context manager: a temporary file beside `path` that takes its place on a clean exit and vanishes on any other.

    The data is on disk (fsync) before the name changes hands; without `overwrite` a file that appeared meanwhile is
    left alone (OutputError). The file's mode is what the umask gives a new file; an overwritten file's mode stays.
    """

    def __init__(self, path: Path, overwrite: bool = False) -> None:
        path = path.resolve() if path.is_symlink() else path  # the link stays, what it points to is replaced
        self.path, self.overwrite = path, overwrite
        self.temporary = path.parent / f".liif-{secrets.token_hex(6)}{path.suffix}"

    def __enter__(self) -> Path:
        check_target(self.path, self.overwrite)
        try:
            self.temporary.open("xb").close()  # not mkstemp, whose files only their owner may read
        except OSError as error:
            raise OutputError(f"{self.path.parent} cannot be written to: {error.strerror}") from error
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
            raise OutputError(f"{self.path} cannot be written: {error.strerror}") from error


def write_bytes(path: Path, data: bytes, *, overwrite: bool = True) -> None:
    """Write `data` to `path` at once, making its folder where needed. Raises `OutputError`. (For checkpoints and reports.)"""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with OutputFile(path, overwrite) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

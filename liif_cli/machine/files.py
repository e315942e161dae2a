"""Output files that appear complete or not at all, and never damage an existing file."""

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import stat
import time
from pathlib import Path

from liif_cli.errors import OutputError
from liif_cli.machine.signals import shielded


def check_target(path: Path, overwrite: bool) -> None:
    """Raises OutputError if `path` exists and may not be overwritten, is not a regular file, or cannot be created."""
    check_name(path)
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


LONGEST = 255
"""The longest file name in bytes if the system does not report it."""


def check_name(path: Path) -> None:
    """Raises OutputError if the file system does not accept the name: it is too long, or a loop of links."""
    folder = path.parent
    try:
        longest = os.pathconf(folder, "PC_NAME_MAX") if hasattr(os, "pathconf") else LONGEST
    except (OSError, ValueError):
        longest = LONGEST
    if len(os.fsencode(path.name)) > longest:
        raise OutputError(
            f"the name {path.name[:40]}... has {len(os.fsencode(path.name))} bytes; the file system allows {longest}",
            hint="give the output a shorter name",
        )
    try:
        path.lstat()
        path.stat()
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from error


def check_room(folder: Path, needed: int) -> None:
    """Raises OutputError if the disk of `folder` has fewer than `needed` free bytes."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise OutputError(f"cannot use the folder {folder}: {error.strerror}") from error
    if needed > free:
        raise OutputError(
            f"not enough disk space in {folder}: {_amount(free)} are free, but the output needs up to {_amount(needed)}",
            hint="free some space or write to another disk",
        )


def _amount(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB" if size >= 10 * 2**20 else f"{size / 2**10:,.0f} kB"


class OutputFile:
    """Context manager: a temporary file next to `path` that replaces it on a clean exit and is removed on any other.

    The data is synced to disk (fsync) before the last step. Without `overwrite`, that step is a hard link, which cannot replace
    a file that appeared in the meantime. A new file gets its mode from the umask. An overwritten file keeps its mode, and its
    temporary file never has more permissions. Entering also calls `remove_leftovers` on the folder. Raises OutputError.
    """

    def __init__(self, path: Path, overwrite: bool = False) -> None:
        path = path.resolve() if path.is_symlink() else path  # the link stays; its target is replaced
        self.path, self.overwrite = path, overwrite
        self.temporary = path.parent / f".liif-{secrets.token_hex(6)}{path.suffix}"
        self._lock: int | None = None

    def __enter__(self) -> Path:
        try:
            with shielded():  # otherwise an interrupt could leave the file behind
                self._create()
            remove_leftovers(self.path.parent)
        except BaseException as error:
            self._remove()
            if isinstance(error, OSError):
                raise OutputError(f"cannot write to {self.path.parent}: {error.strerror}") from error
            raise
        return self.temporary

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with shielded():
            try:
                if kind is None:
                    self._put_in_place()
            finally:
                self._remove()

    def _create(self) -> None:
        mode = stat.S_IMODE(self.path.stat().st_mode) if self.overwrite and self.path.exists() else 0o666
        # Not mkstemp, whose files only the owner may read. 0o200: the owner must be able to write, whatever the old mode.
        self._lock = os.open(self.temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode & 0o666 | 0o200)
        if not _lock(self._lock):
            self._unlock()

    def _remove(self) -> None:
        """Remove the temporary file, if there still is one."""
        self._unlock()
        with contextlib.suppress(OSError):
            self.temporary.unlink(missing_ok=True)

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _put_in_place(self) -> None:
        try:
            with self.temporary.open("rb+") as file:
                os.fsync(file.fileno())
            check_target(self.path, self.overwrite)
            if self.path.exists():
                shutil.copymode(self.path, self.temporary)
            if self.overwrite:
                self.temporary.replace(self.path)
            else:
                self._link()
        except FileExistsError as error:
            raise OutputError(f"{self.path} exists", remedy="overwrite") from error
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}") from error

    def _link(self) -> None:
        """Link the temporary file to `path`, which fails if that exists. Rename it if the file system has no hard links."""
        try:
            os.link(self.temporary, self.path)
        except FileExistsError:
            raise
        except (OSError, NotImplementedError, AttributeError):
            self.temporary.replace(self.path)


def _lock(handle: int) -> bool:
    """Lock an open file until it is closed. Returns False if the system has no locks or another process holds this one."""
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True


def _is_held(path: Path) -> bool:
    """Whether a running process has locked a file."""
    try:
        import fcntl
    except ImportError:
        return False
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # no locks on this file system
            return False
    return False


LEFTOVER = re.compile(r"\.liif-[0-9a-f]{12}(\.\w+)?")
DAY = 86_400


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a folder, once per folder and process.

    Only regular files with the name of a temporary file of liif, older than a day and locked by no process, are removed. Files
    that cannot be removed stay.
    """
    if folder in _cleared:
        return
    _cleared.add(folder)
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not LEFTOVER.fullmatch(entry.name) or not entry.is_file(follow_symlinks=False):
                continue
            if time.time() - entry.stat(follow_symlinks=False).st_mtime > DAY:
                with contextlib.suppress(OSError):
                    if not _is_held(Path(entry.path)):
                        Path(entry.path).unlink()


_cleared: set[Path] = set()


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

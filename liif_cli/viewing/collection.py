"""The images that are shown, and their identifiers.

An identifier is looked up in a list made from the folder; it is never used as part of a path.
"""

import os
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from liif_cli.errors import InputError
from liif_cli.images.formats.table import SUFFIXES

STALE = 2.0  # seconds after which a folder is listed again
MOST = 100_000  # images in a folder


class Collection(Protocol):
    """A collection of image files with identifiers."""

    def find(self, identifier: str) -> Path | None:
        """The file with this identifier, or None."""

    def identifiers(self) -> list[str]:
        """All identifiers, in display order."""


class Files:
    """A list of image files. An identifier is the file's name, with a number in front if the name occurs more than once."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths: dict[str, Path] = {}
        for path in paths:
            name, number = _text(path.name), 1
            while name in self._paths:
                number += 1
                name = f"{number}-{_text(path.name)}"
            self._paths[name] = path.absolute()

    def find(self, identifier: str) -> Path | None:
        """See `Collection.find`."""
        return self._paths.get(identifier)

    def identifiers(self) -> list[str]:
        """See `Collection.identifiers`."""
        return list(self._paths)


class Folder:
    """The images in a folder and its subfolders. An identifier is the path relative to the folder, with slashes.

    Hidden files and folders, and links to targets outside the folder, are skipped. Raises `InputError` if it is not a folder.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise InputError(f"{folder} is not a folder")
        self._folder, self._lock = folder.resolve(), threading.Lock()
        self._paths: dict[str, Path] = {}
        self._listed = float("-inf")
        self._refresh()

    def find(self, identifier: str) -> Path | None:
        """See `Collection.find`. A file that has since become a link to a target outside the folder is not found."""
        if identifier not in self._paths:
            self._refresh()
        path = self._paths.get(identifier)
        return path if path is not None and self._inside(path) else None

    def identifiers(self) -> list[str]:
        """See `Collection.identifiers`."""
        self._refresh()
        return list(self._paths)

    def _refresh(self) -> None:
        with self._lock:
            if time.monotonic() - self._listed < STALE:
                return
            self._paths = dict(sorted(self._list()))
            self._listed = time.monotonic()

    def _list(self) -> Iterator[tuple[str, Path]]:
        count = 0
        for top, folders, names in os.walk(self._folder):  # does not follow links to folders
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in names:
                path = Path(top, name)
                if name.startswith(".") or path.suffix.lower() not in SUFFIXES or not self._inside(path):
                    continue
                count += 1
                if count > MOST:
                    return
                yield _text(path.relative_to(self._folder).as_posix()), path

    def _inside(self, path: Path) -> bool:
        try:
            real = path.resolve(strict=True)
        except (OSError, RuntimeError):
            return False
        return real.is_file() and real.is_relative_to(self._folder)


def _text(name: str) -> str:
    """A file name as text. Bytes that are not valid UTF-8 become replacement characters."""
    return os.fsencode(name).decode("utf-8", "replace")

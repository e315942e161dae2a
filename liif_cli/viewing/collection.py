"""Which images are shown, and by which identifiers.

An identifier is looked up in a list that was made from the folder; it is never joined to a path.
"""

import os
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from liif_cli.errors import InputError
from liif_cli.images.formats.table import SUFFIXES

STALE = 2.0  # seconds after which a folder is listed anew for an identifier that is not there
MOST = 100_000  # images of a folder


class Collection(Protocol):
    """Images by their identifiers."""

    def find(self, identifier: str) -> Path | None:
        """The file of an image, None if there is none."""

    def identifiers(self) -> list[str]:
        """All identifiers, in order."""


class Files:
    """Some image files; their identifiers are their names, with a number if a name comes twice."""

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
    """The images in a folder and its subfolders; their identifiers are their paths below it, with slashes.

    Hidden files and folders and links that lead out of the folder are skipped. Raises `InputError` if it is not a folder.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise InputError(f"{folder} is not a folder")
        self._folder, self._lock = folder.resolve(), threading.Lock()
        self._paths: dict[str, Path] = {}
        self._listed = float("-inf")
        self._refresh()

    def find(self, identifier: str) -> Path | None:
        """See `Collection.find`; a file that has become a link out of the folder since is not found."""
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
        for top, folders, names in os.walk(self._folder):  # it follows no link to a folder
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
    """A file name as text; bytes that are none become replacement characters."""
    return os.fsencode(name).decode("utf-8", "replace")

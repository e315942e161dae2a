"""The source of an image: a file, or the bytes of a file."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from liif_cli.errors import InputError


@cache
def libvips() -> Any:
    """The class `pyvips.Image`, imported on first use, with the cache of libvips switched off."""
    import pyvips

    pyvips.cache_set_max(0)  # a cached load would return old pixels of a file that has changed
    return pyvips.Image


@dataclass(frozen=True)
class Source:
    """An image file.

    given: its path or its bytes. label: its name in messages; None for the path. held: an object to keep alive as long as the
    source, such as a temporary folder.
    """

    given: Path | bytes
    label: str | None = None
    held: Any = None

    @property
    def name(self) -> str:
        """Its name in messages."""
        if self.label is not None:
            return self.label
        return str(self.given) if isinstance(self.given, Path) else "the input"

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The file, open for reading. Raises InputError if it cannot be opened."""
        if isinstance(self.given, bytes):
            yield io.BytesIO(self.given)
            return
        try:
            file = self.given.open("rb")
        except OSError as error:
            raise InputError(f"cannot read {self.name}: {error.strerror}") from error
        with file:
            yield file

    def vips(self, loader: str, **options: Any) -> Any:
        """A pyvips image, opened with the named loader for sequential access: its pixels are decoded later, from the top."""
        options = {"access": "sequential", "fail_on": "error", **options}
        if isinstance(self.given, Path):
            return getattr(libvips(), loader)(os.fsencode(self.given), **options)  # a file name need not be valid UTF-8
        return getattr(libvips(), f"{loader}_buffer")(self.given, **options)

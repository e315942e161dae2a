"""Where an image is read from: a file, or the bytes of one."""

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
    """pyvips' `Image`, loaded when it is first needed."""
    import pyvips

    pyvips.cache_set_max(0)  # a cached load would answer for a file that has changed since
    return pyvips.Image


@dataclass(frozen=True)
class Source:
    """An image file: a path or its bytes. label: what a message calls it, None for the path. held: what lives as long as this,
    such as a temporary folder."""

    given: Path | bytes
    label: str | None = None
    held: Any = None

    @property
    def name(self) -> str:
        """What a message calls it."""
        if self.label is not None:
            return self.label
        return str(self.given) if isinstance(self.given, Path) else "the input"

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The file, for reading. Raises InputError if it cannot be opened."""
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
        """The image as libvips opens it with one named loader; pixels come later, from the top."""
        options = {"access": "sequential", "fail_on": "error", **options}
        if isinstance(self.given, Path):
            return getattr(libvips(), loader)(os.fsencode(self.given), **options)  # a name need not be text
        return getattr(libvips(), f"{loader}_buffer")(self.given, **options)

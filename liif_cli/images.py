"""Pictures from files: upright, in sRGB's tone curve, with everything that is to travel on.

libvips reads; only the loader of the format that the content shows is ever called.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyvips
from numpy.typing import NDArray

from liif_cli.errors import InputError
from liif_cli.formats import HEAD_BYTES, sniff
from liif_cli.metadata import Metadata

pyvips.cache_set_max(0)  # a cached load would answer for a file that has changed since


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    pixels: (H, W, C) uint8 or uint16, full range, upright; C = 1 gray, 2 gray + alpha, 3 RGB, 4 RGBA (straight alpha).
    metadata: what travels on to the output. format: the input's, by content. notes: sentences for the user.
    """

    pixels: NDArray[Any]
    metadata: Metadata
    format: str
    notes: tuple[str, ...] = ()

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.pixels.shape[1])

    @property
    def channels(self) -> int:
        """1 gray, 2 gray + alpha, 3 RGB, 4 RGBA."""
        return int(self.pixels.shape[2])

    @property
    def alpha(self) -> bool:
        """Whether the last channel is alpha."""
        return self.channels in (2, 4)


@dataclass(frozen=True)
class Header:
    """What a file says before its pixels are decoded: size after orientation, channels, bits a sample, frames."""

    format: str
    width: int
    height: int
    channels: int
    bits: int
    frames: int = 1


def probe(source: Path | bytes) -> Header:
    """Header of a picture file, without decoding it. InputError when it is none."""
    form, image = _open(source)
    turned = image.get_typeof("orientation") != 0 and image.get("orientation") > 4
    width, height = (image.height, image.width) if turned else (image.width, image.height)
    return Header(form, width, height, image.bands, 16 if image.format == "ushort" else 8)


def read(source: Path | bytes, *, page: int | None = None, frame: int | None = None) -> Picture:
    """Decode a picture. InputError, naming the file, when it cannot be read."""
    form, image = _open(source)
    try:
        pixels = np.ascontiguousarray(image.autorot().numpy())
    except pyvips.Error as error:
        raise InputError(f"{_called(source)}: {_first_line(error)}") from error
    return Picture(pixels.reshape(image_shape(pixels)), Metadata(), form)


def image_shape(pixels: NDArray[Any]) -> tuple[int, int, int]:
    """(H, W, C) of an array that may lack the channel axis."""
    return (*pixels.shape, 1)[:3]


def _open(source: Path | bytes) -> tuple[str, Any]:
    form = sniff(_head(source))
    loader = {"png": "pngload", "jpeg": "jpegload", "tiff": "tiffload", "webp": "webpload"}[form]
    name = loader if isinstance(source, Path) else f"{loader}_buffer"
    try:
        return form, getattr(pyvips.Image, name)(
            str(source) if isinstance(source, Path) else source, fail_on="truncated"
        )
    except pyvips.Error as error:
        raise InputError(f"{_called(source)}: {_first_line(error)}") from error


def _head(source: Path | bytes) -> bytes:
    if isinstance(source, bytes):
        return source[:HEAD_BYTES]
    try:
        with source.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError as error:
        raise InputError(f"{source} cannot be read: {error.strerror}") from error


def _called(source: Path | bytes) -> str:
    return str(source) if isinstance(source, Path) else "the input"


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines()[1:] if line.strip()), "it cannot be decoded")

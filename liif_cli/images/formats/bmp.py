"""BMP, read by Pillow."""

from typing import BinaryIO

from liif_cli.images.formats.base import Loaded, from_pillow
from liif_cli.images.source import Source


def load_bmp(source: Source, file: BinaryIO, _: int) -> Loaded:
    """A BMP."""
    return from_pillow(source, file)

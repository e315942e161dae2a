"""BMP, read by Pillow."""

from typing import BinaryIO

from liif_cli.images.formats.base import Format, Loaded, from_pillow
from liif_cli.images.source import Source


def load_bmp(source: Source, file: BinaryIO, _: int) -> Loaded:
    """A BMP."""
    return from_pillow(source, file)


FORMAT = Format(
    name="bmp",
    label="BMP",
    variants="1 to 32 bits per pixel, palettes",
    suffixes=(".bmp", ".dib"),
    sniff=lambda head: head[:2] == b"BM",
    load=load_bmp,
)

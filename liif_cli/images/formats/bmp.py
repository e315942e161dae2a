"""BMP, read and written by Pillow."""

from pathlib import Path
from typing import Any, BinaryIO

from liif_cli.images.formats.base import (
    Coding,
    Format,
    Holds,
    Loaded,
    from_pillow,
    without_cicp,
    without_metadata,
)
from liif_cli.images.picture import Metadata
from liif_cli.images.source import Source


def load_bmp(source: Source, file: BinaryIO, _: int) -> Loaded:
    """A BMP."""
    return from_pillow(source, file, "BMP")


def save_bmp(image: Any, path: Path, coding: Coding, metadata: Metadata) -> tuple[str, ...]:
    """Write a BMP, gray or RGB; returns notes on what it does not hold."""
    from PIL import Image

    pixels = image.numpy().reshape(image.height, image.width, image.bands)
    picture = Image.fromarray(pixels[..., 0] if image.bands == 1 else pixels)
    picture.save(path, "BMP", dpi=metadata.dpi or (96, 96))
    return without_metadata(metadata, "BMP") + without_cicp(metadata)


FORMAT = Format(
    name="bmp",
    label="BMP",
    variants="1 to 32 bits per pixel, palettes",
    suffixes=(".bmp", ".dib"),
    sniff=lambda head: head[:2] == b"BM",
    load=load_bmp,
    save=save_bmp,
    gray=(8,),
    lossless="always",
    max_side=32_767,  # so that no file exceeds 4 GiB, which is as far as BMP counts its bytes
    holds=Holds(dpi="✓"),
)

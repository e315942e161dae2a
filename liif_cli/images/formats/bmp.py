"""BMP, read and written by Pillow."""

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from liif_cli.errors import InputError
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
    """A BMP, decoded to 8-bit grayscale, RGB or RGBA. Raises InputError if it is damaged."""
    fields = bitfields(file)
    if fields is None:
        return from_pillow(source, file, "BMP")

    def decode() -> Any:
        with source.open() as again:
            return fields.pixels(again)

    return Loaded(fields.width, abs(fields.height), len(fields.masks), Metadata(), decode)


@dataclass(frozen=True)
class Bitfields:
    """A BMP whose pixels are words of `bits` bits, with a mask for each channel: red, green, blue and, optionally, alpha.

    Pillow reads only the most common masks. height: negative if the rows are stored from the top. start: the offset of the
    pixels in the file.
    """

    width: int
    height: int
    bits: int
    masks: tuple[int, ...]
    start: int

    def pixels(self, file: BinaryIO) -> Any:
        """(H, W, 3 or 4) uint8. InputError if the file ends early."""
        import numpy as np

        rows, step = abs(self.height), -(-self.width * self.bits // 32) * 4
        if file.seek(0, os.SEEK_END) - self.start < rows * step:  # before memory is allocated
            raise InputError("the file ends early", hint="copy or fetch the file again")
        file.seek(self.start)
        data = file.read(rows * step)
        kind = "<u2" if self.bits == 16 else "<u4"
        words = np.frombuffer(data, kind).reshape(rows, -1)[:, : self.width].astype(np.uint32)
        pixels = np.stack([_channel(words, mask) for mask in self.masks], axis=2)
        if len(self.masks) == 4 and not pixels[..., 3].any():
            pixels[..., 3] = 255  # browsers, too, treat an alpha of zeros as unused
        return np.ascontiguousarray(pixels if self.height < 0 else pixels[::-1])


def _channel(words: Any, mask: int) -> Any:
    """A channel's values scaled to 0 to 255; zeros if the mask is empty."""
    import numpy as np

    if not mask:
        return np.zeros(words.shape, np.uint8)
    low = (mask & -mask).bit_length() - 1
    top = mask >> low
    return (((words & np.uint32(mask)) >> np.uint32(low)).astype(np.float64) * (255 / top) + 0.5).astype(np.uint8)


def bitfields(file: BinaryIO) -> Bitfields | None:
    """The header of a BMP with masks (BITMAPINFOHEADER and later, BI_BITFIELDS and BI_ALPHABITFIELDS).

    None for other BMPs and for broken headers, which are left to Pillow.
    """
    file.seek(0)
    head = file.read(14 + 124)
    size = int.from_bytes(head[14:18], "little")
    if len(head) < 66 or size < 40:
        return None
    width, height, _, bits, coding = struct.unpack("<iiHHI", head[18:34])
    if coding not in (3, 6) or bits not in (16, 32) or width < 1 or not height:
        return None
    masks = struct.unpack("<3I", head[54:66])
    if (size >= 56 or coding == 6) and len(head) >= 70 and (alpha := int.from_bytes(head[66:70], "little")):
        masks = *masks, alpha
    if any(mask >> bits for mask in masks):
        return None
    return Bitfields(width, height, bits, masks, int.from_bytes(head[10:14], "little"))


def save_bmp(image: Any, path: Path, coding: Coding, metadata: Metadata) -> tuple[str, ...]:
    """Write a BMP, grayscale or RGB; returns notes on metadata that it cannot store."""
    from PIL import Image

    pixels = image.numpy().reshape(image.height, image.width, image.bands)
    made = Image.fromarray(pixels[..., 0] if image.bands == 1 else pixels)
    made.save(path, "BMP", dpi=metadata.dpi or (96, 96))
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
    max_side=32_767,  # keeps the file below 4 GiB, the limit of BMP's size field
    holds=Holds(dpi="✓"),
)

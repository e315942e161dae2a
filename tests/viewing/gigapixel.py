"""Writes tiled TIFFs of any size in a moment: all tiles of a level are one, compressed once."""

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

TILE = 512


def tile_of(shade: int) -> np.ndarray:
    """(512, 512, 3) uint8: patches of eight pixels, and one colour that tells the level."""
    pixels = np.random.default_rng(shade).integers(0, 256, (64, 64, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    pixels[..., 2] = shade
    return pixels


def write_tiff(path: Path, sides: Sequence[int]) -> None:
    """A TIFF of square pages of these sides, the largest first as in a pyramid. Page i is made of `tile_of(i)`."""
    out, link = bytearray(b"II*\0" + bytes(4)), 4
    for page, side in enumerate(sides):
        data, count = zlib.compress(tile_of(page).tobytes(), 1), (-(-side // TILE)) ** 2
        place = _append(out, data)
        offsets = _append(out, struct.pack(f"<{count}I", *[place] * count)) if count > 1 else place
        lengths = _append(out, struct.pack(f"<{count}I", *[len(data)] * count)) if count > 1 else len(data)
        bits = _append(out, struct.pack("<3H", 8, 8, 8))
        tags = [(256, 4, 1, side), (257, 4, 1, side), (258, 3, 3, bits), (259, 3, 1, 8), (262, 3, 1, 2), (277, 3, 1, 3)]
        tags += [
            (284, 3, 1, 1),
            (322, 3, 1, TILE),
            (323, 3, 1, TILE),
            (324, 4, count, offsets),
            (325, 4, count, lengths),
        ]
        entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
        struct.pack_into("<I", out, link, _append(out, struct.pack("<H", len(tags)) + entries + bytes(4)))
        link = len(out) - 4
    path.write_bytes(out)


def _append(out: bytearray, data: bytes) -> int:
    """Where the data begins, at an even place."""
    out += bytes(len(out) % 2)
    place = len(out)
    out += data
    return place

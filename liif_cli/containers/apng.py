"""Animated PNG: PNG files of single frames put together (W3C PNG, third edition, section 11.3.6)."""

import io
import struct
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from liif_cli.containers.png import SIGNATURE, chunk
from liif_cli.metadata import Timing

Pixels = NDArray[Any]


def write(
    file: BinaryIO, frames: Iterator[Pixels], encoded: Callable[[Pixels], bytes], head: bytes, timing: Timing
) -> None:
    """Write frames, (H, W) or (H, W, C) each, of which after the first only the rectangle that changed is stored.

    encoded: makes a whole PNG file of pixels. head: chunks that follow IHDR.
    """
    before: Pixels | None = None
    sequence = 0
    for pixels, duration in zip(frames, timing.durations, strict=True):
        top, left, bottom, right = _changed(before, pixels)
        single = encoded(pixels[top:bottom, left:right])
        if before is None:
            file.write(SIGNATURE + single[8:33] + head)
            file.write(chunk(b"acTL", struct.pack(">II", timing.frames, timing.loop)))
        place = (right - left, bottom - top, left, top, min(duration, 65535), 1000, 0, 0)
        file.write(chunk(b"fcTL", struct.pack(">IIIIIHHBB", sequence, *place)))
        sequence += 1
        for data in _pixel_chunks(single):
            if before is None:
                file.write(chunk(b"IDAT", data))
            else:
                file.write(chunk(b"fdAT", sequence.to_bytes(4) + data))
                sequence += 1
        before = pixels
    file.write(chunk(b"IEND", b""))


def _changed(before: Pixels | None, now: Pixels) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) of what differs; one pixel where nothing does, since a frame must have some."""
    if before is None:
        return 0, 0, now.shape[0], now.shape[1]
    differs = now != before
    if differs.ndim == 3:
        differs = differs.any(axis=2)
    rows, columns = np.flatnonzero(differs.any(axis=1)), np.flatnonzero(differs.any(axis=0))
    if not len(rows):
        return 0, 0, 1, 1
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def _pixel_chunks(single: bytes) -> Iterator[bytes]:
    file = io.BytesIO(single)
    file.seek(8)
    while len(start := file.read(8)) == 8:
        body = file.read(int.from_bytes(start[:4]) + 4)
        if start[4:] == b"IDAT":
            yield body[:-4]

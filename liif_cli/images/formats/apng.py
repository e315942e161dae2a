"""Animated PNG, written by joining PNG files of single frames (W3C PNG, third edition, section 11.3.6)."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from liif_cli.errors import OutputError
from liif_cli.images.formats.base import Coding, Loaded, pillow_image
from liif_cli.images.formats.png_chunks import PNG, SIGNATURE, Header, chunk, head, profile
from liif_cli.images.picture import Metadata, Timing
from liif_cli.images.source import Source, libvips

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pixels = NDArray[Any]


def write(
    file: BinaryIO, frames: Iterator[Pixels], encoded: Callable[[Pixels], bytes], chunks: bytes, timing: Timing
) -> None:
    """Write frames, each (H, W) or (H, W, C) uint8 or uint16. After the first, only the rectangle that changed is stored.

    encoded: encodes pixels as a complete PNG file. chunks: the metadata chunks that follow IHDR.
    """
    before: Pixels | None = None
    sequence = 0
    for pixels, duration in zip(frames, timing.durations, strict=True):
        top, left, bottom, right = _changed(before, pixels)
        single = encoded(pixels[top:bottom, left:right])
        if before is None:
            file.write(SIGNATURE + single[8:33] + chunks)
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
    """(top, left, bottom, right) of the rectangle that differs. If nothing does, one pixel, because a frame cannot be empty."""
    import numpy as np

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


def is_whole(header: Header) -> bool:
    """Whether the chunks of an APNG describe all of its frames. Otherwise a decoder must show the still image."""
    found = header.animation
    return found is not None and found.whole and len(found.durations) == found.frames


def load_apng(source: Source, header: Header, frame: int) -> Loaded:
    """A frame, counted from 0, of an APNG whose chunks were read into `header`. 8 bits per sample."""
    import numpy as np

    metadata, notes = profile(header)
    if header.depth == 16:
        notes = (*notes, "the animation's 16-bit samples are read with 8 bits")
    assert header.animation is not None
    first = int(header.animation.still)
    durations, loop = header.animation.durations, header.animation.loop
    gray = header.kind in (0, 4)

    def decode() -> NDArray[Any]:
        with source.open() as file, pillow_image("PNG", file) as image:
            image.seek(frame + first)
            return _from_rgba(np.asarray(image.convert("RGBA")), gray)

    def later() -> Iterator[NDArray[Any]]:
        with source.open() as file, pillow_image("PNG", file) as image:
            for index in range(first + 1, first + len(durations)):
                image.seek(index)
                yield _from_rgba(np.asarray(image.convert("RGBA")), gray)

    timing, metadata = Timing(tuple(durations), loop), replace(metadata, bits=8)
    return Loaded(header.width, header.height, 2 if gray else 4, metadata, decode, notes, timing, later=later)


def _from_rgba(pixels: NDArray[Any], gray: bool) -> NDArray[Any]:
    import numpy as np

    return np.ascontiguousarray(pixels[..., [0, 3]] if gray else pixels)


def save_apng(image: Any, path: Path, coding: Coding, metadata: Metadata) -> tuple[str, ...]:
    """Write an APNG of frames stacked vertically in one image; returns notes on metadata that it cannot store.

    Raises OutputError if it is cancelled.
    """
    import numpy as np

    assert coding.timing is not None
    chunks, notes = head(metadata)
    height = image.height // coding.timing.frames
    frames = (image.crop(0, top, image.width, height).numpy() for top in range(0, image.height, height))

    def encoded(pixels: NDArray[Any]) -> bytes:
        if coding.cancelled.is_set():
            raise OutputError("cannot write the PNG: cancelled")
        bare = libvips().new_from_array(np.ascontiguousarray(pixels)).copy(interpretation=image.interpretation)
        return bytes(bare.pngsave_buffer(keep="none", **PNG))

    with path.open("wb") as file:
        write(file, frames, encoded, chunks, coding.timing)
    return notes

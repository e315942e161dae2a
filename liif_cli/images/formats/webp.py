"""WebP, read and written by libvips; metadata is read from and added as RIFF chunks (WebP Container Specification)."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from liif_cli.errors import InputError
from liif_cli.images.formats.base import (
    Coding,
    Format,
    Holds,
    Loaded,
    by_libvips,
    decodable,
    dpi_in_exif,
    from_vips,
    timed,
    without_cicp,
    without_place,
)
from liif_cli.images.formats.compression import webp_quality
from liif_cli.images.metadata.exif import bare
from liif_cli.images.picture import Metadata
from liif_cli.images.source import Source
from liif_cli.images.vips import interruptibly

ICC_FLAG, ALPHA_FLAG, EXIF_FLAG, XMP_FLAG = 0x20, 0x10, 0x08, 0x04
FRAME_HEAD = 128
"""Bytes of a VP8 frame that are enough to find its quantisers."""
METADATA = (b"ICCP", b"EXIF", b"XMP ")


def chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """(four-letter name, payload) of each chunk. Of `VP8 `, only the first `FRAME_HEAD` bytes; of other pixel data, none."""
    total = file.seek(0, os.SEEK_END)
    file.seek(12)
    while len(head := file.read(8)) == 8:
        size = int.from_bytes(head[4:], "little")
        if size > total - file.tell():
            return
        if head[:4] in (b"VP8X", *METADATA):
            yield head[:4], file.read(size)
            file.seek(size % 2, 1)
        else:
            first = file.read(min(size, FRAME_HEAD) if head[:4] == b"VP8 " else 0)
            yield head[:4], first
            file.seek(size - len(first) + size % 2, 1)


def read(file: BinaryIO) -> Metadata:
    """The metadata of a WebP file: profile, EXIF, XMP and quality."""
    found = {name: data for name, data in chunks(file) if name in (*METADATA, b"VP8 ") and data}
    blob, quality = found.get(b"EXIF"), webp_quality(found.get(b"VP8 ", b""))
    return Metadata(icc=found.get(b"ICCP"), exif=bare(blob) if blob else None, xmp=found.get(b"XMP "), quality=quality)


def with_metadata(data: bytes, metadata: Metadata, width: int, height: int, alpha: bool) -> bytes:
    """A WebP file with profile, EXIF and XMP added. data: a file without metadata. width, height: of its canvas."""
    body = data[12:]
    flags = ALPHA_FLAG if alpha else 0
    if body[:4] == b"VP8X":
        flags, body = body[8], body[18:]
    front = _chunk(b"ICCP", metadata.icc)
    back = _chunk(b"EXIF", metadata.exif) + _chunk(b"XMP ", metadata.xmp)
    if not front and not back:
        return data
    for flag, there in ((ICC_FLAG, metadata.icc), (EXIF_FLAG, metadata.exif), (XMP_FLAG, metadata.xmp)):
        flags |= flag if there else 0
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = _chunk(b"VP8X", bytes([flags, 0, 0, 0]) + size) + front + body + back
    return b"RIFF" + (len(body) + 4).to_bytes(4, "little") + b"WEBP" + body


def _chunk(name: bytes, data: bytes | None) -> bytes:
    return name + len(data).to_bytes(4, "little") + data + b"\0" * (len(data) % 2) if data else b""


def load_webp(source: Source, file: BinaryIO, frame: int) -> Loaded:
    """A WebP, or one frame of an animated one, counted from 0. Raises InputError if there is no such frame."""
    metadata = read(file)
    sound = decodable(source, metadata.exif)
    whole = sound.vips("webpload", n=-1)
    frames = whole.get("n-pages") if whole.get_typeof("n-pages") else 1
    if not frame < frames:
        raise InputError(f"{source.name} has no frame {frame + 1}: it has {frames}")
    loaded = from_vips(sound.vips("webpload", page=frame), metadata)
    return timed(loaded, whole) if frames > 1 else loaded


def save_webp(image: Any, path: Path, coding: Coding, metadata: Metadata) -> tuple[str, ...]:
    """Write a WebP, still or animated; returns notes on metadata that it cannot store."""
    if image.bands < 3:
        image = image.colourspace("srgb")
    options = {
        "Q": coding.quality or FORMAT.quality,
        "lossless": coding.lossless,
        "exact": True,
        "smart_subsample": True,
        "keep": "none",
    }
    data: list[bytes] = []
    interruptibly(image, lambda: data.append(image.webpsave_buffer(**options)), coding.cancelled)
    height = image.get("page-height") if image.get_typeof("page-height") else image.height
    path.write_bytes(with_metadata(data[0], dpi_in_exif(metadata), image.width, height, image.bands == 4))
    return without_cicp(metadata) + without_place(metadata, "WebP")


FORMAT = Format(
    name="webp",
    label="WebP",
    variants="still and animated",
    suffixes=(".webp",),
    sniff=lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP",
    load=load_webp,
    save=save_webp,
    alpha=True,
    animation=True,
    quality=95,
    lossless="on request",
    max_side=16_383,
    holds=Holds(profile="✓", exif="✓", xmp="✓", dpi="in EXIF"),
    reads=by_libvips("webpload"),
    writes=by_libvips("webpsave"),
)

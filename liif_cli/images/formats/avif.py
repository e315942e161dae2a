"""AVIF's and HEIC's boxes: what libvips does not tell about their colour (ISO/IEC 23008-12, ISO/IEC 14496-12)."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyvips
from numpy.typing import NDArray
from PIL import Image

from liif_cli.images import icc
from liif_cli.images.formats.base import (
    QUALITY,
    Coding,
    Loaded,
    dpi_in_exif,
    from_vips,
    without_cicp,
    without_place,
)
from liif_cli.images.metadata import exif
from liif_cli.images.picture import Metadata
from liif_cli.images.source import Source
from liif_cli.images.vips import interruptibly

NESTED = {b"meta": 4, b"iprp": 0, b"ipco": 0}
"""Boxes that are looked into, and how many bytes stand before their first child."""
MOST = 2**24


@dataclass
class Colour:
    """gray: every coded item is monochrome. nclx: primaries, transfer and matrix numbers of H.273, or None. sequence: the file
    is an animation first."""

    gray: bool = False
    nclx: tuple[int, int, int] | None = None
    sequence: bool = False


def _boxes(data: bytes, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    while start + 8 <= stop:
        size, name, lead = int.from_bytes(data[start : start + 4]), data[start + 4 : start + 8], 8
        if size == 1:
            size, lead = int.from_bytes(data[start + 8 : start + 16]), 16
        end = stop if size == 0 else min(start + size, stop)
        if end <= start + lead - 1:
            return
        yield name, start + lead, end
        start = end


def _properties(data: bytes, start: int, stop: int) -> Iterator[tuple[bytes, bytes]]:
    for name, first, end in _boxes(data, start, stop):
        if name in NESTED:
            yield from _properties(data, first + NESTED[name], end)
        elif name in (b"av1C", b"colr"):
            yield name, data[first:end]


def read(file: BinaryIO) -> Colour:
    """Colour facts from the `meta` box."""
    file.seek(0)
    data = file.read(MOST)
    found = Colour(sequence=data[8:12] in (b"avis", b"hevc", b"msf1"))
    codings = []
    for name, body in _properties(data, 0, len(data)):
        if name == b"av1C" and len(body) > 2:
            codings.append(bool(body[2] & 0x10))
        elif name == b"colr" and body[:4] == b"nclx" and len(body) >= 10:
            found.nclx = (
                int.from_bytes(body[4:6]),
                int.from_bytes(body[6:8]),
                int.from_bytes(body[8:10]),
            )
    found.gray = bool(codings) and all(codings)
    return found


def load_heif(source: Source, file: BinaryIO, _: int) -> Loaded:
    """An AVIF or a HEIC."""
    facts = read(file)
    image = source.vips("heifload")
    metadata = _vips_metadata(image)
    notes: tuple[str, ...] = ()
    if facts.nclx and not metadata.icc:
        metadata, notes = icc.settle_cicp(replace(metadata, cicp=bytes([facts.nclx[0], facts.nclx[1], 0, 1])))
    if facts.sequence:
        notes += ("an animation in AVIF or HEIC: only its first frame is read",)
    if facts.gray and image.bands > 2:
        image = image[0].bandjoin(image[3]) if image.bands == 4 else image[0]
    bits = metadata.bits
    loaded = from_vips(image, metadata, notes)
    if not 8 < bits < 16:
        return loaded
    return replace(loaded, decode=lambda: _to_full_range(loaded.decode(), bits))


def _to_full_range(pixels: NDArray[Any], bits: int) -> NDArray[Any]:
    """libvips shifts 10 and 12 bits up to 16, which leaves white short of 65,535."""
    top = 2**bits - 1
    table = np.rint(np.arange(top + 1) * (65535 / top)).astype(np.uint16)
    full: NDArray[Any] = table[pixels >> (16 - bits)]
    return full


def _vips_metadata(image: Any) -> Metadata:
    def blob(name: str) -> bytes | None:
        return bytes(image.get(name)) if image.get_typeof(name) else None

    bits = image.get("bits-per-sample") if image.get_typeof("bits-per-sample") else 8
    # irot and imir are the file's word on orientation and already applied: EXIF's must not be applied again
    return Metadata(icc=blob("icc-profile-data"), exif=exif.upright(blob("exif-data")), xmp=blob("xmp-data"), bits=bits)


def save_avif(image: Any, path: Path, coding: Coding, metadata: Metadata) -> tuple[str, ...]:
    """Write an AVIF; returns notes on what it does not hold."""
    notes = without_cicp(metadata) + without_place(metadata, "AVIF")
    metadata = dpi_in_exif(metadata)
    if image.bands < 3 and coding.bits == 8:
        _gray_avif(image, path, coding, metadata)
        return notes
    image = image.copy()
    keep = 0  # what libvips is to keep, as VipsForeignKeep's bits; asked for EXIF, it would make some up
    for bit, field, mark, data in (
        (1, "exif-data", b"Exif\0\0", metadata.exif),
        (2, "xmp-data", b"", metadata.xmp),
        (8, "icc-profile-data", b"", metadata.icc),
    ):
        if data:
            image.set_type(pyvips.GValue.blob_type, field, mark + data)
            keep |= bit
    options = {
        "Q": coding.quality or QUALITY["avif"],
        "lossless": coding.lossless,
        "compression": "av1",
        "bitdepth": coding.bits,
        "subsample_mode": "off",
        "keep": keep,
    }
    interruptibly(image, lambda: image.heifsave(os.fsencode(path), **options))
    return notes


def _gray_avif(image: Any, path: Path, coding: Coding, metadata: Metadata) -> None:
    """Monochrome, by Pillow, since libvips stores gray as RGB."""
    pixels = image.numpy().reshape(image.height, image.width, image.bands)
    picture = Image.fromarray(pixels if image.bands == 2 else pixels[..., 0])
    profiles = {"icc_profile": metadata.icc, "exif": metadata.exif, "xmp": metadata.xmp}
    picture.save(
        path,
        "AVIF",
        quality=100 if coding.lossless else coding.quality or QUALITY["avif"],
        subsampling="4:0:0",
        **{name: data for name, data in profiles.items() if data},
    )

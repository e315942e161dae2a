"""TIFF's tags: metadata out of a page, and into a new file."""

import io
import os
import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO

from liif_cli.containers import ifd
from liif_cli.containers.photoshop import from_iptc, iptc, without_thumbnail
from liif_cli.errors import InputError
from liif_cli.metadata import Metadata

XMP, IPTC, PHOTOSHOP, ICC, LAYERS, DNG = 700, 33723, 34377, 34675, 37724, 50706
X_RESOLUTION, Y_RESOLUTION, UNIT = 282, 283, 296
EXTRA_SAMPLES, SAMPLES, PHOTOMETRIC, FORMAT, BITS = 338, 277, 262, 339, 258
GEOGRAPHY = (33550, 33922, 34264, 34735)
DESCRIPTIVE = (
    269,
    270,
    271,
    272,
    274,
    282,
    283,
    285,
    296,
    305,
    306,
    315,
    316,
    18246,
    18249,
    33432,
    *range(40091, 40096),
)
"""Tags of IFD0 that EXIF shares and that are about the picture, not about how its pixels are stored."""

TEXTS = {"Title": 269, "Description": 270, "Comment": 270, "Software": 305, "Author": 315, "Copyright": 33432}
"""Tags that mean what PNG's keywords do."""


@dataclass(frozen=True)
class Page:
    """What one page's tags say: metadata, pages in the file, bits and format of a sample (1 unsigned, 2 signed, 3
    float), samples a pixel, the kinds of its extra samples (1 premultiplied alpha, 2 alpha, 0 unknown)."""

    metadata: Metadata
    pages: int
    bits: int
    sample_format: int
    samples: int
    photometric: int
    extra: tuple[int, ...]


def read(file: BinaryIO, page: int = 0) -> Page:
    """Tags of a page, counted from 0. InputError when there is no such page or it is a camera's raw file."""
    try:
        reader = ifd.Reader(file)
        pages = reader.pages()
        if page >= len(pages):
            raise InputError(f"there is no page {page + 1}: the file has {len(pages)}")
        tags = reader.directory(pages[page])
    except (ValueError, struct.error, OverflowError) as error:
        raise InputError("the TIFF directory is broken") from error
    if DNG in tags.tags:
        raise InputError("this is a camera's raw file (DNG)", hint="develop it to TIFF, PNG or JPEG first")
    return Page(
        metadata=_metadata(tags),
        pages=len(pages),
        bits=tags.number(BITS, 1),
        sample_format=tags.number(FORMAT, 1),
        samples=tags.number(SAMPLES, 1),
        photometric=tags.number(PHOTOMETRIC, 1),
        extra=tuple(tags.numbers(EXTRA_SAMPLES)),
    )


def _metadata(tags: ifd.Directory) -> Metadata:
    raw = {tag: data for tag, (_, _, data) in tags.tags.items() if tag in (XMP, IPTC, PHOTOSHOP, ICC)}
    blocks = without_thumbnail(raw.get(PHOTOSHOP, b""))
    if IPTC in raw and iptc(blocks) is None:
        blocks += from_iptc(raw[IPTC])
    stale = ["the layers that Photoshop kept in the file"] if LAYERS in tags.tags else []
    if any(tag in tags.tags for tag in GEOGRAPHY):
        stale.append("the georeferencing, which counts in the old pixels")
    bits = tags.number(BITS, 1)
    return Metadata(
        icc=raw.get(ICC), exif=_exif(tags), xmp=raw.get(XMP), photoshop=blocks or None, dpi=_dpi(tags), bits=bits,
        stale=tuple(stale),
    )  # fmt: skip


def _exif(tags: ifd.Directory) -> bytes | None:
    kept = ifd.Directory({tag: tags.tags[tag] for tag in DESCRIPTIVE if tag in tags.tags}, tags.subs)
    said = set(kept.tags) - {X_RESOLUTION, Y_RESOLUTION, UNIT}
    if not kept.subs and not said:
        return None
    return b"II*\0\x08\0\0\0" + ifd.written(kept, 8)


def _dpi(tags: ifd.Directory) -> tuple[float, float] | None:
    x, y, unit = tags.ratio(X_RESOLUTION), tags.ratio(Y_RESOLUTION), tags.number(UNIT, 2)
    if not x or not y or unit not in (2, 3):
        return None
    return (x, y) if unit == 2 else (x * 2.54, y * 2.54)


def dpi_of(exif: bytes | None) -> tuple[float, float] | None:
    """Dots per inch (x, y) that an EXIF blob states, or None."""
    try:
        reader = ifd.Reader(io.BytesIO(exif or b""))
        return _dpi(reader.directory(reader.first))
    except (ValueError, struct.error, OverflowError):
        return None


def exif_with_dpi(dpi: tuple[float, float]) -> bytes:
    """An EXIF blob that says nothing but dots per inch (x, y)."""
    return b"II*\0\x08\0\0\0" + ifd.written(ifd.Directory(_resolution(dpi)), 8)


def add_metadata(file: BinaryIO, metadata: Metadata) -> tuple[str, ...]:
    """Give the first page of a TIFF file, open for reading and writing, the metadata, in a new directory at its end.

    Returns notes on what TIFF does not hold.
    """
    reader = ifd.Reader(file)
    tags = reader.directory(reader.first)
    _add_exif(tags, metadata.exif)
    tags.tags.update(_resolution(metadata.dpi))
    if metadata.icc:
        tags.tags[ICC] = 7, len(metadata.icc), metadata.icc
    if metadata.xmp:
        tags.tags[XMP] = 1, len(metadata.xmp), metadata.xmp
    if metadata.photoshop:
        tags.tags[PHOTOSHOP] = 1, len(metadata.photoshop), metadata.photoshop
        records = iptc(metadata.photoshop)
        if records:
            tags.tags[IPTC] = 7, len(records), records
    lost = _add_text(tags, metadata.text)
    _append(file, tags, reader.big)
    return (f"dropped, as TIFF has no place for it: the text {', '.join(lost)}",) if lost else ()


def _add_exif(tags: ifd.Directory, exif: bytes | None) -> None:
    if not exif:
        return
    source = ifd.Reader(io.BytesIO(exif))
    found = source.directory(source.first)
    for tag in DESCRIPTIVE:
        if tag in found.tags:
            tags.tags[tag] = found.tags[tag]
    tags.subs.update(found.subs)


def _resolution(dpi: tuple[float, float] | None) -> dict[int, tuple[int, int, bytes]]:
    pair = [Fraction(d).limit_denominator(10_000) for d in dpi or (1, 1)]
    x, y = (struct.pack("<II", f.numerator, f.denominator) for f in pair)
    unit = 2 if dpi else 1  # 1: no absolute unit
    return {X_RESOLUTION: (5, 1, x), Y_RESOLUTION: (5, 1, y), UNIT: (3, 1, unit.to_bytes(2, "little"))}


def _append(file: BinaryIO, tags: ifd.Directory, big: bool) -> None:
    end = file.seek(0, os.SEEK_END)
    at = end + -end % 8
    data = ifd.written(tags, at, big=big)
    if not big and at + len(data) >= 2**32:
        raise OverflowError("the directory would lie beyond 4 GiB")
    file.write(bytes(at - end) + data)
    file.seek(8 if big else 4)
    file.write(at.to_bytes(8 if big else 4, "little"))


def _add_text(tags: ifd.Directory, text: tuple[tuple[str, str], ...]) -> list[str]:
    """Put texts into the tags that mean them, where EXIF has not done so; the keywords of those without one."""
    lost = []
    for keyword, value in text:
        tag = TEXTS.get(keyword)
        if tag is None or tag in tags.tags:
            lost.append(keyword)
        else:
            data = value.encode() + b"\0"
            tags.tags[tag] = 2, len(data), data
    return lost

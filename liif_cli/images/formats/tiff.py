"""TIFF's tags: metadata out of a page, and into a new file."""

import io
import os
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from liif_cli.errors import InputError
from liif_cli.images.formats.base import Coding, Format, Holds, Loaded, by_libvips, from_vips, without_cicp
from liif_cli.images.metadata import ifd
from liif_cli.images.metadata.exif import UNIT, X_RESOLUTION, Y_RESOLUTION, dpi_in, resolution
from liif_cli.images.metadata.ifd import Directory, Reader
from liif_cli.images.metadata.photoshop import from_iptc, iptc, without_thumbnail
from liif_cli.images.picture import Metadata
from liif_cli.images.source import Source
from liif_cli.images.vips import interruptibly

XMP, IPTC, PHOTOSHOP, ICC, LAYERS, DNG = 700, 33723, 34377, 34675, 37724, 50706
EXTRA_SAMPLES, SAMPLES, PHOTOMETRIC, SAMPLE_FORMAT, BITS = 338, 277, 262, 339, 258
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
"""Tags of IFD0 that EXIF shares and that are about the image, not about how its pixels are stored."""

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
        reader = Reader(file)
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
        sample_format=tags.number(SAMPLE_FORMAT, 1),
        samples=tags.number(SAMPLES, 1),
        photometric=tags.number(PHOTOMETRIC, 1),
        extra=tuple(tags.numbers(EXTRA_SAMPLES)),
    )


def _metadata(tags: Directory) -> Metadata:
    raw = {tag: data for tag, (_, _, data) in tags.tags.items() if tag in (XMP, IPTC, PHOTOSHOP, ICC)}
    blocks = without_thumbnail(raw.get(PHOTOSHOP, b""))
    if IPTC in raw and iptc(blocks) is None:
        blocks += from_iptc(raw[IPTC])
    stale = ["the layers that Photoshop kept in the file"] if LAYERS in tags.tags else []
    if any(tag in tags.tags for tag in GEOGRAPHY):
        stale.append("the georeferencing, which counts in the old pixels")
    bits = tags.number(BITS, 1)
    return Metadata(
        icc=raw.get(ICC), exif=_exif(tags), xmp=raw.get(XMP), photoshop=blocks or None, dpi=dpi_in(tags), bits=bits,
        stale=tuple(stale),
    )  # fmt: skip


def _exif(tags: Directory) -> bytes | None:
    kept = Directory({tag: tags.tags[tag] for tag in DESCRIPTIVE if tag in tags.tags}, tags.subs)
    said = set(kept.tags) - {X_RESOLUTION, Y_RESOLUTION, UNIT}
    if not kept.subs and not said:
        return None
    return b"II*\0\x08\0\0\0" + ifd.written(kept, 8)


def add_metadata(file: BinaryIO, metadata: Metadata) -> tuple[str, ...]:
    """Give the first page of a TIFF file, open for reading and writing, the metadata, in a new directory at its end.

    Returns notes on what TIFF does not hold.
    """
    reader = Reader(file)
    tags = reader.directory(reader.first)
    _add_exif(tags, metadata.exif)
    tags.tags.update(resolution(metadata.dpi))
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
    return (f"dropped because TIFF has no place for it: the text {', '.join(lost)}",) if lost else ()


def _add_exif(tags: Directory, exif: bytes | None) -> None:
    if not exif:
        return
    source = Reader(io.BytesIO(exif))
    found = source.directory(source.first)
    for tag in DESCRIPTIVE:
        if tag in found.tags:
            tags.tags[tag] = found.tags[tag]
    tags.subs.update(found.subs)


def _append(file: BinaryIO, tags: Directory, big: bool) -> None:
    end = file.seek(0, os.SEEK_END)
    at = end + -end % 8
    data = ifd.written(tags, at, big=big)
    if not big and at + len(data) >= 2**32:
        raise OverflowError("the directory would lie beyond 4 GiB")
    file.write(bytes(at - end) + data)
    file.seek(8 if big else 4)
    file.write(at.to_bytes(8 if big else 4, "little"))


def _add_text(tags: Directory, text: tuple[tuple[str, str], ...]) -> list[str]:
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


CLASSIC_TIFF = 2**32
"""Bytes that offsets of 32 bits reach; a larger TIFF is a BigTIFF."""


def save_tiff(image: Any, path: Path, coding: Coding, metadata: Metadata) -> tuple[str, ...]:
    """Write a TIFF; returns notes on what it does not hold."""
    raw = image.width * image.height * image.bands * (2 if image.format == "ushort" else 1)
    # deflate grows what it cannot shrink, by less than a hundredth
    big = raw * 1.01 + 2**24 > CLASSIC_TIFF
    options = {"compression": "deflate", "predictor": "horizontal", "bigtiff": big, "keep": "none"}
    interruptibly(image, lambda: image.tiffsave(os.fsencode(path), **options), coding.cancelled)
    with path.open("r+b") as file:
        return add_metadata(file, metadata) + without_cicp(metadata)


def load_tiff(source: Source, file: BinaryIO, page: int) -> Loaded:
    """A page of a TIFF; the first is 0."""
    facts = read(file, page)
    image = source.vips("tiffload", page=page)
    notes = []
    if facts.sample_format == 3:
        image = image.copy(interpretation="b-w" if image.bands < 3 else "srgb")
    elif image.format not in ("uchar", "ushort") and image.interpretation not in ("lab", "labs"):
        raise InputError(f"{source.name} holds {facts.bits}-bit integer samples", hint="8, 16 bits and float are read")
    if 1 in facts.extra:  # libvips has divided them already
        notes.append("the colours were divided by the premultiplied alpha")
    elif facts.extra and not any(kind in (1, 2) for kind in facts.extra):
        image = image.extract_band(0, n=facts.samples - len(facts.extra))
        notes.append(f"{len(facts.extra)} extra channels, which are not alpha, were left out")
    return replace(from_vips(image, facts.metadata, tuple(notes)), pages=facts.pages)


FORMAT = Format(
    name="tiff",
    label="TIFF",
    variants="8 and 16 bits, float, CMYK, Lab, strips and tiles, several pages",
    aliases=("tif",),
    suffixes=(".tif", ".tiff"),
    sniff=lambda head: head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    load=load_tiff,
    save=save_tiff,
    depths=(8, 16),
    gray=(8, 16),
    alpha=True,
    pages=True,
    lossless="always",
    streams=True,
    holds=Holds(profile="✓", exif="✓", xmp="✓", iptc="✓", dpi="✓", text="title, author and similar"),
    reads=by_libvips("tiffload"),
    writes=by_libvips("tiffsave"),
)

"""TIFF, read and written by libvips; metadata is read from a page's tags and appended to a new file (TIFF 6.0, BigTIFF)."""

import io
import os
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from liif_cli.errors import InputError
from liif_cli.images.formats.base import (
    Coding,
    Format,
    Holds,
    Loaded,
    by_libvips,
    from_vips,
    pillow_image,
    texts,
    without_cicp,
)
from liif_cli.images.metadata import ifd
from liif_cli.images.metadata.exif import UNIT, X_RESOLUTION, Y_RESOLUTION, dpi_in, resolution
from liif_cli.images.metadata.ifd import Directory, Reader
from liif_cli.images.metadata.photoshop import from_iptc, iptc, without_thumbnail
from liif_cli.images.picture import Metadata
from liif_cli.images.source import Source, libvips
from liif_cli.images.vips import interruptibly

XMP, IPTC, PHOTOSHOP, ICC, LAYERS, DNG = 700, 33723, 34377, 34675, 37724, 50706
COMPRESSION, PLANAR, TILE_OFFSETS, TILE_COUNTS, SUB_IFDS, OLD_JPEG = 259, 284, 324, 325, 330, 6
SENSOR = (32803, 34892)
"""Photometric interpretations of raw sensor data: a colour filter array, and linear raw."""
EXTRA_SAMPLES, SAMPLES, PHOTOMETRIC, SAMPLE_FORMAT, BITS = 338, 277, 262, 339, 258
GEOGRAPHY = (33550, 33922, 34264, 34735, 42112, 42113)
"""GeoTIFF's pixel scale, tie points, transformation and keys; GDAL's metadata and no-data value."""
DESCRIPTION, MICROSCOPE = 270, (33628, 33629, 34412, 50838, 50839, 51123)
CALIBRATION = (DESCRIPTION, X_RESOLUTION, Y_RESOLUTION, UNIT)
"""Tags in which ImageJ and OME store the physical pixel size, which is not a print resolution."""
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
"""Tags that IFD0 of EXIF also has, and that describe the image, not how its pixels are stored."""

WANTED = frozenset(
    {XMP, IPTC, PHOTOSHOP, ICC, LAYERS, DNG, *GEOGRAPHY, *MICROSCOPE, *DESCRIPTIVE}
    | {COMPRESSION, PLANAR, TILE_OFFSETS, SUB_IFDS, EXTRA_SAMPLES, SAMPLES, PHOTOMETRIC, SAMPLE_FORMAT, BITS}
)
"""The tags whose values are read."""

TEXTS = {"Title": 269, "Description": 270, "Comment": 270, "Software": 305, "Author": 315, "Copyright": 33432}
"""The tags that correspond to PNG's text keywords."""


@dataclass(frozen=True)
class Page:
    """The tags of one page.

    pages: the number of pages in the file. bits: per sample. sample_format: 1 unsigned, 2 signed, 3 float. samples: per pixel.
    photometric: the photometric interpretation. extra: the kind of each extra sample (1 premultiplied alpha, 2 alpha,
    0 unknown). planar: whether each sample has a plane of its own. tiled: whether the page is stored in tiles.
    """

    metadata: Metadata
    pages: int
    bits: int
    sample_format: int
    samples: int
    photometric: int
    extra: tuple[int, ...]
    planar: bool = False
    tiled: bool = False


def read(file: BinaryIO, page: int = 0) -> Page:
    """The tags of a page, counted from 0.

    Raises InputError if there is no such page, if the directory is broken, for old-style JPEG and for a camera's raw file.
    """
    try:
        reader = Reader(file, WANTED)
        pages = reader.pages()
        if page >= len(pages):
            raise InputError(f"there is no page {page + 1}: the file has {len(pages)}")
        tags = reader.directory(pages[page])
    except (ValueError, struct.error, OverflowError) as error:
        raise InputError("the TIFF directory is broken") from error
    _refuse_raw(reader, tags, pages[0])
    if tags.number(COMPRESSION, 1) == OLD_JPEG:
        raise InputError("old-style JPEG compression is not supported", hint="convert it to another compression first")
    return Page(
        metadata=_metadata(tags),
        pages=len(pages),
        bits=tags.number(BITS, 1),
        sample_format=tags.number(SAMPLE_FORMAT, 1),
        samples=tags.number(SAMPLES, 1),
        photometric=tags.number(PHOTOMETRIC, 1),
        extra=tuple(tags.numbers(EXTRA_SAMPLES)[:64]),
        planar=tags.number(PLANAR, 1) == 2 and tags.number(SAMPLES, 1) > 1,
        tiled=TILE_OFFSETS in tags.tags,
    )


def _refuse_raw(reader: Reader, tags: Directory, first: int) -> None:
    """Raises InputError for a camera's raw file, whose first page is only a preview of the sensor data."""
    name = "DNG" if DNG in tags.tags else None
    reader.file.seek(8)
    if not reader.big and reader.file.read(2) == b"CR":
        name = "CR2"
    for at in [first, *tags.numbers(SUB_IFDS)[:16]]:
        try:
            inner = Reader(reader.file, (PHOTOMETRIC,)).directory(at)
        except (ValueError, struct.error, OverflowError, OSError):
            continue
        if inner.number(PHOTOMETRIC, 0) in SENSOR:
            name = name or "NEF, ARW or similar"
    if name:
        raise InputError(f"this is a camera's raw file ({name})", hint="develop it to TIFF, PNG or JPEG first")


def _is_calibrated(tags: Directory) -> bool:
    """Whether microscope software has stored a physical pixel size: in the description (ImageJ's hyperstack format, OME-TIFF
    specification 6) or in tags of Zeiss (LSM), MetaMorph, ImageJ or Micro-Manager."""
    _, _, description = tags.tags.get(DESCRIPTION, (0, 0, b""))
    return (
        b"ImageJ=" in description[:64] or b"<OME" in description[:1024] or any(tag in tags.tags for tag in MICROSCOPE)
    )


def _metadata(tags: Directory) -> Metadata:
    raw = {tag: data for tag, (_, _, data) in tags.tags.items() if tag in (XMP, IPTC, PHOTOSHOP, ICC)}
    blocks = without_thumbnail(raw.get(PHOTOSHOP, b""))
    if IPTC in raw and iptc(blocks) is None:
        blocks += from_iptc(raw[IPTC])
    stale = ["the Photoshop layers"] if LAYERS in tags.tags else []
    if any(tag in tags.tags for tag in GEOGRAPHY):
        stale.append("the georeferencing")
    if _is_calibrated(tags):
        stale.append("the microscope's calibration and description")
        tags = replace(tags, tags={tag: value for tag, value in tags.tags.items() if tag not in CALIBRATION})
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
    """Add metadata to the first page of a TIFF file, in a new directory at the end of the file.

    file: open for reading and writing. Returns notes on metadata that TIFF cannot store. Raises OverflowError if the directory
    would lie beyond 4 GiB in a classic TIFF.
    """
    reader = Reader(file)
    tags = reader.directory(reader.first)
    notes: tuple[str, ...] = () if _add_exif(tags, metadata.exif) else ("dropped EXIF: it is broken",)
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
    if lost:
        notes += (f"dropped {texts(lost)}: not supported by TIFF",)
    return notes


def _add_exif(tags: Directory, exif: bytes | None) -> bool:
    """Add the descriptive tags and sub-directories of an EXIF blob. Returns False if the blob is broken."""
    if not exif:
        return True
    try:
        source = Reader(io.BytesIO(exif))
        found = source.directory(source.first)
    except (ValueError, struct.error, OverflowError):
        return False
    for tag in DESCRIPTIVE:
        if tag in found.tags:
            tags.tags[tag] = found.tags[tag]
    tags.subs.update(found.subs)
    return True


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
    """Add texts as the corresponding tags, unless EXIF has set them. Returns the keywords of the texts that have no tag."""
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
"""The size in bytes from which a TIFF must be a BigTIFF, because 32-bit offsets do not reach further."""


def save_tiff(image: Any, path: Path, coding: Coding, metadata: Metadata) -> tuple[str, ...]:
    """Write a TIFF; returns notes on metadata that it cannot store."""
    raw = image.width * image.height * image.bands * (2 if image.format == "ushort" else 1)
    # deflate can enlarge incompressible data, by less than 1%
    big = raw * 1.01 + 2**24 > CLASSIC_TIFF
    options = {"compression": "deflate", "predictor": "horizontal", "bigtiff": big, "keep": "none"}
    interruptibly(image, lambda: image.tiffsave(os.fsencode(path), **options), coding.cancelled)
    with path.open("r+b") as file:
        return add_metadata(file, metadata) + without_cicp(metadata)


LAB = 8
"""The photometric interpretation of CIELab with signed a* and b*."""
READ_SAMPLES = "supported are integers of 1 to 8 and of 16 bits, and floats of 16 and 32 bits"


def _with_alpha(image: Any, facts: Page, notes: list[str]) -> Any:
    """The colours and the first extra sample that is alpha, if any. Other extra samples are dropped, with a note."""
    colours = facts.samples - len(facts.extra)
    if colours < 1:
        return image
    kind, at = next(((kind, at) for at, kind in enumerate(facts.extra) if kind in (1, 2)), (0, 0))
    if len(facts.extra) > (kind > 0):
        notes.append(f"{len(facts.extra) - (kind > 0)} extra channels, which are not alpha, were left out")
        inks = image.extract_band(0, n=colours)
        image = _as_colours(inks.bandjoin(image[colours + at]) if kind else inks, colours)
        if kind == 1 and facts.extra[0] != 1:  # libvips unpremultiplies only if alpha is the first extra sample
            image = image.unpremultiply(max_alpha=65535 if image.format == "ushort" else 255).cast(image.format)
    if kind == 1:
        notes.append("the colours were divided by the premultiplied alpha")
    return image


def _lab(source: Source, facts: Page, page: int) -> Loaded:
    """An 8-bit CIELab page. Pillow reads the bytes, because libvips would interpret them as an encoding of its own."""
    with source.open() as file, pillow_image("TIFF", file) as image:
        image.seek(page)
        if image.mode != "LAB":
            raise InputError(
                f"{source.name} holds Lab with {facts.samples} samples per pixel", hint="three are supported"
            )
        width, height = image.size

    def decode() -> Any:
        import numpy as np

        with source.open() as again, pillow_image("TIFF", again) as image:
            image.seek(page)
            stored = np.array(image)
        lab = np.dstack([stored[..., 0] * np.float32(100 / 255), stored[..., 1:].view(np.int8).astype(np.float32)])
        return libvips().new_from_array(lab).copy(interpretation="lab").colourspace("srgb").numpy()

    metadata = replace(facts.metadata, icc=None, bits=8)
    return Loaded(width, height, 3, metadata, decode, ("Lab was converted to sRGB",), pages=facts.pages)


PLANE = (256, 257, 259, 266, 317, 322, 323)
"""Tags that every plane shares with its page: size, compression, bit order, predictor and tile size."""


def _planes(source: Source, file: BinaryIO, page: int) -> Any:
    """A tiled page with planar samples, which libvips refuses: each plane is opened as an image of one band, then joined.

    Raises InputError for a BigTIFF, and unless there are 2 to 5 planes with consistent tile tables.
    """
    reader = Reader(file)
    tags = reader.directory(reader.pages()[page])
    samples, offsets, counts = tags.number(SAMPLES, 1), tags.numbers(TILE_OFFSETS), tags.numbers(TILE_COUNTS)
    if reader.big or not 2 <= samples <= 5 or len(offsets) != len(counts) or len(offsets) % samples:
        raise InputError(f"{source.name} holds its samples in planes of tiles", hint="store it in strips first")
    file.seek(0)
    data = file.read()
    step = len(offsets) // samples
    bands = []
    for at in range(0, len(offsets), step):
        facts = {tag: tags.numbers(tag) for tag in PLANE if tag in tags.tags}
        facts |= {BITS: [tags.number(BITS, 1)], PHOTOMETRIC: [1], SAMPLES: [1]}
        facts |= {SAMPLE_FORMAT: [tags.number(SAMPLE_FORMAT, 1)]}
        facts |= {TILE_OFFSETS: offsets[at : at + step], TILE_COUNTS: counts[at : at + step]}
        bands.append(Source(_with_directory(data, reader.order, facts)).vips("tiffload"))
    colours = samples - len(tags.numbers(EXTRA_SAMPLES))
    return _as_colours(bands[0].bandjoin(bands[1:]), colours)


def _with_directory(data: bytes, order: str, facts: dict[int, list[int]]) -> bytes:
    """The TIFF file with its directories replaced by a single one, which has the tags `facts`."""
    at = len(data) + len(data) % 2
    tail = at + 2 + 12 * len(facts) + 4
    entries, values = struct.pack(order + "H", len(facts)), b""
    for tag, numbers in sorted(facts.items()):
        packed = struct.pack(f"{order}{len(numbers)}I", *numbers)
        short = tag in (BITS, PHOTOMETRIC, SAMPLES, SAMPLE_FORMAT, COMPRESSION)
        place = struct.pack(order + "HH", numbers[0], 0) if short else packed
        if len(packed) > 4:
            place, values = struct.pack(order + "I", tail + len(values)), values + packed
        entries += struct.pack(order + "HHI", tag, 3 if short else 4, len(numbers)) + place
    head = data[:4] + struct.pack(order + "I", at)
    return head + data[8:].ljust(at - 8, b"\0") + entries + bytes(4) + values


def _as_colours(image: Any, colours: int) -> Any:
    deep = image.format == "ushort"
    names = {1: ("b-w", "grey16"), 3: ("srgb", "rgb16")}.get(colours)
    return image.copy(interpretation=names[deep]) if names else image


def load_tiff(source: Source, file: BinaryIO, page: int) -> Loaded:
    """A page of a TIFF, counted from 0. Raises InputError if there is no such page or its samples are not supported."""
    facts = read(file, page)
    if facts.sample_format == 3 and facts.bits > 32:
        raise InputError(f"{source.name} holds {facts.bits}-bit float samples", hint=READ_SAMPLES)
    if facts.photometric == LAB and facts.bits == 8:
        return _lab(source, facts, page)
    if facts.bits not in (1, 2, 4, 8, 16, 32):
        raise InputError(f"{source.name} holds {facts.bits}-bit integer samples", hint=READ_SAMPLES)
    image = _planes(source, file, page) if facts.planar and facts.tiled else source.vips("tiffload", page=page)
    notes: list[str] = []
    if facts.sample_format == 3:
        image = image.copy(interpretation="b-w" if image.bands < 3 else "srgb")
    elif image.format not in ("uchar", "ushort") and image.interpretation not in ("lab", "labs"):
        signed = "signed " if facts.sample_format == 2 else ""
        raise InputError(f"{source.name} holds {signed}{facts.bits}-bit integer samples", hint=READ_SAMPLES)
    if facts.extra and image.bands == facts.samples:
        image = _with_alpha(image, facts, notes)
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

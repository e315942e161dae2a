"""JPEG, read and written by libvips; metadata is read from marker segments and written as the first segments of a new file.

ITU-T T.81 annex B; JFIF 1.02; EXIF in APP1, XMP in APP1, ICC in APP2 (ICC.1 annex B.4), Photoshop blocks in APP13.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from liif_cli.errors import InputError
from liif_cli.images.formats.base import (
    Coding,
    Format,
    Holds,
    Loaded,
    by_libvips,
    decodable,
    from_vips,
    pyvips_error,
    texts,
    without_cicp,
)
from liif_cli.images.formats.compression import jpeg_quality, quantisation_tables
from liif_cli.images.metadata import xmp
from liif_cli.images.metadata.exif import bare
from liif_cli.images.metadata.photoshop import without_thumbnail
from liif_cli.images.picture import Metadata
from liif_cli.images.source import Source
from liif_cli.images.vips import spliced

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXIF = b"Exif\0\0"
XMP = b"http://ns.adobe.com/xap/1.0/\0"
EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/\0"
ICC = b"ICC_PROFILE\0"
PHOTOSHOP = b"Photoshop 3.0\0"
GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1\0"
MPF = b"MPF\0"
FLIR = b"FLIR\0"
APP0, APP1, APP2, APP11, APP13, COM, DQT, SOS = 0xE0, 0xE1, 0xE2, 0xEB, 0xED, 0xFE, 0xDB, 0xDA
SOI, EOI = 0xD8, 0xD9
PADDING = 64
"""Bytes after the end marker that are treated as padding: some cameras write them."""
ROOM = 65_533
"""The largest payload of a segment, in bytes."""


def segments(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """(marker, payload) of each intact segment before the first scan."""
    file.seek(2)
    while True:
        lead = file.read(2)
        while lead[1:] == b"\xff":  # fill bytes
            lead = lead[1:] + file.read(1)
        if len(lead) < 2 or lead[0] != 0xFF or lead[1] in (SOS, 0xD9):
            return
        size = int.from_bytes(file.read(2))
        payload = file.read(max(0, size - 2))
        if size < 2 or len(payload) != size - 2:
            return
        yield lead[1], payload


def read(file: BinaryIO) -> Metadata:
    """The metadata in the segments before the first scan."""
    found: dict[str, bytes] = {}
    blocks: list[bytes] = []
    profile: dict[int, bytes] = {}
    tables: dict[int, list[int]] = {}
    dpi = None
    text: list[tuple[str, str]] = []
    for marker, data in segments(file):
        if marker == APP0 and data.startswith(b"JFIF\0") and len(data) >= 12:
            dpi = _density(data)
        elif marker == APP1 and data.startswith(EXIF):
            found.setdefault("exif", bare(data))
        elif marker == APP1 and data.startswith(XMP):
            found.setdefault("xmp", data[len(XMP) :])
        elif marker == APP1 and data.startswith(EXTENDED_XMP):
            found["extended"] = b"1"
        elif marker == APP2 and data.startswith(ICC) and len(data) > len(ICC) + 2:
            profile[data[len(ICC)]] = data[len(ICC) + 2 :]
        elif marker == APP2 and data.startswith((GAIN_MAP, MPF)):
            found["gain" if data.startswith(GAIN_MAP) else "mpf"] = b"1"
        elif marker == APP11 and b"jumb" in data[:32]:
            found["c2pa"] = b"1"
        elif marker == APP1 and data.startswith(FLIR):
            found["flir"] = b"1"
        elif marker == APP13 and data.startswith(PHOTOSHOP):
            blocks.append(data[len(PHOTOSHOP) :])
        elif marker == COM:
            text.append(("Comment", _decoded(data)))
        elif marker == DQT:
            tables.update(quantisation_tables(data))
    icc = b"".join(profile[number] for number in sorted(profile)) or None
    return Metadata(
        icc=icc,
        exif=found.get("exif"),
        xmp=found.get("xmp"),
        photoshop=without_thumbnail(b"".join(blocks)) or None,
        dpi=dpi,
        text=tuple(text),
        stale=_stale(found),
        quality=jpeg_quality(tables.get(0, [])),  # encoders use table 0 for luma
    )


def _stale(found: dict[str, bytes]) -> tuple[str, ...]:
    stale = []
    if "gain" in found or xmp.has_gain_map(found.get("xmp")):
        stale.append("the Ultra HDR gain map")
    elif "mpf" in found:
        stale.append("the other images in the file (MPF)")
    if "extended" in found:
        stale.append("the extended XMP packet (depth maps and other embedded images)")
    if "c2pa" in found:
        stale.append(xmp.CREDENTIALS)
    if "flir" in found:
        stale.append("the camera's thermal data (FLIR)")
    return tuple(stale)


def _density(data: bytes) -> tuple[float, float] | None:
    unit, x, y = data[7], int.from_bytes(data[8:10]), int.from_bytes(data[10:12])
    if unit not in (1, 2) or not x or not y:
        return None
    return (x, y) if unit == 1 else (x * 2.54, y * 2.54)


def _decoded(data: bytes) -> str:
    data = data.rstrip(b"\0")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def head(metadata: Metadata) -> tuple[bytes, tuple[str, ...]]:
    """The bytes of a new JPEG file before its tables (SOI, JFIF and metadata), and notes on metadata that JPEG cannot store."""
    notes = []
    parts = [b"\xff\xd8", _segment(APP0, b"JFIF\0\1\1" + _jfif_density(metadata.dpi) + b"\0\0")]
    for what, marker, name, data in (
        ("EXIF", APP1, EXIF, metadata.exif),
        ("XMP", APP1, XMP, metadata.xmp),
        ("IPTC", APP13, PHOTOSHOP, metadata.photoshop),
    ):
        if data and len(name + data) <= ROOM:
            parts.append(_segment(marker, name + data))
        elif data:
            notes.append(f"dropped {what}: JPEG holds at most 64 kB of it")
    parts += _profile_segments(metadata.icc or b"")
    parts += [_segment(COM, text.encode()[:ROOM]) for keyword, text in metadata.text if keyword == "Comment"]
    others = [keyword for keyword, _ in metadata.text if keyword != "Comment"]
    if others:
        notes.append(f"dropped {texts(others)}: not supported by JPEG")
    return b"".join(parts), tuple(notes)


def _jfif_density(dpi: tuple[float, float] | None) -> bytes:
    if dpi is None or not all(1 <= round(d) <= 65535 for d in dpi):
        return b"\0\0\1\0\1"
    return b"\1" + round(dpi[0]).to_bytes(2) + round(dpi[1]).to_bytes(2)


def _segment(marker: int, payload: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(payload) + 2).to_bytes(2) + payload


def _profile_segments(icc: bytes) -> list[bytes]:
    room = ROOM - len(ICC) - 2
    parts = [icc[i : i + room] for i in range(0, len(icc), room)]
    return [_segment(APP2, ICC + bytes([i, len(parts)]) + part) for i, part in enumerate(parts, 1)]


def own_head(data: bytes) -> int | None:
    """The number of bytes that SOI and the APPn segments take in a JPEG file; None if `data` ends before they do."""
    at = 2
    while len(data) >= at + 4:
        if not 0xE0 <= data[at + 1] <= 0xEF:
            return at
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return None


OPTIMIZED = 4_000_000
"""JPEGs up to this many pixels get optimal Huffman tables, for which libjpeg holds all coefficients in memory."""


def save_jpeg(image: Any, path: Path, coding: Coding, metadata: Metadata) -> tuple[str, ...]:
    """Write a JPEG; returns notes on metadata that it cannot store."""
    metadata_segments, notes = head(metadata)

    def own(first: bytes) -> bytes | None:
        end = own_head(first)
        return None if end is None else metadata_segments + first[end:]

    options = {
        "Q": coding.quality or FORMAT.quality,
        "subsample_mode": "off",
        "optimize_coding": image.width * image.height <= OPTIMIZED,
        "keep": "none",
    }
    spliced(image, path, own, lambda target: image.jpegsave_target(target, **options), coding.cancelled)
    return notes + without_cicp(metadata)


_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
"""A marker inside or after a scan: not a stuffed 0xFF, not a restart marker."""


def end(file: BinaryIO) -> tuple[int | None, int]:
    """The offset after the first EOI (None if there is none) and the file's size in bytes. Reads the file once."""
    file.seek(0)
    data = file.read()
    at = 2
    while found := _MARKER.search(data, at):
        at = found.end()
        marker = found[1][0]
        if marker == EOI:
            return at, len(data)
        if marker not in (SOI, 1):
            at += int.from_bytes(data[at : at + 2])
    return None, len(data)


def load_jpeg(source: Source, file: BinaryIO, _: int) -> Loaded:
    """A JPEG. A file that lacks only its end marker, or that the decoder can recover, is read with a note.

    `decode` raises InputError if rows are missing.
    """
    metadata = read(file)
    stop, size = end(file)
    sound = decodable(source, metadata.exif)
    notes: tuple[str, ...] = ()
    if stop is None:
        with sound.open() as whole:
            sound = Source(whole.read() + b"\xff\xd9")
        notes = ("the file has no end marker",)
    elif size - stop > PADDING:
        behind = f"{size - stop:,} bytes after the image (a motion photo's video, or other images)"
        metadata = replace(metadata, stale=(*metadata.stale, behind))
    loaded = from_vips(sound.vips("jpegload", fail_on="none"), metadata, notes)
    return replace(loaded, decode=lambda: _pixels(source, sound, loaded, cut=stop is None))


def _pixels(source: Source, sound: Source, loaded: Loaded, *, cut: bool) -> "NDArray[Any]":
    """The pixels, with a note if the decoder warned. InputError if rows are missing."""
    try:
        return from_vips(sound.vips("jpegload", fail_on="warning"), loaded.metadata).decode()
    except pyvips_error() as error:
        if cut:
            raise InputError(f"{source.name}: the file ends early", hint="copy or fetch the file again") from error
    loaded.late.append("the JPEG is damaged in places: the decoder recovered what it could")
    return from_vips(sound.vips("jpegload", fail_on="truncated"), loaded.metadata).decode()


FORMAT = Format(
    name="jpeg",
    label="JPEG",
    variants="grayscale, RGB, CMYK, progressive",
    aliases=("jpg",),
    suffixes=(".jpg", ".jpeg", ".jpe", ".jfif"),
    sniff=lambda head: head.startswith(b"\xff\xd8\xff"),
    load=load_jpeg,
    save=save_jpeg,
    gray=(8,),
    quality=95,
    max_side=65_500,  # the limit of libjpeg; the format itself allows 65,535
    streams=True,
    holds=Holds(profile="✓", exif="✓ up to 64 kB", xmp="✓ up to 64 kB", iptc="✓", dpi="✓", text="the comment"),
    reads=by_libvips("jpegload"),
    writes=by_libvips("jpegsave"),
)

"""EXIF blobs: reads the orientation and the resolution, and patches the tags that are wrong after a change of size.

A blob is the TIFF structure alone, without the `Exif\\0\\0` that some containers put before it. Patching in place keeps every
other byte at its offset, so that maker notes, whose internal offsets are undocumented, remain readable.
Tags as in "Exif Version 3.0" (CIPA DC-008-2023), tables 3 to 7.
"""

import io
import struct
from collections.abc import Container
from dataclasses import dataclass
from fractions import Fraction

from liif_cli.images.metadata import ifd
from liif_cli.images.metadata.ifd import SIZE, SUB_DIRECTORIES, Directory, Reader

ORIENTATION = 0x0112
EXIF_IFD = 0x8769
WIDTH_TAGS = (0x0100, 0xA002)  # ImageWidth, PixelXDimension
HEIGHT_TAGS = (0x0101, 0xA003)  # ImageLength, PixelYDimension
STALE_TAGS = (0x9214, 0xA214)  # SubjectArea, SubjectLocation: in pixels of the original image
GPS_IFD = 0x8825
PRIVATE_TAGS = (GPS_IFD, 0x927C, 0xA430, 0xA431, 0xA435, 0xC62F)
"""GPS, maker notes (which contain serial numbers), the owner's name, and the serial numbers of body, lens and DNG camera."""
THUMBNAIL_OFFSET, THUMBNAIL_LENGTH = 0x0201, 0x0202


@dataclass(frozen=True)
class _Entry:
    """An IFD entry. at: its offset in the blob. kind: its TIFF type. value: a single SHORT or LONG, otherwise an offset."""

    at: int
    tag: int
    kind: int
    count: int
    value: int


class _Blob:
    """A mutable blob and its byte order. Reading beyond the end raises struct.error."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        self.order = {b"II": "<", b"MM": ">"}[bytes(data[:2])]

    def get(self, form: str, at: int) -> int:
        return int(struct.unpack_from(self.order + form, self.data, at)[0])

    def put(self, form: str, at: int, value: int) -> None:
        struct.pack_into(self.order + form, self.data, at, value)

    def entries(self, ifd: int) -> list[_Entry]:
        found = []
        for at in range(ifd + 2, ifd + 2 + 12 * self.get("H", ifd), 12):
            kind = self.get("H", at + 2)
            value = self.get("H", at + 8) if kind == 3 else self.get("I", at + 8)
            found.append(_Entry(at, self.get("H", at), kind, self.get("I", at + 4), value))
        return found

    def next_pointer(self, ifd: int) -> int:
        return ifd + 2 + 12 * self.get("H", ifd)


def bare(exif: bytes) -> bytes:
    """The blob without the prefix `Exif\\0\\0`, if it has one."""
    return exif[6:] if exif[:6] == b"Exif\0\0" else exif


def orientation(exif: bytes | None) -> int | None:
    """The Orientation in IFD0, 1 to 8; None if there is none or the blob is broken."""
    try:
        blob = _Blob(exif or b"")
        found = [e.value for e in blob.entries(blob.get("I", 4)) if e.tag == ORIENTATION]
    except (KeyError, struct.error):
        return None
    return found[0] if found and 1 <= found[0] <= 8 else None


def upright(exif: bytes | None) -> bytes | None:
    """The blob, without prefix, with Orientation 1: for containers that define the orientation themselves. None stays None.

    A broken blob is returned without other changes.
    """
    if not exif:
        return None
    data = bare(exif)
    try:
        blob = _Blob(data)
        for entry in blob.entries(blob.get("I", 4)):
            if entry.tag == ORIENTATION:
                blob.put("H", entry.at + 8, 1)
    except (KeyError, struct.error):
        return data
    return bytes(blob.data)


CROWD = 2000
"""More entries than this are not from a camera, whose EXIF has a few hundred."""


def is_crowded(exif: bytes | None) -> bool:
    """Whether a parser that follows every pointer would read more than `CROWD` entries. False for a broken blob."""
    try:
        blob = _Blob(exif or b"")
        waiting, seen = [(blob.get("I", 4), 0)], 0
        while waiting and seen <= CROWD:
            ifd, depth = waiting.pop()
            seen += 1 + blob.get("H", ifd)
            if seen <= CROWD and depth < 3:
                waiting += [(e.value, depth + 1) for e in blob.entries(ifd) if e.tag in SUB_DIRECTORIES]
    except (KeyError, struct.error):
        return False
    return seen > CROWD


def updated(exif: bytes, width: int, height: int) -> tuple[bytes | None, bool]:
    """The blob for an upright image of width x height pixels, and whether a thumbnail was removed.

    The orientation becomes 1 and the pixel dimensions are updated. Tags in units of the original pixels and IFD1, with its
    thumbnail, are removed. Returns (None, False) for a broken blob.
    """
    try:
        blob = _Blob(exif)
        first = blob.get("I", 4)
        dropped = _cut_thumbnail(blob, first)
        pointers = [e.value for e in blob.entries(first) if e.tag == EXIF_IFD][:1]  # only one is valid
        for ifd in dict.fromkeys([first, *pointers]):
            _remove(blob, ifd, STALE_TAGS)
            for entry in blob.entries(ifd):
                _update(blob, entry, width, height)
    except (KeyError, struct.error):
        return None, False
    return bytes(blob.data), dropped


def without_location(exif: bytes) -> bytes | None:
    """The blob without GPS data, serial numbers, the owner's name and maker notes; None if it is broken.

    Their entries are removed and their bytes are zeroed.
    """
    try:
        blob = _Blob(exif)
        first = blob.get("I", 4)
        private: list[Span] = []
        kept: list[Span] = [(0, 8)]
        for directory in dict.fromkeys([first, *[e.value for e in blob.entries(first) if e.tag == EXIF_IFD][:1]]):
            entries = [e for e in blob.entries(directory) if e.tag in PRIVATE_TAGS]
            private += _values(entries)
            for gps in [e.value for e in entries if e.tag == GPS_IFD][:1]:
                private += _occupied(blob, gps, blob.entries(gps))
            kept.append((directory, blob.next_pointer(directory) + 4))
            _remove(blob, directory, PRIVATE_TAGS)
        for start, stop in _without(_merged(private, len(blob.data)), _merged(kept, len(blob.data))):
            blob.data[start:stop] = bytes(stop - start)
    except (KeyError, struct.error):
        return None
    return bytes(blob.data)


def _remove(blob: _Blob, directory: int, tags: Container[int]) -> None:
    """Remove the entries with the given tags from a directory; the entries after them move up."""
    entries = blob.entries(directory)
    kept = [entry for entry in entries if entry.tag not in tags]
    start, end = directory + 2, blob.next_pointer(directory) + 4
    raw = b"".join(bytes(blob.data[entry.at : entry.at + 12]) for entry in kept)
    pointer = bytes(blob.data[end - 4 : end])
    blob.data[start:end] = (raw + pointer).ljust(end - start, b"\0")
    blob.put("H", directory, len(kept))


def _update(blob: _Blob, entry: _Entry, width: int, height: int) -> None:
    if entry.tag == ORIENTATION:
        blob.put("H", entry.at + 8, 1)
    elif entry.tag in WIDTH_TAGS + HEIGHT_TAGS and entry.kind in (3, 4):
        blob.put("H", entry.at + 2, 4)
        blob.put("I", entry.at + 8, width if entry.tag in WIDTH_TAGS else height)


Span = tuple[int, int]


def _cut_thumbnail(blob: _Blob, first: int) -> bool:
    """Zero IFD1 and its thumbnail, except bytes that other directories use, or cut them off if they end the blob.

    Returns whether there was a thumbnail.
    """
    pointer = blob.next_pointer(first)
    second = blob.get("I", pointer)
    blob.put("I", pointer, 0)
    if second == 0:
        return False
    try:
        entries = blob.entries(second)
    except struct.error:  # the pointer is invalid, so there is no thumbnail
        return False
    values = {e.tag: e.value for e in entries}
    spans = _occupied(blob, second, entries)
    if THUMBNAIL_OFFSET in values and THUMBNAIL_LENGTH in values:
        spans.append((values[THUMBNAIL_OFFSET], values[THUMBNAIL_OFFSET] + values[THUMBNAIL_LENGTH]))
    for start, stop in reversed(_without(_merged(spans, len(blob.data)), _merged(_used(blob, first), len(blob.data)))):
        blob.data[start:stop] = bytes(stop - start) if stop < len(blob.data) else b""
    return THUMBNAIL_OFFSET in values


def _occupied(blob: _Blob, ifd: int, entries: list[_Entry]) -> list[Span]:
    """The spans of a directory and its values."""
    return [(ifd, blob.next_pointer(ifd) + 4), *_values(entries)]


def _values(entries: list[_Entry]) -> list[Span]:
    """The spans of the values that are stored outside their entries."""
    sized = [(entry.value, SIZE.get(entry.kind, 1) * entry.count) for entry in entries]
    return [(start, start + size) for start, size in sized if size > 4]


def _used(blob: _Blob, first: int) -> list[Span]:
    """The spans of the header, of IFD0 and of its sub-directories."""
    spans, waiting, seen = [(0, 8)], [first], {0}
    while waiting and len(seen) < 10:
        ifd = waiting.pop()
        if ifd in seen:
            continue
        seen.add(ifd)
        try:
            entries = blob.entries(ifd)
        except struct.error:
            continue
        spans += _occupied(blob, ifd, entries)
        waiting += list({e.tag: e.value for e in entries if e.tag in SUB_DIRECTORIES}.values())
    return spans


def _merged(spans: list[Span], size: int) -> list[Span]:
    """The spans sorted, limited to `size` bytes; spans that touch or overlap are joined."""
    merged: list[Span] = []
    for start, stop in sorted((start, min(stop, size)) for start, stop in spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(stop, merged[-1][1])
        elif start < stop:
            merged.append((start, stop))
    return merged


def _without(spans: list[Span], kept: list[Span]) -> list[Span]:
    """The parts of `spans` that lie in none of `kept`; both as returned by `_merged`."""
    left: list[Span] = []
    at = 0
    for start, stop in spans:
        while at < len(kept) and kept[at][1] <= start:
            at += 1
        inner = at
        while inner < len(kept) and kept[inner][0] < stop:
            if start < kept[inner][0]:
                left.append((start, kept[inner][0]))
            start = max(start, kept[inner][1])
            inner += 1
        at = max(at, inner - 1)
        if start < stop:
            left.append((start, stop))
    return left


X_RESOLUTION, Y_RESOLUTION, UNIT = 282, 283, 296


def dpi_in(tags: Directory) -> tuple[float, float] | None:
    """The resolution (x, y) in a directory, in dots per inch, or None."""
    x, y, unit = tags.ratio(X_RESOLUTION), tags.ratio(Y_RESOLUTION), tags.number(UNIT, 2)
    if not x or not y or unit not in (2, 3):
        return None
    return (x, y) if unit == 2 else (x * 2.54, y * 2.54)


def dpi_of(exif: bytes | None) -> tuple[float, float] | None:
    """The resolution (x, y) in an EXIF blob, in dots per inch; None if there is none or the blob is broken."""
    try:
        reader = Reader(io.BytesIO(exif or b""), wanted=(X_RESOLUTION, Y_RESOLUTION, UNIT))
        return dpi_in(reader.directory(reader.first))
    except (ValueError, struct.error, OverflowError):
        return None


def exif_with_dpi(dpi: tuple[float, float]) -> bytes:
    """An EXIF blob that contains only a resolution (x, y) in dots per inch."""
    return b"II*\0\x08\0\0\0" + ifd.written(Directory(resolution(dpi)), 8)


def with_dpi(exif: bytes, dpi: tuple[float, float]) -> bytes:
    """The blob with a resolution (x, y) in dots per inch.

    IFD0 is written anew at the end, so that no other byte moves. A broken blob is replaced.
    """
    try:
        blob = _Blob(exif)
        first = blob.get("I", 4)
        others = [e for e in blob.entries(first) if e.tag not in (X_RESOLUTION, Y_RESOLUTION, UNIT)]
        after = blob.get("I", blob.next_pointer(first))
    except (KeyError, struct.error):
        return exif_with_dpi(dpi)
    at = len(blob.data) + len(blob.data) % 2
    values = at + 2 + 12 * (len(others) + 3) + 4
    entries = {e.tag: bytes(blob.data[e.at : e.at + 12]) for e in others}
    entries[X_RESOLUTION] = struct.pack(f"{blob.order}HHII", X_RESOLUTION, 5, 1, values)
    entries[Y_RESOLUTION] = struct.pack(f"{blob.order}HHII", Y_RESOLUTION, 5, 1, values + 8)
    entries[UNIT] = struct.pack(f"{blob.order}HHIHH", UNIT, 3, 1, 2, 0)
    ratios = [Fraction(d).limit_denominator(10_000) for d in dpi]
    blob.put("I", 4, at)
    directory = struct.pack(f"{blob.order}H", len(entries)) + b"".join(entries[tag] for tag in sorted(entries))
    directory += struct.pack(f"{blob.order}I", after)
    directory += b"".join(struct.pack(f"{blob.order}II", f.numerator, f.denominator) for f in ratios)
    return bytes(blob.data).ljust(at, b"\0") + directory


def resolution(dpi: tuple[float, float] | None) -> dict[int, tuple[int, int, bytes]]:
    """The tags for a resolution (x, y) in dots per inch, as in `Directory.tags`. None: tags for an unknown resolution."""
    pair = [Fraction(d).limit_denominator(10_000) for d in dpi or (1, 1)]
    x, y = (struct.pack("<II", f.numerator, f.denominator) for f in pair)
    unit = 2 if dpi else 1  # 1: no absolute unit
    return {X_RESOLUTION: (5, 1, x), Y_RESOLUTION: (5, 1, y), UNIT: (3, 1, unit.to_bytes(2, "little"))}

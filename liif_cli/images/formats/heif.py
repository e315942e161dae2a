"""AVIF's and HEIC's boxes: what libvips does not tell about their colour (ISO/IEC 23008-12, ISO/IEC 14496-12)."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, BinaryIO

from liif_cli.images.formats.base import Loaded, from_vips
from liif_cli.images.formats.compression import av1_quality
from liif_cli.images.metadata import exif
from liif_cli.images.picture import Metadata
from liif_cli.images.source import Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

NESTED = {b"meta": 4, b"iprp": 0, b"ipco": 0}
"""Boxes that are looked into, and how many bytes stand before their first child."""
MOST = 2**24
ITEM_HEAD = 1024
"""Bytes of an item that hold its headers."""


@dataclass
class Facts:
    """gray: every coded item is monochrome. nclx: primaries, transfer and matrix numbers of H.273, or None. sequence: the file
    is an animation first. quality: 1 to 100, of a still image in AV1, if it tells."""

    gray: bool = False
    nclx: tuple[int, int, int] | None = None
    sequence: bool = False
    quality: int | None = None


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


def read(file: BinaryIO) -> Facts:
    """Colour facts from the `meta` box."""
    file.seek(0)
    data = file.read(MOST)
    found = Facts(sequence=data[8:12] in (b"avis", b"hevc", b"msf1"))
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
    if codings:
        start = _primary_item(data)
        found.quality = None if start is None else av1_quality(data[start : start + ITEM_HEAD])
    return found


def _primary_item(data: bytes) -> int | None:
    """Where the primary item's data begin in the file; None if that cannot be told."""
    meta = next(((first, end) for name, first, end in _boxes(data, 0, len(data)) if name == b"meta"), None)
    if meta is None:
        return None
    inner = {name: data[first:end] for name, first, end in _boxes(data, meta[0] + 4, meta[1])}
    pitm, iloc = inner.get(b"pitm", b""), inner.get(b"iloc", b"")
    if len(pitm) < 6 or len(iloc) < 8:
        return None
    wanted = int.from_bytes(pitm[4 : 6 if pitm[0] == 0 else 8])
    return _located(io.BytesIO(iloc), wanted)


def _located(box: BinaryIO, wanted: int) -> int | None:
    """The offset of an item's first extent, by an `iloc` box (ISO/IEC 14496-12, 8.11.3)."""

    def number(size: int) -> int:
        return int.from_bytes(box.read(size))

    version = number(1)
    box.seek(4)
    offset_size, length_size, base_size, index_size = (n for byte in box.read(2) for n in divmod(byte, 16))
    index_size *= version in (1, 2)
    for _ in range(min(number(4 if version == 2 else 2), 1000)):
        item = number(4 if version == 2 else 2)
        in_file = number(2) & 15 == 0 if version in (1, 2) else True
        box.seek(2, 1)
        base = number(base_size)
        starts = []
        for _ in range(min(number(2), 1000)):
            box.seek(index_size, 1)
            starts.append(number(offset_size))
            box.seek(length_size, 1)
        if item == wanted:
            return base + starts[0] if starts and in_file else None
    return None


def load_heif(source: Source, file: BinaryIO, _: int) -> Loaded:
    """An AVIF or a HEIC, decoded by libvips."""
    facts = read(file)
    image = source.vips("heifload")
    metadata, notes = settled(replace(_vips_metadata(image), quality=facts.quality), facts)
    if facts.gray and image.bands > 2:
        image = image[0].bandjoin(image[3]) if image.bands == 4 else image[0]
    bits = metadata.bits
    loaded = from_vips(image, metadata, notes)
    if not 8 < bits < 16:
        return loaded
    return replace(loaded, decode=lambda: to_full_range(loaded.decode(), bits))


def settled(metadata: Metadata, facts: Facts) -> tuple[Metadata, tuple[str, ...]]:
    """The metadata with the profile that the file's code points mean, where it has no other, and notes."""
    from liif_cli.images import icc

    notes: tuple[str, ...] = ()
    if facts.nclx and not metadata.icc:
        metadata, notes = icc.settle_cicp(replace(metadata, cicp=bytes([facts.nclx[0], facts.nclx[1], 0, 1])))
    if facts.sequence:
        notes += ("an animation in AVIF or HEIC: only its first frame is read",)
    return metadata, notes


def to_full_range(pixels: NDArray[Any], bits: int) -> NDArray[Any]:
    """libvips shifts 10 and 12 bits up to 16, which leaves white short of 65,535."""
    import numpy as np

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

"""The boxes of AVIF and HEIC: colour facts that libvips does not report (ISO/IEC 23008-12, ISO/IEC 14496-12)."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO

from liif_cli.errors import InputError
from liif_cli.images.formats.base import Loaded, from_vips
from liif_cli.images.formats.compression import av1_is_limited, av1_quality
from liif_cli.images.metadata import exif
from liif_cli.images.picture import Metadata
from liif_cli.images.source import Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

LONGEST = 100_000_000
"""The longest side that libvips accepts, in pixels."""
MOST_PROPERTIES = 1000
"""Item properties that are read; the rest is ignored."""
MOST = 2**24
"""Bytes of a file in which boxes are looked for."""
ITEM_HEAD = 1024
"""Bytes of an item that contain its headers."""


@dataclass
class Facts:
    """What the boxes say about an image's colours.

    gray: whether every AV1 item is monochrome. nclx: the code points of primaries, transfer and matrix (ITU-T H.273), or None.
    sequence: whether the file's major brand is that of an animation. quality: 1 to 100, of a still AV1 image; None if unknown.
    limited, alpha_limited: whether the coded samples of colour and of alpha have limited range (16 to 235 of 255).
    nclx_limited: the range stated by nclx; None if it states none. premultiplied: whether colours are multiplied by alpha.
    side: the longest side that an item claims, in pixels.
    """

    gray: bool = False
    nclx: tuple[int, int, int] | None = None
    sequence: bool = False
    quality: int | None = None
    limited: bool = False
    alpha_limited: bool = False
    nclx_limited: bool | None = None
    premultiplied: bool = False
    side: int = 0


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


def _children(data: bytes, start: int, stop: int) -> dict[bytes, tuple[int, int]]:
    """(start, end) of the content of the first box of each name."""
    found: dict[bytes, tuple[int, int]] = {}
    for name, first, end in _boxes(data, start, stop):
        found.setdefault(name, (first, end))
    return found


def read(file: BinaryIO) -> Facts:
    """The colour facts in a file's `meta` box."""
    file.seek(0)
    data = file.read(MOST)
    found = Facts(sequence=data[8:12] in (b"avis", b"hevc", b"msf1"))
    top = _children(data, 0, len(data)).get(b"meta")
    if top is None:
        return found
    meta = _children(data, top[0] + 4, top[1])
    inside = _children(data, *meta.get(b"iprp", (0, 0)))
    properties = list(_boxes(data, *inside.get(b"ipco", (0, 0))))[:MOST_PROPERTIES]
    codings = [data[first:end] for name, first, end in properties if name == b"av1C" and end - first > 3]
    for name, first, end in properties:
        if name == b"colr" and data[first : first + 4] == b"nclx" and end - first >= 10:
            body = data[first:end]
            found.nclx = int.from_bytes(body[4:6]), int.from_bytes(body[6:8]), int.from_bytes(body[8:10])
            found.nclx_limited = not body[10] & 128 if len(body) > 10 else None
        elif name == b"ispe" and end - first >= 12:
            found.side = max(found.side, *(int.from_bytes(data[first + at : first + at + 4]) for at in (4, 8)))
    found.gray = bool(codings) and all(body[2] & 0x10 for body in codings)
    references = data[slice(*meta.get(b"iref", (0, 0)))]
    found.premultiplied = any(name == b"prem" for name, _, _ in _boxes(references, 4, len(references)))
    if codings:
        _read_items(found, data, meta, properties, inside)
    return found


def names_are_text(file: BinaryIO) -> bool:
    """Whether the item names in `iinf` are valid UTF-8. If they are not, pi-heif would abort the process."""
    file.seek(0)
    data = file.read(MOST)
    top = _children(data, 0, len(data)).get(b"meta", (0, 0))
    start, stop = _children(data, top[0] + 4, top[1]).get(b"iinf", (0, 0))
    lead = 6 if data[start : start + 1] == b"\0" else 8
    for name, first, end in _boxes(data, start + lead, stop):
        if name == b"infe":
            try:
                data[first + (10 if data[first] > 2 else 8) : end].decode()  # item type, name and content type
            except UnicodeDecodeError:
                return False
    return True


TABLES = {b"stts": 8, b"stsc": 12, b"ctts": 8, b"saio": 4, b"saiz": 1}
"""Boxes for which libheif allocates the number of entries that they claim: name -> bytes per entry (ISO/IEC 14496-12)."""
UNREAD = (b"mdat", b"free", b"skip")


def guarded(source: Source, file: BinaryIO) -> Source:
    """A source that libheif can open without allocating much more memory than the file's size.

    The tables of an animation are not needed, but libheif would expand them; therefore an animation is copied into memory, with
    their box and the brand renamed. Raises InputError if any other table claims more entries than it contains.
    """
    moov, position, end = [], 0, file.seek(0, io.SEEK_END)
    for name, stop in _top_boxes(file, end):
        file.seek(position)
        if name == b"moov":
            moov.append(position + 4)
        elif name not in UNREAD and any(map(_overclaims, _parsed(name, file.read(min(stop - position, MOST))))):
            raise InputError(f"{source.name} is damaged: a table claims more entries than it contains")
        position = stop
    if not moov:
        return source
    file.seek(0)
    data = bytearray(file.read())
    for place in moov:
        data[place : place + 4] = b"free"
    brands = min(int.from_bytes(data[:4]), 1024)
    data[:brands] = data[:brands].replace(b"msf1", b"mif1")
    return Source(bytes(data), source.name, source.held)


def _top_boxes(file: BinaryIO, end: int) -> Iterator[tuple[bytes, int]]:
    """(name, end offset) of each top-level box of a file."""
    start = 0
    while start + 8 <= end:
        file.seek(start)
        for name, _, size in islice(_boxes(file.read(16), 0, end - start), 1):
            yield name, start + size
            start += size
            break
        else:
            return


def _parsed(name: bytes, box: bytes) -> Iterator[bytes]:
    """What libheif looks for boxes in: the whole box, or everything in `meta` except items' data."""
    if name != b"meta":
        yield box
        return
    for child, first, end in _boxes(box, 20 if box[:4] == b"\0\0\0\1" else 12, len(box)):
        if child != b"idat":
            yield child + box[first:end]


def _overclaims(data: bytes) -> bool:
    """Whether a table in `data`, at any level, claims more entries than it contains."""
    for name, size in TABLES.items():
        place = data.find(name)
        while place >= 0:
            start = place + 4 + 8 * (data[max(0, place - 4) : place] == b"\0\0\0\1")  # a 64-bit size follows the name
            if name in (b"saio", b"saiz"):
                start += 8 * (int.from_bytes(data[start + 3 : start + 4]) & 1) + (name == b"saiz")
            count = int.from_bytes(data[start + 4 : start + 8])
            if count * size > len(data) - start:
                return True
            place = data.find(name, place + 1)
    return False


def _read_items(
    found: Facts,
    data: bytes,
    meta: dict[bytes, tuple[int, int]],
    properties: list[tuple[bytes, int, int]],
    inside: dict[bytes, tuple[int, int]],
) -> None:
    """Add the facts from the AV1 headers of the items: the quality, and whether samples have limited range."""

    def place(item: int) -> int | None:
        return _located(data[slice(*meta.get(b"iloc", (0, 0)))], item)

    pitm = data[slice(*meta.get(b"pitm", (0, 0)))]
    primary = int.from_bytes(pitm[4 : 6 if pitm[:1] == b"\0" else 8])
    start = place(primary) if len(pitm) >= 6 else None
    found.quality = None if start is None else av1_quality(data[start : start + ITEM_HEAD])
    alpha, color = _items_of_alpha(data[slice(*inside.get(b"ipma", (0, 0)))], properties, data)
    found.limited = any(_is_limited(data, place(item)) for item in [primary, *color][:3])
    found.alpha_limited = any(_is_limited(data, place(item)) for item in alpha[:3])


def _is_limited(data: bytes, start: int | None) -> bool:
    return start is not None and av1_is_limited(data[start : start + ITEM_HEAD])


ALPHA_NAMES = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1")


def _items_of_alpha(ipma: bytes, properties: list[tuple[bytes, int, int]], data: bytes) -> tuple[list[int], list[int]]:
    """The ids of the AV1 items that hold alpha, and of those that hold colours, by their associated properties (`ipma`)."""
    box = io.BytesIO(ipma)
    version, wide = box.read(1) != b"\0", int.from_bytes(box.read(3)) & 1
    count = int.from_bytes(box.read(4))
    alpha, color = [], []
    for _ in range(min(count, len(ipma) // 3)):
        item = int.from_bytes(box.read(4 if version else 2))
        given = [int.from_bytes(box.read(2)) & 0x7FFF if wide else box.read(1)[0] & 127 for _ in range(_byte(box))]
        own = [properties[index - 1] for index in given if 0 < index <= len(properties)]
        if any(
            name == b"auxC" and data[first + 4 : min(end, first + 64)].startswith(ALPHA_NAMES)
            for name, first, end in own
        ):
            alpha.append(item)
        elif any(name == b"av1C" for name, _, _ in own):
            color.append(item)
    return alpha, color


def _byte(box: BinaryIO) -> int:
    return int.from_bytes(box.read(1))


def _located(iloc: bytes, wanted: int) -> int | None:
    """The file offset of an item's first extent, or None, from the content of an `iloc` box (ISO/IEC 14496-12, 8.11.3)."""
    box = io.BytesIO(iloc)

    def number(size: int) -> int:
        return int.from_bytes(box.read(size))

    if len(iloc) < 8:
        return None
    version = number(1)
    box.seek(4)
    offset_size, length_size, base_size, index_size = (n for byte in box.read(2) for n in divmod(byte, 16))
    index_size *= version in (1, 2)
    for _ in range(min(number(4 if version == 2 else 2), 1000)):
        item = number(4 if version == 2 else 2)
        in_file = number(2) & 15 == 0 if version in (1, 2) else True
        box.seek(2, 1)
        base = number(base_size)
        extents = number(2)
        box.seek(index_size, 1)
        if item == wanted:
            return base + number(offset_size) if extents and in_file else None
        box.seek(extents * (index_size + offset_size + length_size) - index_size, 1)
    return None


def load_heif(source: Source, file: BinaryIO, _: int) -> Loaded:
    """An AVIF or a HEIC, decoded by libvips. Only the first frame of an animation is read, and a note says so."""
    facts = read(file)
    if facts.side > LONGEST:  # GLib would complain on standard error
        raise InputError(f"{source.name} is damaged: it claims a side of {facts.side:,} pixels")
    image = guarded(source, file).vips("heifload")
    metadata, notes = settled(replace(_vips_metadata(image), quality=facts.quality), facts)
    if facts.gray and image.bands > 2:
        image = image[0].bandjoin(image[3]) if image.bands == 4 else image[0]
    bits = metadata.bits
    if facts.premultiplied and image.bands in (2, 4):
        notes += ("the colours were divided by the premultiplied alpha",)
    loaded = from_vips(image, metadata, notes)
    return replace(loaded, decode=lambda: straightened(loaded.decode(), facts, bits))


def straightened(pixels: NDArray[Any], facts: Facts, bits: int) -> NDArray[Any]:
    """Pixels (H, W, C), uint8 or uint16, as decoded by libheif, converted to full range and straight alpha.

    bits: of the file's samples.
    """
    import numpy as np

    if 8 < bits < 16:
        pixels = to_full_range(pixels, bits)
    if facts.gray and facts.limited and facts.nclx_limited is not False and pixels.shape[2] < 3:
        pixels = _widened(pixels, slice(0, 1))
    if facts.alpha_limited and pixels.shape[2] in (2, 4):
        pixels = _widened(pixels, slice(-1, None))
    if facts.premultiplied and pixels.shape[2] in (2, 4):
        top = np.iinfo(pixels.dtype).max
        alpha = pixels[..., -1:].astype(np.float32)
        straight = np.divide(
            pixels[..., :-1] * np.float32(top), alpha, where=alpha > 0, out=np.zeros(pixels[..., :-1].shape, np.float32)
        )
        pixels = np.concatenate([np.rint(np.minimum(straight, top)).astype(pixels.dtype), pixels[..., -1:]], axis=2)
    return pixels


def _widened(pixels: NDArray[Any], bands: slice) -> NDArray[Any]:
    """The pixels with the given bands expanded from limited range (16 to 235 of 255) to full range."""
    import numpy as np

    top = np.iinfo(pixels.dtype).max
    low, span = top * 16 / 255, top * 219 / 255
    wide: NDArray[Any] = pixels.copy()
    wide[..., bands] = np.rint(np.clip((pixels[..., bands] - np.float32(low)) * np.float32(top / span), 0, top))
    return wide


def settled(metadata: Metadata, facts: Facts) -> tuple[Metadata, tuple[str, ...]]:
    """The metadata, with the profile for the file's code points if it has no ICC profile, and notes."""
    from liif_cli.images import icc

    notes: tuple[str, ...] = ()
    if facts.nclx and not metadata.icc:
        metadata, notes = icc.settle_cicp(replace(metadata, cicp=bytes([facts.nclx[0], facts.nclx[1], 0, 1])))
    if facts.sequence:
        notes += ("an animation in AVIF or HEIC: only its first frame is read",)
    return metadata, notes


def to_full_range(pixels: NDArray[Any], bits: int) -> NDArray[Any]:
    """uint16 samples of `bits` significant bits (the upper ones), scaled so that white is 65,535.

    libvips shifts 10- and 12-bit samples up to 16 bits, which leaves white below 65,535.
    """
    import numpy as np

    top = 2**bits - 1
    table = np.rint(np.arange(top + 1) * (65535 / top)).astype(np.uint16)
    full: NDArray[Any] = table[pixels >> (16 - bits)]
    return full


def _vips_metadata(image: Any) -> Metadata:
    def blob(name: str) -> bytes | None:
        return bytes(image.get(name)) if image.get_typeof(name) else None

    bits = image.get("bits-per-sample") if image.get_typeof("bits-per-sample") else 8
    # irot and imir define the orientation and are already applied, so EXIF's must not be applied again
    return Metadata(icc=blob("icc-profile-data"), exif=exif.upright(blob("exif-data")), xmp=blob("xmp-data"), bits=bits)

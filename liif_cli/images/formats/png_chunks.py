"""PNG chunks: reads the metadata of a file and makes the first chunks of a new one (W3C PNG, third edition)."""

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from liif_cli.images.metadata import exif
from liif_cli.images.metadata.photoshop import from_iptc
from liif_cli.images.metadata.xmp import CREDENTIALS
from liif_cli.images.picture import Metadata

SIGNATURE = b"\x89PNG\r\n\x1a\n"
XMP = "XML:com.adobe.xmp"
RAW = "Raw profile type "
MOST = 8 * 2**20
"""Bytes to which all compressed chunks of a file together may inflate, as in libpng; chunks beyond that are dropped."""
GAMMAS = (16, 625_000_000)
"""The range of gAMA values that libpng accepts."""
BULK = (b"IDAT", b"fdAT")


@dataclass
class Header:
    """IHDR, and the chunks that define the colours.

    gamma: gAMA (0.45455 for a gamma of 2.2). chroma: the eight values of cHRM. gray_palette: whether PLTE contains only grays.
    clear: whether there is a tRNS. animation: None for a still image.
    """

    width: int = 0
    height: int = 0
    depth: int = 8
    kind: int = 2
    frames: int = 1
    gamma: float | None = None
    chroma: tuple[float, ...] | None = None
    srgb: bool = False
    gray_palette: bool = False
    clear: bool = False
    animation: "Animation | None" = None
    metadata: Metadata = field(default_factory=Metadata)


@dataclass
class Animation:
    """The animation described by an APNG's chunks.

    frames, loop: from acTL. durations: of each fcTL, in ms. still: whether the still image precedes the first fcTL and is
    therefore not a frame. whole: whether all chunks so far are valid. sequence: the next sequence number.
    """

    frames: int
    loop: int
    durations: list[int] = field(default_factory=list)
    still: bool = False
    whole: bool = True
    sequence: int = 0


def chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """(type, payload) of each complete chunk. Of IDAT and fdAT, only the first four bytes are read."""
    total = file.seek(0, os.SEEK_END)
    file.seek(8)
    while len(head := file.read(8)) == 8:
        size, name = int.from_bytes(head[:4]), head[4:]
        if size + 4 > total - file.tell():
            return
        if name in BULK:
            yield name, file.read(min(size, 4))
            file.seek(max(size - 4, 0) + 4, 1)
        elif len(body := file.read(size + 4)) == size + 4:
            yield name, body[:-4]
        else:
            return


def read(file: BinaryIO) -> Header:
    """The header and the metadata of a PNG or APNG file. Broken ancillary chunks are skipped."""
    header = Header()
    found: dict[str, object] = {}
    text: list[tuple[str, str]] = []
    for name, data in chunks(file):
        try:
            _take(header, found, text, name, data)
        except (struct.error, zlib.error, UnicodeDecodeError, ValueError, IndexError):
            continue  # a broken ancillary chunk does not make the image unusable
    if found.pop("left", 0) == -1:
        found["lost"] = (TOO_MUCH,)
    header.metadata = Metadata(text=tuple(text), bits=header.depth, **found)  # type: ignore[arg-type]
    return header


TOO_MUCH = f"dropped compressed text or a profile: it inflates to more than {MOST >> 20} MiB"


def _take(header: Header, found: dict[str, object], text: list[tuple[str, str]], name: bytes, data: bytes) -> None:
    match name:
        case b"IHDR":
            header.width, header.height, header.depth, header.kind = struct.unpack(">IIBB", data[:10])
        case b"acTL":
            header.animation = Animation(*struct.unpack(">II", data))
            header.frames = header.animation.frames
        case b"fcTL" | b"fdAT" | b"IDAT":
            if header.animation:
                _take_frame(header, header.animation, name, data)
        case b"PLTE":
            header.gray_palette = data[::3] == data[1::3] == data[2::3]
        case b"tRNS":
            header.clear = True
        case b"caBX":
            found["stale"] = (CREDENTIALS,)
        case b"gAMA":
            value = int.from_bytes(data) if len(data) == 4 else 0
            header.gamma = value / 100_000 if GAMMAS[0] <= value <= GAMMAS[1] else None
        case b"cHRM":
            header.chroma = tuple(v / 100_000 for v in struct.unpack(">8I", data))
        case b"sRGB":
            header.srgb = True
        case b"cICP":
            if len(data) == 4:
                found["cicp"] = data
        case b"iCCP":
            found["icc"] = _unpacked(found, data.partition(b"\0")[2][1:])
        case b"eXIf":
            found["exif"] = exif.bare(data)
        case b"pHYs":
            x, y, unit = struct.unpack(">IIB", data)
            if unit == 1 and x and y:
                found["dpi"] = (x * 0.0254, y * 0.0254)
        case b"tEXt" | b"zTXt" | b"iTXt":
            _take_text(found, text, *_text(found, name, data))


def _take_frame(header: Header, animation: Animation, name: bytes, data: bytes) -> None:
    if name == b"IDAT":
        animation.still = not animation.durations
        return
    animation.whole = animation.whole and int.from_bytes(data[:4]) == animation.sequence
    animation.sequence += 1
    if name == b"fcTL":
        _, width, height, left, top, over, under = struct.unpack(">IIIIIHH", data[:24])
        inside = width and height and left + width <= header.width and top + height <= header.height
        animation.whole = animation.whole and bool(inside)
        animation.durations.append(round(1000 * over / (under or 100)))


def _text(found: dict[str, object], name: bytes, data: bytes) -> tuple[str, str]:
    keyword, _, rest = data.partition(b"\0")
    key = keyword.decode("latin-1")
    if name == b"tEXt":
        return key, rest.decode("latin-1")
    if name == b"zTXt":
        return key, _unpacked(found, rest[1:]).decode("latin-1")
    packed, body = rest[0], rest[2:].split(b"\0", 2)[2]
    return key, (_unpacked(found, body) if packed else body).decode()


def _take_text(found: dict[str, object], text: list[tuple[str, str]], key: str, value: str) -> None:
    if key == XMP:
        found["xmp"] = value.encode()
    elif key.startswith(RAW):
        _take_raw(found, key.removeprefix(RAW), bytes.fromhex("".join(value.split("\n")[3:])))
    elif not key.startswith("date:"):  # added by ImageMagick: the dates of the file itself
        text.append((key, value))


def _take_raw(found: dict[str, object], kind: str, data: bytes) -> None:
    """Take a profile that ImageMagick stores as text: a newline, the name, the length, then hexadecimal lines."""
    if kind in ("exif", "APP1") and data.startswith(b"Exif\0\0"):
        found.setdefault("exif", exif.bare(data))
    elif kind == "xmp":
        found.setdefault("xmp", data)
    elif kind in ("iptc", "8bim"):
        data = data.removeprefix(b"Photoshop 3.0\0")
        found.setdefault("photoshop", data if data.startswith(b"8BIM") else from_iptc(data))
    elif kind in ("icc", "icm"):
        found.setdefault("icc", data)


def _unpacked(found: dict[str, object], data: bytes) -> bytes:
    """The chunk inflated. Raises ValueError once the chunks of a file inflate to more than `MOST` bytes together."""
    left = found.get("left", MOST)
    assert isinstance(left, int)
    plain = zlib.decompressobj().decompress(data, left + 1) if left >= 0 else b""
    found["left"] = left - len(plain)
    if len(plain) > left or left < 0:
        found["left"] = -1
        raise ValueError("the chunks unpack to too much")
    return plain


def damage(file: BinaryIO) -> str | None:
    """The fault in a PNG's chunks as text (the file ends early, or a checksum is wrong), or None if there is none."""
    total = file.seek(0, os.SEEK_END)
    file.seek(8)
    machine, sound = zlib.decompressobj(), True
    while len(start := file.read(8)) == 8:
        size, name = int.from_bytes(start[:4]), start[4:]
        if size + 4 > total - file.tell():
            return "the file ends early"
        data = file.read(size)
        if int.from_bytes(file.read(4)) != zlib.crc32(name + data):
            return f"the checksum of its {_shown(name)} chunk is wrong"
        if name == b"IDAT":
            sound = sound and _inflates(machine, data)
        if name == b"IEND":
            return None if sound and machine.eof else "the checksum or the coding of its pixels is wrong"
    return "the file ends early"


def _inflates(machine: Any, data: bytes) -> bool:
    """Whether the next bytes of a zlib stream inflate. Inflates 1 MiB at a time, to bound the memory."""
    try:
        while data and not machine.eof:
            machine.decompress(data, 2**20)
            data = machine.unconsumed_tail
    except zlib.error:
        return False
    return True


def _shown(name: bytes) -> str:
    text = name.decode("latin-1")
    return text if text.isascii() and text.isalpha() else repr(name)


def profile(header: Header) -> tuple[Metadata, tuple[str, ...]]:
    """The metadata with the profile given by cICP, iCCP, sRGB, or gAMA and cHRM (in this order of precedence), and notes.

    `cicp` is kept only if it is sRGB's, or if no profile can express it (HDR).
    """
    from liif_cli.images import icc

    metadata = header.metadata
    if metadata.cicp is not None:
        return icc.settle_cicp(metadata)
    if metadata.icc or header.srgb or (header.gamma is None and header.chroma is None):
        return metadata, ()
    made = icc.from_gamma(header.gamma, header.chroma, gray=header.kind in (0, 4))
    if made is None:
        return metadata, ()
    return Metadata(**{**vars(metadata), "icc": made}), ("converted the gAMA and cHRM chunks to an ICC profile",)


def head(metadata: Metadata) -> tuple[bytes, tuple[str, ...]]:
    """The metadata chunks that follow IHDR in a new file, and notes on what PNG cannot store (always none)."""
    parts = []
    if metadata.cicp:
        parts.append(chunk(b"cICP", metadata.cicp))
    if metadata.icc:
        parts.append(chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)))
    if metadata.dpi:
        x, y = (max(1, round(d / 0.0254)) for d in metadata.dpi)
        parts.append(chunk(b"pHYs", struct.pack(">IIB", x, y, 1)))
    if metadata.exif:
        parts.append(chunk(b"eXIf", metadata.exif))
    if metadata.xmp:
        parts.append(chunk(b"iTXt", XMP.encode() + b"\0\0\0\0\0" + metadata.xmp))
    if metadata.photoshop:
        parts.append(_raw_chunk("iptc", metadata.photoshop))
    parts += [_text_chunk(keyword, text) for keyword, text in metadata.text]
    return b"".join(parts), ()


def _raw_chunk(kind: str, data: bytes) -> bytes:
    digits = data.hex()
    lines = "\n".join(digits[i : i + 72] for i in range(0, len(digits), 72))
    body = f"\n{kind}\n{len(data):8d}\n{lines}\n".encode()
    return chunk(b"zTXt", (RAW + kind).encode() + b"\0\0" + zlib.compress(body))


def _text_chunk(keyword: str, text: str) -> bytes:
    key = keyword.encode("latin-1", "replace")[:79] or b"Comment"
    try:
        return chunk(b"tEXt", key + b"\0" + text.encode("latin-1"))
    except UnicodeEncodeError:
        return chunk(b"iTXt", key + b"\0\0\0\0\0" + text.encode())


def chunk(name: bytes, data: bytes) -> bytes:
    """A complete chunk: length, type, payload and CRC."""
    return len(data).to_bytes(4) + name + data + zlib.crc32(name + data).to_bytes(4)


def own_head(data: bytes) -> int | None:
    """The number of bytes before a PNG file's first IDAT, PLTE or tRNS; None if `data` ends before it."""
    at = 8
    while len(data) >= at + 8:
        if data[at + 4 : at + 8] in (b"IDAT", b"PLTE", b"tRNS"):
            return at
        at += 12 + int.from_bytes(data[at : at + 4])
    return None


PNG = {"filter": "paeth", "compression": 5}
"""Half the time of trying every filter at zlib's level 6, for files that are 1 to 3% larger (photographs and graphics, ×2 and
×4). In a batch, saving competes with rendering for the processor."""

"""Mutated image files: blind mutations, and ones that know how PNG, JPEG, TIFF and EXIF are built."""

import io
import random
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from liif_cli.errors import LiifError
from liif_cli.images import read

from .campaign import Kind
from .mutate import BLIND, Mutator, apply, bits, number

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "AVIF")


def seeds() -> list[tuple[str, bytes]]:
    """(format, file) of small healthy images: colour, gray and with alpha, with EXIF, XMP and text where they fit."""
    y, x = np.mgrid[:12, :16]
    colour = np.stack([x * 15, y * 20, x + y], axis=2).astype(np.uint8)
    fields = Image.Exif()
    fields[0x010F], fields[0x0112] = "maker", 6
    made = []
    for name in FORMATS:
        for pixels in (colour, colour[..., 0]):
            file = io.BytesIO()
            rich = {"exif": fields.tobytes(), "xmp": b"<x:xmpmeta GPano:UsePanoramaViewer='1'/>", "dpi": (72, 72)}
            extra = rich if name in ("PNG", "JPEG", "WEBP", "AVIF") else {}
            Image.fromarray(pixels).save(file, name, **extra)
            made.append((name, file.getvalue()))
    return made


def chunk(data: bytearray, dice: random.Random) -> None:
    """Of PNG: change, double, drop or add a chunk, with a right CRC."""
    parts = list(_png_chunks(bytes(data)))
    if data[:4] != b"\x89PNG" or not parts:
        number(data, dice)
        return
    at = dice.randrange(len(parts))
    name, body = parts[at]
    match dice.randrange(4):
        case 0 if body:
            changed = bytearray(body)
            dice.choice((bits, number))(changed, dice)
            parts[at] = name, bytes(changed)
        case 1:
            parts.insert(at, parts[at])
        case 2:
            del parts[at]
        case _:
            kinds = (
                b"gAMA",
                b"cHRM",
                b"cICP",
                b"pHYs",
                b"eXIf",
                b"tEXt",
                b"zTXt",
                b"iTXt",
                b"iCCP",
                b"acTL",
                b"fcTL",
                b"fdAT",
            )
            payload = dice.randbytes(dice.choice((0, 1, 3, 4, 8, 9, 26, 32)))
            parts.insert(at + 1, (dice.choice(kinds), payload))
    data[8:] = b"".join(
        len(body).to_bytes(4) + name + body + zlib.crc32(name + body).to_bytes(4) for name, body in parts
    )


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4])
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        at += 12 + size


def segment(data: bytearray, dice: random.Random) -> None:
    """Of JPEG: put in an application segment of any length behind SOI."""
    if data[:2] != b"\xff\xd8":
        number(data, dice)
        return
    names = (b"JFIF\0", b"Exif\0\0II*\0\x08\0\0\0", b"ICC_PROFILE\0", b"MPF\0", b"Photoshop 3.0\x008BIM", b"FLIR\0")
    payload = dice.choice(names) + dice.randbytes(dice.randrange(24))
    data[2:2] = (
        bytes([0xFF, dice.choice((0xE0, 0xE1, 0xE2, 0xEB, 0xED, 0xFE))]) + (len(payload) + 2).to_bytes(2) + payload
    )


def entry(data: bytearray, dice: random.Random) -> None:
    """Of TIFF, EXIF's too: change one entry of the first directory."""
    at = max(data.find(b"II*\0"), 0)
    if data[at : at + 4] != b"II*\0" or len(data) < at + 10:
        number(data, dice)
        return
    first = at + int.from_bytes(data[at + 4 : at + 8], "little")
    count = int.from_bytes(data[first : first + 2], "little")
    place = first + 2 + 12 * dice.randrange(max(1, count))
    if place + 12 <= len(data):
        tag = dice.choice((0x100, 0x102, 0x103, 0x106, 0x111, 0x115, 0x11C, 0x144, 0x14A, 0x152, 0x8769, 0x8825))
        field = dice.randrange(3)
        value = dice.choice((tag, dice.randrange(14), 8, at))
        struct.pack_into(("<H", "<H", "<I")[field], data, place + (0, 2, 8)[field], value)


def more() -> list[tuple[str, bytes]]:
    """(format, file) of other kinds: animations, depths, codings, tiles, planes, masks, HEIC; and formats that are not read."""
    y, x = np.mgrid[:12, :16]
    colour = np.stack([x * 15, y * 20, x + y], axis=2).astype(np.uint8)
    image, deep = Image.fromarray(colour), Image.fromarray((x * 4000).astype(np.uint16))
    alpha = Image.fromarray(np.dstack([colour, x * 16]).astype(np.uint8))
    frames = [Image.fromarray(np.roll(colour, i, 1)) for i in range(3)]
    made = []

    def add(name: str, form: str, what: Image.Image, **options: object) -> None:
        file = io.BytesIO()
        what.save(file, form, **options)
        made.append((name, file.getvalue()))

    for form in ("GIF", "PNG", "WEBP", "AVIF", "TIFF"):
        add(f"animated {form}", form, frames[0], save_all=True, append_images=frames[1:], duration=50)
    for form in ("PNG", "WEBP", "AVIF", "TIFF", "BMP", "ICO", "TGA", "JPEG2000"):
        add(f"{form} with alpha", form, alpha)
    for form in ("PNG", "TIFF"):
        add(f"deep {form}", form, deep)
    for form in ("PNG", "GIF", "BMP", "TIFF", "TGA"):
        add(f"{form} with a palette", form, image.quantize(8))
    add("JPEG in scans", "JPEG", image, progressive=True, comment=b"text", icc_profile=b"x" * 200)
    add("JPEG of four inks", "JPEG", image.convert("CMYK"))
    for coding in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        add(f"TIFF {coding}", "TIFF", image, compression=coding)
    made.append(("TIFF in tiles and planes", planes()))
    made.append(("BMP with masks", _masked()))
    made.append(("PPM in digits", b"P3\n# a\n2 2 255\n" + b"1 2 3 " * 4))
    made.append(("deep PPM", b"P6 2 2 65535\n" + bytes(range(24))))
    made.append(("PBM", b"P4 9 2\n\xaa\x80\x55\0"))
    made += [(path.stem, path.read_bytes()) for path in sorted((Path(__file__).parents[1] / "data").glob("*.heic"))]
    return made


def planes() -> bytes:
    """A TIFF of 16 x 16 pixels whose three colours lie in planes of one tile each; their values are 1, 2 and 3."""
    numbers = {256: [16], 257: [16], 258: [8, 8, 8], 259: [1], 262: [2], 277: [3], 284: [2], 322: [16], 323: [16]}
    numbers |= {324: [8, 264, 520], 325: [256] * 3}
    data = b"II*\0" + struct.pack("<I", 776) + b"".join(bytes([value]) * 256 for value in (1, 2, 3))
    tail, entries, values = 776 + 2 + 12 * len(numbers) + 4, b"", b""
    for tag, given in sorted(numbers.items()):
        packed = struct.pack(f"<{len(given)}I", *given)
        place = packed if len(given) == 1 else struct.pack("<I", tail + len(values))
        values += b"" if len(given) == 1 else packed
        entries += struct.pack("<HHI", tag, 4, len(given)) + place
    return data + struct.pack("<H", len(numbers)) + entries + bytes(4) + values


def _masked() -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, 4, 3, 1, 16, 3, 24, 0, 0, 0, 0) + struct.pack("<3I", 0xF800, 0x7E0, 0x1F)
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + 24, 0, 0, 14 + len(head)) + head + bytes(range(24))


def riff(data: bytearray, dice: random.Random) -> None:
    """Of WebP: change, double, drop or add a chunk, with right lengths."""
    if data[8:12] != b"WEBP":
        chunk(data, dice)
        return
    parts, at = [], 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        parts.append((bytes(data[at : at + 4]), bytes(data[at + 8 : at + 8 + size])))
        at += 8 + size + size % 2
    _shuffled(parts, (b"VP8X", b"ANIM", b"ANMF", b"ALPH", b"ICCP", b"EXIF", b"XMP ", b"VP8 "), dice)
    body = b"".join(n + len(b).to_bytes(4, "little") + b + b"\0" * (len(b) % 2) for n, b in parts)
    data[4:] = (len(body) + 4).to_bytes(4, "little") + b"WEBP" + body


def boxes(data: bytearray, dice: random.Random) -> None:
    """Of AVIF and HEIC: change, double, drop or add a box at any depth, with the lengths of those around it."""
    if data[4:8] != b"ftyp":
        entry(data, dice)
        return
    data[:] = _boxed(bytes(data), dice, 0)


DEEPER = {b"meta": 4, b"iprp": 0, b"ipco": 0, b"iref": 4, b"moov": 0, b"trak": 0}


def _boxed(data: bytes, dice: random.Random, depth: int) -> bytes:
    parts, at = [], 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4]) or len(data) - at
        parts.append((data[at + 4 : at + 8], data[at + 8 : at + max(size, 8)]))
        at += max(size, 8)
    inner = [i for i, (name, _) in enumerate(parts) if name in DEEPER]
    if inner and depth < 4 and dice.random() < 0.8:
        place = dice.choice(inner)
        name, body = parts[place]
        lead = DEEPER[name]
        parts[place] = name, body[:lead] + _boxed(body[lead:], dice, depth + 1)
    else:
        _shuffled(
            parts, (b"colr", b"ispe", b"irot", b"imir", b"clap", b"auxC", b"iloc", b"pitm", b"ipma", b"prem"), dice
        )
    return b"".join((len(body) + 8).to_bytes(4) + name + body for name, body in parts)


def _shuffled(parts: list[tuple[bytes, bytes]], names: tuple[bytes, ...], dice: random.Random) -> None:
    """Change, double, drop, move or add one of a file's named parts."""
    at = dice.randrange(len(parts)) if parts else 0
    match dice.randrange(5) if parts else 4:
        case 0 if parts[at][1]:
            changed = bytearray(parts[at][1])
            dice.choice((bits, number))(changed, dice)
            parts[at] = parts[at][0], bytes(changed)
        case 1:
            parts.insert(at, parts[at])
        case 2:
            del parts[at]
        case 3:
            parts.append(parts.pop(at))
        case _:
            parts.insert(at, (dice.choice(names), dice.randbytes(dice.choice((0, 1, 4, 9, 12, 20, 100)))))


MUTATORS: tuple[Mutator, ...] = (*BLIND, chunk, segment, entry)


def mutated(seed: int, files: list[tuple[str, bytes]]) -> tuple[str, bytes]:
    """(what was done, file) that the number `seed` stands for."""
    return apply(seed, files, MUTATORS)


LARGE = 4_000_000
"""Pixels that are still decoded: a header may claim more."""


def judged(data: bytes) -> str:
    """`made`, or `refused: ` and the error's class. Raises what is none of liif's errors."""
    try:
        header = read.probe(data)
        if header.width * header.height * header.frames > LARGE:
            return "made: header alone"
        image = read.read(data)
        image.metadata.for_size(2 * image.width, 2 * image.height)
        return "made"
    except LiifError as error:
        return f"refused: {type(error).__name__}"


def mutated_more(seed: int, files: list[tuple[str, bytes]]) -> tuple[str, bytes]:
    """As `mutated`, with what knows of the chunks and boxes of WebP, AVIF and HEIC."""
    return apply(seed, files, (*MUTATORS, riff, boxes))


MORE = Kind(more, mutated_more, judged, memory=200)
IMAGES = Kind(seeds, mutated, judged, memory=200)

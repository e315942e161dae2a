"""Mutated image files: blind mutations, and ones that know how PNG, JPEG, TIFF and EXIF are built."""

import io
import random
import struct
import zlib
from collections.abc import Iterator

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
        picture = read.read(data)
        picture.metadata.for_size(2 * picture.width, 2 * picture.height)
        return "made"
    except LiifError as error:
        return f"refused: {type(error).__name__}"


IMAGES = Kind(seeds, mutated, judged, memory=200)

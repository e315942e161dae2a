"""AVIF's and HEIC's boxes: what libvips does not tell about their colour (ISO/IEC 23008-12, ISO/IEC 14496-12)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

NESTED = {b"meta": 4, b"iprp": 0, b"ipco": 0}
"""Boxes that are looked into, and how many bytes stand before their first child."""
MOST = 2**24


@dataclass
class Colour:
    """gray: every coded item is monochrome. nclx: primaries, transfer and matrix numbers of H.273, or None. sequence: the file
    is an animation first."""

    gray: bool = False
    nclx: tuple[int, int, int] | None = None
    sequence: bool = False


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


def read(file: BinaryIO) -> Colour:
    """Colour facts from the `meta` box."""
    file.seek(0)
    data = file.read(MOST)
    found = Colour(sequence=data[8:12] in (b"avis", b"hevc", b"msf1"))
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
    return found

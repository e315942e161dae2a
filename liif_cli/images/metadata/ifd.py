"""TIFF's image file directories (IFDs): read in either byte order and from BigTIFF, written in little-endian order.

TIFF 6.0 section 2; the BigTIFF design (Aware Systems); the sub-directories of EXIF (CIPA DC-008, 4.6.3).
"""

import array
import os
import struct
from collections.abc import Container
from dataclasses import dataclass, field
from typing import BinaryIO

SUB_DIRECTORIES = (0x8769, 0x8825, 0xA005)  # Exif, GPS, Interoperability
USER_COMMENT = 0x9286
WORD = {3: 2, 8: 2, 4: 4, 9: 4, 11: 4, 13: 4, 5: 4, 10: 4, 12: 8, 16: 8, 17: 8, 18: 8}
SIZE = {**dict.fromkeys((1, 2, 6, 7), 1), **WORD, 5: 8, 10: 8}
MOST = 2**26
"""Values of more bytes than this are skipped: they are pixels, not metadata."""
MOST_TAGS = 4096
SWAPPED = {2: "H", 4: "I", 8: "Q"}
"""Type codes of the `array` module, by word size in bytes."""


UNSIGNED = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
"""Format characters of the `struct` module for TIFF's unsigned integer types."""


@dataclass
class Directory:
    """An image file directory.

    tags: tag number -> (type, count, little-endian bytes). subs: tag number -> the directory that the tag points to.
    """

    tags: dict[int, tuple[int, int, bytes]] = field(default_factory=dict)
    subs: dict[int, "Directory"] = field(default_factory=dict)

    def numbers(self, tag: int) -> list[int]:
        """The tag's values; empty if it is absent or its type is not an unsigned integer."""
        kind, count, data = self.tags.get(tag, (0, 0, b""))
        form = UNSIGNED.get(kind)
        return list(struct.unpack(f"<{count}{form}", data)) if form else []

    def number(self, tag: int, default: int) -> int:
        """The tag's first value; `default` if it is absent or its type is not an unsigned integer."""
        kind, _, data = self.tags.get(tag, (0, 0, b""))
        form = UNSIGNED.get(kind)
        return int(struct.unpack_from(f"<{form}", data)[0]) if form and data else default

    def ratio(self, tag: int) -> float | None:
        """The tag's first RATIONAL; None if it is absent, of another type, or its denominator is 0."""
        kind, _, data = self.tags.get(tag, (0, 0, b""))
        if kind != 5 or len(data) < 8:
            return None
        over, under = struct.unpack("<II", data[:8])
        return over / under if under else None


class Reader:
    """Reads the directories of a TIFF structure that starts at byte 0 of `file`. Raises ValueError if it does not.

    The work is linear in the file's size, whatever the file contains: a sub-directory is read once, and the values that are
    read have at most as many bytes as the file; values beyond that are skipped. wanted: the tags whose values are read
    (default: all).
    """

    def __init__(self, file: BinaryIO, wanted: Container[int] | None = None) -> None:
        self.file, self.wanted = file, wanted
        self._left = file.seek(0, os.SEEK_END)
        self._seen: set[int] = set()
        file.seek(0)
        head = file.read(16)
        if head[:2] not in (b"II", b"MM"):
            raise ValueError("this is not a TIFF structure")
        self.order = "<" if head[:2] == b"II" else ">"
        self.big = self._number("H", head[2:4]) == 43
        self.first = self._number("Q", head[8:16]) if self.big else self._number("I", head[4:8])

    def _number(self, form: str, data: bytes) -> int:
        return int(struct.unpack(self.order + form, data)[0])

    def pages(self, most: int = 100_000) -> list[int]:
        """The offsets of the directories in the main chain, at most `most`."""
        found: dict[int, None] = {}
        at = self.first
        while at and at not in found and len(found) < most:
            found[at] = None
            count, start, step = self._count(at)
            self.file.seek(start + count * step)
            at = self._number("Q", self.file.read(8)) if self.big else self._number("I", self.file.read(4))
        return list(found)

    def _count(self, at: int) -> tuple[int, int, int]:
        self.file.seek(at)
        if self.big:
            return self._number("Q", self.file.read(8)), at + 8, 20
        return self._number("H", self.file.read(2)), at + 2, 12

    def directory(self, at: int, depth: int = 0) -> Directory:
        """The directory at an offset, with the sub-directories of EXIF. Raises ValueError or struct.error if it is broken."""
        count, start, step = self._count(at)
        if count > MOST_TAGS:
            raise ValueError(f"the directory has more than {MOST_TAGS:,} tags")
        self.file.seek(start)
        block = self.file.read(count * step)
        found = Directory()
        for i in range(0, count * step, step):
            self._take(found, block[i : i + step], depth)
        return found

    def _take(self, found: Directory, entry: bytes, depth: int) -> None:
        tag, kind = self._number("H", entry[:2]), self._number("H", entry[2:4])
        count = self._number("Q", entry[4:12]) if self.big else self._number("I", entry[4:8])
        inline = entry[12:] if self.big else entry[8:]
        size = SIZE.get(kind, 0) * count
        if not size or size > MOST:
            return
        where = self._number("Q" if self.big else "I", inline)
        if tag in SUB_DIRECTORIES:
            if depth < 3 and tag not in found.subs and where not in self._seen:
                self._seen.add(where)
                found.subs[tag] = self.directory(where, depth + 1)
            return
        if self.wanted is not None and tag not in self.wanted and not depth:
            return
        if size > len(inline):
            if size > self._left:
                return
            self._left -= size
            self.file.seek(where)
            inline = self.file.read(size)
        if len(inline) >= size:
            data = self._little(kind, inline[:size])
            if tag == USER_COMMENT and self.order == ">" and data[:8] == b"UNICODE\0":
                data = data[:8] + self._little(3, data[8 : len(data) // 2 * 2])  # UTF-16 in the file's byte order
            found.tags[tag] = kind, len(data) // SIZE[kind], data

    def _little(self, kind: int, data: bytes) -> bytes:
        word = WORD.get(kind, 1)
        if self.order == "<" or word == 1:
            return data
        words = array.array(SWAPPED[word], data)
        words.byteswap()
        return words.tobytes()


def written(directory: Directory, offset: int, *, big: bool = False) -> bytes:
    """The directory as bytes to be placed at `offset` of a little-endian file, followed by its values and sub-directories.

    The pointer to the next directory is 0. big: write the BigTIFF layout.
    """
    count = len(directory.tags) + len(directory.subs)
    inline, head, step, last = (8, 8, 20, 8) if big else (4, 2, 12, 4)
    form = "<HHQ" if big else "<HHI"
    entries = bytearray(count.to_bytes(head, "little"))
    tail = bytearray()
    start = offset + head + count * step + last
    for tag in sorted({**directory.tags, **directory.subs}):
        if tag in directory.subs:
            kind, number, data = (18, 1, b"") if big else (4, 1, b"")
            payload = written(directory.subs[tag], start + len(tail), big=big)
        else:
            kind, number, data = directory.tags[tag]
            payload = data if len(data) > inline else b""
        entries += struct.pack(form, tag, kind, number)
        entries += (start + len(tail)).to_bytes(inline, "little") if payload else data.ljust(inline, b"\0")
        tail += payload + b"\0" * (-len(payload) % 8)
    return bytes(entries) + bytes(last) + bytes(tail)

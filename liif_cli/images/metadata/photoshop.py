"""Photoshop's image resource blocks (8BIM), which contain IPTC.

Adobe, "Photoshop File Formats Specification", image resource blocks; IPTC-IIM 4.2.
"""

from collections.abc import Iterator

IPTC = 0x0404
THUMBNAILS = (0x0409, 0x040C)


def blocks(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """(resource number, payload, whole block) of each block; stops at the first byte that does not begin one."""
    at = 0
    while data[at : at + 4] == b"8BIM":
        number = int.from_bytes(data[at + 4 : at + 6])
        name = (data[at + 6] if at + 6 < len(data) else 0) + 1
        start = at + 6 + name + name % 2
        size = int.from_bytes(data[start : start + 4])
        end = start + 4 + size + size % 2
        yield number, data[start + 4 : start + 4 + size], data[at:end]
        at = end


def without_thumbnail(data: bytes) -> bytes:
    """The blocks without thumbnails, which show the original image."""
    return b"".join(whole for number, _, whole in blocks(data) if number not in THUMBNAILS)


PLACES = (26, 27, 90, 92, 95, 100, 101)
"""Datasets of IPTC record 2 that name a place: content location, city, sublocation, province and country."""


def without_location(data: bytes) -> bytes:
    """The blocks without the place names in IPTC."""
    return b"".join(
        from_iptc(_without_places(payload)) if number == IPTC else whole for number, payload, whole in blocks(data)
    )


def _without_places(records: bytes) -> bytes:
    kept, at = bytearray(), 0
    while records[at : at + 1] == b"\x1c" and at + 5 <= len(records):
        size = int.from_bytes(records[at + 3 : at + 5])
        if size & 0x8000:  # an extended dataset: place names are too short to need one
            return bytes(kept) + records[at:]
        end = at + 5 + size
        if not (records[at + 1] == 2 and records[at + 2] in PLACES):
            kept += records[at:end]
        at = end
    return bytes(kept)


def iptc(data: bytes) -> bytes | None:
    """The IPTC-IIM records in the blocks, or None."""
    return next((payload for number, payload, _ in blocks(data) if number == IPTC), None)


def from_iptc(records: bytes) -> bytes:
    """A single resource block that contains IPTC-IIM records."""
    return b"8BIM\x04\x04\0\0" + len(records).to_bytes(4) + records + b"\0" * (len(records) % 2)

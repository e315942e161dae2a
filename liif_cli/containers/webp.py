"""WebP's RIFF chunks: metadata out of a file, and into one (WebP Container Specification)."""

from collections.abc import Iterator
from typing import BinaryIO

from liif_cli.exif import bare
from liif_cli.metadata import Metadata

ICC_FLAG, ALPHA_FLAG, EXIF_FLAG, XMP_FLAG = 0x20, 0x10, 0x08, 0x04
METADATA = (b"ICCP", b"EXIF", b"XMP ")


def chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """(four-letter name, payload) of each chunk, empty for pixels."""
    file.seek(12)
    while len(head := file.read(8)) == 8:
        size = int.from_bytes(head[4:], "little")
        if head[:4] in (b"VP8X", *METADATA):
            yield head[:4], file.read(size)
            file.seek(size % 2, 1)
        else:
            yield head[:4], b""
            file.seek(size + size % 2, 1)


def read(file: BinaryIO) -> Metadata:
    """Profile, EXIF and XMP of a WebP file."""
    found = {name: data for name, data in chunks(file) if name in METADATA and data}
    blob = found.get(b"EXIF")
    return Metadata(icc=found.get(b"ICCP"), exif=bare(blob) if blob else None, xmp=found.get(b"XMP "))


def with_metadata(data: bytes, metadata: Metadata, width: int, height: int, alpha: bool) -> bytes:
    """A WebP file with the metadata added. data: a file without any; width and height: of its canvas."""
    body = data[12:]
    flags = ALPHA_FLAG if alpha else 0
    if body[:4] == b"VP8X":
        flags, body = body[8], body[18:]
    front = _chunk(b"ICCP", metadata.icc)
    back = _chunk(b"EXIF", metadata.exif) + _chunk(b"XMP ", metadata.xmp)
    if not front and not back:
        return data
    for flag, there in ((ICC_FLAG, metadata.icc), (EXIF_FLAG, metadata.exif), (XMP_FLAG, metadata.xmp)):
        flags |= flag if there else 0
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = _chunk(b"VP8X", bytes([flags, 0, 0, 0]) + size) + front + body + back
    return b"RIFF" + (len(body) + 4).to_bytes(4, "little") + b"WEBP" + body


def _chunk(name: bytes, data: bytes | None) -> bytes:
    return name + len(data).to_bytes(4, "little") + data + b"\0" * (len(data) % 2) if data else b""

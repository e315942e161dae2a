"""XMP packets: what a change of size makes wrong, changed in the text; the rest stays to the byte.

Adobe, "XMP Specification Part 1" (serialisation as attributes or as elements) and "Ultra HDR Image Format" 1.1.
"""

import re

_ORIENTATION = re.compile(rb"""(tiff:Orientation(?:\s*=\s*["']|\s*>)\s*)([1-8])(?=\s*["'<])""")
_WIDTH = re.compile(rb"""((?:tiff:ImageWidth|exif:PixelXDimension)(?:\s*=\s*["']|\s*>)\s*)(\d+)(?=\s*["'<])""")
_HEIGHT = re.compile(rb"""((?:tiff:ImageLength|exif:PixelYDimension)(?:\s*=\s*["']|\s*>)\s*)(\d+)(?=\s*["'<])""")
_THUMBNAILS = re.compile(rb"<(xmp|xap):Thumbnails\b.*?</\1:Thumbnails\s*>", re.DOTALL)
_GAIN_MAP = re.compile(
    rb"""\s+hdrgm:\w+\s*=\s*(?:"[^"]*"|'[^']*')"""
    rb"""|<(hdrgm:\w+)\b[^>]*?(?:/>|>.*?</\1\s*>)"""
    rb"""|<((?:G?Container):Directory)\b.*?</\2\s*>""",
    re.DOTALL,
)
_EXTENDED = re.compile(rb"""\s+xmpNote:HasExtendedXMP\s*=\s*(?:"[^"]*"|'[^']*')""")

_PRIVATE_NAME = (
    rb"(?:exif:GPS\w*|\w+:(?:Lens|Body|Camera)?SerialNumber|\w+:CameraOwnerName|\w+:OwnerName|photoshop:(?:City|State|Country)"
    rb"|Iptc4xmp(?:Core|Ext):(?:Location\w*|CountryCode|City|Sublocation|ProvinceState|CountryName))"
)
_PRIVATE = re.compile(
    rb"""\s+%s\s*=\s*(?:"[^"]*"|'[^']*')|<(%s)\b[^>]*?(?:/>|>.*?</\1\s*>)""" % (_PRIVATE_NAME, _PRIVATE_NAME), re.DOTALL
)


def without_location(packet: bytes) -> bytes:
    """The packet without GPS, places by name, serial numbers and the owner's name."""
    return _PRIVATE.sub(b"", packet)


def orientation(packet: bytes | None) -> int | None:
    """tiff:Orientation of the packet, 1 to 8, or None."""
    found = _ORIENTATION.search(packet or b"")
    return int(found[2]) if found else None


def has_gain_map(packet: bytes | None) -> bool:
    """Whether the packet announces an Ultra HDR gain map."""
    return b"hdrgm:Version" in (packet or b"")


def updated(packet: bytes, width: int, height: int) -> bytes:
    """The packet for an upright image of width x height pixels: orientation 1, new dimensions, no thumbnails, no gain
    map, no pointer to an extended packet."""
    packet = _ORIENTATION.sub(rb"\g<1>1", packet)
    packet = _WIDTH.sub(rb"\g<1>%d" % width, packet)
    packet = _HEIGHT.sub(rb"\g<1>%d" % height, packet)
    for stale in (_THUMBNAILS, _EXTENDED):
        packet = stale.sub(b"", packet)
    return _GAIN_MAP.sub(b"", packet) if b"hdrgm:" in packet else packet

"""XMP packets: properties that are wrong after a change of size are corrected or removed; every other byte is kept.

Adobe, "XMP Specification Part 1" (serialisation as attributes or as elements); "Ultra HDR Image Format" 1.1; Google's "Photo
Sphere XMP Metadata" and "Motion Photo format" 1.0; MWG, "Guidelines for Handling Image Metadata" 2.0, image regions.

Every regular expression begins with a literal name and scans a packet once, so that the work is linear in the packet's length.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator

_VALUE = rb"""(?:\s*=\s*["']|\s*>)\s*"""
_ORIENTATION = re.compile(rb"""(tiff:Orientation%s)([1-8])(?=\s*["'<])""" % _VALUE)
_WIDTH = re.compile(rb"""((?:tiff:ImageWidth|exif:PixelXDimension)%s)(\d+)(?=\s*["'<])""" % _VALUE)
_HEIGHT = re.compile(rb"""((?:tiff:ImageLength|exif:PixelYDimension)%s)(\d+)(?=\s*["'<])""" % _VALUE)
GAIN_MAP = "the Ultra HDR gain map"
PANORAMA = "the panorama's position and size in pixels (GPano)"
REGIONS = "the regions of faces and objects"
MOTION = "the motion photo markers (the video is not copied)"
CREDENTIALS = "the Content Credentials (C2PA)"
_STALE = (
    (None, rb"(?:xmp|xap):Thumbnails|xmpNote:HasExtendedXMP"),
    (GAIN_MAP, rb"hdrgm:\w+"),
    (
        PANORAMA,
        rb"GPano:(?:FullPano\w*|CroppedArea\w*|InitialHorizontalFOV\w*|LargestValidInteriorRect\w*|UsePanoramaViewer)",
    ),
    (REGIONS, rb"mwg-rs:Regions|MP:RegionInfo|MPRI:\w+|apple-fi:\w+"),
    (MOTION, rb"(?:GCamera|Camera|MiCamera|OpCamera):(?:MotionPhoto|MicroVideo|XMPMeta|Motion)\w*"),
    (CREDENTIALS, rb"dcterms:provenance"),
)
"""(label for notes, pattern of property names). Without a label, the reader of the file reports the removal, if at all."""
_DIRECTORY = rb"(?:G?Container):Directory"

_PRIVATE_NAME = (
    rb"(?:exif:GPS\w*|\w+:(?:Lens|Body|Camera)?SerialNumber|\w+:CameraOwnerName|\w+:OwnerName|photoshop:(?:City|State|Country)"
    rb"|Iptc4xmp(?:Core|Ext):(?:Location\w*|CountryCode|City|Sublocation|ProvinceState|CountryName))"
)


def without_location(packet: bytes) -> bytes:
    """The packet without GPS data, place names, serial numbers and the owner's name."""
    return _without(packet, _PRIVATE_NAME)


def orientation(packet: bytes | None) -> int | None:
    """The packet's tiff:Orientation, 1 to 8, or None."""
    found = _ORIENTATION.search(packet or b"")
    return int(found[2]) if found else None


def has_gain_map(packet: bytes | None) -> bool:
    """Whether the packet announces an Ultra HDR gain map."""
    return b"hdrgm:Version" in (packet or b"")


def updated(packet: bytes, width: int, height: int) -> tuple[bytes, tuple[str, ...]]:
    """The packet for an upright image of width x height pixels, and the labels of what was removed.

    The orientation becomes 1 and the dimensions are updated. Properties that show, measure or point into the original image
    are removed.
    """
    packet = _ORIENTATION.sub(rb"\g<1>1", packet)
    packet = _WIDTH.sub(rb"\g<1>%d" % width, packet)
    packet = _HEIGHT.sub(rb"\g<1>%d" % height, packet)
    gone = []
    for what, names in _STALE:
        before, packet = packet, _without(packet, names)
        if what is not None and before != packet:
            gone.append(what)
    if gone:  # the directory lists the images and videos appended to the original file
        packet = _without(packet, _DIRECTORY)
    return packet, tuple(gone)


def _without(packet: bytes, names: bytes) -> bytes:
    """The packet without the attributes and elements whose names match. An unclosed element is kept."""
    kept, at = [], 0
    for start, stop in _places(packet, names):
        if start < at:
            continue  # inside an element that has been removed
        before = packet[at:start]
        attribute = packet[start : start + 1] != b"<"
        kept.append(before.rstrip() if attribute else before)
        at = stop
    return b"".join([*kept, packet[at:]])


def _places(packet: bytes, names: bytes) -> Iterator[tuple[int, int]]:
    """(start, end) of each attribute and element whose name matches."""
    mark = re.compile(
        rb"""</(?P<end>%s)\s*>|<(?P<open>%s)(?=[\s/>])[^<>]*>|(?<![\w:.-])(?:%s)\s*=\s*(?:"[^"<]*"|'[^'<]*')"""
        % (names, names, names)
    )
    found = list(mark.finditer(packet))
    ends: dict[bytes, list[tuple[int, int]]] = {}
    for each in found:
        if each["end"]:
            ends.setdefault(each["end"], []).append(each.span())
    for each in found:
        if each["open"] and not each[0].endswith(b"/>"):
            own = ends.get(each["open"], [])
            following = bisect_right(own, (each.end(), 0)) if own else 0
            if following < len(own):
                yield each.start(), own[following][1]
        elif not each["end"]:
            yield each.span()

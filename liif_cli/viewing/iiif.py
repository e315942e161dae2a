"""The IIIF Image API 3.0 (https://iiif.io/api/image/3.0/), level 2: parses request URLs and generates `info.json`.

Nothing in this module reads a file or computes pixels, so invalid requests are refused before any work.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from liif_cli.coords import Axis, Grid
from liif_cli.errors import LiifError

CONTEXT = "http://iiif.io/api/image/3/context.json"
PROFILE = "http://iiif.io/api/image/3/level2.json"
QUALITIES = ("default", "color", "gray", "bitonal")
MEDIA_TYPES = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
TILE = 256
LARGEST = 64  # the largest factor by which an image can be presented enlarged
MAX_TEXT = 64  # characters of a parameter: parsing a number of a million digits takes seconds
_NUMBER = r"([0-9]{1,12}(?:\.[0-9]{1,12})?)"


class Refused(LiifError):
    """A request that is refused. status: the HTTP status, 400 to 503."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Limits:
    """The maximum size of an output: `width` pixels per side, and `area` pixels in total."""

    width: int = 16384
    area: int = 2**24


@dataclass(frozen=True)
class Canvas:
    """An image of `width` x `height` pixels that is presented `factor` times larger per side."""

    width: int
    height: int
    factor: int = 1

    @property
    def size(self) -> tuple[int, int]:
        """The presented (width, height)."""
        return self.width * self.factor, self.height * self.factor


@dataclass(frozen=True)
class Request:
    """A request for pixels.

    box: (x, y, width, height) on the presented canvas. size: (width, height) of the output before rotation. mirrored: whether
    left and right are exchanged before the rotation. turn: the clockwise rotation in degrees. quality, format: as in the URL.
    """

    canvas: Canvas
    box: tuple[int, int, int, int]
    size: tuple[int, int]
    mirrored: bool
    turn: int
    quality: str
    format: str

    @property
    def grid(self) -> Grid:
        """The grid of output pixels over the image."""
        x, y, width, height = self.box
        rows = _axis(self.canvas.height, self.canvas.factor, y, height, self.size[1])
        return Grid(rows, _axis(self.canvas.width, self.canvas.factor, x, width, self.size[0]))

    @property
    def canonical(self) -> str:
        """The canonical form of the parameters (IIIF Image API 3.0, section 4.7)."""
        full = (0, 0, *self.canvas.size) == self.box
        region = "full" if full else ",".join(map(str, self.box))
        grown = self.size[0] > self.box[2] or self.size[1] > self.box[3]
        size = "max" if self.size == self.box[2:] else f"{'^' * grown}{self.size[0]},{self.size[1]}"
        return f"{region}/{size}/{'!' * self.mirrored}{self.turn}/{self.quality}.{self.format}"


def parse(canvas: Canvas, region: str, size: str, rotation: str, last: str, limits: Limits) -> Request:
    """Parse the last four segments of a URL, percent-decoded. last: `quality.format`. Raises `Refused` (400)."""
    if max(map(len, (region, size, rotation, last))) > MAX_TEXT:
        raise Refused(400, "a parameter is too long")
    box = _region(canvas, region)
    quality, _, form = last.rpartition(".")
    if quality not in QUALITIES:
        raise Refused(400, f"{quality!r} is not a quality; use {', '.join(QUALITIES)}")
    if form not in MEDIA_TYPES:
        raise Refused(400, f"{form!r} is not a format; use {', '.join(MEDIA_TYPES)}")
    match = re.fullmatch(r"(!?)(0|90|180|270|360)(?:\.0+)?", rotation)
    if match is None:
        raise Refused(400, f"{rotation!r} is not a rotation; use 0, 90, 180 or 270, with ! in front to mirror")
    return Request(canvas, box, _size(box, size, limits), bool(match[1]), int(match[2]) % 360, quality, form)


def _region(canvas: Canvas, text: str) -> tuple[int, int, int, int]:
    width, height = canvas.size
    if text == "full":
        return 0, 0, width, height
    if text == "square":
        side = min(width, height)
        return (width - side) // 2, (height - side) // 2, side, side
    match = re.fullmatch(rf"(pct:)?{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}", text)
    if match is None or (not match[1] and "." in text):
        raise Refused(400, f"{text!r} is not a region; use full, square, x,y,w,h or pct:x,y,w,h")
    numbers = [Fraction(part) for part in match.groups()[1:]]
    if match[1]:
        numbers = [part * side / 100 for part, side in zip(numbers, (width, height) * 2, strict=True)]
    left, top = (math.floor(part + Fraction(1, 2)) for part in numbers[:2])
    right = min(width, math.floor(numbers[0] + numbers[2] + Fraction(1, 2)))
    bottom = min(height, math.floor(numbers[1] + numbers[3] + Fraction(1, 2)))
    if right <= left or bottom <= top:
        raise Refused(400, f"the region {text!r} contains no pixel of the {width}x{height} image")
    return left, top, right - left, bottom - top


def _size(box: tuple[int, int, int, int], text: str, limits: Limits) -> tuple[int, int]:
    upscaling, plain = text.startswith("^"), text.removeprefix("^")
    if plain == "max":
        return _largest(box[2:], upscaling, limits)
    size = _asked(box[2], box[3], plain, upscaling)
    if size is None:
        raise Refused(
            400, f"{text!r} is not a size; use max | w, | ,h | pct:n | w,h | !w,h, with ^ in front to enlarge"
        )
    if 0 in size:
        raise Refused(400, f"the size {text!r} has no pixels")
    if not upscaling and (size[0] > box[2] or size[1] > box[3]):
        raise Refused(400, f"the size {text!r} exceeds the region's {box[2]}x{box[3]}; use ^ in front to enlarge")
    if max(size) > limits.width or size[0] * size[1] > limits.area:
        raise Refused(400, f"{size[0]}x{size[1]} exceeds maxWidth {limits.width} or maxArea {limits.area}")
    return size


def _asked(width: int, height: int, text: str, upscaling: bool) -> tuple[int, int] | None:
    """The (width, height) requested by a size parameter without its ^; None if it is invalid."""
    if match := re.fullmatch(rf"pct:{_NUMBER}", text):
        share = Fraction(match[1]) / 100
        return _rounded(width * share), _rounded(height * share)
    match = re.fullmatch(r"(!?)([0-9]{0,9}),([0-9]{0,9})", text)
    if match is None or not (match[2] or match[3]):
        return None
    if match[1]:
        if not (match[2] and match[3]):
            return None
        share = min(Fraction(int(match[2]), width), Fraction(int(match[3]), height))
        share = share if upscaling else min(share, Fraction(1))
        return _rounded(width * share), _rounded(height * share)
    if not match[3]:
        return int(match[2]), _rounded(Fraction(height * int(match[2]), width))
    if not match[2]:
        return _rounded(Fraction(width * int(match[3]), height)), int(match[3])
    return int(match[2]), int(match[3])


def _largest(size: tuple[int, int], upscaling: bool, limits: Limits) -> tuple[int, int]:
    """The size of `max` or `^max`."""
    width, height = size
    share = min(limits.width / max(size), math.sqrt(limits.area / (width * height)))
    if share >= 1 and not upscaling:
        return size
    return max(1, int(width * share)), max(1, int(height * share))


def _rounded(value: Fraction) -> int:
    return math.floor(value + Fraction(1, 2))


def _axis(size: int, factor: int, start: int, length: int, count: int) -> Axis:
    """`count` output pixels over `length` presented pixels from `start`, of an axis of `size` pixels presented `factor` times
    longer."""
    if start % factor == 0 and length % factor == 0:
        return Axis(size, count, 0, count, start // factor, length // factor)
    whole, first = Fraction(size * factor * count, length), Fraction(start * count, length)
    if whole.denominator == first.denominator == 1:
        return Axis.whole(size, int(whole)).part(int(first), int(first) + count)
    # No grid over whole input pixels fits exactly: take the nearest one, less than half an output pixel away.
    offset, end = start // factor, -(-(start + length) // factor)
    total = max(count, _rounded(Fraction((end - offset) * factor * count, length)))
    begin = min(_rounded(Fraction((start - offset * factor) * count, length)), total - count)
    return Axis(size, total, begin, begin + count, offset, end - offset)


def information(canvas: Canvas, address: str, limits: Limits) -> dict[str, Any]:
    """The content of `info.json` for an image. address: its base URL."""
    width, height = canvas.size
    levels = max(1, math.ceil(math.log2(max(1, max(width, height) / TILE))) + 1)
    factors = [2**level for level in range(levels)]
    fits: Callable[[int], bool] = lambda f: math.ceil(width / f) * math.ceil(height / f) <= limits.area  # noqa: E731
    sizes = [(math.ceil(width / f), math.ceil(height / f)) for f in reversed(factors) if fits(f)]
    return {
        "@context": CONTEXT,
        "id": address,
        "type": "ImageService3",
        "protocol": "http://iiif.io/api/image",
        "profile": "level2",
        "width": width,
        "height": height,
        "maxWidth": limits.width,
        "maxHeight": limits.width,
        "maxArea": limits.area,
        "sizes": [{"width": w, "height": h} for w, h in sizes if max(w, h) <= limits.width],
        "tiles": [{"width": TILE, "height": TILE, "scaleFactors": factors}],
        "preferredFormats": ["webp", "png", "jpg"],
        "extraFormats": ["webp"],
        "extraQualities": ["color", "gray", "bitonal"],
        "extraFeatures": ["canonicalLinkHeader", "mirroring", "profileLinkHeader", "sizeUpscaling"],
    }


def manifest(canvas: Canvas, address: str, label: str, limits: Limits) -> dict[str, Any]:
    """A manifest of the IIIF Presentation API 3.0 for a single image, for viewers that require one. label: its title."""
    width, height = canvas.size
    service = {"id": address, "type": "ImageService3", "profile": "level2"}
    shown = _largest(canvas.size, False, limits)
    body: dict[str, Any] = {"id": f"{address}/full/max/0/default.png", "type": "Image", "format": "image/png"}
    body |= {"width": shown[0], "height": shown[1], "service": [service]}
    place = f"{address}/canvas"
    note = {"id": f"{place}/image", "type": "Annotation", "motivation": "painting", "body": body, "target": place}
    page = {"id": f"{place}/page", "type": "AnnotationPage", "items": [note]}
    return {
        "@context": "http://iiif.io/api/presentation/3/context.json",
        "id": f"{address}/manifest.json",
        "type": "Manifest",
        "label": {"none": [label]},
        "items": [{"id": place, "type": "Canvas", "width": width, "height": height, "items": [page]}],
    }

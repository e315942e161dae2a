"""Decoded images, and the metadata that accompany their pixels."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from liif_cli.images.metadata import exif, photoshop, xmp

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import DTypeLike, NDArray


_PRIVATE_TEXT = re.compile("gps|serial|ownername|location|city", re.IGNORECASE)
"""Keywords of PNG text that reveal where, or with whose camera, an image was taken."""


@dataclass(frozen=True)
class Timing:
    """The timing of an animation. durations: of each frame, in ms. loop: the number of plays, 0 for endless."""

    durations: tuple[int, ...]
    loop: int = 0

    @property
    def frames(self) -> int:
        """The number of frames."""
        return len(self.durations)


@dataclass(frozen=True)
class Metadata:
    """The metadata of an input, to be written to its output.

    icc: the profile of the pixels as stored in the file. exif: the TIFF structure without the `Exif` prefix. xmp: the packet.
    photoshop: image resource blocks (8BIM), including IPTC, without thumbnails. dpi: dots per inch, (x, y). text: PNG text as
    (keyword, text); a JPEG or GIF comment has the keyword "Comment". cicp: coding-independent code points (ITU-T H.273), kept
    if they are sRGB's or mean HDR. bits: bits per sample of the input. stale: names, for notes, of what was not read because it
    is valid only for the original image. lost: complete notes on anything else that was not read. curve: the tone curve that
    was applied for the network (`colour.to_network`) and is inverted on writing. quality: 1 to 100, the compression setting of
    the input (`formats.compression`); None if it is lossless or unknown.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    photoshop: bytes | None = None
    dpi: tuple[float, float] | None = None
    text: tuple[tuple[str, str], ...] = ()
    cicp: bytes | None = None
    bits: int = 8
    stale: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    curve: NDArray[np.float64] | None = field(default=None, compare=False, repr=False)
    quality: int | None = field(default=None, compare=False)

    def without_location(self) -> Metadata:
        """The metadata without the location (GPS, place names), serial numbers and the owner's name."""
        text = tuple((key, value) for key, value in self.text if not _PRIVATE_TEXT.search(key))
        return replace(
            self,
            exif=None if self.exif is None else exif.without_location(self.exif),
            xmp=None if self.xmp is None else xmp.without_location(self.xmp),
            photoshop=None if self.photoshop is None else photoshop.without_location(self.photoshop),
            text=text,
        )

    def with_dpi(self, dpi: float) -> Metadata:
        """The metadata with a resolution in dots per inch, the same for both axes."""
        pair = (float(dpi), float(dpi))
        return replace(self, dpi=pair, exif=exif.with_dpi(self.exif, pair) if self.exif else None)

    @property
    def orientation(self) -> int:
        """The orientation of the stored pixels, 1 (upright) to 8: from EXIF, otherwise from XMP."""
        return exif.orientation(self.exif) or xmp.orientation(self.xmp) or 1

    def for_size(self, width: int, height: int) -> tuple[Metadata, tuple[str, ...]]:
        """The metadata for an upright image of width x height pixels, and notes on what was dropped."""
        notes = [*(f"dropped {what}: valid only for the original image" for what in self.stale), *self.lost]
        blob, packet = self.exif, self.xmp
        if blob is not None:
            blob, thumbnail = exif.updated(blob, width, height)
            if thumbnail:
                notes.append("dropped the EXIF thumbnail: it shows the original image")
            if blob is None:
                notes.append("dropped EXIF: it is broken")
        if packet is not None:
            packet, gone = xmp.updated(packet, width, height)
            notes += [f"dropped {what}: valid only for the original image" for what in gone if what not in self.stale]
        return replace(self, exif=blob, xmp=packet, stale=(), lost=()), tuple(notes)


@dataclass(frozen=True)
class Picture:
    """A decoded image.

    pixels: (H, W, C) uint8 or uint16, full range, upright; C = 1 gray, 2 gray + alpha, 3 RGB, 4 RGBA (straight alpha). Their
    tone curve is close to sRGB's. metadata: for the output. format: the name of the input's format. notes: messages for the
    user. timing: of the animation, if this is its first frame.
    """

    pixels: NDArray[Any]
    metadata: Metadata
    format: str
    notes: tuple[str, ...] = ()
    timing: Timing | None = None

    @property
    def height(self) -> int:
        """The height in pixels."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """The width in pixels."""
        return int(self.pixels.shape[1])

    @property
    def channels(self) -> int:
        """1 gray, 2 gray + alpha, 3 RGB, 4 RGBA."""
        return int(self.pixels.shape[2])

    @property
    def alpha(self) -> bool:
        """Whether the last channel is alpha."""
        return self.channels in (2, 4)

    @property
    def depth(self) -> DTypeLike:
        """The dtype that an output needs to keep the input's precision: uint8, or uint16 for more than 8 bits per sample."""
        import numpy as np

        return np.uint16 if self.metadata.bits > 8 else np.uint8


@dataclass(frozen=True)
class Header:
    """The header of an image file.

    format: its name. width, height: in pixels, after orientation. channels: 1 gray, 2 gray + alpha, 3 RGB, 4 RGBA. bits: per
    sample. frames: of an animation. pages: of a TIFF. dpi: dots per inch, (x, y). quality: see `Metadata`.
    """

    format: str
    width: int
    height: int
    channels: int
    bits: int
    frames: int = 1
    pages: int = 1
    dpi: tuple[float, float] | None = None
    quality: int | None = None

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
"""Keywords of PNG text that reveal where and with whose camera an image was taken."""


@dataclass(frozen=True)
class Timing:
    """How an animation runs: `durations` in ms, one for each frame; `loop`: how often it plays, 0 for ever."""

    durations: tuple[int, ...]
    loop: int = 0

    @property
    def frames(self) -> int:
        """How many frames there are."""
        return len(self.durations)


@dataclass(frozen=True)
class Metadata:
    """What an input said about itself, kept for the output.

    icc: profile of the pixels as the file holds them. exif: TIFF structure without the `Exif` marker. xmp: the packet.
    photoshop: image resource blocks (8BIM), IPTC among them, no thumbnail. dpi: dots per inch, (x, y). text: PNG text
    as (keyword, text); a JPEG or GIF comment has the keyword "Comment". cicp: PNG's coding-independent code points, kept
    where they say HDR. bits: depth of the input's samples. stale: what was left out on reading because it describes
    the old pixels, as words for a note. lost: whole notes on what else was left
    out on reading. curve: how stored values became what the network sees (`colour.to_network`), to
    be undone on writing. quality: 1 to 100, at which the input was compressed (`formats.compression`); None where
    nothing was lost or the file does not tell.
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
        """This without the location (GPS, places by name), serial numbers and the owner's name."""
        text = tuple((key, value) for key, value in self.text if not _PRIVATE_TEXT.search(key))
        return replace(
            self,
            exif=None if self.exif is None else exif.without_location(self.exif),
            xmp=None if self.xmp is None else xmp.without_location(self.xmp),
            photoshop=None if self.photoshop is None else photoshop.without_location(self.photoshop),
            text=text,
        )

    def with_dpi(self, dpi: float) -> Metadata:
        """This with a resolution in dots per inch."""
        pair = (float(dpi), float(dpi))
        return replace(self, dpi=pair, exif=exif.with_dpi(self.exif, pair) if self.exif else None)

    @property
    def orientation(self) -> int:
        """The orientation of the stored pixels, 1 (upright) to 8: from EXIF, otherwise from XMP."""
        return exif.orientation(self.exif) or xmp.orientation(self.xmp) or 1

    def for_size(self, width: int, height: int) -> tuple[Metadata, tuple[str, ...]]:
        """This, for an upright image of width x height pixels, and notes on what had to go."""
        notes = [*(f"dropped because it shows the original image: {what}" for what in self.stale), *self.lost]
        blob, packet = self.exif, self.xmp
        if blob is not None:
            blob, thumbnail = exif.updated(blob, width, height)
            if thumbnail:
                notes.append("dropped the EXIF thumbnail: it shows the original image")
            if blob is None:
                notes.append("dropped because it is broken: EXIF")
        if packet is not None:
            packet, gone = xmp.updated(packet, width, height)
            notes += [f"dropped because it describes the old file: {what}" for what in gone if what not in self.stale]
        return replace(self, exif=blob, xmp=packet, stale=(), lost=()), tuple(notes)


@dataclass(frozen=True)
class Picture:
    """A decoded image.

    pixels: (H, W, C) uint8 or uint16, full range, upright; C = 1 gray, 2 gray + alpha, 3 RGB, 4 RGBA (straight alpha);
    in a space whose tone curve is near sRGB's. metadata: what travels on to the output. format: the input's, by
    content. notes: sentences for the user. timing: of the animation that this is the first frame of.
    """

    pixels: NDArray[Any]
    metadata: Metadata
    format: str
    notes: tuple[str, ...] = ()
    timing: Timing | None = None

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns."""
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
        """The dtype that an output needs in order to lose nothing: uint8, or uint16 for more than 8 bits."""
        import numpy as np

        return np.uint16 if self.metadata.bits > 8 else np.uint8


@dataclass(frozen=True)
class Header:
    """What a file says before its pixels are decoded: size after orientation, channels, bits a sample, frames of an
    animation, pages of a TIFF, dots per inch (x, y)."""

    format: str
    width: int
    height: int
    channels: int
    bits: int
    frames: int = 1
    pages: int = 1
    dpi: tuple[float, float] | None = None

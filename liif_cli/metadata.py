"""What travels with a picture besides its pixels."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Metadata:
    """What an input said about itself, kept for the output.

    `icc` is the profile of the pixels as they are written; `exif` the TIFF structure without the `Exif` marker, its
    orientation already reset; `xmp` and `iptc` are raw packets; `dpi` is dots per inch, x then y; `text` holds PNG text
    chunks as (keyword, text); `bits` is the depth of the input's samples.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    dpi: tuple[float, float] | None = None
    text: tuple[tuple[str, str], ...] = ()
    bits: int = 8

"""HEIC: HEVC in an ISO media file, as written by phones (ISO/IEC 23008-12, annex B).

Read by pi-heif (the extra `heic`) if it is installed, otherwise by libvips, whose wheel has no HEVC decoder. pi-heif is
pillow-heif without the encoder: its wheel bundles libheif and libde265 (LGPL), and not x265 (GPL).
"""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, BinaryIO

from liif_cli.errors import InputError
from liif_cli.images.formats.base import Format, Loaded, by_libvips, heif_brands
from liif_cli.images.formats.heif import Facts, guarded, load_heif, names_are_text, read, settled, to_full_range
from liif_cli.images.metadata import exif
from liif_cli.images.picture import Metadata
from liif_cli.images.source import Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

BRANDS = {b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1"}
AV1_BRANDS = {b"avif", b"avis"}
CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}


def is_heic(head: bytes) -> bool:
    """Whether the file's brands include a HEIF brand and no AVIF brand. (An AVIF has both.)"""
    brands = {*heif_brands(head)}
    return bool(brands & BRANDS) and not brands & AV1_BRANDS


def load_heic(source: Source, file: BinaryIO, frame: int) -> Loaded:
    """A HEIC. Raises InputError if no HEVC decoder is installed or the file is damaged."""
    if find_spec("pi_heif"):
        if not names_are_text(file):
            raise InputError(f"{source.name} is damaged: its item names are not valid UTF-8")
        return _by_pi_heif(guarded(source, file), read(file))
    import pyvips

    try:
        loaded = load_heif(source, file, frame)
    except pyvips.Error as error:
        raise _explained(source, error) from error
    return replace(loaded, decode=lambda: _decoded(source, loaded))


def _decoded(source: Source, loaded: Loaded) -> NDArray[Any]:
    import pyvips

    try:
        return loaded.decode()
    except pyvips.Error as error:
        raise _explained(source, error) from error


def _explained(source: Source, error: Exception) -> Exception:
    if "not been built in" not in str(error):
        return error
    return InputError(
        f"cannot decode {source.name}: it is HEIC, and libvips has no HEVC decoder",
        hint="install pi-heif (the extra liif[heic]), or convert the image to JPEG, PNG or AVIF first",
    )


def _by_pi_heif(source: Source, facts: Facts) -> Loaded:
    import pi_heif

    with source.open() as file:
        image = pi_heif.open_heif(file, convert_hdr_to_8bit=False)
    metadata, notes = settled(_metadata(image), facts)
    width, height = image.size
    mode = image.mode.partition(";")[0]
    return Loaded(width, height, CHANNELS[mode], metadata, lambda: _pixels(source, metadata.bits), notes)


def _metadata(image: Any) -> Metadata:
    found = image.info
    # irot and imir define the orientation and are already applied, so EXIF's must not be applied again
    return Metadata(
        icc=found.get("icc_profile") or None,
        exif=exif.upright(found.get("exif") or None),
        xmp=found.get("xmp") or None,
        bits=found.get("bit_depth", 8),
    )


def _pixels(source: Source, bits: int) -> NDArray[Any]:
    import numpy as np
    import pi_heif

    with source.open() as file:
        image = pi_heif.open_heif(file, convert_hdr_to_8bit=False)
        pixels = np.array(image)  # a copy: the image frees its memory when it is deleted
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    return to_full_range(pixels, bits) if 8 < bits < 16 else pixels


def _reads() -> str:
    if find_spec("pi_heif"):
        return "yes, by pi-heif"
    there = by_libvips("heifload")()
    return "only if libvips decodes HEVC; install liif[heic] to be sure" if there == "yes" else there


FORMAT = Format(
    name="heic",
    label="HEIC",
    variants="8, 10 and 12 bits; needs the extra `liif[heic]`, or a libvips that decodes HEVC (the wheel's does not)",
    suffixes=(".heic", ".heif"),
    sniff=is_heic,
    load=load_heic,
    reads=_reads,
)

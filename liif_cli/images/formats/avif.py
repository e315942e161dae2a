"""AVIF: AV1 in an ISO media file (AOMedia, "AV1 Image File Format")."""

import os
from pathlib import Path
from typing import Any

from liif_cli.images.formats.base import (
    Coding,
    Format,
    Holds,
    by_libvips,
    dpi_in_exif,
    heif_brands,
    without_cicp,
    without_place,
)
from liif_cli.images.formats.heif import load_heif
from liif_cli.images.picture import Metadata
from liif_cli.images.vips import interruptibly


def save_avif(image: Any, path: Path, coding: Coding, metadata: Metadata) -> tuple[str, ...]:
    """Write an AVIF; returns notes on metadata that it cannot store."""
    notes = without_cicp(metadata) + without_place(metadata, "AVIF")
    metadata = dpi_in_exif(metadata)
    if image.bands < 3 and coding.bits == 8:
        _gray_avif(image, path, coding, metadata)
        return notes
    import pyvips

    image = image.copy()
    keep = 0  # bits of VipsForeignKeep; asked to keep EXIF that is absent, libvips would invent some
    for bit, field, mark, data in (
        (1, "exif-data", b"Exif\0\0", metadata.exif),
        (2, "xmp-data", b"", metadata.xmp),
        (8, "icc-profile-data", b"", metadata.icc),
    ):
        if data:
            image.set_type(pyvips.GValue.blob_type, field, mark + data)
            keep |= bit
    options = {
        "Q": coding.quality or FORMAT.quality,
        "lossless": coding.lossless,
        "compression": "av1",
        "bitdepth": coding.bits,
        "subsample_mode": "off",
        "keep": keep,
    }
    interruptibly(image, lambda: image.heifsave(os.fsencode(path), **options), coding.cancelled)
    return notes


def _gray_avif(image: Any, path: Path, coding: Coding, metadata: Metadata) -> None:
    """Write a monochrome AVIF with Pillow, because libvips stores grayscale as RGB."""
    from PIL import Image

    pixels = image.numpy().reshape(image.height, image.width, image.bands)
    made = Image.fromarray(pixels if image.bands == 2 else pixels[..., 0])
    profiles = {"icc_profile": metadata.icc, "exif": metadata.exif, "xmp": metadata.xmp}
    made.save(
        path,
        "AVIF",
        quality=100 if coding.lossless else coding.quality or FORMAT.quality,
        subsampling="4:0:0",
        **{name: data for name, data in profiles.items() if data},
    )


FORMAT = Format(
    name="avif",
    label="AVIF",
    variants="8, 10 and 12 bits",
    suffixes=(".avif",),
    sniff=lambda head: any(brand in (b"avif", b"avis") for brand in heif_brands(head)),
    load=load_heif,
    save=save_avif,
    depths=(8, 10, 12),
    gray=(8,),
    alpha=True,
    quality=90,
    lossless="on request",
    max_side=16_384,  # the limit of libvips
    holds=Holds(profile="✓", exif="✓", xmp="✓", dpi="in EXIF"),
    reads=by_libvips("heifload"),
    writes=by_libvips("heifsave"),
)

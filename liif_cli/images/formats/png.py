"""PNG, still or animated (W3C PNG, third edition)."""

from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from liif_cli.errors import InputError
from liif_cli.images.formats.apng import is_whole, load_apng, save_apng
from liif_cli.images.formats.base import (
    Coding,
    Format,
    Holds,
    Loaded,
    by_libvips,
    decodable,
    from_vips,
    gray_of,
    pyvips_error,
)
from liif_cli.images.formats.png_chunks import PNG, SIGNATURE, damage, head, own_head, profile, read
from liif_cli.images.picture import Metadata
from liif_cli.images.source import Source
from liif_cli.images.vips import spliced


def load_png(source: Source, file: BinaryIO, frame: int) -> Loaded:
    """A PNG, or one frame of an APNG, counted from 0. Raises InputError if the file is damaged."""
    header = read(file)
    if header.frames > 1 and is_whole(header):
        return load_apng(source, header, frame)
    metadata, notes = profile(header)
    if header.frames > 1:
        notes = (*notes, "the animation is damaged: only its still image is read")
    try:
        loaded = from_vips(decodable(source, metadata.exif).vips("pngload"), metadata, notes)
    except pyvips_error() as error:
        raise _explained(source) or error from error
    if header.kind == 3 and header.gray_palette:
        loaded = gray_of(loaded)
    return replace(loaded, decode=lambda: _decoded(source, loaded))


def _decoded(source: Source, loaded: Loaded) -> Any:
    try:
        return loaded.decode()
    except pyvips_error() as error:
        raise _explained(source) or error from error


def _explained(source: Source) -> InputError | None:
    """The error for a PNG that cannot be decoded, if its chunks show the cause; otherwise None."""
    with source.open() as file:
        fault = damage(file)
    return InputError(f"{source.name}: {fault}", hint="copy or fetch the file again") if fault else None


def save_png(image: Any, path: Path, coding: Coding, metadata: Metadata) -> tuple[str, ...]:
    """Write a PNG or an APNG; returns notes on metadata that it cannot store."""
    if coding.timing:
        return save_apng(image, path, coding, metadata)
    metadata_chunks, notes = head(metadata)

    def own(first: bytes) -> bytes | None:
        end = own_head(first)
        return None if end is None else first[:33] + metadata_chunks + first[end:]

    spliced(image, path, own, lambda target: image.pngsave_target(target, keep="none", **PNG), coding.cancelled)
    return notes


FORMAT = Format(
    name="png",
    label="PNG",
    kinds=("PNG", "APNG"),
    variants="1 to 16 bits, palettes, interlaced",
    aliases=("apng",),
    suffixes=(".png", ".apng"),
    sniff=lambda head: head.startswith(SIGNATURE),
    load=load_png,
    save=save_png,
    depths=(8, 16),
    gray=(8, 16),
    alpha=True,
    animation=True,
    lossless="always",
    streams=True,
    holds=Holds(profile="✓", exif="✓", xmp="✓", iptc="✓ as ImageMagick writes it", dpi="✓", text="✓"),
    reads=by_libvips("pngload"),
    writes=by_libvips("pngsave"),
)

"""GIF, still or animated: at most 256 colours per frame (GIF89a)."""

import os
from pathlib import Path
from typing import Any, BinaryIO

from liif_cli.errors import InputError
from liif_cli.images.formats.base import (
    Coding,
    Format,
    Holds,
    Loaded,
    by_libvips,
    from_vips,
    gray_of,
    timed,
    without_metadata,
)
from liif_cli.images.picture import Metadata
from liif_cli.images.source import Source
from liif_cli.images.vips import interruptibly


def load_gif(source: Source, file: BinaryIO, frame: int) -> Loaded:
    """A GIF, or one frame of an animated one, counted from 0. Raises InputError if there is no such frame."""
    whole = source.vips("gifload", n=-1)
    frames = whole.get("n-pages")
    if not frame < frames:
        raise InputError(f"{source.name} has no frame {frame + 1}: it has {frames}")
    comment = whole.get("gif-comment") if whole.get_typeof("gif-comment") else None
    text = (("Comment", comment),) if comment else ()
    loaded = from_vips(source.vips("gifload", page=frame), Metadata(text=text))
    if frames > 1:
        return timed(loaded, whole)
    return gray_of(loaded) if has_gray_palette(file) else loaded


def has_gray_palette(file: BinaryIO) -> bool:
    """Whether the colour table of the first image contains only grays, not counting the transparent colour (GIF89a, sections
    18 to 23)."""
    file.seek(0)
    head = file.read(13).ljust(13, b"\0")
    colours, clear = file.read(_table_bytes(head[10])), None
    while (mark := file.read(1)) == b"!":  # extensions
        control = file.read(1) == b"\xf9"
        while size := int.from_bytes(file.read(1)):
            block = file.read(size)
            if control and len(block) == 4:
                clear = block[3] if block[0] & 1 else None
    if mark == b",":
        own = file.read(9).ljust(9, b"\0")
        colours = file.read(_table_bytes(own[8])) or colours
    if clear is not None:
        colours = colours[: 3 * clear] + colours[3 * clear + 3 :]
    return bool(colours) and colours[::3] == colours[1::3] == colours[2::3]


def _table_bytes(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 128 else 0


def save_gif(image: Any, path: Path, coding: Coding, metadata: Metadata) -> tuple[str, ...]:
    """Write a GIF, still or animated; returns notes on what it cannot store."""
    if image.format == "ushort":
        image = image.cast("uchar", shift=True)
    interruptibly(image, lambda: image.gifsave(os.fsencode(path), keep="none"), coding.cancelled)
    notes: tuple[str, ...] = ("GIF holds 256 colours per frame: the image was dithered",)
    if image.bands in (2, 4):
        notes += ("GIF holds only transparent and opaque pixels: alpha was rounded",)
    return notes + without_metadata(metadata, "GIF")


FORMAT = Format(
    name="gif",
    label="GIF",
    variants="still and animated",
    suffixes=(".gif",),
    sniff=lambda head: head[:6] in (b"GIF87a", b"GIF89a"),
    load=load_gif,
    save=save_gif,
    palette=True,
    alpha=True,
    animation=True,
    max_side=65_535,
    holds=Holds(),
    reads=by_libvips("gifload"),
    writes=by_libvips("gifsave"),
)

"""Reads images from files: upright, in sRGB's tone curve, with the metadata for the output."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyvips
from numpy.typing import NDArray

from liif_cli.errors import InputError, LiifError, Note
from liif_cli.images import colour, icc
from liif_cli.images.formats.base import Format, Loaded, within_memory
from liif_cli.images.formats.table import ALL, HEAD_BYTES, listed, sniff
from liif_cli.images.metadata import exif
from liif_cli.images.picture import Header, Metadata, Picture, Timing
from liif_cli.images.source import Source


def probe(source: Path | bytes | Source, *, page: int | None = None, frame: int | None = None) -> Header:
    """The header of an image file, without decoding its pixels. page, frame: as in `read`. Raises InputError."""
    source = source_of(source)
    with _readable(source) as form:
        loaded = load(source, form, page, frame)
    turned = loaded.metadata.orientation > 4
    width, height = (loaded.height, loaded.width) if turned else (loaded.width, loaded.height)
    about = loaded.metadata
    dpi = about.dpi or exif.dpi_of(about.exif)
    dpi = dpi[::-1] if dpi and turned else dpi
    return Header(
        form.name, width, height, loaded.channels, about.bits, loaded.frames, loaded.pages, dpi, about.quality
    )


def read(
    source: Path | bytes | Source, *, page: int | None = None, frame: int | None = None, to_srgb: bool = False
) -> Picture:
    """Decode an image from a path or from the bytes of a file.

    page: of a TIFF, counted from 1; by default the first, with a note if there are more. frame: of an animation, counted from
    1; by default the first, with the animation's timing. to_srgb: convert the colours to sRGB; they are not converted back on
    writing. Raises InputError, which names the file, if it cannot be read, and OutOfMemory if it does not fit into memory.
    """
    source = source_of(source)
    with _readable(source) as form:
        loaded = load(source, form, page, frame)
        pixels = loaded.decode()
    notes = loaded.notes + tuple(loaded.late)
    if loaded.pages > 1 and page is None:
        notes += (Note.on(f"the first of {loaded.pages} pages is read", "page"),)
    pixels = oriented(pixels, loaded.metadata.orientation)
    pixels, metadata, said = _for_network(pixels, loaded.metadata, to_srgb)
    return Picture(pixels, metadata, form.name, notes + said, loaded.timing if frame is None else None)


def later_frames(source: Path | bytes | Source, timing: Timing | None, *, to_srgb: bool = False) -> Iterator[Picture]:
    """The frames of an animation after the first, in one pass over the file.

    timing: from `read`; None (a still image) gives no frames. Raises InputError, also if the file has fewer frames than
    `timing`.
    """
    if timing is None or timing.frames < 2:
        return
    source, made = source_of(source), 1
    with _readable(source) as form:
        loaded = load(source, form, None, None)
        for stored in islice(loaded.later() if loaded.later else (), timing.frames - 1):
            pixels = oriented(stored, loaded.metadata.orientation)
            pixels, metadata, said = _for_network(pixels, loaded.metadata, to_srgb)
            made += 1
            yield Picture(pixels, metadata, form.name, loaded.notes + said, None)
        if made < timing.frames:
            raise InputError(f"{source.name} has no frame {made + 1}: it has {made}")


def source_of(source: Path | bytes | Source) -> Source:
    """A path, or the bytes of a file, as a `Source`."""
    return source if isinstance(source, Source) else Source(source)


@contextmanager
def _readable(source: Source) -> Iterator[Format]:
    """Yields the format, by content, and turns any exception of a decoder into an InputError that names the file."""
    with source.open() as file:
        head = file.read(HEAD_BYTES)
    try:
        yield sniff(head)
    except InputError as error:
        if str(error).startswith(source.name):
            raise
        raise InputError(f"{source.name}: {error}", hint=error.hint) from error
    except pyvips.Error as error:
        raise InputError(f"{source.name}: {_first_line(error)}") from error
    except (LiifError, MemoryError):
        raise
    except Exception as error:  # on malicious files, decoders can raise anything
        raise InputError(f"cannot decode {source.name}: {_said(error)}") from error


def _said(error: Exception) -> str:
    """A library's message without the object in it, or "the file is broken" if it says nothing useful."""
    text = str(error).partition("<_io.")[0].strip()
    plain = isinstance(error, OSError | SyntaxError | ValueError | EOFError) and len(text) > 3
    return text if plain and not text.endswith("identify image file") else "the file is broken"


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines()[1:] if line.strip()), "it cannot be decoded")


def oriented(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Stored pixels (H, W, C), rotated and mirrored to be upright. orientation: EXIF's, 1 to 8 (CIPA DC-008, 4.6.5.1.4)."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _for_network(
    pixels: NDArray[Any], metadata: Metadata, to_srgb: bool
) -> tuple[NDArray[Any], Metadata, tuple[str, ...]]:
    """The pixels in the tone curve for the network, the metadata with the `curve` to invert on writing, and notes."""
    profile = metadata.icc
    if profile is None:
        return pixels, metadata, ()
    gray = pixels.shape[2] < 3
    if icc.space(profile) != ("GRAY" if gray else "RGB"):
        kind = icc.space(profile) or "broken"
        return pixels, replace(metadata, icc=None), (f"dropped a {kind} ICC profile: it does not fit the pixels",)
    try:
        if to_srgb:
            return _converted(pixels, metadata, profile, gray)
        curve = colour.far_curve(profile)
    except pyvips.Error:
        return pixels, replace(metadata, icc=None), ("dropped the ICC profile: it is broken",)
    if curve is None:
        return pixels, metadata, ()
    return colour.to_network(pixels, curve), replace(metadata, curve=curve), ()


def _converted(
    pixels: NDArray[Any], metadata: Metadata, profile: bytes, gray: bool
) -> tuple[NDArray[Any], Metadata, tuple[str, ...]]:
    note = (f"converted to sRGB from {icc.name(profile) or 'its profile'}",)
    if gray:
        wide = colour.to_network(pixels, colour.tone_curve(profile))
        return wide, replace(metadata, icc=None), note
    deep = pixels.dtype == np.uint16
    image = pyvips.Image.new_from_array(pixels).copy(interpretation="rgb16" if deep else "srgb")
    image, srgb = colour.to_srgb(image, profile)
    return image.numpy().reshape(pixels.shape), replace(metadata, icc=srgb), note


def load(source: Source, form: Format, page: int | None, frame: int | None) -> Loaded:
    """The file's header and decoder. page, frame: counted from 1. Raises InputError if there is no such page or frame."""
    if page is not None and not form.pages:
        paged = listed([each.label for each in ALL if each.pages])
        raise InputError(f"{source.name} has no pages: only {paged} has", remedy="frame")
    with source.open() as file:
        loaded = form.load(source, file, (page or frame or 1) - 1)
    if frame is not None and not 1 <= frame <= loaded.frames:
        raise InputError(f"{source.name} has no frame {frame}: it has {loaded.frames}")
    loaded = replace(loaded, decode=within_memory(source, loaded))
    if loaded.metadata.dpi is None and loaded.metadata.exif:
        return replace(loaded, metadata=replace(loaded.metadata, dpi=exif.dpi_of(loaded.metadata.exif)))
    return loaded

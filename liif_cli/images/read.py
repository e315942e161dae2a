"""Images from files: upright, in sRGB's tone curve, with everything that is to travel on."""

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
    """The header of an image file, without decoding it. InputError if it is not an image."""
    source = source_of(source)
    with _readable(source) as form:
        loaded = load(source, form, page, frame)
    turned = loaded.metadata.orientation > 4
    width, height = (loaded.height, loaded.width) if turned else (loaded.width, loaded.height)
    about = loaded.metadata
    dpi = about.dpi or exif.dpi_of(about.exif)
    dpi = dpi[::-1] if dpi and turned else dpi
    return Header(form.name, width, height, loaded.channels, about.bits, loaded.frames, loaded.pages, dpi)


def read(
    source: Path | bytes | Source, *, page: int | None = None, frame: int | None = None, to_srgb: bool = False
) -> Picture:
    """Decode an image: a file by its path, or a file's bytes.

    page (TIFF) and frame (animations) count from 1. Without a page the first is read and a note says that there are more;
    without a frame an animation's first is read, with the animation's timing. to_srgb converts the colours to sRGB for
    good. Raises InputError, naming the file, if it cannot be read.
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
    """The frames after the first of an animation that `read` gave the timing of, in one pass over the file; none of a still
    (None). InputError, also where there are fewer by now."""
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
    """A path or bytes as a `Source`."""
    return source if isinstance(source, Source) else Source(source)


@contextmanager
def _readable(source: Source) -> Iterator[Format]:
    """The format by content; whatever the decoders raise becomes an InputError that names the file."""
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
    except Exception as error:  # decoders and libraries raise anything on a file that was made to break them
        raise InputError(f"{source.name} cannot be decoded: {_said(error)}") from error


def _said(error: Exception) -> str:
    """A library's own message without the object that it names; if it is empty, that the file is broken."""
    text = str(error).partition("<_io.")[0].strip()
    plain = isinstance(error, OSError | SyntaxError | ValueError | EOFError) and len(text) > 3
    return text if plain and not text.endswith("identify image file") else "the file is broken"


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines()[1:] if line.strip()), "it cannot be decoded")


def oriented(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Pixels (H, W, C) as stored, turned and mirrored as EXIF's Orientation 1 to 8 says (CIPA DC-008, 4.6.5.1.4)."""
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
    """Pixels in the tone curve that the network sees, metadata that knows the way back, and notes."""
    profile = metadata.icc
    if profile is None:
        return pixels, metadata, ()
    gray = pixels.shape[2] < 3
    if icc.space(profile) != ("GRAY" if gray else "RGB"):
        kind = icc.space(profile) or "broken"
        return pixels, replace(metadata, icc=None), (f"dropped because it does not fit the pixels: a {kind} profile",)
    try:
        if to_srgb:
            return _converted(pixels, metadata, profile, gray)
        curve = colour.far_curve(profile)
    except pyvips.Error:
        return pixels, replace(metadata, icc=None), ("dropped because it is broken: the ICC profile",)
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
    """Header of an image of the format. page and frame count from 1."""
    if page is not None and not form.pages:
        paged = listed([each.label for each in ALL if each.pages])
        raise InputError(f"{source.name} has no pages: only {paged} does", remedy="frame")
    with source.open() as file:
        loaded = form.load(source, file, (page or frame or 1) - 1)
    if frame is not None and not 1 <= frame <= loaded.frames:
        raise InputError(f"{source.name} has no frame {frame}: it has {loaded.frames}")
    loaded = replace(loaded, decode=within_memory(source, loaded))
    if loaded.metadata.dpi is None and loaded.metadata.exif:
        return replace(loaded, metadata=replace(loaded.metadata, dpi=exif.dpi_of(loaded.metadata.exif)))
    return loaded

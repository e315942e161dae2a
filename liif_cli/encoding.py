"""A pyvips image into a file of each format, with its metadata.

libvips encodes bare pixels; the metadata is put around them here, since libvips re-writes EXIF, has no place for IPTC
in PNG and leaves EXIF out of TIFF. PNG and JPEG pass through `_Splice` on their way to the disk, so nothing is held.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyvips
from numpy.typing import NDArray
from PIL import Image

from liif_cli.containers import apng, jpeg, png, tiff, webp
from liif_cli.errors import OutputError
from liif_cli.formats import Format
from liif_cli.icc import HDR
from liif_cli.metadata import Metadata, Timing

OPTIMIZED = 4_000_000
"""JPEGs up to this many pixels get optimal Huffman tables, for which libjpeg holds all coefficients."""
CLASSIC_TIFF = 2**32
"""Bytes that offsets of 32 bits reach; a larger TIFF is a BigTIFF."""
PNG = {"filter": "paeth", "compression": 5}
"""Half the time of trying every filter at zlib's level 6, for files that are 1 to 3% larger (photographs and graphics, x2 and
x4): beside the rendering of a batch, saving is what takes the processor's time."""
QUALITY = {"jpeg": 95, "webp": 95, "avif": 90}


@dataclass(frozen=True)
class Coding:
    """How pixels are coded. quality: 1 to 100, None for the format's own; bits: the depth of what is stored."""

    quality: int | None = None
    lossless: bool = False
    bits: int = 8


def encode(
    image: Any, path: Path, form: Format, coding: Coding, metadata: Metadata, timing: Timing | None = None
) -> tuple[str, ...]:
    """Write a pyvips image (uchar or ushort; 1 to 4 bands) to `path`, which may exist and is overwritten. With timing it is
    an animation's frames, one below the other.

    Returns notes on what of the metadata the format does not hold. OutputError when the encoder or the disk fails;
    an exception that arrives meanwhile (Ctrl-C) stops the encoder and is raised.
    """
    deep = image.format == "ushort"
    gray, rgb = ("grey16", "rgb16") if deep else ("b-w", "srgb")
    image = image.copy(interpretation=gray if image.bands < 3 else rgb)
    if timing:
        image.set_type(pyvips.GValue.array_int_type, "delay", list(timing.durations))
        image.set_type(pyvips.GValue.gint_type, "loop", timing.loop)
        image.set_type(pyvips.GValue.gint_type, "page-height", image.height // timing.frames)
    try:
        if timing and form.name == "png":
            return _apng(image, path, metadata, timing)
        return _ENCODERS[form.name](image, path, coding, metadata)
    except pyvips.Error as error:
        said = next((line.strip() for line in str(error).splitlines()[1:] if line.strip()), "the encoder failed")
        raise OutputError(f"{form.label} could not be written: {said}") from error
    except OSError as error:
        raise OutputError(f"the output could not be written: {error.strerror}") from error


def _png(image: Any, path: Path, coding: Coding, metadata: Metadata) -> tuple[str, ...]:
    head, notes = png.head(metadata)

    def own(first: bytes) -> bytes | None:
        end = png.own_head(first)
        return None if end is None else first[:33] + head + first[end:]

    _spliced(image, path, own, lambda target: image.pngsave_target(target, keep="none", **PNG))
    return notes


def _apng(image: Any, path: Path, metadata: Metadata, timing: Timing) -> tuple[str, ...]:
    head, notes = png.head(metadata)
    height = image.height // timing.frames
    frames = (image.crop(0, top, image.width, height).numpy() for top in range(0, image.height, height))

    def encoded(pixels: NDArray[Any]) -> bytes:
        bare = pyvips.Image.new_from_array(np.ascontiguousarray(pixels)).copy(interpretation=image.interpretation)
        return bytes(bare.pngsave_buffer(keep="none", **PNG))

    with path.open("wb") as file:
        apng.write(file, frames, encoded, head, timing)
    return notes


def _jpeg(image: Any, path: Path, coding: Coding, metadata: Metadata) -> tuple[str, ...]:
    head, notes = jpeg.head(metadata)

    def own(first: bytes) -> bytes | None:
        end = jpeg.own_head(first)
        return None if end is None else head + first[end:]

    options = {
        "Q": coding.quality or QUALITY["jpeg"],
        "subsample_mode": "off",
        "optimize_coding": image.width * image.height <= OPTIMIZED,
        "keep": "none",
    }
    _spliced(image, path, own, lambda target: image.jpegsave_target(target, **options))
    return notes + _without_cicp(metadata)


def _webp(image: Any, path: Path, coding: Coding, metadata: Metadata) -> tuple[str, ...]:
    quality = coding.quality or QUALITY["webp"]
    if image.bands < 3:
        image = image.colourspace("srgb")
    options = {"Q": quality, "lossless": coding.lossless, "exact": True, "smart_subsample": True, "keep": "none"}
    data: list[bytes] = []
    _interruptibly(image, lambda: data.append(image.webpsave_buffer(**options)))
    height = image.get("page-height") if image.get_typeof("page-height") else image.height
    path.write_bytes(webp.with_metadata(data[0], _dpi_in_exif(metadata), image.width, height, image.bands == 4))
    return _without_cicp(metadata) + _without(metadata, "WebP")


def _avif(image: Any, path: Path, coding: Coding, metadata: Metadata) -> tuple[str, ...]:
    notes = _without_cicp(metadata) + _without(metadata, "AVIF")
    metadata = _dpi_in_exif(metadata)
    if image.bands < 3 and coding.bits == 8:
        _gray_avif(image, path, coding, metadata)
        return notes
    image = image.copy()
    keep = 0  # what libvips is to keep, as VipsForeignKeep's bits; asked for EXIF, it would make some up
    for bit, field, mark, data in (
        (1, "exif-data", b"Exif\0\0", metadata.exif),
        (2, "xmp-data", b"", metadata.xmp),
        (8, "icc-profile-data", b"", metadata.icc),
    ):
        if data:
            image.set_type(pyvips.GValue.blob_type, field, mark + data)
            keep |= bit
    options = {
        "Q": coding.quality or QUALITY["avif"],
        "lossless": coding.lossless,
        "compression": "av1",
        "bitdepth": coding.bits,
        "subsample_mode": "off",
        "keep": keep,
    }
    _interruptibly(image, lambda: image.heifsave(os.fsencode(path), **options))
    return notes


def _gray_avif(image: Any, path: Path, coding: Coding, metadata: Metadata) -> None:
    """Monochrome, by Pillow, since libvips stores gray as RGB."""
    pixels = image.numpy().reshape(image.height, image.width, image.bands)
    picture = Image.fromarray(pixels if image.bands == 2 else pixels[..., 0])
    profiles = {"icc_profile": metadata.icc, "exif": metadata.exif, "xmp": metadata.xmp}
    picture.save(
        path,
        "AVIF",
        quality=100 if coding.lossless else coding.quality or QUALITY["avif"],
        subsampling="4:0:0",
        **{name: data for name, data in profiles.items() if data},
    )


def _tiff(image: Any, path: Path, coding: Coding, metadata: Metadata) -> tuple[str, ...]:
    raw = image.width * image.height * image.bands * (2 if image.format == "ushort" else 1)
    # deflate grows what it cannot shrink, by less than a hundredth
    big = raw * 1.01 + 2**24 > CLASSIC_TIFF
    options = {"compression": "deflate", "predictor": "horizontal", "bigtiff": big, "keep": "none"}
    _interruptibly(image, lambda: image.tiffsave(os.fsencode(path), **options))
    with path.open("r+b") as file:
        return tiff.add_metadata(file, metadata) + _without_cicp(metadata)


def _gif(image: Any, path: Path, coding: Coding, metadata: Metadata) -> tuple[str, ...]:
    if image.format == "ushort":
        image = image.cast("uchar", shift=True)
    _interruptibly(image, lambda: image.gifsave(os.fsencode(path), keep="none"))
    notes: tuple[str, ...] = ("GIF holds 256 colours a frame: the others were dithered",)
    if image.bands in (2, 4):
        notes += ("GIF knows only transparent and opaque: alpha was rounded",)
    places = ("EXIF", metadata.exif), ("XMP", metadata.xmp), ("ICC", metadata.icc), ("text", metadata.text)
    lost = [what for what, there in (*places, ("IPTC", metadata.photoshop)) if there]
    return notes + ((f"dropped, as GIF has no place for it: {', '.join(lost)}",) if lost else ())


_ENCODERS: dict[str, Callable[[Any, Path, Coding, Metadata], tuple[str, ...]]] = {
    "png": _png,
    "jpeg": _jpeg,
    "webp": _webp,
    "avif": _avif,
    "tiff": _tiff,
    "gif": _gif,
}


def _dpi_in_exif(metadata: Metadata) -> Metadata:
    """For formats whose only place for dots per inch is EXIF."""
    if metadata.exif or not metadata.dpi:
        return metadata
    return replace(metadata, exif=tiff.exif_with_dpi(metadata.dpi))


def _without_cicp(metadata: Metadata) -> tuple[str, ...]:
    if metadata.cicp is None or metadata.cicp[1] not in HDR:
        return ()  # sRGB is what a file without code points is taken for
    return ("dropped, as only PNG holds it here: what says that the picture is HDR (cICP)",)


def _without(metadata: Metadata, name: str) -> tuple[str, ...]:
    lost = ["IPTC"] if metadata.photoshop else []
    lost += [f"the text {', '.join(k for k, _ in metadata.text)}"] if metadata.text else []
    return (f"dropped, as {name} has no place for it: {' and '.join(lost)}",) if lost else ()


def _interruptibly(image: Any, work: Callable[[], object]) -> None:
    """Run a libvips saver on `image` in a thread of its own, so that Ctrl-C and other signals reach the main thread at
    once; the saver is stopped before they are passed on, or by `stop_all`."""
    with ThreadPoolExecutor(1) as pool:
        _running[id(image)] = image
        future = pool.submit(work)
        try:
            while not wait([future], timeout=0.2).done:
                pass
        except BaseException:
            image.set_kill(True)
            raise
        finally:
            _running.pop(id(image), None)
        future.result()


_running: dict[int, Any] = {}


def stop_all() -> None:
    """Let every encoder that is running now fail, for a process that is to end."""
    for image in list(_running.values()):
        image.set_kill(True)


def _spliced(image: Any, path: Path, own: Callable[[bytes], bytes | None], save: Callable[[Any], object]) -> None:
    """Run a libvips saver into `path`, with its first bytes exchanged by `own` (None: more are needed)."""
    with path.open("wb") as file:
        splice = _Splice(file, own)
        target = pyvips.TargetCustom()
        target.on_write(splice.write)
        try:
            _interruptibly(image, lambda: save(target))
        except pyvips.Error:
            if splice.caught is None:
                raise
        if splice.caught is not None:
            raise splice.caught


class _Splice:
    """Takes an encoder's bytes; an exception in here (a full disk, Ctrl-C) makes libvips fail and waits in `caught`,
    since none passes through C."""

    def __init__(self, file: BinaryIO, own: Callable[[bytes], bytes | None]) -> None:
        self.file, self.own = file, own
        self.first: bytes | None = b""
        self.caught: BaseException | None = None

    def write(self, data: bytes) -> int:
        try:
            self._pass_on(bytes(data))
        except BaseException as error:
            self.caught = error
            return -1
        return len(data)

    def _pass_on(self, data: bytes) -> None:
        if self.first is None:
            self.file.write(data)
            return
        self.first += data
        exchanged = self.own(self.first)
        if exchanged is not None:
            self.file.write(exchanged)
            self.first = None

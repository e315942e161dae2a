"""One loader a format: a file becomes an array, its metadata and what has to be said about it.

libvips decodes; Pillow takes BMP, PBM and APNG, which libvips' wheel lacks. Only the loader of the format that the
content shows is ever called.
"""

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from liif_cli import colour, exif, icc
from liif_cli.containers import heif, jpeg, netpbm, png, tiff, webp
from liif_cli.errors import InputError, OutOfMemory
from liif_cli.memory import available, format_bytes
from liif_cli.metadata import Metadata, Timing
from liif_cli.source import Source


@dataclass(frozen=True)
class Loaded:
    """A file's header, and `decode`, which reads its pixels as stored, (H, W, C) uint8 or uint16.

    `timing` is there for animations; `pages` counts a TIFF's pages.
    """

    width: int
    height: int
    channels: int
    metadata: Metadata
    decode: Callable[[], NDArray[Any]]
    notes: tuple[str, ...] = ()
    timing: Timing | None = None
    pages: int = 1

    @property
    def frames(self) -> int:
        """Frames of an animation, 1 for a still."""
        return self.timing.frames if self.timing else 1


def load(source: Source, form: str, page: int | None, frame: int | None) -> Loaded:
    """Header of a picture of the format. page and frame count from 1."""
    if page is not None and form != "tiff":
        raise InputError(f"{source.name} has no pages: only TIFF does", hint="--frame picks a frame of an animation")
    with source.open() as file:
        loaded = _LOADERS[form](source, file, (page or frame or 1) - 1)
    if frame is not None and not 1 <= frame <= loaded.frames:
        raise InputError(f"{source.name} has no frame {frame}: it has {loaded.frames}")
    loaded = replace(loaded, decode=_within_memory(source, loaded))
    if loaded.metadata.dpi is None and loaded.metadata.exif:
        return replace(loaded, metadata=replace(loaded.metadata, dpi=tiff.dpi_of(loaded.metadata.exif)))
    return loaded


def _within_memory(source: Source, loaded: Loaded) -> Callable[[], NDArray[Any]]:
    """The picture's `decode`, which raises OutOfMemory first where the header promises more than memory holds: a few bytes
    can claim billions of pixels."""

    def decode() -> NDArray[Any]:
        needed = loaded.width * loaded.height * loaded.channels * (2 if loaded.metadata.bits > 8 else 1)
        if needed > (free := available()):
            size = f"{loaded.width}x{loaded.height}"
            raise OutOfMemory(
                f"{source.name} has {size} pixels: {format_bytes(needed)}, and {format_bytes(free)} of memory are free",
                hint="close other programs, or cut the picture first",
            )
        return loaded.decode()

    return decode


def _png(source: Source, file: BinaryIO, frame: int) -> Loaded:
    header = png.read(file)
    if header.frames > 1:
        return _apng(source, header, frame)
    metadata, notes = png.profile(header)
    loaded = _from_vips(source.vips("pngload"), metadata, notes)
    return _without_palette(source, loaded) if header.kind == 3 else loaded


def _apng(source: Source, header: png.Header, frame: int) -> Loaded:
    metadata, notes = png.profile(header)
    if header.depth == 16:
        notes = (*notes, "the animation's 16-bit samples are read as 8 bits")
    with source.open() as file, _pillow(), Image.open(file) as image:
        first = 1 if getattr(image, "default_image", False) else 0
        durations = []
        count = int(getattr(image, "n_frames", 1))
        for index in range(first, count):
            image.seek(index)
            durations.append(round(image.info.get("duration", 100)))
        loop = int(image.info.get("loop", 0))
        if len(durations) != header.frames:
            raise InputError(f"the animation has {len(durations)} frames and should have {header.frames}")
    gray = header.kind in (0, 4)

    def decode() -> NDArray[Any]:
        with source.open() as file, _pillow(), Image.open(file) as image:
            image.seek(frame + first)
            return _opaque_or_not(np.asarray(image.convert("RGBA")), gray)

    timing = Timing(tuple(durations), loop)
    return Loaded(header.width, header.height, 2 if gray else 4, replace(metadata, bits=8), decode, notes, timing)


def _opaque_or_not(pixels: NDArray[Any], gray: bool) -> NDArray[Any]:
    return np.ascontiguousarray(pixels[..., [0, 3]] if gray else pixels)


def _jpeg(source: Source, file: BinaryIO, _: int) -> Loaded:
    return _from_vips(source.vips("jpegload"), jpeg.read(file))


def _webp(source: Source, file: BinaryIO, frame: int) -> Loaded:
    metadata = webp.read(file)
    whole = source.vips("webpload", n=-1)
    frames = whole.get("n-pages") if whole.get_typeof("n-pages") else 1
    if not frame < frames:
        raise InputError(f"{source.name} has no frame {frame + 1}: it has {frames}")
    loaded = _from_vips(source.vips("webpload", page=frame), metadata)
    return _timed(loaded, whole) if frames > 1 else loaded


def _gif(source: Source, file: BinaryIO, frame: int) -> Loaded:
    whole = source.vips("gifload", n=-1)
    frames = whole.get("n-pages")
    if not frame < frames:
        raise InputError(f"{source.name} has no frame {frame + 1}: it has {frames}")
    comment = whole.get("gif-comment") if whole.get_typeof("gif-comment") else None
    text = (("Comment", comment),) if comment else ()
    loaded = _from_vips(source.vips("gifload", page=frame), Metadata(text=text))
    return _timed(loaded, whole) if frames > 1 else _without_palette(source, loaded)


def _timed(loaded: Loaded, whole: Any) -> Loaded:
    """A frame of an animation, with as many channels as all frames together need."""
    frames, bands = whole.get("n-pages"), whole.bands
    delays = whole.get("delay") if whole.get_typeof("delay") else [100] * frames
    timing = Timing(tuple(delays), whole.get("loop") if whole.get_typeof("loop") else 1)
    return replace(loaded, timing=timing, channels=bands, decode=lambda: _with_bands(loaded.decode(), bands))


def _with_bands(pixels: NDArray[Any], bands: int) -> NDArray[Any]:
    """Gray repeated to RGB, and opaque alpha added, where the animation's other frames have them."""
    if pixels.shape[2] < 3 <= bands:
        pixels = np.concatenate([np.repeat(pixels[..., :1], 3, axis=2), pixels[..., 1:]], axis=2)
    if pixels.shape[2] < bands:
        pixels = np.concatenate([pixels, np.full_like(pixels[..., :1], 255)], axis=2)
    return pixels


def _heif(source: Source, file: BinaryIO, _: int) -> Loaded:
    facts = heif.read(file)
    image = source.vips("heifload")
    metadata = _vips_metadata(image)
    notes: tuple[str, ...] = ()
    if facts.nclx and not metadata.icc:
        metadata, notes = icc.settle_cicp(replace(metadata, cicp=bytes([facts.nclx[0], facts.nclx[1], 0, 1])))
    if facts.sequence:
        notes += ("an animation in AVIF or HEIC: only its first frame is read",)
    if facts.gray and image.bands > 2:
        image = image[0].bandjoin(image[3]) if image.bands == 4 else image[0]
    bits = metadata.bits
    loaded = _from_vips(image, metadata, notes)
    if not 8 < bits < 16:
        return loaded
    return replace(loaded, decode=lambda: _to_full_range(loaded.decode(), bits))


def _to_full_range(pixels: NDArray[Any], bits: int) -> NDArray[Any]:
    """libvips shifts 10 and 12 bits up to 16, which leaves white short of 65,535."""
    top = 2**bits - 1
    table = np.rint(np.arange(top + 1) * (65535 / top)).astype(np.uint16)
    full: NDArray[Any] = table[pixels >> (16 - bits)]
    return full


def _vips_metadata(image: Any) -> Metadata:
    def blob(name: str) -> bytes | None:
        return bytes(image.get(name)) if image.get_typeof(name) else None

    bits = image.get("bits-per-sample") if image.get_typeof("bits-per-sample") else 8
    # irot and imir are the file's word on orientation and already applied: EXIF's must not be applied again
    return Metadata(icc=blob("icc-profile-data"), exif=exif.upright(blob("exif-data")), xmp=blob("xmp-data"), bits=bits)


def _tiff(source: Source, file: BinaryIO, page: int) -> Loaded:
    facts = tiff.read(file, page)
    image = source.vips("tiffload", page=page)
    notes = []
    if facts.sample_format == 3:
        image = image.copy(interpretation="b-w" if image.bands < 3 else "srgb")
    elif image.format not in ("uchar", "ushort") and image.interpretation not in ("lab", "labs"):
        raise InputError(f"{source.name} holds {facts.bits}-bit integer samples", hint="8, 16 bits and float are read")
    if 1 in facts.extra:  # libvips has divided them already
        notes.append("the colours were divided by the premultiplied alpha")
    elif facts.extra and not any(kind in (1, 2) for kind in facts.extra):
        image = image.extract_band(0, n=facts.samples - len(facts.extra))
        notes.append(f"{len(facts.extra)} extra channels, which are not alpha, were left out")
    return replace(_from_vips(image, facts.metadata, tuple(notes)), pages=facts.pages)


def _bmp(source: Source, file: BinaryIO, _: int) -> Loaded:
    return _from_pillow(source, file)


def _ppm(source: Source, file: BinaryIO, _: int) -> Loaded:
    facts = netpbm.header(file.read(2**16))
    if facts is None:
        return _from_pillow(source, file)
    width, height, channels, top = facts

    def decode() -> NDArray[Any]:
        with source.open() as again:
            return netpbm.read(again.read())

    return Loaded(width, height, channels, Metadata(bits=16 if top > 255 else 8), decode)


_pillow_lock = threading.Lock()


@contextmanager
def _pillow() -> Iterator[None]:
    """Pillow's limit on pixels is a global of its module; the caller's own limit is checked on the header. What Pillow warns
    of is an error, or no concern of the user."""
    with _pillow_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _from_pillow(source: Source, file: BinaryIO) -> Loaded:
    file.seek(0)
    with _pillow(), Image.open(file) as image:
        mode, size, dpi = image.mode, image.size, image.info.get("dpi")
        if mode == "P":
            colours = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
            target = "L" if (colours == colours[:, :1]).all() else "RGB"
        else:
            target = {"1": "L", "L": "L", "RGBA": "RGBA"}.get(mode, "RGB")

    def decode() -> NDArray[Any]:
        with source.open() as again, _pillow(), Image.open(again) as image:
            pixels: NDArray[Any] = np.array(
                image.convert("RGB").convert(target) if mode == "P" else image.convert(target)
            )
        return pixels[..., None] if pixels.ndim == 2 else pixels

    metadata = Metadata(dpi=(float(dpi[0]), float(dpi[1])) if dpi else None)
    return Loaded(size[0], size[1], len(target) if target != "L" else 1, metadata, decode)


def _without_palette(source: Source, loaded: Loaded) -> Loaded:
    """A palette of grays makes a gray picture: seen in the pixels, which such files have few of."""
    pixels = _within_memory(source, loaded)()
    if pixels.shape[2] >= 3 and (pixels[..., :3] == pixels[..., :1]).all():
        pixels = np.ascontiguousarray(pixels[..., [0, 3]] if pixels.shape[2] == 4 else pixels[..., :1])
    return replace(loaded, channels=pixels.shape[2], decode=lambda: pixels)


def _from_vips(image: Any, metadata: Metadata, notes: tuple[str, ...] = ()) -> Loaded:
    """Bring a pyvips image to gray or RGB, with or without alpha, of 8 or 16 bits."""
    said = list(notes)
    bits = 16 if image.format == "ushort" else 8
    if image.interpretation == "cmyk":
        image, profile = colour.to_srgb(image, metadata.icc)
        metadata = replace(metadata, icc=profile)
        said.append("CMYK was converted to sRGB")
    elif image.interpretation in ("lab", "labs"):
        image, bits = image.colourspace("rgb16"), 16
        metadata = replace(metadata, icc=None)
        said.append("Lab was converted to sRGB")
    if image.bands > 4:
        said.append(f"{image.bands - 4} extra channels were left out")
        image = image.extract_band(0, n=4)
    floats = image.format in ("float", "double")
    metadata = replace(metadata, bits=metadata.bits if 8 < metadata.bits < 16 else (16 if floats else bits))
    if floats:
        said.append("float samples are taken as display values in [0, 1] and kept with 16 bits")
    return Loaded(image.width, image.height, image.bands, metadata, lambda: _pixels(image, floats), tuple(said))


def _pixels(image: Any, floats: bool) -> NDArray[Any]:
    pixels: NDArray[Any] = image.numpy().reshape(image.height, image.width, image.bands)
    return _from_floats(pixels) if floats else pixels


def _from_floats(pixels: NDArray[Any]) -> NDArray[Any]:
    beyond = np.count_nonzero(pixels > 1) / pixels.size
    if beyond > 0.5:
        raise InputError(
            f"the float samples reach {pixels.max():.6g}, and [0, 1] is expected", hint="scale them to [0, 1] first"
        )
    deep: NDArray[Any] = np.rint(np.clip(np.nan_to_num(pixels), 0, 1) * 65535).astype(np.uint16)
    return deep


_LOADERS: dict[str, Callable[[Source, BinaryIO, int], Loaded]] = {
    "png": _png,
    "jpeg": _jpeg,
    "webp": _webp,
    "gif": _gif,
    "tiff": _tiff,
    "bmp": _bmp,
    "ppm": _ppm,
    "avif": _heif,
    "heic": _heif,
}

"""What a file format is: one object with all that liif knows of it, made in the format's own file; and what several share.

A format's file loads neither NumPy, Pillow nor libvips before a file is read or written: `liif --help` asks for its name.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from liif_cli.errors import InputError, OutOfMemory
from liif_cli.images.metadata import exif
from liif_cli.images.picture import Metadata, Timing
from liif_cli.images.source import Source
from liif_cli.machine.memory import available, format_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Coding:
    """How pixels are coded.

    quality: 1 to 100, None for the format's own. bits: the depth of what is stored. timing: of an animation, whose frames
    lie one below the other. cancelled: set, on any thread, to have the encoder stop and fail.
    """

    quality: int | None = None
    lossless: bool = False
    bits: int = 8
    timing: Timing | None = None
    cancelled: threading.Event = field(default_factory=threading.Event, compare=False)


@dataclass(frozen=True)
class Loaded:
    """A file's header, and `decode`, which reads its pixels as stored, (H, W, C) uint8 or uint16.

    `timing` is there for animations, and `later`, which gives their frames after the first, as `decode` does; `pages` counts a
    TIFF's pages. late: notes that `decode` adds.
    """

    width: int
    height: int
    channels: int
    metadata: Metadata
    decode: Callable[[], NDArray[Any]]
    notes: tuple[str, ...] = ()
    timing: Timing | None = None
    pages: int = 1
    late: list[str] = field(default_factory=list)
    later: Callable[[], Iterator[NDArray[Any]]] | None = None

    @property
    def frames(self) -> int:
        """Frames of an animation, 1 for a still."""
        return self.timing.frames if self.timing else 1


Load = Callable[[Source, BinaryIO, int], Loaded]
"""Reads a file's header: (source, the file opened, the page or frame from 0). Raises InputError, or what its library does."""
Save = Callable[[Any, Path, Coding, Metadata], tuple[str, ...]]
"""Writes a pyvips image, 1 to 4 bands, of uchar or ushort, to a path: notes on what the format does not hold."""


@dataclass(frozen=True)
class Holds:
    """The metadata that an output format can store, in words for its table; a dash for what it cannot."""

    profile: str = "–"
    exif: str = "–"
    xmp: str = "–"
    iptc: str = "–"
    dpi: str = "–"
    text: str = "–"


@dataclass(frozen=True)
class Format:
    """A file format.

    name: as `--format` and headers have it, with `aliases`. label: for people; kinds: the labels of all that it reads, where
    there are several; variants: which of its images are read. suffixes: in lower case, the first one for outputs.
    sniff: whether a file's first 64 bytes are its own. load and save: see `Load`, `Save`; no `save` means that it is only read.
    depths: bits per sample that it stores; gray: those in which it has gray of its own; palette: 256 colours instead.
    alpha, animation: whether it holds them. pages: whether a file may have several.
    quality: the default; None for formats that are always lossless. lossless: always, on request or never.
    max_side: the longest side of an output in pixels. streams: whether it is written while few rows are in memory.
    reads, writes: whether this installation can, in a word for `liif doctor`.
    """

    name: str
    label: str
    suffixes: tuple[str, ...]
    sniff: Callable[[bytes], bool]
    load: Load
    save: Save | None = None
    aliases: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    variants: str = ""
    depths: tuple[int, ...] = (8,)
    gray: tuple[int, ...] = ()
    palette: bool = False
    alpha: bool = False
    animation: bool = False
    pages: bool = False
    quality: int | None = None
    lossless: Literal["always", "on request", "never"] = "never"
    max_side: int = 2**31 - 1
    streams: bool = False
    holds: Holds = Holds()
    reads: Callable[[], str] = lambda: "yes"
    writes: Callable[[], str] = lambda: "yes"


def by_libvips(operation: str) -> Callable[[], str]:
    """Whether this libvips has an operation such as `pngload`: yes or no."""

    def there() -> str:
        import pyvips

        return "yes" if pyvips.type_find("VipsOperation", operation) else "no"

    return there


def heif_brands(head: bytes) -> tuple[bytes, ...]:
    """The brands that an ISO media file claims in its first bytes, major first; none of another kind of file."""
    if head[4:8] != b"ftyp":
        return ()
    return head[8:12], *(head[i : i + 4] for i in range(16, min(len(head), int.from_bytes(head[:4])), 4))


def dpi_in_exif(metadata: Metadata) -> Metadata:
    """For formats whose only place for dots per inch is EXIF."""
    if metadata.exif or not metadata.dpi:
        return metadata
    return replace(metadata, exif=exif.exif_with_dpi(metadata.dpi))


def without_cicp(metadata: Metadata) -> tuple[str, ...]:
    """A note if the format cannot store code points that mean HDR."""
    from liif_cli.images.icc import HDR

    if metadata.cicp is None or metadata.cicp[1] not in HDR:
        return ()  # sRGB is what a file without code points is taken for
    return ("dropped because only PNG holds it here: the HDR code points (cICP)",)


def texts(keywords: Iterable[str]) -> str:
    """Texts by their keywords, for a note: those of a file may be thousands, and long."""
    every = [key[:40] for key in keywords]
    return f"the text {', '.join(every[:8])}" + (f" and {len(every) - 8:,} more" if len(every) > 8 else "")


def without_place(metadata: Metadata, name: str) -> tuple[str, ...]:
    """A note on IPTC and text, which the format called `name` has no place for."""
    lost = ["IPTC"] if metadata.photoshop else []
    lost += [texts(k for k, _ in metadata.text)] if metadata.text else []
    return (f"dropped because {name} has no place for it: {' and '.join(lost)}",) if lost else ()


def without_metadata(metadata: Metadata, name: str) -> tuple[str, ...]:
    """A note on all of the metadata, which the format called `name` has no place for."""
    places = ("EXIF", metadata.exif), ("XMP", metadata.xmp), ("ICC", metadata.icc), ("text", metadata.text)
    lost = [what for what, there in (*places, ("IPTC", metadata.photoshop)) if there]
    return (f"dropped because {name} has no place for it: {', '.join(lost)}",) if lost else ()


def within_memory(source: Source, loaded: Loaded) -> Callable[[], NDArray[Any]]:
    """The image's `decode`, which raises OutOfMemory first if the header promises more than memory holds: a few bytes can
    claim billions of pixels."""

    def decode() -> NDArray[Any]:
        needed = loaded.width * loaded.height * loaded.channels * (2 if loaded.metadata.bits > 8 else 1)
        if needed > (free := available()):
            size = f"{loaded.width}x{loaded.height}"
            raise OutOfMemory(
                f"{source.name} has {size} pixels: {format_bytes(needed)}, and {format_bytes(free)} of memory are free",
                hint="close other programs, or cut the image first",
            )
        return loaded.decode()

    return decode


def timed(loaded: Loaded, whole: Any) -> Loaded:
    """A frame of an animation, with as many channels as all frames together need."""
    frames, bands = whole.get("n-pages"), whole.bands
    delays = whole.get("delay") if whole.get_typeof("delay") else [100] * frames
    timing = Timing(tuple(delays), whole.get("loop") if whole.get_typeof("loop") else 1)

    def decode() -> NDArray[Any]:
        return _with_bands(loaded.decode(), bands)

    return replace(loaded, timing=timing, channels=bands, decode=decode, later=lambda: _later(whole))


def _later(whole: Any) -> Iterator[NDArray[Any]]:
    """The frames after the first of an animation that libvips has opened with all of its frames, in one pass over the file."""
    import numpy as np
    import pyvips

    region, width, bands = pyvips.Region.new(whole), whole.width, whole.bands
    height = whole.get("page-height") if whole.get_typeof("page-height") else whole.height
    for top in range(height, whole.height, height):
        data = region.fetch(0, top, width, height)
        yield np.frombuffer(data, np.uint8).reshape(height, width, bands)


def _with_bands(pixels: NDArray[Any], bands: int) -> NDArray[Any]:
    """Gray repeated to RGB, and opaque alpha added, if the animation's other frames have them."""
    import numpy as np

    if pixels.shape[2] < 3 <= bands:
        pixels = np.concatenate([np.repeat(pixels[..., :1], 3, axis=2), pixels[..., 1:]], axis=2)
    if pixels.shape[2] < bands:
        pixels = np.concatenate([pixels, np.full_like(pixels[..., :1], 255)], axis=2)
    return pixels


def pillow_image(name: str, file: BinaryIO) -> Any:
    """A file opened by one of Pillow's plugins, by its name in capitals. Raises what `Image.open` raises.

    `Image.open` itself would apply Pillow's limit on pixels, a global of the process; ours are checked on the header.
    """
    from PIL import Image, UnidentifiedImageError

    Image.preinit()
    if name not in Image.OPEN:
        Image.init()
    file.seek(0)
    try:
        return Image.OPEN[name][0](file, "")
    except (SyntaxError, IndexError, TypeError, struct.error) as error:
        raise UnidentifiedImageError(str(error)) from error


def from_pillow(source: Source, file: BinaryIO, name: str) -> Loaded:
    """A file that Pillow's plugin `name` opens, brought to gray, RGB or RGBA of 8 bits."""
    import numpy as np

    with pillow_image(name, file) as image:
        mode, size, dpi = image.mode, image.size, image.info.get("dpi")
        if mode == "P":
            # not getpalette, which decodes the pixels first
            colours, step = bytes(image.palette.palette), len(image.palette.rawmode or image.palette.mode)
            target = "L" if colours[::step] == colours[1::step] == colours[2::step] else "RGB"
        else:
            target = {"1": "L", "L": "L", "RGBA": "RGBA"}.get(mode, "RGB")

    def decode() -> NDArray[Any]:
        with source.open() as again, pillow_image(name, again) as image:
            pixels: NDArray[Any] = np.array(
                image.convert("RGB").convert(target) if mode == "P" else image.convert(target)
            )
        return pixels[..., None] if pixels.ndim == 2 else pixels

    metadata = Metadata(dpi=(float(dpi[0]), float(dpi[1])) if dpi else None)
    return Loaded(size[0], size[1], len(target) if target != "L" else 1, metadata, decode)


def decodable(source: Source, blob: bytes | None) -> Source:
    """The source as libvips may read it: with its EXIF blanked if that has so many entries that libexif, whose work grows with
    the square of their number, would not end. blob: the EXIF that was found in it."""
    if not blob or not exif.is_crowded(blob):
        return source
    with source.open() as file:
        data = file.read()
    return Source(data.replace(blob, bytes(len(blob)), 1))


def gray_of(loaded: Loaded) -> Loaded:
    """An image of which the file says that all colours are gray, as a gray one."""
    import numpy as np

    if loaded.channels < 3:
        return loaded
    bands = [0, 3] if loaded.channels == 4 else [0]
    return replace(loaded, channels=len(bands), decode=lambda: np.ascontiguousarray(loaded.decode()[..., bands]))


def pyvips_error() -> type[Exception]:
    """What libvips raises."""
    import pyvips

    error: type[Exception] = pyvips.Error
    return error


def from_vips(image: Any, metadata: Metadata, notes: tuple[str, ...] = ()) -> Loaded:
    """Bring a pyvips image to gray or RGB, with or without alpha, of 8 or 16 bits."""
    from liif_cli.images import colour

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
    import numpy as np

    beyond = np.count_nonzero(pixels > 1) / pixels.size
    if beyond > 0.5:
        raise InputError(
            f"float samples go up to {pixels.max():.6g}; expected values in [0, 1]", hint="scale them to [0, 1] first"
        )
    deep: NDArray[Any] = np.rint(np.clip(np.nan_to_num(pixels), 0, 1) * 65535).astype(np.uint16)
    return deep

"""`Format`, which holds everything liif knows about a file format, and helpers that several formats share.

Each format is defined in a module of its own. That module loads NumPy, Pillow or libvips only when a file is read or written,
because `liif --help` needs the names of all formats.
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
    """How pixels are encoded.

    quality: 1 to 100, or None for the format's default. bits: bits per stored sample. timing: set for an animation, whose
    frames are stacked vertically in one image. cancelled: set it from any thread to make the encoder stop and fail.
    """

    quality: int | None = None
    lossless: bool = False
    bits: int = 8
    timing: Timing | None = None
    cancelled: threading.Event = field(default_factory=threading.Event, compare=False)


@dataclass(frozen=True)
class Loaded:
    """A file's header, and `decode`, which reads its pixels as stored, (H, W, C) uint8 or uint16.

    timing: of an animation, None for a still image. later: yields an animation's frames after the first, in the form that
    `decode` returns. pages: the number of pages of a TIFF. late: notes that `decode` adds.
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
        """The number of frames; 1 for a still image."""
        return self.timing.frames if self.timing else 1


Load = Callable[[Source, BinaryIO, int], Loaded]
"""Reads a file's header: (source, open file, page or frame index from 0). Raises InputError or the library's exceptions."""
Save = Callable[[Any, Path, Coding, Metadata], tuple[str, ...]]
"""Writes a pyvips image (1 to 4 bands, uchar or ushort) to a path; returns notes on metadata that the format cannot store."""


@dataclass(frozen=True)
class Holds:
    """The metadata that an output format can store, as cells of a table for users; a dash means that it cannot."""

    profile: str = "–"
    exif: str = "–"
    xmp: str = "–"
    iptc: str = "–"
    dpi: str = "–"
    text: str = "–"


@dataclass(frozen=True)
class Format:
    """A file format.

    name, aliases: accepted by `--format`; `name` is also reported in headers. label: the name shown to users. kinds: the labels
    of all file types that it reads, if there are several. variants: the variants that are read. suffixes: in lower case;
    outputs get the first. sniff: whether the first 64 bytes of a file are of this format. load, save: see `Load` and `Save`;
    a format without `save` is read-only. depths: the bits per sample that it can store. gray: the depths at which it has a
    native grayscale type. palette: whether it stores at most 256 colours. alpha, animation: whether it supports them. pages:
    whether a file can have several. quality: the default; None if there is no quality setting. lossless: always, on request
    or never. max_side: the longest side of an output in pixels. streams: whether an output is encoded with only a few rows in
    memory. reads, writes: whether this installation can, as text for `liif doctor`.
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
    """A function that returns "yes" if the installed libvips has the operation (such as `pngload`), otherwise "no"."""

    def there() -> str:
        import pyvips

        return "yes" if pyvips.type_find("VipsOperation", operation) else "no"

    return there


def heif_brands(head: bytes) -> tuple[bytes, ...]:
    """The brands in an ISO media file's `ftyp` box, the major brand first (ISO/IEC 14496-12, 4.3); empty for other files."""
    if head[4:8] != b"ftyp":
        return ()
    return head[8:12], *(head[i : i + 4] for i in range(16, min(len(head), int.from_bytes(head[:4])), 4))


def dpi_in_exif(metadata: Metadata) -> Metadata:
    """The metadata with `dpi` moved into a new EXIF blob if it has none: for formats that store dots per inch in EXIF alone."""
    if metadata.exif or not metadata.dpi:
        return metadata
    return replace(metadata, exif=exif.exif_with_dpi(metadata.dpi))


def without_cicp(metadata: Metadata) -> tuple[str, ...]:
    """A note that HDR code points are dropped, if the metadata has any: for formats that cannot store them."""
    from liif_cli.images.icc import HDR

    if metadata.cicp is None or metadata.cicp[1] not in HDR:
        return ()  # a file without code points is read as sRGB
    return ("dropped the HDR code points (cICP): liif stores them only in PNG",)


def texts(keywords: Iterable[str]) -> str:
    """A short list of text keywords for a note. A file can have thousands of keywords, and they can be long."""
    every = [key[:40] for key in keywords]
    return f"the text {', '.join(every[:8])}" + (f" and {len(every) - 8:,} more" if len(every) > 8 else "")


def without_place(metadata: Metadata, name: str) -> tuple[str, ...]:
    """A note that IPTC and text are dropped, if there are any: for formats that cannot store them. name: of the format."""
    lost = ["IPTC"] if metadata.photoshop else []
    lost += [texts(k for k, _ in metadata.text)] if metadata.text else []
    return (f"dropped {' and '.join(lost)}: not supported by {name}",) if lost else ()


def without_metadata(metadata: Metadata, name: str) -> tuple[str, ...]:
    """A note on the metadata that is dropped, if there is any: for formats that store none. name: of the format."""
    places = ("EXIF", metadata.exif), ("XMP", metadata.xmp), ("ICC", metadata.icc), ("text", metadata.text)
    lost = [what for what, there in (*places, ("IPTC", metadata.photoshop)) if there]
    return (f"dropped {', '.join(lost)}: not supported by {name}",) if lost else ()


def within_memory(source: Source, loaded: Loaded) -> Callable[[], NDArray[Any]]:
    """The image's `decode`, which first raises OutOfMemory if the decoded image would not fit into free memory.

    A header of a few bytes can claim billions of pixels.
    """

    def decode() -> NDArray[Any]:
        needed = loaded.width * loaded.height * loaded.channels * (2 if loaded.metadata.bits > 8 else 1)
        if needed > (free := available()):
            size = f"{loaded.width}x{loaded.height}"
            raise OutOfMemory(
                f"{source.name} has {size} pixels, which need {format_bytes(needed)}; {format_bytes(free)} of memory are free",
                hint="close other programs, or crop the image first",
            )
        return loaded.decode()

    return decode


def timed(loaded: Loaded, whole: Any) -> Loaded:
    """A frame of an animation, with the channels that all of its frames have together.

    whole: the pyvips image of all frames, opened with `n=-1`.
    """
    frames, bands = whole.get("n-pages"), whole.bands
    delays = whole.get("delay") if whole.get_typeof("delay") else [100] * frames
    timing = Timing(tuple(delays), whole.get("loop") if whole.get_typeof("loop") else 1)

    def decode() -> NDArray[Any]:
        return _with_bands(loaded.decode(), bands)

    return replace(loaded, timing=timing, channels=bands, decode=decode, later=lambda: _later(whole))


def _later(whole: Any) -> Iterator[NDArray[Any]]:
    """The frames after the first, (H, W, C) uint8, in one pass over the file. whole: as in `timed`."""
    import numpy as np
    import pyvips

    region, width, bands = pyvips.Region.new(whole), whole.width, whole.bands
    height = whole.get("page-height") if whole.get_typeof("page-height") else whole.height
    for top in range(height, whole.height, height):
        data = region.fetch(0, top, width, height)
        yield np.frombuffer(data, np.uint8).reshape(height, width, bands)


def _with_bands(pixels: NDArray[Any], bands: int) -> NDArray[Any]:
    """Pixels brought to `bands` channels: grayscale is replicated to RGB, and opaque alpha is added."""
    import numpy as np

    if pixels.shape[2] < 3 <= bands:
        pixels = np.concatenate([np.repeat(pixels[..., :1], 3, axis=2), pixels[..., 1:]], axis=2)
    if pixels.shape[2] < bands:
        pixels = np.concatenate([pixels, np.full_like(pixels[..., :1], 255)], axis=2)
    return pixels


def pillow_image(name: str, file: BinaryIO) -> Any:
    """A file opened by the Pillow plugin `name` (in capitals). Raises UnidentifiedImageError and OSError, as `Image.open`.

    `Image.open` itself would apply Pillow's pixel limit, which is global to the process; liif checks its own limits against
    the header.
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
    """A file opened by the Pillow plugin `name`, converted to 8-bit grayscale, RGB or RGBA."""
    import numpy as np

    with pillow_image(name, file) as image:
        mode, size, dpi = image.mode, image.size, image.info.get("dpi")
        if mode == "P":
            # getpalette would decode the pixels first
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
    """A source that libvips can decode in reasonable time: the EXIF blob found in it is zeroed if it has too many entries.

    The running time of libexif grows with the square of their number.
    """
    if not blob or not exif.is_crowded(blob):
        return source
    with source.open() as file:
        data = file.read()
    return Source(data.replace(blob, bytes(len(blob)), 1))


def gray_of(loaded: Loaded) -> Loaded:
    """The image with one colour channel instead of three: for files whose palette contains only grays."""
    import numpy as np

    if loaded.channels < 3:
        return loaded
    bands = [0, 3] if loaded.channels == 4 else [0]
    return replace(loaded, channels=len(bands), decode=lambda: np.ascontiguousarray(loaded.decode()[..., bands]))


def pyvips_error() -> type[Exception]:
    """The exception class of libvips, without loading pyvips earlier than needed."""
    import pyvips

    error: type[Exception] = pyvips.Error
    return error


def from_vips(image: Any, metadata: Metadata, notes: tuple[str, ...] = ()) -> Loaded:
    """A pyvips image converted to 8- or 16-bit grayscale or RGB, with or without alpha.

    CMYK and Lab become sRGB, bands beyond the fourth are dropped, and floats are scaled from [0, 1] to 16 bits; notes say so.
    `decode` raises InputError if most float samples are above 1.
    """
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
        said.append("float samples are read as display values in [0, 1] and converted to 16 bits")
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

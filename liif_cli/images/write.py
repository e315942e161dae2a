"""Writes an image row by row. Its file appears complete or not at all."""

import contextlib
import shutil
import tempfile
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
import pyvips
from numpy.typing import DTypeLike, NDArray
from PIL import ImageColor

from liif_cli.errors import OutputError, UsageError
from liif_cli.images import colour
from liif_cli.images.formats.base import Coding, Format
from liif_cli.images.formats.table import check_limits, format_of, labels
from liif_cli.images.levels import LUMA, as_floats, to_levels
from liif_cli.images.picture import Metadata, Timing
from liif_cli.images.spool import Scratch
from liif_cli.machine.files import OutputFile, check_target
from liif_cli.stores.addresses import Address, Place
from liif_cli.stores.objects import ObjectFile

HALF_STEP = 1 / 510
"""Half a level of 8-bit alpha. An alpha this close to 0.5 counts as 0.5."""


@dataclass(frozen=True)
class SaveOptions:
    """Options for writing an image.

    format: a format's name; None: by the output's suffix. quality: 1 to 100, for JPEG, WebP and AVIF; None: the format's
    default. lossless: for WebP and AVIF (PNG and TIFF always are). strip: drop all metadata, including the colour profile; the
    image should have been converted to sRGB on reading. background: (r, g, b), 0 to 255, on which an image with alpha is
    flattened if the format has no alpha. overwrite: replace an existing file. dpi: the resolution to store in dots per inch;
    None: the input's. strip_location: drop GPS data, place names, serial numbers, maker notes and the owner's name.
    """

    format: str | None = None
    quality: int | None = None
    lossless: bool = False
    strip: bool = False
    background: tuple[int, int, int] = (255, 255, 255)
    overwrite: bool = False
    dpi: float | None = None
    strip_location: bool = False


class Writer:
    """Receives an image's rows from the top. `commit` writes the file, and `abort` discards the rows.

    place: the file or object, or a binary stream, to write to. The caller checks that it may be written and that the format
    supports the image and the options (`open_writer` does). height, width: in pixels. channels: 1 gray, 2 gray + alpha, 3 RGB,
    4 RGBA. dtype: uint8 or uint16, the depth worth keeping (`Picture.depth`). metadata: of the input; its orientation and
    dimensions are updated. timing: makes the output an animation, whose frames, of `height` rows each, are written one after
    the other.

    Raises OutputError immediately if the disk has no room for the file. After any failure nothing is left behind and an
    existing output is unchanged. After `commit`, `notes` lists what the format could not store. Used as a context manager, it
    commits if the block succeeds and aborts if it raises.
    """

    def __init__(
        self,
        place: Place | BinaryIO,
        form: Format,
        height: int,
        width: int,
        channels: int,
        dtype: DTypeLike,
        metadata: Metadata | None = None,
        options: SaveOptions | None = None,
        timing: Timing | None = None,
    ) -> None:
        self.place, self.format, self.timing = place, form, timing
        self.options = options or SaveOptions()
        self.metadata = metadata or Metadata()
        self.notes: list[str] = []
        self.channels = channels
        self._stored, self._top = self._depth(np.dtype(dtype))
        self._flat = channels in (2, 4) and not self.format.alpha
        self._to_srgb = self._gray_to_srgb() if channels < 3 else None
        self._transparent = False
        self._on_off = channels in (2, 4) and self.format.alpha and self.format.palette
        folder = place.parent if isinstance(place, Path) else Path(tempfile.gettempdir())
        kept = channels - 1 if self._flat else channels
        rows = height * (timing.frames if timing else 1)
        room = file_bytes(self.format, rows, width, kept, self._stored, lossless=self.options.lossless)
        self._scratch = Scratch(folder, rows, width, kept, self._stored, extra=room)
        self._size = height, width
        self._cancelled = threading.Event()

    def _depth(self, dtype: np.dtype[Any]) -> tuple[np.dtype[Any], int]:
        """The dtype of the samples given to the encoder, and their largest value before any shift."""
        bits = 8 if dtype == np.uint8 else self.metadata.bits if 8 < self.metadata.bits < 16 else 16
        fitting = [depth for depth in self.format.depths if depth >= bits] or [self.format.depths[-1]]
        self._bits = fitting[0]
        if bits > self._bits:
            self.notes.append(f"{bits} bits per sample became {self._bits}: {self.format.label} holds no more")
        return np.dtype(np.uint8 if self._bits == 8 else np.uint16), 2**self._bits - 1

    def _gray_to_srgb(self) -> NDArray[np.float64] | None:
        """The curve to sRGB for grayscale rows with a profile, if the file stores grayscale as RGB; otherwise None.

        A grayscale profile does not fit such a file, so it is dropped. None also if the rows are in sRGB's curve already.
        """
        profile, curve = self.metadata.icc, self.metadata.curve
        if profile is None or self._bits in self.format.gray:
            return None
        self.metadata = replace(self.metadata, icc=None, curve=None)
        self.notes.append(f"converted to sRGB from the gray profile: {self.format.label} stores gray as RGB")
        return colour.tone_curve(profile) if curve is None else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.commit()
        else:
            self.abort()

    def commit(self) -> None:
        """Write the file and move it into place. If it raises OutputError, nothing is left behind."""
        with self._scratch:
            self._save()

    def abort(self) -> None:
        """Discard the rows. Does nothing after `commit`."""
        self._scratch.close()

    def cancel(self) -> None:
        """Make a `commit` that is running on another thread stop soon, with OutputError. This cannot be undone."""
        self._cancelled.set()

    def write(self, rows: NDArray[Any]) -> None:
        """Append rows (h, width, channels) in the tone curve of the network: float32 in [0, 1], or full-range uint8 or uint16.

        Floats are rounded here, once. Raises OutputError if the disk is full.
        """
        self.append(self.finish(rows))

    def append(self, rows: NDArray[Any]) -> None:
        """Append rows as returned by `finish`. Raises OutputError if the disk is full."""
        self._scratch.append(rows)

    def finish(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Any part (h, w, channels) of the image, in the form that `write` accepts, as the samples that will be stored.

        It is flattened if the format has no alpha, converted back to the file's tone curve, and rounded. Each pixel is
        independent of the others. Raises ValueError for another shape.
        """
        if rows.ndim != 3 or rows.shape[2] != self.channels:
            raise ValueError(f"rows of shape {rows.shape} for an image of {self.channels} channels")
        if self._on_off and rows.dtype.kind == "f":
            rows = _on_or_off(rows)
        plain = not self._flat and self.metadata.curve is None and self._to_srgb is None and self._bits in (8, 16)
        if plain and rows.dtype == self._stored:
            return rows
        rows = as_floats(rows)
        if self._flat:
            rows = self._flattened(rows)
        if self.metadata.curve is not None:
            rows = colour.from_network(rows, self.metadata.curve)
        elif self._to_srgb is not None:
            rows = colour.curved(rows, self._to_srgb)
        return to_levels(rows, self._top) << (self._stored.itemsize * 8 - self._bits)

    def _flattened(self, rows: NDArray[Any]) -> NDArray[Any]:
        alpha = rows[..., -1:]
        self._transparent = self._transparent or bool(alpha.min(initial=1) < 1)
        paper = np.array(self.options.background, dtype=np.float32) / 255
        if rows.shape[2] == 2:
            paper = np.array([paper @ LUMA], dtype=np.float32)
        flat: NDArray[Any] = rows[..., :-1] * alpha + paper * (1 - alpha)
        return flat

    def _save(self) -> None:
        image = self._scratch.image()
        height, width = self._size
        if self._transparent:
            shade = "#{:02x}{:02x}{:02x}".format(*self.options.background)
            self.notes.append(f"flattened on {shade}: {self.format.label} has no transparency")
        metadata, notes = self.metadata.for_size(width, height)
        if self.options.strip:
            metadata, notes = Metadata(), ()
        elif self.options.strip_location:
            metadata = metadata.without_location()
        if self.options.dpi is not None:
            metadata = metadata.with_dpi(self.options.dpi)
            if not self.format.holds.dpi.strip("–"):
                notes = (*notes, f"the resolution was not written: {self.format.label} cannot store it")
        self.notes += notes
        coding = Coding(self.options.quality, self.options.lossless, self._bits, self.timing, self._cancelled)
        with self._target() as temporary:
            self.notes += encode(image, temporary, self.format, coding, metadata)

    def _target(self) -> contextlib.AbstractContextManager[Path]:
        if isinstance(self.place, Path):
            return OutputFile(self.place, self.options.overwrite)
        if isinstance(self.place, Address):
            return ObjectFile(self.place, self.options.overwrite, self._cancelled)
        return _through_file(self.place, self.format)


def _on_or_off(rows: NDArray[Any]) -> NDArray[Any]:
    """float32 rows with alpha, the last channel, rounded to 0 or 1: for formats without partial transparency.

    A half-covered pixel is opaque, whatever the rounding error of its alpha; otherwise straight edges would be jagged.
    """
    out = rows.copy()
    out[..., -1] = rows[..., -1] >= 0.5 - HALF_STEP
    return out


@contextlib.contextmanager
def _through_file(stream: BinaryIO, form: Format) -> Any:
    """A temporary file, copied to the stream at the end, because a TIFF cannot be written to a pipe."""
    with tempfile.TemporaryDirectory(prefix="liif-") as folder:
        temporary = Path(folder) / f"output{form.suffixes[0]}"
        yield temporary
        try:
            with temporary.open("rb") as file:
                shutil.copyfileobj(file, stream)
            stream.flush()
        except BrokenPipeError:  # the reader closed the pipe: `cli.app` handles it
            raise
        except OSError as error:
            raise OutputError(f"cannot write the output: {error.strerror}") from error


def open_writer(
    path: Path | BinaryIO,
    height: int,
    width: int,
    channels: int,
    dtype: DTypeLike,
    metadata: Metadata | None = None,
    options: SaveOptions | None = None,
    timing: Timing | None = None,
) -> Writer:
    """A `Writer` in the format given by the options or by the suffix of `path` (a stream has none), after all checks.

    Arguments as for `Writer`. Raises UsageError, OutputError or LimitError if the image cannot be written there with these
    options.
    """
    options = options or SaveOptions()
    form = format_of(path if isinstance(path, Path) else None, options.format)
    check_fit(form, (height, width), timing.frames if timing else 1)
    check_options(form, options)
    if isinstance(path, Path):
        check_target(path, options.overwrite)
    return Writer(path, form, height, width, channels, dtype, metadata, options, timing)


def check_fit(form: Format, shape: tuple[int, int], frames: int = 1) -> None:
    """Raises UsageError or LimitError if the format cannot store an image of this shape (height, width) and frame count."""
    if frames > 1 and not form.animation:
        message = f"{form.label} holds one image, but the animation has {frames} frames"
        raise UsageError(message, hint=f"{labels(animation=True)} hold all of them", remedy="animation")
    check_limits(form, shape[1], shape[0])


def check_options(form: Format, options: SaveOptions) -> None:
    """Raises UsageError if the format does not support the options."""
    if options.quality is not None and not 1 <= options.quality <= 100:
        raise UsageError(f"{options.quality} is not between 1 and 100", argument="quality")
    if options.quality is not None and form.quality is None:
        raise UsageError(f"{form.label} has no quality", hint=labels(quality=True), remedy="quality")
    if options.lossless and form.lossless == "never":
        raise UsageError(f"{form.label} is not lossless", hint=f"lossless are {labels(lossless=True)}")
    if options.lossless and options.quality is not None:
        raise UsageError("a lossless file has no quality", hint="choose one of the two", remedy="lossless or quality")


def parse_colour(text: str) -> tuple[int, int, int]:
    """Parse a colour such as `#rrggbb`, `rgb(1, 2, 3)` or a CSS name, to (r, g, b), 0 to 255. Raises UsageError."""
    try:
        return ImageColor.getrgb(text)[:3]
    except ValueError as error:
        raise UsageError(
            f"{text!r} is not a colour", hint="use #rrggbb or a name such as white", argument="background"
        ) from error


def file_bytes(
    form: Format, height: int, width: int, channels: int, dtype: DTypeLike, *, lossless: bool = False
) -> int:
    """An estimate of the size of an output file in bytes.

    Lossless (a format that always is, or on request): the raw samples plus 1%, an upper bound. Lossy: half of the raw samples,
    which only noise at a high quality exceeds.
    """
    raw = height * width * channels * np.dtype(dtype).itemsize
    return raw // 2 + 2**16 if is_lossy(form, lossless=lossless) else raw + raw // 100 + 2**16


def is_lossy(form: Format, *, lossless: bool = False) -> bool:
    """Whether an output file in a format loses information. lossless: requested for formats that support it."""
    return form.quality is not None and not lossless


def write(
    path: Path | BinaryIO, pixels: NDArray[Any], metadata: Metadata | None = None, options: SaveOptions | None = None
) -> tuple[str, ...]:
    """Write a whole image (H, W, C): uint8, uint16, or float32 in [0, 1], which is stored with 8 bits. Returns the notes.

    Raises UsageError, OutputError or LimitError, as `open_writer`.
    """
    height, width, channels = pixels.shape
    dtype = np.uint8 if pixels.dtype.kind == "f" else pixels.dtype
    with open_writer(path, height, width, channels, dtype, metadata, options) as writer:
        writer.write(pixels)
    return tuple(writer.notes)


def encode(image: Any, path: Path, form: Format, coding: Coding, metadata: Metadata) -> tuple[str, ...]:
    """Write a pyvips image (uchar or ushort, 1 to 4 bands) to `path`, overwriting an existing file.

    Returns notes on metadata that the format cannot store. Raises OutputError if the encoder or the disk fails. An exception
    that arrives meanwhile (such as Ctrl-C) stops the encoder and is raised again.
    """
    assert form.save is not None
    deep = image.format == "ushort"
    gray, rgb = ("grey16", "rgb16") if deep else ("b-w", "srgb")
    image = image.copy(interpretation=gray if image.bands < 3 else rgb)
    if coding.timing:
        image.set_type(pyvips.GValue.array_int_type, "delay", list(coding.timing.durations))
        image.set_type(pyvips.GValue.gint_type, "loop", coding.timing.loop)
        image.set_type(pyvips.GValue.gint_type, "page-height", image.height // coding.timing.frames)
    try:
        return form.save(image, path, coding, metadata)
    except pyvips.Error as error:
        said = next((line.strip() for line in str(error).splitlines()[1:] if line.strip()), "the encoder failed")
        raise OutputError(f"cannot write the {form.label}: {said}") from error
    except OSError as error:
        raise OutputError(f"cannot write the output: {error.strerror}") from error

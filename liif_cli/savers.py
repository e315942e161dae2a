"""The streaming writer: a picture leaves memory row by row, and its file appears whole or not at all."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyvips
from numpy.typing import DTypeLike, NDArray

from liif_cli.errors import OutputError
from liif_cli.formats import Format, check_limits, format_of
from liif_cli.metadata import Metadata
from liif_cli.outputs import OutputFile, check_target
from liif_cli.scratch import Scratch


@dataclass(frozen=True)
class SaveOptions:
    """How to write: `format` by name (else the suffix decides), `quality` 1 to 100 for lossy formats, `lossless` for
    WebP and AVIF, `strip` drops all metadata but the colour profile, `background` is (r, g, b) in 0..255 that alpha is
    flattened on where the format has none, `overwrite` allows an existing file to be replaced."""

    format: str | None = None
    quality: int | None = None
    lossless: bool = False
    strip: bool = False
    background: tuple[int, int, int] = (255, 255, 255)
    overwrite: bool = False


class Writer:
    """Context manager that takes a picture's rows from the top and leaves a finished file at `path`.

    height, width, channels, dtype: of the picture; float32 rows in [0, 1] are taken too and rounded once to `dtype`
    (uint8 or uint16). Raises UsageError, OutputError or LimitError before any work where the file cannot be written. A
    clean exit leaves the whole file; any other leaves nothing behind and an existing output as it was.
    """

    def __init__(
        self,
        path: Path,
        height: int,
        width: int,
        channels: int,
        dtype: DTypeLike,
        metadata: Metadata | None = None,
        options: SaveOptions | None = None,
    ) -> None:
        self.path = Path(path)
        self.options = options or SaveOptions()
        self.format = format_of(self.path, self.options.format)
        self.metadata = metadata or Metadata()
        self.notes: list[str] = []
        check_limits(self.format, width, height)
        check_target(self.path, self.options.overwrite)
        self.dtype = np.dtype(dtype)
        self._scratch = Scratch(self.path.parent, height, width, channels, dtype)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._save()
        finally:
            self._scratch.close()

    def write(self, rows: NDArray[Any]) -> None:
        """Take the next rows, (h, width, channels): the dtype given, or float32 in [0, 1]."""
        self._scratch.append(quantize(rows, self.dtype))

    def _save(self) -> None:
        image = self._scratch.image()
        with OutputFile(self.path, self.options.overwrite) as temporary:
            save_image(image, temporary, self.format, self.options)


def quantize(rows: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
    """Float rows in [0, 1] as `dtype` (uint8 or uint16), rounded half to even, clamped; integer rows as they are."""
    dtype = np.dtype(dtype)
    if rows.dtype.kind != "f":
        return rows
    top = np.iinfo(dtype).max
    rounded: NDArray[Any] = np.rint(np.clip(rows, 0, 1) * top).astype(dtype)
    return rounded


def save_image(image: Any, path: Path, form: Format, options: SaveOptions) -> None:
    """Encode a pyvips image into `path`. OutputError when the encoder or the disk fails."""
    bands, deep = image.bands, image.format == "ushort"
    gray, colour = ("grey16", "rgb16") if deep else ("b-w", "srgb")
    image = image.copy(interpretation=gray if bands < 3 else colour)
    if bands in (2, 4) and not form.alpha:
        image = image.flatten(background=list(options.background) if bands == 4 else [options.background[0]])
    if deep and 16 not in form.depths:
        image = image.cast("uchar", shift=True)
    saver, extra = _saver(form, options)
    try:
        getattr(image, saver)(str(path), **extra)
    except pyvips.Error as error:
        raise OutputError(f"{path.name} could not be written: {str(error).strip()}") from error


def _saver(form: Format, options: SaveOptions) -> tuple[str, dict[str, Any]]:
    quality = options.quality or {"jpeg": 95, "webp": 95, "avif": 90}.get(form.name, 95)
    match form.name:
        case "png":
            return "pngsave", {"keep": "icc"}
        case "jpeg":
            return "jpegsave", {"Q": quality, "subsample_mode": "off", "optimize_coding": True, "keep": "icc"}
        case "webp":
            return "webpsave", {"Q": quality, "lossless": options.lossless, "exact": True}
        case "tiff":
            return "tiffsave", {"compression": "deflate", "predictor": "horizontal", "bigtiff": False}
        case _:
            return "heifsave", {"Q": quality, "lossless": options.lossless, "compression": "av1"}


def write(
    path: Path, pixels: NDArray[Any], metadata: Metadata | None = None, options: SaveOptions | None = None
) -> None:
    """Write a whole picture, (H, W, C) uint8, uint16 or float32 in [0, 1] (stored with 8 bits)."""
    height, width, channels = pixels.shape
    dtype = np.uint8 if pixels.dtype.kind == "f" else pixels.dtype
    with Writer(path, height, width, channels, dtype, metadata, replace(options or SaveOptions())) as writer:
        writer.write(pixels)

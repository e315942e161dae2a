"""The image types of the Python API: paths, PIL images, NumPy arrays and torch tensors.

Each is converted to pixels (H, W, C) for `render_rows`, and the rendered pixels are converted back to the same type.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from liif_cli.errors import InputError, UsageError
from liif_cli.images import colour, read
from liif_cli.images.formats.compression import jpeg_quality
from liif_cli.images.levels import quantize
from liif_cli.rendering.rows import Store

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

Pixels = NDArray[Any]
Layout = Literal["auto", "CHW", "HWC"]
Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Form(Generic[Kind]):
    """An image as pixels, with the conversion back to the caller's type.

    pixels: (H, W, C) uint8, uint16 or float32 in [0, 1], upright. back: converts rendered pixels to the caller's type. store:
    as in `render_rows`; None: rows in the dtype of `pixels`. notes: messages for the user. quality: 1 to 100, of the lossy file
    that the image comes from; None if unknown. format: the name of that file's format.
    """

    pixels: Pixels
    back: Callable[[Pixels], Kind]
    store: Store | None = None
    notes: tuple[str, ...] = ()
    quality: int | None = None
    format: str = "jpeg"

    @property
    def bits(self) -> int:
        """Bits per sample of the output, which `precision="auto"` depends on: 8, or 16 also for floats."""
        return 8 if self.pixels.dtype == np.uint8 else 16


def from_path(path: Path) -> "Form[PILImage]":
    """A file, upright. Rendered images have its profile and resolution in `info`. Raises `InputError`, `OutOfMemory`."""
    from PIL import Image

    picture = read.read(path)
    curve, icc, dpi = picture.metadata.curve, picture.metadata.icc, picture.metadata.dpi
    sixteen = picture.depth == np.uint16 and picture.channels == 1
    dtype = np.uint16 if sixteen else np.uint8
    notes = picture.notes
    if picture.depth == np.uint16 and not sixteen:
        notes += ("rendered with 8 bits per sample, the limit of PIL images in colour; pass an array to keep 16",)

    def store(rows: NDArray[np.float32]) -> Pixels:
        return quantize(rows if curve is None else colour.from_network(rows, curve), dtype)

    def back(pixels: Pixels) -> "PILImage":
        out = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        out.info |= {key: value for key, value in (("icc_profile", icc), ("dpi", dpi)) if value is not None}
        return out

    return Form(picture.pixels, back, store, tuple(map(str, notes)), picture.metadata.quality, picture.format)


def from_pil(image: "PILImage") -> "Form[PILImage]":
    """A PIL image, made upright by its EXIF orientation.

    The modes L, LA, RGB, RGBA and 16-bit grayscale are kept; any other mode is converted to one of them.
    """
    from PIL import Image

    tables = getattr(image, "quantization", None) or {}  # set by Pillow on an opened JPEG, but not on copies of it
    image = _upright(image)
    if image.mode.startswith("I;16"):
        plain = np.asarray(image).astype(np.uint16)  # in native byte order
    else:
        transparent = image.has_transparency_data
        mode = {"1": "L", "L": "L", "LA": "LA", "La": "LA"}.get(image.mode, "RGB")
        plain = np.asarray(image.convert({"L": "LA", "RGB": "RGBA"}.get(mode, mode) if transparent else mode))
    kept: dict[Any, Any] = {name: image.info[name] for name in ("icc_profile", "dpi") if name in image.info}

    def back(pixels: Pixels) -> "PILImage":
        out = Image.fromarray(pixels[..., 0] if plain.ndim == 2 else pixels)
        out.info.update(kept)
        return out

    return Form(plain[..., None] if plain.ndim == 2 else plain, back, quality=jpeg_quality(tables.get(0, [])))


def _upright(image: "PILImage") -> "PILImage":
    """The image made upright by its EXIF orientation; unchanged if the EXIF is broken."""
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except (SyntaxError, ValueError, OSError, TypeError, KeyError):
        return image


def from_array(array: Pixels, layout: Layout = "HWC") -> "Form[Pixels]":
    """An array (H, W), or with three axes in `layout`, of uint8, uint16 or floats in [0, 1].

    Raises `UsageError` for another shape or dtype, and `InputError` for floats outside [0, 1].
    """
    planes = layout == "CHW" and array.ndim == 3
    pixels = np.moveaxis(array, 0, 2) if planes else array[..., None] if array.ndim == 2 else array
    if pixels.ndim != 3 or not 1 <= pixels.shape[2] <= 4 or 0 in pixels.shape:
        axes = "(H, W) or (C, H, W)" if layout == "CHW" else "(H, W) or (H, W, C)"
        raise UsageError(
            f"an array of shape {array.shape} is not an image",
            hint=f"pass {axes} with C = 1 to 4; layout says which",
        )
    if array.dtype not in (np.uint8, np.uint16) and array.dtype.kind != "f":
        raise UsageError(f"an array of {array.dtype} is not an image", hint="pass uint8, uint16, or floats in [0, 1]")
    dtype, flat = array.dtype, array.ndim == 2

    def back(rows: Pixels) -> Pixels:
        own = rows.astype(dtype, copy=False)
        return own[..., 0] if flat else np.ascontiguousarray(np.moveaxis(own, 2, 0)) if planes else own

    return Form(_checked(pixels.astype(np.float32)) if dtype.kind == "f" else pixels, back)


def _checked(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """The pixels, if they are all in [0, 1]. Raises `InputError` otherwise."""
    low, high = float(pixels.min()), float(pixels.max())
    if not np.isfinite([low, high]).all():
        raise InputError("the image contains NaN or infinite values")
    if low < 0 or high > 1:
        raise InputError(
            f"float samples go from {low:g} to {high:g}; expected values in [0, 1]", hint="divide by 255, or clip them"
        )
    return pixels


def from_tensor(tensor: Tensor, layout: Layout = "CHW") -> "Form[Tensor]":
    """A tensor (H, W), or with three axes in `layout`, on any device; dtypes and exceptions as for `from_array`."""
    dtype, device = tensor.dtype, tensor.device
    plain = tensor.detach().cpu()
    form = from_array((plain.float() if dtype.is_floating_point else plain).numpy(), layout)
    return Form(form.pixels, lambda rows: torch.from_numpy(form.back(rows)).to(device, dtype))


def form_of(image: Any, layout: Layout = "auto") -> "Form[Any]":
    """The form of an image of any supported type. Raises `UsageError`, `InputError`."""
    if isinstance(image, str | Path):
        return from_path(Path(image))
    if isinstance(image, np.ndarray):
        return from_array(image, "HWC" if layout == "auto" else layout)
    if isinstance(image, Tensor):
        return from_tensor(image, "CHW" if layout == "auto" else layout)
    if hasattr(image, "has_transparency_data"):
        return from_pil(image)
    raise UsageError(
        f"a {type(image).__name__} is not an image", hint="pass a path, a PIL image, a NumPy array or a torch tensor"
    )

"""Images in memory at another size: PIL images and NumPy arrays. This is the package's public `upscale`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from liif_cli.errors import InputError, UsageError
from liif_cli.images.formats.compression import jpeg_quality
from liif_cli.machine.precision import Precision
from liif_cli.models.model import SRModel
from liif_cli.models.restore import Restore, parse_restore
from liif_cli.models.store import DEFAULT
from liif_cli.rendering.sizes import MAX_PIXELS, Cell, Fit, Region, Scale, Size, Target
from liif_cli.upscaling.options import Options
from liif_cli.upscaling.restoration import decide
from liif_cli.upscaling.upscaler import Upscaler

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage


Pixels = NDArray[Any]


def upscale(
    image: "PILImage | Pixels",
    *,
    scale: float | str | None = None,
    size: tuple[int, int] | str | None = None,
    fit: Fit = "exact",
    model: str | Path | SRModel | None = None,
    restore: Restore | None = None,
    region: tuple[int, int, int, int] | None = None,
    cell: str = "raw",
    self_ensemble: bool = False,
    device: str = "auto",
    precision: Precision = "auto",
    max_pixels: int = MAX_PIXELS,
) -> "PILImage | Pixels":
    """Show `image` at another size.

    image: a PIL image (L, LA, RGB, RGBA and 16-bit gray stay what they are, others become one of them; its colour profile and
    dpi stay in `info`), or an array (H, W) or (H, W, C), C = 1 gray, 2 gray + alpha, 3 RGB, 4 RGBA, uint8, uint16, or floating
    point in [0, 1]. What comes back is of the same kind; arrays keep their dtype and number of axes.
    scale: a number, or "2x3.5" (x by y); or size: (width, height), or "1920x1080", "1920x", "x1080". Exactly one of the two.
    model: a shipped name, a file, a Hub reference, or a model from `load_model` (loading once is faster for many images);
    default: the shipped one.
    restore: how strongly artefacts of compression and noise are removed, 0 to 1, or "auto": by a PIL image's JPEG tables.
    Default: "auto" with the default model, and 0 with another.
    region: (x, y, width, height) in pixels of the image. The rest is as on the command line.

    Raises `UsageError` for arguments that make no sense, `LimitError` beyond `max_pixels`, and what loading a model raises.
    """
    if (scale is None) == (size is None):
        raise UsageError("give either a scale or a size")
    text = size if isinstance(size, str) or size is None else f"{size[0]}x{size[1]}"
    target: Target = Size.parse(text, fit) if text is not None else Scale.parse(str(scale))
    part = None if region is None else Region.parse(",".join(map(str, region)))
    wanted = parse_restore(str(restore if restore is not None else 0.0 if model else "auto"))
    options = Options(Cell.parse(cell), part, self_ensemble, device, precision, max_pixels, restore=wanted)
    upscaler = Upscaler(DEFAULT if model is None else model, options)
    if not isinstance(image, np.ndarray):
        return _upscale_pil(image, target, upscaler)
    return _upscale_array(image, target, upscaler, None)


def _upscale_pil(image: "PILImage", target: Target, upscaler: Upscaler) -> "PILImage":
    from PIL import Image

    if image.mode.startswith("I;16"):
        plain = np.asarray(image).astype(np.uint16)  # in the machine's own byte order
    else:
        transparent = image.has_transparency_data
        mode = {"1": "L", "L": "L", "LA": "LA", "La": "LA"}.get(image.mode, "RGB")
        plain = np.asarray(image.convert({"L": "LA", "RGB": "RGBA"}.get(mode, mode) if transparent else mode))
    out = Image.fromarray(_upscale_array(plain, target, upscaler, _quality(image)))
    out.info.update({name: image.info[name] for name in ("icc_profile", "dpi") if name in image.info})
    return out


def _quality(image: "PILImage") -> int | None:
    """The quality of a JPEG that Pillow opened; its copies no longer know it."""
    tables = getattr(image, "quantization", None) or {}
    return jpeg_quality(tables.get(0, []))


def _upscale_array(image: Pixels, target: Target, upscaler: Upscaler, quality: int | None) -> Pixels:
    pixels = image[..., None] if image.ndim == 2 else image
    if pixels.ndim != 3 or not 1 <= pixels.shape[2] <= 4 or 0 in pixels.shape:
        raise UsageError(f"an array of shape {image.shape} is not an image", hint="(H, W) or (H, W, C), C = 1 to 4")
    if image.dtype not in (np.uint8, np.uint16) and image.dtype.kind != "f":
        raise UsageError(f"an array of {image.dtype} is not an image", hint="uint8, uint16, or floats in [0, 1]")
    if image.dtype.kind == "f":
        pixels = pixels.astype(np.float32)
        if not np.isfinite(pixels).all():
            raise InputError("the image holds NaN or infinite values")
    grid = upscaler.options.grid((pixels.shape[0], pixels.shape[1]), target)
    restored = decide(upscaler.options.restore, upscaler.checkpoint, quality, "jpeg")
    renderer = upscaler.renderer(8 if image.dtype == np.uint8 else 16, restored.strength)
    rows = np.concatenate([rows for _, rows in upscaler.rows(renderer, pixels, [grid])]).astype(image.dtype, copy=False)
    return rows[..., 0] if image.ndim == 2 else rows

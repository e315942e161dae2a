"""The public functions `encode` and `upscale`, for files and for images in memory.

image = encode("in.png")
image.render(scale=7.5)
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from liif_cli.errors import UsageError
from liif_cli.machine.precision import Precision
from liif_cli.models.model import SRModel
from liif_cli.models.restore import Restore, parse_restore
from liif_cli.models.store import DEFAULT
from liif_cli.rendering.canvas import Canvas
from liif_cli.rendering.renderer import Renderer
from liif_cli.rendering.sizes import FITS, MAX_PIXELS, Cell, Fit, Region, Scale, Size, check_pixels, make_grid
from liif_cli.upscaling.kinds import Form, Layout, form_of
from liif_cli.upscaling.options import Options
from liif_cli.upscaling.restoration import decide
from liif_cli.upscaling.upscaler import Upscaler

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

Pixels = NDArray[Any]
Kind = TypeVar("Kind")
K = TypeVar("K", "PILImage", Pixels, Tensor)
Q = TypeVar("Q", Pixels, Tensor)
Factor = float | str | tuple[float, float]
Unit = Literal["coord", "pixel"]


class ContinuousImage(Generic[Kind]):
    """An image that can be rendered at any scale and queried at any position. Returned by `encode`.

    Its tiles are encoded when they are first needed, and their encodings are cached within a memory budget, so another region
    or scale costs only decoding. It may be used by several threads at once. notes: messages for the user, such as what could
    not be preserved.
    """

    def __init__(self, form: Form[Kind], choices: Renderer, kept: int | None = None) -> None:
        # A copy, because tiles are encoded later and the caller may change the array in the meantime.
        pixels = form.pixels if kept == 0 else form.pixels.copy()
        self._form, self._canvas = replace(form, pixels=pixels), Canvas(pixels, choices, kept)
        self.notes: list[str] = list(form.notes)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the upright input, in pixels."""
        height, width = self._canvas.size
        return width, height

    @property
    def model(self) -> SRModel:
        """The model."""
        return self._canvas.choices.model

    def render(
        self,
        scale: Factor | None = None,
        *,
        size: tuple[int, int] | str | None = None,
        region: tuple[int, int, int, int] | None = None,
        fit: Fit = "exact",
        cell: str = "raw",
        max_pixels: int = MAX_PIXELS,
    ) -> Kind:
        """The image, or a region of it, at another size. Returns the type that was passed to `encode`.

        Exactly one of `scale` and `size` is required. scale: a number, (x, y), or text such as "2x3.5". size: (width, height),
        or text: "1920x1080", "1920x" or "x1080". region: (x, y, width, height) in input pixels. fit: "exact" for exactly
        `size`; "contain", "cover" and "crop" keep the aspect ratio. cell: the cell size passed to the decoder: "raw" is the
        output pixel's size, "clip" is at least the ×4 cell, and "1/k" is 1/k of an input pixel. max_pixels: the largest output
        allowed.

        Raises `UsageError` for invalid arguments and for grids that the model does not support, `LimitError` beyond
        `max_pixels`, `OutOfMemory` and `DeviceError`.
        """
        grid = make_grid(self._canvas.size, _target(scale, size, fit), _region(region), Cell.parse(cell))
        check_pixels(grid.shape, max_pixels)
        pixels, notes = self._canvas.render(grid, self._form.store)
        self.notes.extend(note for note in notes if note not in self.notes)
        return self._form.back(pixels)

    def query(self, coord: Q, cell: Q | None = None, *, unit: Unit = "coord", differentiable: bool = False) -> Q:
        """The RGB colours at any positions, (Q, 3) float32, nominally in [0, 1], not clamped.

        coord: positions (Q, 2), finite, in (y, x) order. unit: "coord": the image spans -1 to 1 along both axes; "pixel": the
        centre of the pixel in row y and column x is (y, x). cell: (Q, 2) or (2,), the size of the queried pixel in the same
        unit (the whole image is 2 in coords); default: the smallest that the model was trained for. Positions outside the
        image use the latent codes at its border. differentiable: compute in fp32 with gradients with respect to `coord`,
        `cell` and the model's parameters; requires tensors.

        Returns a tensor, on its device, or an array, like `coord`. Raises `UsageError`, `OutOfMemory`.
        """
        if differentiable and not isinstance(coord, Tensor):
            raise UsageError("differentiable=True needs coord as a torch tensor")
        position, cells = self._positions(coord, cell, unit)
        canvas = self._canvas
        colours = (canvas.query_with_gradients if differentiable else canvas.query)(position, cells)
        if isinstance(coord, Tensor):
            return colours.to(coord.device)
        return colours.numpy()

    def _positions(self, coord: Any, cell: Any, unit: Unit) -> tuple[Tensor, Tensor]:
        """Positions and cells, each (Q, 2) float64, in LR pixels. Raises `UsageError`."""
        if unit not in ("coord", "pixel"):
            raise UsageError(f"{unit!r} is not a unit", hint="use coord or pixel")
        position = _doubles(coord)
        if position.ndim != 2 or position.shape[1] != 2 or not bool(position.isfinite().all()):
            raise UsageError(
                f"coord must be finite and of shape (Q, 2); its shape is {tuple(position.shape)}",
                hint="pass finite positions of shape (Q, 2)",
            )
        size = torch.tensor(self._canvas.size, dtype=torch.float64, device=position.device)
        if unit == "coord":
            position = (position + 1) * size / 2 - 0.5
        if cell is None:
            cells = torch.full_like(position, 1 / self.model.decoder.scales[1], requires_grad=False)
            return position, cells
        cells = _doubles(cell) * (size / 2 if unit == "coord" else 1)
        try:
            return position, cells.expand_as(position)
        except RuntimeError:
            raise UsageError(
                f"cell has the shape {tuple(cells.shape)}", hint="pass a cell of shape (Q, 2) or (2,)"
            ) from None

    @property
    def latent(self) -> Tensor:
        """The latent codes, (H, W, D) float32 on the CPU: one code per input pixel."""
        return self._canvas.latent()


class ContinuousBatch(ContinuousImage[Tensor]):
    """The images of one tensor (N, C, H, W). Results are stacked along the first axis."""

    def __init__(self, images: list[ContinuousImage[Tensor]]) -> None:
        self.images = images
        self._canvas = images[0]._canvas

    @property
    def notes(self) -> list[str]:  # type: ignore[override]
        """Messages for the user, without duplicates."""
        return list(dict.fromkeys(note for image in self.images for note in image.notes))

    def render(self, scale: Factor | None = None, **arguments: Any) -> Tensor:
        """As `ContinuousImage.render`; returns (N, C, h, w)."""
        return torch.stack([image.render(scale, **arguments) for image in self.images])

    def query(self, coord: Any, cell: Any = None, **arguments: Any) -> Any:
        """As `ContinuousImage.query`, at the same positions in each image; returns (N, Q, 3)."""
        found = [image.query(coord, cell, **arguments) for image in self.images]
        return torch.stack(found) if isinstance(coord, Tensor) else np.stack(found)

    @property
    def latent(self) -> Tensor:
        """The latent codes, (N, H, W, D) float32 on the CPU."""
        return torch.stack([image.latent for image in self.images])


@overload
def encode(
    image: str | Path,
    *,
    model: str | Path | SRModel | None = ...,
    restore: Restore | None = ...,
    device: str = ...,
    precision: Precision = ...,
    self_ensemble: bool = ...,
    layout: Layout = ...,
    kept: int | None = ...,
) -> "ContinuousImage[PILImage]": ...
@overload
def encode(
    image: K,
    *,
    model: str | Path | SRModel | None = ...,
    restore: Restore | None = ...,
    device: str = ...,
    precision: Precision = ...,
    self_ensemble: bool = ...,
    layout: Layout = ...,
    kept: int | None = ...,
) -> ContinuousImage[K]: ...
@overload
def encode(
    image: list[str] | list[Path],
    *,
    model: str | Path | SRModel | None = ...,
    restore: Restore | None = ...,
    device: str = ...,
    precision: Precision = ...,
    self_ensemble: bool = ...,
    layout: Layout = ...,
    kept: int | None = ...,
) -> "list[ContinuousImage[PILImage]]": ...
@overload
def encode(
    image: list[K],
    *,
    model: str | Path | SRModel | None = ...,
    restore: Restore | None = ...,
    device: str = ...,
    precision: Precision = ...,
    self_ensemble: bool = ...,
    layout: Layout = ...,
    kept: int | None = ...,
) -> list[ContinuousImage[K]]: ...


def encode(
    image: Any,
    *,
    model: str | Path | SRModel | None = None,
    restore: Restore | None = None,
    device: str = "auto",
    precision: Precision = "auto",
    self_ensemble: bool = False,
    layout: Layout = "auto",
    kept: int | None = None,
) -> Any:
    """Encode an image: a file (by its path), a PIL image, a NumPy array or a torch tensor. A list gives a list.

    image: arrays and tensors are (H, W) or have three axes, with C = 1 gray, 2 gray + alpha, 3 RGB or 4 RGBA; they are uint8,
    uint16, or floats in [0, 1]. A tensor (N, C, H, W) gives a `ContinuousBatch`. Files and PIL images are made upright by their
    EXIF orientation; rendered PIL images have the profile and the resolution in `info`.
    model: a name, a file, a Hub reference, or a model from `load_model`, which stays on its device; default: the shipped model.
    restore: how strongly to remove compression artefacts and noise, 0 to 1, or "auto", which depends on the quality at which
    the image was compressed; default: "auto" with the default model, otherwise 0.
    device: "auto", "cpu", "cuda", ... precision: "auto", "fp32", "bf16" or "fp16"; "auto" depends on the device and on the
    input's depth. self_ensemble: average over four rotations. layout: "HWC" or "CHW"; "auto" is HWC for arrays and CHW for
    tensors. kept: bytes of encodings to cache (None: a quarter of the free memory; 0: none).

    Raises `UsageError`, `InputError`, and the exceptions of `load_model`.
    """
    wanted = parse_restore(str(restore if restore is not None else 0.0 if model else "auto"))
    options = Options(self_ensemble=self_ensemble, device=device, precision=precision, restore=wanted)
    batch = isinstance(image, Tensor) and image.ndim == 4
    if not batch and not isinstance(image, list):
        return _encoded(image, layout, Upscaler(DEFAULT if model is None else model, options), kept)
    if not len(image):
        raise UsageError("the batch is empty")
    upscaler = Upscaler(DEFAULT if model is None else model, options)
    images = [_encoded(each, layout, upscaler, kept) for each in image]
    return ContinuousBatch(images) if batch else images


def _encoded(image: Any, layout: Layout, upscaler: Upscaler, kept: int | None) -> ContinuousImage[Any]:
    form = form_of(image, layout)
    restored = decide(upscaler.options.restore, upscaler.checkpoint, form.quality, form.format)
    form = replace(form, notes=(*form.notes, *map(str, restored.notes)))
    return ContinuousImage(form, upscaler.renderer(form.bits, restored.strength), kept)


@overload
def upscale(
    image: str | Path,
    *,
    scale: Factor | None = ...,
    size: tuple[int, int] | str | None = ...,
    fit: Fit = ...,
    model: str | Path | SRModel | None = ...,
    restore: Restore | None = ...,
    region: tuple[int, int, int, int] | None = ...,
    cell: str = ...,
    self_ensemble: bool = ...,
    device: str = ...,
    precision: Precision = ...,
    layout: Layout = ...,
    max_pixels: int = ...,
) -> "PILImage": ...
@overload
def upscale(
    image: K,
    *,
    scale: Factor | None = ...,
    size: tuple[int, int] | str | None = ...,
    fit: Fit = ...,
    model: str | Path | SRModel | None = ...,
    restore: Restore | None = ...,
    region: tuple[int, int, int, int] | None = ...,
    cell: str = ...,
    self_ensemble: bool = ...,
    device: str = ...,
    precision: Precision = ...,
    layout: Layout = ...,
    max_pixels: int = ...,
) -> K: ...
@overload
def upscale(
    image: list[K],
    *,
    scale: Factor | None = ...,
    size: tuple[int, int] | str | None = ...,
    fit: Fit = ...,
    model: str | Path | SRModel | None = ...,
    restore: Restore | None = ...,
    region: tuple[int, int, int, int] | None = ...,
    cell: str = ...,
    self_ensemble: bool = ...,
    device: str = ...,
    precision: Precision = ...,
    layout: Layout = ...,
    max_pixels: int = ...,
) -> list[K]: ...


def upscale(
    image: Any,
    *,
    scale: Factor | None = None,
    size: tuple[int, int] | str | None = None,
    fit: Fit = "exact",
    model: str | Path | SRModel | None = None,
    restore: Restore | None = None,
    region: tuple[int, int, int, int] | None = None,
    cell: str = "raw",
    self_ensemble: bool = False,
    device: str = "auto",
    precision: Precision = "auto",
    layout: Layout = "auto",
    max_pixels: int = MAX_PIXELS,
) -> Any:
    """Upscale an image: `encode` followed by one `ContinuousImage.render`, without caching encodings.

    Arguments and exceptions are those of the two. Returns the type that was passed in (for a path, a PIL image); arrays and
    tensors keep their dtype and number of axes.
    """
    _target(scale, size, fit)  # before a model is loaded
    _region(region), Cell.parse(cell)
    encoded: Any = encode(
        image,
        model=model,
        restore=restore,
        device=device,
        precision=precision,
        self_ensemble=self_ensemble,
        layout=layout,
        kept=0,
    )
    render: Callable[[Any], Any] = lambda each: each.render(  # noqa: E731
        scale, size=size, region=region, fit=fit, cell=cell, max_pixels=max_pixels
    )
    return list(map(render, encoded)) if isinstance(encoded, list) else render(encoded)


def _target(scale: Factor | None, size: tuple[int, int] | str | None, fit: Fit) -> Scale | Size:
    """The requested output size. Raises `UsageError`."""
    if (scale is None) == (size is None):
        raise UsageError("give either scale or size")
    if fit not in FITS:
        raise UsageError(f"{fit!r} is not a fit", hint=", ".join(FITS), argument="fit")
    if size is not None:
        return Size.parse(size if isinstance(size, str) else f"{size[0]}x{size[1]}", fit)
    return Scale.parse("x".join(map(str, scale)) if isinstance(scale, tuple) else str(scale))


def _region(region: tuple[int, int, int, int] | None) -> Region | None:
    return None if region is None else Region.parse(",".join(map(str, region)))


def _doubles(values: Any) -> Tensor:
    try:
        return torch.as_tensor(values).double()
    except (TypeError, ValueError, RuntimeError):
        raise UsageError(
            f"a {type(values).__name__} is not an array of positions", hint="pass positions of shape (Q, 2)"
        ) from None

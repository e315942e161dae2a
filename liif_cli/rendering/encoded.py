"""One encoded tile: its fields, one per rotation, and the colours rendered from them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from liif_cli.coords import Grid
from liif_cli.errors import DeviceError, OutOfMemory
from liif_cli.images.levels import as_floats, luma
from liif_cli.machine.devices import DTYPES, exact_float32, or_none_without_memory
from liif_cli.models.model import SRModel
from liif_cli.rendering.assembly import Colours
from liif_cli.rendering.plan import piece_rows
from liif_cli.rendering.tiles import Tile
from liif_cli.rendering.timing import Tally

Image = NDArray[Any]
NOT_FINITE = DeviceError("the model produced NaN or infinite values, even in fp32", hint="try the CPU", remedy="cpu")


@dataclass
class Choices:
    """A model on its device, with the options for a whole image.

    precision: the decoder's, never "auto" (see `choose_precision`). chunk: output pixels per chunk (None: depends on the
    device); colours do not depend on it. notes: collects sentences for the user. tally: collects plans and times.
    """

    model: SRModel
    device: torch.device
    precision: str = "fp32"
    self_ensemble: bool = False
    chunk: int | None = None
    notes: list[str] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)

    @property
    def turns(self) -> range:
        """The quarter turns to average."""
        return range(4) if self.self_ensemble else range(1)


class Encoding:
    """The fields of one tile: one per quarter turn of the self-ensemble, and as many again if its alpha varies."""

    def __init__(self, choices: Choices, image: Image, tile: Tile) -> None:
        self.choices, self.image = choices, image
        self.size = (image.shape[0], image.shape[1])
        self.window = tile.window(choices.model.halo, self.size)
        self.precision = choices.precision
        self.fields = self._fields()
        if not self._codes_are_finite():
            self._fall_back()

    def _fields(self) -> list[Any]:
        window, size = self.window, self.size
        layers = self._layers(self.image[window.top : window.bottom, window.left : window.right])
        with exact_float32(), torch.inference_mode():
            return [
                self._field(pixels, turn, size)
                for pixels in (to_tensor(layer).to(self.choices.device) for layer in layers)
                for turn in self.choices.turns
            ]

    def _layers(self, pixels: Image) -> list[Image]:
        """The inputs to encode, (h, w, 3) each: the colours, and alpha as grayscale unless it is constant over the tile."""
        layers, alpha = [pixels[..., :3]], pixels[..., 3:]
        if alpha.size and alpha.min() < alpha.max():
            layers.append(np.broadcast_to(alpha, layers[0].shape))
        return layers

    def _field(self, pixels: Tensor, turn: int, size: tuple[int, int]) -> Any:
        """The field of the image rotated left by `turn` quarters."""
        window, (height, width) = self.window, size
        origin = (
            (window.top, window.left),
            (width - window.right, window.top),
            (height - window.bottom, width - window.right),
            (window.left, height - window.bottom),
        )[turn]
        whole = (width, height) if turn % 2 else (height, width)
        turned = torch.rot90(pixels, turn, (2, 3)).contiguous(memory_format=torch.channels_last)
        return self.choices.model.encode(turned, origin, whole, DTYPES[self.precision])

    def bands(self, grid: Grid) -> Iterator[tuple[int, Colours]]:
        """The grid's colours in bands of rows: (first row, (h, w, 3 or 4)). If memory runs out, bands become thinner.

        Raises `OutOfMemory` at a single row, `DeviceError` if colours are not finite in fp32.
        """
        height, width = grid.shape
        step, top = piece_rows(width), 0
        while width and top < height:
            part = Grid(
                grid.rows.part(grid.rows.start + top, min(grid.rows.start + top + step, grid.rows.stop)), grid.columns
            )
            with self.choices.tally.decoding():
                rgb = or_none_without_memory(lambda part=part: self._finite(part), self.choices.device)  # type: ignore[misc]
            if rgb is None:
                if step == 1:
                    raise OutOfMemory(
                        "out of memory at a single row",
                        hint="close other programs, or use the CPU",
                        remedy="device memory",
                    )
                step = -(-step // 2)
                continue
            yield top, rgb
            top += len(rgb)

    def _finite(self, grid: Grid) -> Colours:
        """Colours; if they are not finite, rendered again in fp32."""
        rgb = self._render(grid)
        if not np.isfinite(rgb).all():
            self._fall_back()
            rgb = self._render(grid)
            if not np.isfinite(rgb).all():
                raise NOT_FINITE
        return rgb

    def _fall_back(self) -> None:
        """Encode again, in fp32."""
        before, self.precision = self.precision, "fp32"
        self.fields = self._fields()
        if not self._codes_are_finite():
            raise NOT_FINITE
        self.choices.notes.append(f"{before} produced NaN or infinite values: a tile was rendered in fp32 instead")

    def _codes_are_finite(self) -> bool:
        """Checks codes and not colours, because a fused ReLU may turn NaN into 0."""
        return all(bool(torch.isfinite(field.codes).all()) for field in self.fields)

    def _render(self, grid: Grid) -> Colours:
        count = len(self.choices.turns)
        rgb = self._averaged(self.fields[:count], grid)
        if self.image.shape[2] == 3:
            return rgb
        if len(self.fields) > count:
            alpha = luma(self._averaged(self.fields[count:], grid))
        else:
            constant = self.image[self.window.top : self.window.top + 1, self.window.left : self.window.left + 1, 3:]
            alpha = np.broadcast_to(as_floats(constant), (*rgb.shape[:2], 1))
        return np.concatenate([rgb, alpha], axis=2)

    def _averaged(self, fields: list[Any], grid: Grid) -> Colours:
        """Colours (h, w, 3) of a grid, averaged over the fields of all quarter turns."""
        model = self.choices.model
        with exact_float32(), torch.inference_mode():
            turns = [
                torch.rot90(model.render(field, turned.rows, turned.columns, self.choices.chunk)[0], -turn, (0, 1))
                for turn, field in zip(self.choices.turns, fields, strict=True)
                for turned in [turn_grid(grid, turn)]
            ]
            rgb = turns[0] if len(turns) == 1 else torch.stack(turns).mean(0)
            return np.ascontiguousarray(rgb.cpu().numpy())


def turn_grid(grid: Grid, turn: int) -> Grid:
    """The same pixels on the image rotated left by `turn` quarters, as `torch.rot90` does."""
    rows, columns = grid.rows, grid.columns
    return (
        grid,
        Grid(columns.reversed(), rows),
        Grid(rows.reversed(), columns.reversed()),
        Grid(columns, rows.reversed()),
    )[turn]


def to_tensor(pixels: Image) -> Tensor:
    """(h, w, 3) uint8, uint16 or float32 -> (1, 3, h, w) float32 in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(as_floats(pixels).transpose(2, 0, 1))).unsqueeze(0)

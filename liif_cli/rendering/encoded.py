"""One encoded tile: its fields, a quarter turn each, and how they become colours."""

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
NOT_NUMBERS = DeviceError("the network gave values that are not numbers, in fp32 too", hint="try --device cpu")


@dataclass
class Choices:
    """A model on its device with the choices that hold for a whole picture.

    precision: what the decoder computes in, never "auto" (see `choose_precision`). chunk: output pixels that are worked on
    at once (None: what suits the processor); colours do not depend on it. notes: sentences for the user, collected. tally:
    takes the plans, and how long encoding and decoding took.
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
        """Quarter turns that are averaged."""
        return range(4) if self.self_ensemble else range(1)


class Encoding:
    """The fields of one tile, one for each quarter turn of the self-ensemble, and how they become colours. Where the tile
    has an alpha that varies, as many more follow for it."""

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
        """What is encoded, (h, w, 3) each: the colours, and alpha as gray where it is not the same all over the tile."""
        layers, alpha = [pixels[..., :3]], pixels[..., 3:]
        if alpha.size and alpha.min() < alpha.max():
            layers.append(np.broadcast_to(alpha, layers[0].shape))
        return layers

    def _field(self, pixels: Tensor, turn: int, size: tuple[int, int]) -> Any:
        """The field of the picture turned by `turn` quarters to the left."""
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
        """The grid's colours in bands of rows: (first row, (h, w, 3)). Where memory runs out the bands become thinner."""
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
                    raise OutOfMemory("out of memory at a single row", hint="close other programs or use --device cpu")
                step = -(-step // 2)
                continue
            yield top, rgb
            top += len(rgb)

    def _finite(self, grid: Grid) -> Colours:
        """Colours, after one more try in fp32 where they were not finite."""
        rgb = self._render(grid)
        if not np.isfinite(rgb).all():
            self._fall_back()
            rgb = self._render(grid)
            if not np.isfinite(rgb).all():
                raise NOT_NUMBERS
        return rgb

    def _fall_back(self) -> None:
        """Encode once more, in fp32."""
        before, self.precision = self.precision, "fp32"
        self.fields = self._fields()
        if not self._codes_are_finite():
            raise NOT_NUMBERS
        self.choices.notes.append(f"{before} gave values that are not numbers: a tile was rendered in fp32 instead")

    def _codes_are_finite(self) -> bool:
        """Colours alone do not tell: a fused ReLU may turn NaN into 0."""
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
        """Colours (h, w, 3) of a grid from the fields of all quarter turns."""
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
    """The same pixels on the picture turned by `turn` quarters to the left, as `torch.rot90` turns it."""
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

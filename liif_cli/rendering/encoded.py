"""One encoded tile: its fields, one per rotation, and the colours rendered from them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from liif_cli.coords import Grid
from liif_cli.errors import DeviceError, OutOfMemory
from liif_cli.images.levels import as_floats, luma
from liif_cli.machine.devices import DTYPES, exact_float32, or_none_without_memory
from liif_cli.models.finite import all_finite
from liif_cli.models.interfaces import Field
from liif_cli.models.model import SRModel
from liif_cli.rendering.assembly import Colours
from liif_cli.rendering.plan import piece_rows
from liif_cli.rendering.tiles import Tile
from liif_cli.rendering.timing import RenderStats

Image = NDArray[Any]
NOT_FINITE = DeviceError("the model produced NaN or infinite values, even in fp32", hint="try the CPU", remedy="cpu")
FELL_BACK = "{} produced NaN or infinite values: a tile was rendered in fp32 instead"


@dataclass
class Choices:
    """A model on its device, with the options for a whole image.

    precision: the decoder's, never "auto" (see `choose_precision`). chunk: output pixels per chunk (None: depends on the
    device); colours do not depend on it. notes: collects messages for the user. stats: collects plans and times.
    """

    model: SRModel
    device: torch.device
    precision: str = "fp32"
    self_ensemble: bool = False
    chunk: int | None = None
    notes: list[str] = field(default_factory=list)
    stats: RenderStats = field(default_factory=RenderStats)

    @property
    def turns(self) -> range:
        """The quarter turns to average."""
        return range(4) if self.self_ensemble else range(1)


class Encoding:
    """The fields of one tile: one per quarter turn of the self-ensemble, and as many again if its alpha varies.

    Raises `DeviceError` if the codes are not finite even in fp32. Several threads may render from it at once.
    """

    def __init__(self, choices: Choices, image: Image, tile: Tile) -> None:
        self.choices, self.image, self.tile = choices, image, tile
        self.size = (image.shape[0], image.shape[1])
        self.window = self._window(0)
        self.precision = choices.precision
        self.fields = self._fields()
        self._exact: Encoding | None = None
        self._lock = Lock()
        # Codes and not colours are checked, because a fused ReLU may turn NaN into 0.
        if not all(field.is_finite() for field in self.fields):
            self._fall_back()

    def _fall_back(self) -> None:
        """Encode again, in fp32."""
        before, self.precision = self.precision, "fp32"
        if torch.float32 not in self.choices.model.dtypes:
            raise NOT_FINITE
        self.fields = self._fields()
        if not all(field.is_finite() for field in self.fields):
            raise NOT_FINITE
        self.choices.notes.append(FELL_BACK.format(before))

    def _window(self, turn: int) -> Tile:
        """The window to encode, on the image rotated left by `turn` quarters."""
        model, size = self.choices.model, turn_size(self.size, turn)
        return self.tile.turned(turn, self.size).window(model.halo, size, model.alignment)

    def _fields(self) -> list[Field]:
        layers = self._layers(self.image)
        with exact_float32(self.choices.device), torch.inference_mode():
            return [self._field(layer, turn) for layer in layers for turn in self.choices.turns]

    def _layers(self, image: Image) -> list[Image]:
        """The inputs to encode, (H, W, 3) each: the colours, and alpha as grayscale unless it is constant over the tile."""
        layers, alpha, window = [image[..., :3]], image[..., 3:], self.window
        part = alpha[window.top : window.bottom, window.left : window.right]
        if part.size and part.min() < part.max():
            layers.append(np.broadcast_to(alpha, layers[0].shape))
        return layers

    def _field(self, layer: Image, turn: int) -> Field:
        """The field of a layer of the image, rotated left by `turn` quarters."""
        size, window = turn_size(self.size, turn), self._window(turn)
        upright = window.turned(-turn % 4, size)
        pixels = to_tensor(layer[upright.top : upright.bottom, upright.left : upright.right])
        turned = torch.rot90(pixels.to(self.choices.device), turn, (2, 3))
        turned = turned.contiguous(memory_format=torch.channels_last)
        field: Field = self.choices.model.encode(turned, (window.top, window.left), size, DTYPES[self.precision])
        return field

    @property
    def bytes(self) -> int:
        """Bytes of its fields."""
        return sum(field.bytes for field in self.fields)

    def bands(self, grid: Grid, choices: Choices | None = None) -> Iterator[tuple[int, Colours]]:
        """The grid's colours in bands of rows: (first row, (h, w, 3 or 4) float32). If memory runs out, bands become thinner.

        choices: receives notes and times (default: the choices it was encoded with). Raises `OutOfMemory` if not even a single
        row fits, and `DeviceError` if colours are not finite even in fp32.
        """
        choices = choices or self.choices
        height, width = grid.shape
        step, top = piece_rows(width), 0
        output = Output(self, grid, choices) if width and height else None
        while output and top < height:
            some = min(step, max(1, choices.stats.band(step * width, len(self.fields)) // width))
            rows = grid.rows.part(grid.rows.start + top, min(grid.rows.start + top + some, grid.rows.stop))
            part = Grid(rows, grid.columns)
            with choices.stats.decoding():
                rgb = or_none_without_memory(partial(output.colours, part), choices.device)
            if rgb is None:
                if some == 1:
                    raise OutOfMemory(
                        "cannot render even a single row: out of memory",
                        hint="close other programs, or use the CPU",
                        remedy="device memory",
                    )
                step = -(-some // 2)
                continue
            choices.stats.decoded += len(self.fields) * rgb.shape[0] * width
            yield top, rgb
            top += len(rgb)

    def in_fp32(self, choices: Choices) -> "Encoding":
        """The same tile encoded in fp32, made once. Raises `DeviceError` if this one is, or if the model has no fp32."""
        if self.precision == "fp32" or torch.float32 not in choices.model.dtypes:
            raise NOT_FINITE
        with self._lock:
            exact = self._exact or Encoding(replace(choices, precision="fp32"), self.image, self.tile)
            self._exact = exact
        choices.notes.append(FELL_BACK.format(self.precision))
        return exact

    def bound(self, grid: Grid) -> list[Field]:
        """The fields bound to the cell of `grid`, for rendering it or any part of it."""
        turns = [*self.choices.turns] * (len(self.fields) // len(self.choices.turns))
        grids = [turn_grid(grid, turn) for turn in turns]
        with exact_float32(self.choices.device), torch.inference_mode():
            return [
                self.choices.model.bind(field, turned.rows, turned.columns)
                for field, turned in zip(self.fields, grids, strict=True)
            ]

    def render(self, fields: Sequence[Field], grid: Grid) -> Colours:
        """Colours (h, w, 3 or 4) float32 of a grid. fields: as returned by `bound`."""
        count = len(self.choices.turns)
        rgb = self._averaged(fields[:count], grid)
        if self.image.shape[2] == 3:
            return rgb
        if len(fields) > count:
            alpha = luma(self._averaged(fields[count:], grid))
        else:
            constant = self.image[self.window.top : self.window.top + 1, self.window.left : self.window.left + 1, 3:]
            alpha = np.broadcast_to(as_floats(constant), (*rgb.shape[:2], 1))
        return np.concatenate([rgb, alpha], axis=2)

    def _averaged(self, fields: Sequence[Field], grid: Grid) -> Colours:
        """Colours (h, w, 3) of a grid, averaged over the fields of all quarter turns."""
        model = self.choices.model
        with exact_float32(self.choices.device), torch.inference_mode():
            turns = [
                torch.rot90(model.render(field, turned.rows, turned.columns, self.choices.chunk)[0], -turn, (0, 1))
                for turn, field in zip(self.choices.turns, fields, strict=True)
                for turned in [turn_grid(grid, turn)]
            ]
            rgb = turns[0] if len(turns) == 1 else torch.stack(turns).mean(0)
            return np.ascontiguousarray(rgb.cpu().numpy())


class Output:
    """One output of one tile. Its fields are bound once. If colours are not finite, it continues in fp32."""

    def __init__(self, encoding: Encoding, grid: Grid, choices: Choices) -> None:
        self.grid, self.choices = grid, choices
        self._use(encoding)

    def _use(self, encoding: Encoding) -> None:
        self.encoding, self.fields = encoding, encoding.bound(self.grid)

    def colours(self, part: Grid) -> Colours:
        """Colours (h, w, 3 or 4) float32 of a part of the grid. Raises `DeviceError` if not finite even in fp32."""
        rgb = self.encoding.render(self.fields, part)
        if not all_finite(torch.from_numpy(rgb)):
            self._use(self.encoding.in_fp32(self.choices))
            rgb = self.encoding.render(self.fields, part)
            if not all_finite(torch.from_numpy(rgb)):
                raise NOT_FINITE
        return rgb


def turn_size(size: tuple[int, int], turn: int) -> tuple[int, int]:
    """(height, width) of an image that is rotated by `turn` quarters."""
    return (size[1], size[0]) if turn % 2 else size


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
    return torch.from_numpy(np.require(as_floats(pixels).transpose(2, 0, 1), requirements=["C", "W"])).unsqueeze(0)

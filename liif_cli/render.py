"""Rendering: encode a tile once, render every output that was asked for from it, drop it.

Coordinates, cells and nearest codes are those of the whole image, and a tile is encoded with all the surroundings that the
encoder and the decoder read, so that tiles leave no trace.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from liif_cli.alpha import luma
from liif_cli.bands import Colours, Piece
from liif_cli.coords import Grid
from liif_cli.devices import Precision, choose_precision, exact_float32, free_memory, or_none_without_memory
from liif_cli.errors import DeviceError, OutOfMemory
from liif_cli.memory import give_back
from liif_cli.model import SRModel
from liif_cli.reduction import to_float
from liif_cli.tally import Tally
from liif_cli.tiles import SMALLEST, Plan, Tile, make_plan, piece_rows

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
Image = NDArray[Any]
NOT_NUMBERS = DeviceError("the network gave values that are not numbers, in fp32 too", hint="try --device cpu")
HEADROOM = 0.8  # share of the free memory that is planned with; the rest is for what no plan sees


@dataclass
class Renderer:
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

    def plan(
        self,
        size: tuple[int, int],
        grids: Sequence[Grid],
        sample_bytes: int,
        *,
        budget: int | None = None,
        side: int | None = None,
        alpha: bool = False,
    ) -> Plan:
        """How an image of `size` (height, width), with alpha or without, will be cut; `budget` bytes, default what is free.
        See `tiles.make_plan`."""
        budget = int(free_memory(self.device) * HEADROOM) if budget is None else budget
        encodings = len(self.turns) * (2 if alpha else 1)
        return make_plan(self.model, size, grids, sample_bytes, budget, side, encodings, self.chunk)

    def pieces(self, image: Image, grids: Sequence[Grid], plan: Plan) -> Iterator[Piece]:
        """Render `grids` over `image`, (H, W, 3) uint8, uint16 or float32 in [0, 1], in the order of the plan's tiles.

        A fourth channel is alpha: it goes through the network as gray does, and the pieces have a fourth channel too. Where
        memory runs out, the tile is halved and work goes on from the last finished one; raises `OutOfMemory` at the smallest
        tile, `DeviceError` when colours are not finite twice.
        """
        side = plan.side
        self.tally.plans.append(plan)
        for first in plan.tiles():
            stack = [first]
            while stack:
                tile = stack.pop()
                if max(tile.height, tile.width) > side:
                    stack.extend(reversed(tile.halves()))
                    continue
                with self.tally.encoding():
                    encoding = self._encode(image, tile)
                if encoding is None:
                    side = self._shrink(tile)
                    stack.append(tile)
                    continue
                for index, grid in enumerate(grids):
                    part = tile.part_of(grid, plan.whole)
                    top, left = part.rows.start - grid.rows.start, part.columns.start - grid.columns.start
                    for row, rgb in encoding.bands(part):
                        yield Piece(index, top + row, left, rgb, top + len(part.rows))
                del encoding
                give_back()  # else each tile leaves some more holes in the heap than the last one

    def _shrink(self, tile: Tile) -> int:
        """The next smaller side after `tile` did not fit."""
        side = max(tile.height, tile.width)
        if side <= SMALLEST:
            raise OutOfMemory(
                f"out of memory at the smallest tile ({side} pixels)",
                hint="close other programs, use --device cpu, or render parts with --region",
            )
        self.notes.append(f"out of memory with a tile of {side} pixels: went on with {-(-side // 2)}")
        return -(-side // 2)

    def _encode(self, image: Image, tile: Tile) -> "Encoding | None":
        """The tile's encoding, or None when memory ran out."""
        encoding = or_none_without_memory(lambda: Encoding(self, image, tile), self.device)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # else its time would be counted as decoding; nothing else could run
        return encoding


class Encoding:
    """The fields of one tile, one for each quarter turn of the self-ensemble, and how they become colours. Where the tile
    has an alpha that varies, as many more follow for it."""

    def __init__(self, renderer: Renderer, image: Image, tile: Tile) -> None:
        self.renderer, self.image = renderer, image
        self.size = (image.shape[0], image.shape[1])
        self.window = tile.window(renderer.model.halo, self.size)
        self.precision = renderer.precision
        self.fields = self._fields()
        if not self._codes_are_finite():
            self._fall_back()

    def _fields(self) -> list[Any]:
        window, size = self.window, self.size
        layers = self._layers(self.image[window.top : window.bottom, window.left : window.right])
        with exact_float32(), torch.inference_mode():
            return [
                self._field(pixels, turn, size)
                for pixels in (to_tensor(layer).to(self.renderer.device) for layer in layers)
                for turn in self.renderer.turns
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
        return self.renderer.model.encode(turned, origin, whole, DTYPES[self.precision])

    def bands(self, grid: Grid) -> Iterator[tuple[int, Colours]]:
        """The grid's colours in bands of rows: (first row, (h, w, 3)). Where memory runs out the bands become thinner."""
        height, width = grid.shape
        step, top = piece_rows(width), 0
        while width and top < height:
            part = Grid(
                grid.rows.part(grid.rows.start + top, min(grid.rows.start + top + step, grid.rows.stop)), grid.columns
            )
            with self.renderer.tally.decoding():
                rgb = or_none_without_memory(lambda part=part: self._finite(part), self.renderer.device)  # type: ignore[misc]
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
        self.renderer.notes.append(f"{before} gave values that are not numbers: a tile was rendered in fp32 instead")

    def _codes_are_finite(self) -> bool:
        """Colours alone do not tell: a fused ReLU may turn NaN into 0."""
        return all(bool(torch.isfinite(field.codes).all()) for field in self.fields)

    def _render(self, grid: Grid) -> Colours:
        count = len(self.renderer.turns)
        rgb = self._averaged(self.fields[:count], grid)
        if self.image.shape[2] == 3:
            return rgb
        if len(self.fields) > count:
            alpha = luma(self._averaged(self.fields[count:], grid))
        else:
            constant = self.image[self.window.top : self.window.top + 1, self.window.left : self.window.left + 1, 3:]
            alpha = np.broadcast_to(to_float(constant), (*rgb.shape[:2], 1))
        return np.concatenate([rgb, alpha], axis=2)

    def _averaged(self, fields: list[Any], grid: Grid) -> Colours:
        """Colours (h, w, 3) of a grid from the fields of all quarter turns."""
        model = self.renderer.model
        with exact_float32(), torch.inference_mode():
            turns = [
                torch.rot90(model.render(field, turned.rows, turned.columns, self.renderer.chunk)[0], -turn, (0, 1))
                for turn, field in zip(self.renderer.turns, fields, strict=True)
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


def render_image(
    model: SRModel,
    image: Image,
    grid: Grid,
    *,
    precision: Precision = "fp32",
    self_ensemble: bool = False,
    budget: int | None = None,
    side: int | None = None,
) -> Colours:
    """A whole output in memory: (h, w, 3) float32, clamped to [0, 1], of `image` (H, W, 3) uint8, uint16 or float32 in [0, 1].

    On the device where the model's parameters are. precision "auto" is what suits an output of 8 bits.
    """
    device = next(model.parameters()).device
    renderer = Renderer(model, device, choose_precision(precision, device, bits=8), self_ensemble)
    out = np.empty((*grid.shape, 3), np.float32)
    plan = renderer.plan((image.shape[0], image.shape[1]), [grid], 12, budget=budget, side=side)
    for piece in renderer.pieces(image, [grid], plan):
        height, width = piece.rgb.shape[:2]
        np.clip(piece.rgb, 0, 1, out=out[piece.top : piece.top + height, piece.left : piece.left + width])
    return out


def to_tensor(pixels: Image) -> Tensor:
    """(h, w, 3) uint8, uint16 or float32 -> (1, 3, h, w) float32 in [0, 1]."""
    top = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1
    scaled = pixels.astype(np.float32) / np.float32(top)
    return torch.from_numpy(np.ascontiguousarray(scaled.transpose(2, 0, 1))).unsqueeze(0)

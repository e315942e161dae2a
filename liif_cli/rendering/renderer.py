"""The tile loop: encode a tile once, render every output from it, discard it.

Coordinates, cells and nearest codes are those of the whole image, and every tile is encoded with the full receptive field of
encoder and decoder, so there are no seams.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from liif_cli.coords import Grid
from liif_cli.errors import OutOfMemory, UsageError
from liif_cli.machine.devices import DTYPES, choose_precision, free_memory, or_none_without_memory
from liif_cli.machine.memory import give_back, resident
from liif_cli.machine.precision import Precision
from liif_cli.models.model import SRModel
from liif_cli.rendering.assembly import Colours, Piece
from liif_cli.rendering.encoded import Choices, Encoding
from liif_cli.rendering.plan import HEADROOM, SMALLEST, Plan, make_plan
from liif_cli.rendering.tiles import Tile

Image = NDArray[Any]


class Renderer(Choices):
    """Cuts an image into tiles and renders them."""

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
        """The tiles for an image of `size` (height, width). alpha: whether its alpha is encoded too. budget: bytes available
        (default: 80% of the free memory). See `plan.make_plan` for the other arguments and the errors."""
        budget = int(free_memory(self.device) * HEADROOM) if budget is None else budget
        encodings = len(self.turns) * (2 if alpha else 1)
        return make_plan(self.model, size, grids, sample_bytes, budget, side, encodings, self.chunk)

    def pieces(self, image: Image, grids: Sequence[Grid], plan: Plan) -> Iterator[Piece]:
        """Render `grids` over `image`, (H, W, 3) uint8, uint16 or float32 in [0, 1], in the order of the plan's tiles.

        A fourth channel is alpha: it goes through the network like grayscale, and pieces have a fourth channel too. If memory
        runs out, tiles are halved and rendering continues. Raises `OutOfMemory` at the smallest tile, `DeviceError` if colours
        are not finite even in fp32.
        """
        side, most = plan.side, resident() + plan.peak * 5 // 6  # the rest is for gaps that appear within a tile
        self.notes.extend(plan.notes)
        self.stats.plans.append(plan)
        for first in plan.tiles():
            stack = [first]
            while stack:
                tile = stack.pop()
                if max(tile.height, tile.width) > side:
                    stack.extend(reversed(tile.halves()))
                    continue
                self._keep_below(most)
                with self.stats.encoding():
                    encoding = self._encode(image, tile)
                if encoding is None:
                    side = self._shrink(tile)
                    stack.append(tile)
                    continue
                self.stats.encoded += len(encoding.fields) * encoding.window.height * encoding.window.width
                for index, grid in enumerate(grids):
                    part = tile.part_of(grid, plan.whole)
                    top, left = part.rows.start - grid.rows.start, part.columns.start - grid.columns.start
                    for row, rgb in encoding.bands(part, self):
                        yield Piece(index, top + row, left, rgb, top + len(part.rows))
                del encoding
        self._tidy()

    def _keep_below(self, most: int) -> None:
        """Return freed memory between two tiles if the process uses more than `most` bytes.

        Tiles of slightly different sizes leave gaps in the heap, which would add up. Returning the gaps before every tile would
        take a tenth of the time.
        """
        if self.device.type == "cpu" and resident() > most:
            give_back()

    def _tidy(self) -> None:
        """Called after each image."""
        give_back()

    def _shrink(self, tile: Tile) -> int:
        """The tile side to continue with after `tile` did not fit into memory. Raises `OutOfMemory` at the smallest tile."""
        side = max(tile.height, tile.width)
        if side <= SMALLEST or self.model.halo is None:
            what = (
                "the image, which the model reads as a whole" if self.model.halo is None else "even the smallest tile"
            )
            raise OutOfMemory(
                f"cannot encode {what} ({side} pixels): out of memory",
                hint="close other programs, use the CPU, or render parts of the image",
                remedy="device memory",
            )
        self.notes.append(f"out of memory with tiles of {side} pixels per side: continued with {-(-side // 2)}")
        return -(-side // 2)

    def _encode(self, image: Image, tile: Tile) -> "Encoding | None":
        """The encoded tile, or None if memory ran out."""
        encoding = or_none_without_memory(lambda: Encoding(self, image, tile), self.device)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # otherwise the encoder's time would be counted as decoding
        return encoding


def precision_for(model: SRModel, precision: Precision, device: torch.device, bits: int) -> str:
    """The precision in which a model renders outputs of `bits` bits per sample.

    precision: "auto" is `choose_precision`'s if the model supports it, otherwise the model's first. Raises `UsageError` if the
    model does not support the requested precision.
    """
    own = [name for name, dtype in DTYPES.items() if dtype in model.dtypes]
    chosen = choose_precision(precision, device, bits)
    if chosen in own:
        return chosen
    if precision == "auto":
        return own[0]
    raise UsageError(
        f"{precision} is not supported: the model renders only in {' or '.join(own)}", argument="precision"
    )


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
    """Render a whole output in memory: (h, w, 3) float32, clamped to [0, 1].

    image: (H, W, 3) uint8, uint16 or float32 in [0, 1]. Runs on the device of the model's parameters. precision: "auto" chooses
    for an 8-bit output. budget and side: see `Renderer.plan`. Raises `UsageError` if the model does not support the grid or the
    precision; `OutOfMemory` and `DeviceError` like `Renderer.pieces`.
    """
    device = next(model.parameters()).device
    renderer = Renderer(model, device, precision_for(model, precision, device, bits=8), self_ensemble)
    out = np.empty((*grid.shape, 3), np.float32)
    plan = renderer.plan((image.shape[0], image.shape[1]), [grid], 12, budget=budget, side=side)
    for piece in renderer.pieces(image, [grid], plan):
        height, width = piece.rgb.shape[:2]
        np.clip(piece.rgb, 0, 1, out=out[piece.top : piece.top + height, piece.left : piece.left + width])
    return out

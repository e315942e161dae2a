"""Renders a regular grid with torch's own operators, on any device, from a field, layers and two axes."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import torch
from torch import Tensor, nn

from liif_cli.coords import Axis
from liif_cli.machine.threads import run
from liif_cli.models.interfaces import Field
from liif_cli.models.kernels.first_layer import Coordinates, ProductStrip, Strip, by_product
from liif_cli.models.kernels.hidden_layers import Layer, pack
from liif_cli.models.kernels.neighbours import Neighbours

# Pixels per thread at once, by the bytes of a value. Calling a product costs as much as about 300 of its rows, so fewer pixels
# would waste time on calls; more would be limited by memory.
QUERIES = {2: 4096, 4: 1024}
GPU_QUERIES = 65536  # a small product leaves most of a GPU idle
SQUARE = 4  # the fewest rows of pixels at once, so that sums of codes are read from the caches
CORNERS = 4  # of the local ensemble
BANDS = 4  # per thread, so that all threads are busy until the end


@dataclass(frozen=True)
class Layers:
    """The parameters of a decoder that the kernels need.

    coord, cell: (width, 2) in (y, x) order, the first layer's weights of the relative coordinates and of the cell (None: the
    decoder does not use it). later: the layers after the first; the last one gives colours. ensemble: whether the four codes
    around a position are blended; otherwise the nearest one is used.
    """

    coord: Tensor
    cell: Tensor | None
    later: Sequence[nn.Linear]
    ensemble: bool


class Decoding:
    """One decoder's layers, prepared to convert rows of a strip to colours."""

    def __init__(self, layers: Layers, dtype: torch.dtype, cell: tuple[float, float]) -> None:
        """cell: (y, x) in LR pixels. dtype: of the hidden layers."""
        y, x = layers.coord.detach().float().unbind(1)
        constant = torch.zeros_like(y)
        if layers.cell is not None:
            constant = layers.cell.detach().float() @ (2 * torch.tensor(cell, device=y.device))
        self.coordinates = Coordinates(y, x, constant)
        self.hidden: list[Layer]
        self.hidden, self.last = pack(layers.later, dtype)

    def colours(self, strip: Strip | ProductStrip, rows: Neighbours, share: Tensor, into: Tensor) -> Tensor:
        """(len(rows), n, 3) float32. share: (n,) the weights of the columns' second neighbours. into: scratch memory for
        the first layer's results, at least (neighbours of rows, neighbours of columns * n, width) per row."""
        shape = (len(rows.code), len(rows), *into.shape[1:])
        filled = into.view(-1)[: math.prod(shape)].view(shape)
        strip.fill(rows, filled)
        values = filled.flatten(0, 2)
        for layer in self.hidden:
            values = layer(values)
        corners = self.last(values).view(len(rows.code), len(rows), -1, len(share), 3)
        return _blend(corners, rows.share, share)


def _blend(corners: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(neighbours, r, neighbours, n, 3) -> (r, n, 3): the local ensemble; the area weights are products of linear ones."""
    lines = corners[0]
    if len(corners) > 1:
        lines = torch.lerp(lines, corners[1], rows.view(-1, 1, 1, 1))
    return lines[:, 0] if lines.shape[1] == 1 else torch.lerp(lines[:, 0], lines[:, 1], columns.unsqueeze(-1))


def render_plain(layers: Layers, field: Field, rows: Axis, columns: Axis, queries: int | None = None) -> Tensor:
    """`render_grid` with torch's own operators, for any device."""
    codes = field.codes
    queries = queries or (QUERIES.get(codes.element_size(), 1024) if codes.device.type == "cpu" else GPU_QUERIES)
    out = codes.new_empty(codes.shape[0], len(rows), len(columns), 3, dtype=torch.float32)
    if not out.numel():
        return out
    y, x = (
        Neighbours.of(a, o, layers.ensemble, codes.device) for a, o in zip((rows, columns), field.origin, strict=True)
    )
    decoding = Decoding(layers, codes.dtype, (rows.cell, columns.cell))
    run(
        [
            job
            for image, whole in zip(codes, out, strict=True)
            for rows_of, columns_of in product(y.by_need(), x.by_need())
            for job in _jobs(decoding, image, rows_of, columns_of, queries, whole)
        ]
    )
    return out


def _jobs(
    decoding: Decoding, codes: Tensor, rows: Neighbours, columns: Neighbours, queries: int, out: Tensor
) -> Iterator[Callable[[], None]]:
    """Jobs that fill `out` at these rows and columns, `queries` pixels at a time, or more if they have fewer corners."""
    queries = queries * CORNERS // (len(rows.code) * len(columns.code))
    widest = max(1, queries // SQUARE)
    if by_product(codes):
        widest = min(widest, ProductStrip.widest(columns, codes.shape[2]))
    width = -(-len(columns) // -(-len(columns) // widest))
    height = min(len(rows), max(1, queries // width))
    band = _band_rows(len(rows), height, codes.device)
    for left in range(0, len(columns), width):
        for top in range(0, len(rows), band):
            part = rows.part(top, top + band), columns.part(left, left + width)
            yield partial(_render_band, decoding, codes, *part, height, out)


def _band_rows(rows: int, height: int, device: torch.device) -> int:
    """The rows of one job: several times `height` if there are enough for all threads; all rows if not on the CPU."""
    if device.type != "cpu":
        return rows
    return max(1, min(-(-rows // (BANDS * torch.get_num_threads() * height)), 16)) * height


def _render_band(
    decoding: Decoding, codes: Tensor, rows: Neighbours, columns: Neighbours, height: int, out: Tensor
) -> None:
    """Fill `out`, (H, W, 3), at the positions of these pixels, `height` rows at a time."""
    strip = (ProductStrip if by_product(codes) else Strip)(codes, columns, decoding.coordinates, height)
    into = codes.new_empty(len(rows.code) * height, columns.code.size, codes.shape[2])
    for top in range(0, len(rows), height):
        some = rows.part(top, top + height)
        out[some.at.unsqueeze(1), columns.at] = decoding.colours(strip, some, columns.share, into)


def scratch_bytes(width: int, device: torch.device, queries: int | None = None) -> int:
    """The most bytes that `render_grid` needs besides its result and small arrays with a few numbers per row and column.

    width: of the widest layer. Each thread needs three copies of the four corners' hidden layer. For the columns of one row of
    pixels and their two neighbours, it also needs the float32 sums of two rows of codes, the codes of one, and the columns'
    part.
    """
    hidden, sums = 3 * 4, 2 * (2 * 2 + 1 + 2)
    values = 4 * queries if queries else max(size * n for size, n in QUERIES.items())
    if device.type != "cpu":
        values = 4 * (queries or GPU_QUERIES)
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    return values * width * (hidden + -(-sums // SQUARE)) * threads

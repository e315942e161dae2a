"""The regular grid in torch's own operators, on every device. It knows no model: a field, its decoder's layers, two axes."""

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

# Pixels at once in a thread, by the bytes of a value: so many that a product is worth its call, which costs as much as some 300
# rows; with more, memory is what is waited for. Measured at x1.5 to x30 on two cores with AMX.
QUERIES = {2: 4096, 4: 1024}
GPU_QUERIES = 65536  # on a GPU there are no threads to feed, and a small product leaves most of it idle; not measured
SQUARE = 4  # rows of pixels at once, at least, so that sums of codes are read from the caches
CORNERS = 4  # of the local ensemble
BANDS = 4  # for each thread, so that all are busy until the end


@dataclass(frozen=True)
class Layers:
    """What the kernels read of a decoder, besides the codes.

    coord, cell: (width, 2) in (y, x) order, the first layer's weights of the relative coordinates and of the cell (None: it is
    not asked for). later: the layers behind the first, the last of which gives colours. ensemble: whether the four codes
    around a position are blended, else the nearest one is taken.
    """

    coord: Tensor
    cell: Tensor | None
    later: Sequence[nn.Linear]
    ensemble: bool


class Decoding:
    """One decoder's layers, ready to turn rows of a strip into colours."""

    def __init__(self, layers: Layers, dtype: torch.dtype, cell: tuple[float, float]) -> None:
        """cell: (y, x) in LR pixels. dtype: what the hidden layers are computed in."""
        y, x = layers.coord.detach().float().unbind(1)
        constant = torch.zeros_like(y)
        if layers.cell is not None:
            constant = layers.cell.detach().float() @ (2 * torch.tensor(cell, device=y.device))
        self.coordinates = Coordinates(y, x, constant)
        self.hidden: list[Layer]
        self.hidden, self.last = pack(layers.later, dtype)

    def colours(self, strip: Strip | ProductStrip, rows: Neighbours, share: Tensor, into: Tensor) -> Tensor:
        """(len(rows), n, 3) float32. share: (n,) the weights of the columns' second neighbours. into: room for the first
        layer's results, (neighbours of rows, neighbours of columns * n, width) or more for each row."""
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
    """What `render_grid` does on every device, in torch's own operators."""
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
    """What fills `out` where these rows and columns meet, `queries` pixels at a time; more where they have fewer corners."""
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
    """Rows of one job: several times `height`, unless all would not be busy then; everything where the CPU does not work."""
    if device.type != "cpu":
        return rows
    return max(1, min(-(-rows // (BANDS * torch.get_num_threads() * height)), 16)) * height


def _render_band(
    decoding: Decoding, codes: Tensor, rows: Neighbours, columns: Neighbours, height: int, out: Tensor
) -> None:
    """Fill `out`, (H, W, 3), at the places of these pixels, `height` rows at a time."""
    strip = (ProductStrip if by_product(codes) else Strip)(codes, columns, decoding.coordinates, height)
    into = codes.new_empty(len(rows.code) * height, columns.code.size, codes.shape[2])
    for top in range(0, len(rows), height):
        some = rows.part(top, top + height)
        out[some.at.unsqueeze(1), columns.at] = decoding.colours(strip, some, columns.share, into)


def scratch_bytes(width: int, device: torch.device, queries: int | None = None) -> int:
    """Bytes that `render_grid` takes at most beside its result and the arrays of a number or two for each row and column.

    width: of the widest layer. For each thread three copies of the four corners' hidden layer and, for the columns of one row
    of pixels and their two neighbours, what two rows of codes add, in float32, the codes of one, and the columns' own share.
    """
    hidden, sums = 3 * 4, 2 * (2 * 2 + 1 + 2)
    values = 4 * queries if queries else max(size * n for size, n in QUERIES.items())
    if device.type != "cpu":
        values = 4 * (queries or GPU_QUERIES)
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    return values * width * (hidden + -(-sums // SQUARE)) * threads

"""The LIIF decoder on a regular grid of pixels (paper, eq. 2 to 4), without a gather or a coordinate for each query.

What the first layer makes of the coordinates is a sum of one vector for the pixel's row and one for its column. So the
features' share and the column's are added once for each row of *codes*, and each row of pixels adds one vector to two such
sums. Corners whose weight is exactly 0, as at odd scales, are not evaluated. Positions are formed in exact integers and
float64, the sums in float32 and rounded once, the hidden layers in the codes' dtype, the ensemble in float32.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import pairwise, product
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from liif_cli.coords import Axis
from liif_cli.networks.fused import Layer, pack
from liif_cli.networks.workers import run

if TYPE_CHECKING:
    from liif_cli.networks.liif import LIIF, Field

# Pixels at once in a thread, by the bytes of a value: so few that the hidden layers stay in the caches, so many that a product
# is worth its call. Measured on two cores with 2 MiB of second-level cache each.
QUERIES = {2: 2048, 4: 512}
GPU_QUERIES = 65536  # on a GPU there are no threads to feed, and a small product leaves most of it idle; not measured
SQUARE = 4  # rows of pixels at once, at least, so that sums of codes are read from the caches
CORNERS = 4  # of the local ensemble
BANDS = 4  # for each thread, so that all are busy until the end


@dataclass(frozen=True)
class Neighbours:
    """One axis's share of the local ensemble, for each pixel of the axis.

    at: (n,) int64, the pixels' places in the output. code: (neighbours, n), the latent codes' indices in the tile; two
    neighbours, or the nearest one without an ensemble. relative: (neighbours, n) float32, the relative coord of the pixel.
    share: (n,) float32, the second neighbour's weight.
    """

    at: Tensor
    code: NDArray[np.int64]
    relative: Tensor
    share: Tensor

    @classmethod
    def of(cls, axis: Axis, origin: int, ensemble: bool, device: torch.device) -> "Neighbours":
        """The neighbours of an axis's pixels in a tile that begins at code `origin`."""
        lower, fraction = axis.split()
        # Without an ensemble the reference takes the nearest code, ties to the even one.
        upper = (fraction > 0.5) | ((fraction == 0.5) & (lower % 2 == 1))
        code = np.stack([lower, lower + 1] if ensemble else [lower + upper]).clip(0, axis.size - 1)
        relative = 2 * ((lower - code) + fraction)
        tensors = (torch.from_numpy(array.astype(np.float32)).to(device) for array in (relative, fraction))
        return cls(torch.arange(len(axis), device=device), code - origin, *tensors)

    def __len__(self) -> int:
        return int(self.code.shape[1])

    def part(self, start: int, stop: int) -> "Neighbours":
        """Those of the pixels [start, stop)."""
        return self._of(slice(start, stop), len(self.code))

    def by_need(self) -> "list[Neighbours]":
        """The pixels that need both neighbours, and those that lie on a code, where the second one's weight is exactly 0 and
        the first one is enough: a third of them at x3, all at x1, none at an even scale."""
        lone = (self.share == 0).cpu().numpy()
        if len(self.code) == 1 or not lone.any():
            return [self]
        parts = [self._of(np.flatnonzero(mask), count) for mask, count in ((~lone, 2), (lone, 1))]
        return [part for part in parts if len(part)]

    def _of(self, pixels: slice | NDArray[np.int64], neighbours: int) -> "Neighbours":
        code, relative = self.code[:neighbours, pixels], self.relative[:neighbours, pixels]
        return Neighbours(self.at[pixels], code, relative, self.share[pixels])


class Strip:
    """Some columns of the grid over one image: the first layer's features' and columns' shares, by row of codes."""

    def __init__(self, codes: Tensor, columns: Neighbours, weight: Tensor) -> None:
        """codes: (h, w, width). weight: (width,) float32, what the first layer makes of the relative x."""
        self.codes = codes
        self.index = torch.from_numpy(columns.code.reshape(-1)).to(codes.device)
        self.terms = columns.relative.reshape(-1, 1) * weight
        self.sums: dict[int, Tensor] = {}

    def sum(self, row: int) -> Tensor:
        """(neighbours * n, width) float32 of a row of codes. The latest two are kept: pixels go from top to bottom."""
        if row not in self.sums:
            while len(self.sums) > 1:
                del self.sums[next(iter(self.sums))]
            self.sums[row] = self.codes[row].index_select(0, self.index).float().add_(self.terms)
        return self.sums[row]


class Decoding:
    """One decoder's layers, ready to turn rows of a strip into colours."""

    def __init__(self, decoder: "LIIF", dtype: torch.dtype, cell: tuple[float, float]) -> None:
        """cell: (y, x) in LR pixels. dtype: what the hidden layers are computed in."""
        _, _, coord, cell_weight = decoder.split_first_layer()
        self.y_weight, self.x_weight = coord.detach().float().unbind(1)
        self.constant = torch.zeros_like(self.y_weight)
        if cell_weight is not None:
            self.constant = cell_weight.detach().float() @ (2 * torch.tensor(cell, device=coord.device))
        self.hidden: list[Layer]
        self.hidden, self.last = pack(decoder.imnet.linears[1:], dtype)

    def colours(self, strip: Strip, rows: Neighbours, share: Tensor, into: Tensor) -> Tensor:
        """(len(rows), n, 3) float32. share: (n,) the weights of the columns' second neighbours. into: room for the first
        layer's results, at least (len(rows), neighbours of rows, neighbours of columns * n, width)."""
        terms = rows.relative.T[:, :, None, None] * self.y_weight + self.constant
        for codes, start, stop in _runs(rows.code):
            for neighbour, row in enumerate(codes):
                torch.add(strip.sum(row), terms[start:stop, neighbour], out=into[start:stop, neighbour])
        values = relu_(into[: len(rows)].flatten(0, 2))
        for layer in self.hidden:
            values = layer(values)
        corners = self.last(values).view(len(rows), rows.code.shape[0], -1, len(share), 3)
        return _blend(corners, rows.share, share)


def _runs(code: NDArray[np.int64]) -> Iterator[tuple[tuple[int, ...], int, int]]:
    """The runs of pixels with the same neighbours: their codes, the first pixel, one past the last."""
    changes = np.flatnonzero(np.any(code[:, 1:] != code[:, :-1], axis=0)) + 1
    for start, stop in pairwise([0, *changes.tolist(), code.shape[1]]):
        yield tuple(code[:, start].tolist()), start, stop


def relu_(values: Tensor) -> Tensor:
    """In place. 16-bit floats are taken for integers, whose sign is the same bit: torch would go through float32."""
    if values.dtype in (torch.float16, torch.bfloat16):
        values.view(torch.int16).clamp_min_(0)
        return values
    return values.relu_()


def _blend(corners: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(r, neighbours, neighbours, n, 3) -> (r, n, 3): the local ensemble; the area weights are products of linear ones."""
    lines = corners[:, 0]
    if corners.shape[1] > 1:
        lines = torch.lerp(lines, corners[:, 1], rows.view(-1, 1, 1, 1))
    return lines[:, 0] if lines.shape[1] == 1 else torch.lerp(lines[:, 0], lines[:, 1], columns.unsqueeze(-1))


@torch.no_grad()
def render_grid(decoder: "LIIF", field: "Field", rows: Axis, columns: Axis, queries: int | None = None) -> Tensor:
    """Colours of a regular grid, (B, len(rows), len(columns), 3) float32, normalised, not clamped; the numbers of `query`.

    queries: how many pixels a thread works on at once; it does not change the colours. Takes `scratch_bytes` beside its result.
    On a CUDA device in 16 bits one kernel does it all, where it runs.
    """
    if field.codes.is_cuda and len(rows) and len(columns) and _kernel_runs(decoder, field.codes):
        from liif_cli.networks.triton_grid import render_fused

        return render_fused(decoder, field, rows, columns)
    return render_plain(decoder, field, rows, columns, queries)


def _kernel_runs(decoder: "LIIF", codes: Tensor) -> bool:
    if find_spec("triton") is None:
        return False
    from liif_cli.networks.triton_grid import fits, works

    return fits(decoder, codes) and works(codes.device, codes.dtype, decoder.local_ensemble, codes.shape[3])


def render_plain(decoder: "LIIF", field: "Field", rows: Axis, columns: Axis, queries: int | None = None) -> Tensor:
    """What `render_grid` does on every device, in torch's own operators."""
    codes = field.codes
    queries = queries or (QUERIES.get(codes.element_size(), 512) if codes.device.type == "cpu" else GPU_QUERIES)
    out = codes.new_empty(codes.shape[0], len(rows), len(columns), 3, dtype=torch.float32)
    if not out.numel():
        return out
    ensemble = decoder.local_ensemble
    y, x = (Neighbours.of(a, o, ensemble, codes.device) for a, o in zip((rows, columns), field.origin, strict=True))
    decoding = Decoding(decoder, codes.dtype, (rows.cell, columns.cell))
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
    width = -(-len(columns) // -(-len(columns) // max(1, queries // SQUARE)))
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
    strip = Strip(codes, columns, decoding.x_weight)
    into = codes.new_empty(height, len(rows.code), columns.code.size, codes.shape[2])
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

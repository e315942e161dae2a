"""The first layer's results for some columns of a grid, from the codes' share, which is known, and that of the coordinates.

Usually what a row of codes adds to the columns is summed once, and each row of pixels adds its own share. Where matrix
instructions multiply bf16, such sums would take as long as two of the layers behind them, and one product does it all: each
pixel's row of its left factor has a one at the pixel's code, and beside it the coordinates.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from liif_cli.machine.precision import fast_bf16_cpu
from liif_cli.models.kernels.hidden_layers import least_rows, with_rows
from liif_cli.models.kernels.inplace import relu_
from liif_cli.models.kernels.neighbours import Neighbours

# Columns of a product that stand for a number times a number in float32: both are a sum of two halves in 16 bits, and the
# lower halves' product is left out.
HALVES = 3
WIDEST = 192  # pixels; measured at x1 to x7.5
SHARED = 2 * HALVES + 2  # columns for relative y, for relative x, and for the halves of what is constant


@dataclass(frozen=True)
class Coordinates:
    """What the first layer makes of a pixel's place: relative y and x by (width,) float32 each, and a constant (width,)."""

    y: Tensor
    x: Tensor
    constant: Tensor


def by_product(codes: Tensor) -> bool:
    """Whether `ProductStrip` is the faster one for these codes and, for any columns of a grid, gives the same bits."""
    return codes.dtype == torch.bfloat16 and codes.device.type == "cpu" and fast_bf16_cpu()


class Strip:
    """Sums in float32, rounded once where the results have 16 bits."""

    def __init__(self, codes: Tensor, columns: Neighbours, coordinates: Coordinates, height: int) -> None:
        """codes: (h, w, width) of one image. height: rows of pixels in one call of `fill`, at most."""
        self.codes, self.coordinates = codes, coordinates
        self.index = torch.from_numpy(columns.code.reshape(-1)).to(codes.device)
        self.terms = columns.relative.reshape(-1, 1) * coordinates.x
        self.sums: dict[int, Tensor] = {}

    def fill(self, rows: Neighbours, into: Tensor) -> None:
        """into: (neighbours of rows, len(rows), neighbours of columns * n, width), takes the results behind the ReLU."""
        terms = rows.relative[:, :, None, None] * self.coordinates.y + self.coordinates.constant
        for codes, pixels in rows.runs():
            for neighbour, row in enumerate(codes):
                relu_(torch.add(self._sum(row), terms[neighbour, pixels], out=into[neighbour, pixels]))

    def _sum(self, row: int) -> Tensor:
        """(neighbours * n, width) float32 of a row of codes. The latest two are kept: pixels go from top to bottom."""
        if row not in self.sums:
            while len(self.sums) > 1:
                del self.sums[next(iter(self.sums))]
            self.sums[row] = self.codes[row].index_select(0, self.index).float().add_(self.terms)
        return self.sums[row]


class ProductStrip:
    """Products in 16 bits, accumulated in float32 and rounded once.

    What does not depend on the strip comes first in them, so that they are added up in the same order wherever it begins.
    """

    def __init__(self, codes: Tensor, columns: Neighbours, coordinates: Coordinates, height: int) -> None:
        """As `Strip`; codes have 16 bits."""
        dtype, device, self.count = codes.dtype, codes.device, columns.code.size
        first, last = columns.code.min(), columns.code.max()
        self.codes = codes[:, first : last + 1]
        y, x, constant = coordinates.y, coordinates.x, coordinates.constant
        self.shared = torch.stack([*_weights(y, dtype), *_weights(x, dtype), *_halves(constant, dtype)])
        left = codes.new_zeros(self.count, SHARED + self.codes.shape[1])
        left[:, HALVES : 2 * HALVES] = _values(columns.relative.reshape(-1), dtype)
        left[:, 2 * HALVES : SHARED] = 1
        picked = torch.from_numpy(columns.code.reshape(-1) - first + SHARED).to(device)
        left[torch.arange(self.count, device=device), picked] = 1
        self.left = left.repeat(height, 1)

    def fill(self, rows: Neighbours, into: Tensor) -> None:
        """As `Strip.fill`."""
        first, count = int(rows.code.min()), self.count
        codes = self.codes[first : int(rows.code.max()) + 1]
        right = torch.cat([self.shared.expand(len(codes), -1, -1), codes], 1)
        left = self.left.view(-1, count, self.left.shape[1])[: len(rows)]
        flat = into.flatten(1, 2)
        for neighbour, y in enumerate(_values(rows.relative, into.dtype)):
            left[..., :HALVES] = y.unsqueeze(1)
            for codes_of, pixels in rows.runs():
                part = slice(pixels.start * count, pixels.stop * count)
                _multiply(self.left[part], right[codes_of[neighbour] - first], flat[neighbour, part])
        relu_(flat)

    @staticmethod
    def widest(columns: Neighbours, width: int) -> int:
        """How many of `columns` a strip should have at most. In one of 200 codes and a `width` of 256 the product costs as much
        as three quarters of a hidden layer; in one that is narrower its rows are few."""
        span = int(columns.code.max() - columns.code.min()) + 1
        return max(1, min(WIDEST, (width - SHARED) * len(columns) // span))


def _multiply(left: Tensor, right: Tensor, into: Tensor) -> None:
    """into = left @ right, with rows that do not depend on how many there are."""
    least = least_rows(right)
    if len(left) >= least:
        torch.mm(left, right, out=into)
    else:
        into.copy_(with_rows(lambda rows: torch.mm(rows, right), least)(left))


def _halves(values: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Two tensors of `dtype` whose sum has twice as many bits."""
    high = values.to(dtype)
    return high, (values - high).to(dtype)


def _weights(weight: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """What `_values` are multiplied by."""
    high, low = _halves(weight, dtype)
    return high, high, low


def _values(values: Tensor, dtype: torch.dtype) -> Tensor:
    """(..., HALVES)"""
    high, low = _halves(values, dtype)
    return torch.stack([high, low, high], -1)

"""The first layer's results for some columns of a grid, from the codes' part, which is given, and the coordinates' part.

Usually, the sum of a row of codes and the columns' part is computed once, and each row of pixels adds its own part. If the CPU
has matrix instructions for bf16, such sums would take as long as two of the following layers. Then one product computes all of
it: in its left factor, a pixel's row has a one at the pixel's code, next to the coordinates.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from liif_cli.machine.precision import fast_bf16_cpu
from liif_cli.models.kernels.hidden_layers import least_rows, with_rows
from liif_cli.models.kernels.inplace import relu_
from liif_cli.models.kernels.neighbours import Neighbours

# Columns of a product that represent one float32 number times another: both are sums of two 16-bit halves, and the product of
# the lower halves is omitted.
HALVES = 3
WIDEST = 192  # the most pixels of a strip; the fastest number at ×1 to ×7.5
SHARED = 2 * HALVES + 2  # columns for relative y, for relative x, and for the halves of the constant


@dataclass(frozen=True)
class Coordinates:
    """The first layer's weights of relative y and x, and a constant; (width,) float32 each."""

    y: Tensor
    x: Tensor
    constant: Tensor


def by_product(codes: Tensor) -> bool:
    """Whether `ProductStrip` is faster for these codes; it then gives the same bits for any columns of a grid."""
    return codes.dtype == torch.bfloat16 and codes.device.type == "cpu" and fast_bf16_cpu()


class Strip:
    """Sums in float32, rounded once if the results have 16 bits."""

    def __init__(self, codes: Tensor, columns: Neighbours, coordinates: Coordinates, height: int) -> None:
        """codes: (h, w, width) of one image. height: the most rows of pixels per call of `fill`."""
        self.codes, self.coordinates = codes, coordinates
        self.index = torch.from_numpy(columns.code.reshape(-1)).to(codes.device)
        self.terms = columns.relative.reshape(-1, 1) * coordinates.x
        self.sums: dict[int, Tensor] = {}

    def fill(self, rows: Neighbours, into: Tensor) -> None:
        """into: (neighbours of rows, len(rows), neighbours of columns * n, width), filled with the results after the ReLU."""
        terms = rows.relative[:, :, None, None] * self.coordinates.y + self.coordinates.constant
        for codes, pixels in rows.runs():
            for neighbour, row in enumerate(codes):
                relu_(torch.add(self._sum(row), terms[neighbour, pixels], out=into[neighbour, pixels]))

    def _sum(self, row: int) -> Tensor:
        """(neighbours * n, width) float32 of a row of codes. The last two are kept: rows are filled from top to bottom."""
        if row not in self.sums:
            while len(self.sums) > 1:
                del self.sums[next(iter(self.sums))]
            self.sums[row] = self.codes[row].index_select(0, self.index).float().add_(self.terms)
        return self.sums[row]


class ProductStrip:
    """Products in 16 bits, accumulated in float32 and rounded once.

    Columns that do not depend on the strip come first, so that the order of summation is the same wherever the strip begins.
    """

    def __init__(self, codes: Tensor, columns: Neighbours, coordinates: Coordinates, height: int) -> None:
        """Like `Strip`; codes have 16 bits."""
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
        """See `Strip.fill`."""
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
        """The most of `columns` that a strip should have. In a strip of 200 codes with a `width` of 256, the product costs as
        much as three quarters of a hidden layer; a narrower strip has fewer rows per product."""
        span = int(columns.code.max() - columns.code.min()) + 1
        return max(1, min(WIDEST, (width - SHARED) * len(columns) // span))


def _multiply(left: Tensor, right: Tensor, into: Tensor) -> None:
    """into = left @ right; a row of the result does not depend on the number of rows."""
    least = least_rows(right)
    if len(left) >= least:
        torch.mm(left, right, out=into)
    else:
        into.copy_(with_rows(lambda rows: torch.mm(rows, right), least)(left))


def _halves(values: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Two tensors of `dtype` whose sum has twice the precision."""
    high = values.to(dtype)
    return high, (values - high).to(dtype)


def _weights(weight: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """The factors of `_values`."""
    high, low = _halves(weight, dtype)
    return high, high, low


def _values(values: Tensor, dtype: torch.dtype) -> Tensor:
    """(..., HALVES): the halves of values, in the order of `_weights`."""
    high, low = _halves(values, dtype)
    return torch.stack([high, low, high], -1)

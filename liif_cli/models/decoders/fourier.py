"""The decoder of `light`: each latent code is a small Fourier series, damped by the size of the pixel that is asked for.

A code predicts, for each colour, the coefficients of n x n separable functions of the offset from its LR pixel: a constant and
cosines and sines of `frequencies` multiples of one base frequency per axis (n = 2 * frequencies + 1). A box or Gaussian of the
pixel's size damps a wave of frequency w by exp(-kappa w^2 cell^2), which is what cell decoding is here (after Thera, Becker et
al. 2025; the scale is clamped at `LARGEST_SCALE`, as training sees none beyond it). The two nearest codes per axis overlap by
cos^2 windows, which sum to 1. All of it is linear in the coefficients, so a grid of pixels is two banded matrix products.

What the series gives is added to the LR image under the same windows. Each code's series is shifted so that at its own LR
pixel and scale 1 it gives nothing but the code's `correction` of that pixel: without one, every LR pixel is kept at x1.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from liif_cli.coords import Axis
from liif_cli.machine.threads import run

LARGEST_SCALE = 4.0  # the cell of a higher one is taken for this one's
COLOURS = 3
CELLS = 8  # LR pixels per side of a block: a wider one wastes products on zeros, a narrower one has too small products
STRIPS = 4  # for each thread, at least, so that all are busy until the end


@dataclass(frozen=True)
class FourierField:
    """What queries read of a tile.

    codes: (B, h, w, n * n * 3), coefficients ordered by (function of x, function of y, colour). image: (B, h, w, 3) float32,
    the LR image, normalised, with the codes' corrections. origin: (y, x) of the tile's first code in the whole image. size:
    (height, width) of the whole image, to which codes are clamped.
    """

    codes: Tensor
    image: Tensor
    origin: tuple[int, int]
    size: tuple[int, int]

    @property
    def extent(self) -> tuple[int, int]:
        """(height, width) of the tile in latent codes."""
        return self.codes.shape[1], self.codes.shape[2]


@dataclass(frozen=True)
class Taps:
    """One axis's pixels: the two codes that each reads, and what they weigh.

    code: (n, 2) int64, indices in the tile. window: (n, 2), the weights of the two. function: (n, 2, functions), the damped
    functions at the pixel's offset from each code, times the window.
    """

    code: Tensor
    window: Tensor
    function: Tensor

    def part(self, start: int, stop: int) -> "Taps":
        """Those of the pixels [start, stop)."""
        return Taps(self.code[start:stop], self.window[start:stop], self.function[start:stop])


class Fourier(nn.Module):
    """Damped separable Fourier series per latent code. `halo`: codes read beyond the lower one.

    frequency and damping: learned scalars, in cycles per LR pixel and in squared LR pixels.
    """

    halo = 1

    def __init__(self, in_channels: int, frequencies: int = 3) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.functions = 2 * frequencies + 1
        self.coefficients = nn.Conv2d(in_channels, COLOURS * (self.functions**2 - 1), 1)
        self.correction = nn.Conv2d(in_channels, COLOURS, 1)
        self.frequency = nn.Parameter(torch.tensor(0.25))
        self.damping = nn.Parameter(torch.tensor(0.2))
        nn.init.normal_(self.coefficients.weight, std=1e-3)
        for zero in (self.coefficients.bias, self.correction.weight, self.correction.bias):
            nn.init.zeros_(zero)  # type: ignore[arg-type]

    def basis(self, offset: Tensor, cell: Tensor) -> Tensor:
        """The functions of one axis, (..., functions): 1, then cosine and sine of each frequency, damped.

        offset (...): from a code. cell (...): the pixel's size. Both in LR pixels.
        """
        multiples = torch.arange(1, self.frequencies + 1, device=offset.device)
        wave = 2 * math.pi * self.frequency * multiples
        gain = torch.exp(-self.damping * wave.square() * cell.clamp(min=1 / LARGEST_SCALE).unsqueeze(-1).square())
        phase = offset.unsqueeze(-1) * wave
        waves = torch.stack([gain * phase.cos(), gain * phase.sin()], -1).flatten(-2)
        return torch.cat([torch.ones_like(waves[..., :1]), waves], -1)

    def head(self) -> tuple[Tensor, Tensor]:
        """Weight (n * n * 3, in_channels) and bias of all coefficients in the order of `FourierField.codes`.

        The constant ones undo what the others give at offset 0 and scale 1.
        """
        n = self.functions
        device = self.frequency.device
        weight = torch.cat([self.coefficients.weight.flatten(1), self.coefficients.bias.unsqueeze(1)], 1)  # type: ignore[union-attr]
        weight = weight.view(COLOURS, n * n - 1, -1)
        own = self.basis(torch.zeros((), device=device), torch.ones((), device=device))
        own = (own.unsqueeze(1) * own).flatten()[1:]
        constant = -(own.view(1, -1, 1) * weight).sum(1, keepdim=True)
        weight = (
            torch.cat([constant, weight], 1).view(COLOURS, n, n, -1).permute(2, 1, 0, 3).reshape(n * n * COLOURS, -1)
        )
        return weight[:, :-1], weight[:, -1]

    def prepare(
        self,
        features: Tensor,
        image: Tensor,
        origin: tuple[int, int] = (0, 0),
        size: tuple[int, int] | None = None,
        dtype: torch.dtype | None = None,
    ) -> FourierField:
        """Features (B, in_channels, h, w) and the normalised image (B, 3, h, w) of a tile at `origin` -> its field.

        dtype: of the coefficients, and what `render` multiplies; default: the features' own. The image stays float32.
        """
        weight, bias = self.head()
        codes = pointwise(features, weight, bias)
        pixels = image.float().permute(0, 2, 3, 1)
        pixels = pixels + pointwise(features, self.correction.weight.flatten(1), self.correction.bias).float()  # type: ignore[arg-type]
        height, width = size or (features.shape[2], features.shape[3])
        return FourierField(codes.to(dtype or codes.dtype).contiguous(), pixels.contiguous(), origin, (height, width))

    @property
    def code_bytes(self) -> int:
        """Bytes of one latent code in a field, in float32."""
        return 4 * COLOURS * (self.functions**2 + 1)

    def scratch_bytes(self, queries: int | None = None) -> int:
        """Bytes that `render` takes at most beside its result, for a tile of up to 2048 codes a side."""
        threads = torch.get_num_threads() if self.frequency.device.type == "cpu" else 1
        return threads * 4 * 2048 * (self.functions + 1) * COLOURS * 4 * 2 * CELLS * 2

    def query(self, field: FourierField, position: Tensor, cell: Tensor) -> Tensor:
        """Colours at any positions.

        position: (B, Q, 2) float64, (y, x) in LR pixels of the whole image (code i lies at i). cell: (B, Q, 2) in LR pixels.
        Returns (B, Q, 3) in the normalised space of the model, not clamped.
        """
        y, x = (self.taps(position[..., i], cell[..., i], field.size[i], field.origin[i]) for i in range(2))
        batch = torch.arange(len(position), device=position.device).view(-1, 1, 1, 1)
        at = batch, y.code.unsqueeze(-1), x.code.unsqueeze(-2)
        codes = field.codes[at].view(*y.code.shape, 2, self.functions, self.functions, COLOURS).to(y.function.dtype)
        colours = torch.einsum("bqyxjic,bqyi,bqxj->bqc", codes, y.function, x.function)
        return colours + torch.einsum("bqyxc,bqy,bqx->bqc", field.image[at].to(y.window.dtype), y.window, x.window)

    def taps(self, position: Tensor, cell: Tensor, size: int, origin: int) -> Taps:
        """What the pixels of one axis read. position (...) float64 and cell (...) in LR pixels, of an axis of `size` codes, of
        which the tile's first is `origin`."""
        lower = position.floor()
        return self.weigh(lower.long(), position - lower, cell, size, origin)

    def weigh(self, lower: Tensor, fraction: Tensor, cell: Tensor, size: int, origin: int) -> Taps:
        """The same, of positions in two parts: integers (...), and fractions (...) in [0, 1), float64."""
        neighbour = lower.unsqueeze(-1) + torch.arange(2, device=lower.device)
        code = neighbour.clamp(0, size - 1)
        offset = (lower.unsqueeze(-1) - code + fraction.unsqueeze(-1)).to(cell.dtype)
        upper = (0.5 - 0.5 * torch.cos(math.pi * fraction)).to(cell.dtype)  # sin^2(pi f / 2)
        window = torch.stack([1 - upper, upper], -1)
        functions = self.basis(offset, cell.unsqueeze(-1).expand_as(offset))
        return Taps(code - origin, window, window.unsqueeze(-1) * functions)

    def patches(self, field: FourierField, side: Tensor, largest: int) -> Tensor:
        """All pixels of outputs of `side` (B,) pixels per side over whole square images, with gradients.

        Returns (B, largest, largest, 3) float32, normalised; zero beyond each output's side.
        """
        batch, height, width, _ = field.codes.shape
        index = torch.arange(largest, device=side.device)
        position = ((2 * index + 1) * height).double() / (2 * side).unsqueeze(1) - 0.5
        cell = (height / side.float()).unsqueeze(1).expand_as(position)
        taps = self.taps(position, cell, height, 0)
        inside = index < side.unsqueeze(1)
        n = self.functions
        matrix = inside[..., None, None] * banded(taps.code, taps.function, height)  # (B, largest, height, n)
        codes = field.codes.view(batch, height, width, n, n * COLOURS)
        wide = codes.permute(0, 2, 3, 1, 4).reshape(
            batch, width * n, -1
        )  # (x, function of x) by (y, function of y, colour)
        across = (matrix.flatten(2) @ wide).view(batch, largest, height * n, COLOURS)
        tall = across.permute(0, 2, 1, 3).reshape(batch, height * n, -1)
        out = (matrix.flatten(2) @ tall).view(batch, largest, largest, COLOURS)
        with torch.autocast(side.device.type, enabled=False):
            window = inside[..., None] * banded(taps.code, taps.window.unsqueeze(-1), height).squeeze(-1)
            across = torch.einsum("bpx,byxc->bypc", window, field.image)
            return out.float() + torch.einsum("bqy,bypc->bqpc", window, across)

    @torch.no_grad()
    def render(self, field: FourierField, rows: Axis, columns: Axis, queries: int | None = None) -> Tensor:
        """Colours of a regular grid, (B, len(rows), len(columns), 3) float32, normalised, not clamped; the numbers of `query`.

        In blocks of `CELLS` x `CELLS` codes, each two products of matrices that are zero beside a band. queries: not needed, as
        no pixel needs room of its own.
        """
        y, x = (self._axis_taps(axis, field, i) for i, axis in enumerate((rows, columns)))
        out = field.image.new_empty(len(field.codes), len(rows), len(columns), COLOURS)
        if not len(rows) or not len(columns):
            return out
        if at_codes(rows) and at_codes(
            columns
        ):  # x1: the series gives exactly nothing here, whatever 16 bits make of it
            return out.copy_(field.image[:, y.code[:, 0]][:, :, x.code[:, 0]])
        blocks = Blocks.of(y, field.codes.dtype)
        run(
            [
                partial(_render_strip, codes, image, blocks, x.part(*pixels), whole[:, slice(*pixels)])
                for codes, image, whole in zip(field.codes, field.image, out, strict=True)
                for pixels in strips(columns)
            ]
        )
        return out

    def _axis_taps(self, axis: Axis, field: FourierField, i: int) -> Taps:
        lower, fraction = (torch.from_numpy(part) for part in axis.split())
        cell = torch.full((), axis.cell, dtype=torch.float64)
        exact = _in_float64(self)
        taps = exact.weigh(lower, fraction, cell, field.size[i], field.origin[i])
        device = field.codes.device
        return Taps(taps.code.to(device), taps.window.float().to(device), taps.function.float().to(device))


def _in_float64(decoder: Fourier) -> Fourier:
    """The decoder's scalars alone, in float64 on the CPU: tables are formed there and rounded once."""
    other = Fourier.__new__(Fourier)
    nn.Module.__init__(other)
    other.frequencies, other.functions = decoder.frequencies, decoder.functions
    for name in ("frequency", "damping"):
        setattr(other, name, nn.Parameter(getattr(decoder, name).detach().double().cpu(), requires_grad=False))
    return other


def pointwise(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A 1x1 convolution of (B, C, h, w) by (n, C), in the features' dtype -> (B, h, w, n)."""
    weight, bias = weight.to(features.dtype), bias.to(features.dtype)
    return nn.functional.conv2d(features, weight[:, :, None, None], bias).permute(0, 2, 3, 1)


def at_codes(axis: Axis) -> bool:
    """Whether every pixel of the axis lies on a code and has its size."""
    return axis.cell == 1 and not axis.split()[1].any()


def banded(code: Tensor, values: Tensor, count: int) -> Tensor:
    """Weights of two codes, `values` (..., n, 2, functions) at `code` (..., n, 2), as a matrix (..., n, count, functions)."""
    functions = values.shape[-1]
    index = code.unsqueeze(-1).expand(values.shape)
    matrix = values.new_zeros(*values.shape[:-2], count, functions)
    return matrix.scatter_add(-2, index, values)


@dataclass(frozen=True)
class Blocks:
    """An axis's pixels in blocks of equally many codes, filled up with pixels of weight zero to equally many pixels.

    first: the block's first code. series: (blocks, pixels, codes * functions), in the codes' dtype. window: (blocks, pixels,
    codes) float32. rows: (n,), where each pixel of the axis stands among the (blocks * pixels).
    """

    first: Tensor
    series: Tensor
    window: Tensor
    rows: Tensor

    @classmethod
    def of(cls, taps: Taps, dtype: torch.dtype) -> "Blocks":
        """The blocks of an axis."""
        low, last = int(taps.code.min()), int(taps.code.max())
        cells = min(CELLS, max(1, last - low))
        # A pixel belongs to the block of its lower code; the last code has pixels of its own only where it is the edge's.
        block = (taps.code[:, 0] - low).div(cells, rounding_mode="floor")
        count = int(block.max()) + 1
        first = (low + cells * torch.arange(count, device=block.device)).clamp(max=max(low, last - cells))
        sizes = torch.bincount(block, minlength=count)
        starts = sizes.cumsum(0) - sizes
        place = torch.arange(len(block), device=block.device) - starts[block]
        rows = block * int(sizes.max()) + place
        inside = taps.code - first[block].unsqueeze(1)
        span = min(cells, last - low) + 1

        def spread(values: Tensor) -> Tensor:
            matrix = banded(inside, values, span)
            padded = matrix.new_zeros(count * int(sizes.max()), *matrix.shape[1:])
            padded[rows] = matrix
            return padded.view(count, -1, *matrix.shape[1:])

        return cls(
            first, spread(taps.function).flatten(2).to(dtype), spread(taps.window.unsqueeze(-1)).squeeze(-1), rows
        )


def strips(axis: Axis) -> Iterator[tuple[int, int]]:
    """The pixels [start, stop) of an axis in runs that lie within `CELLS` codes, counted from its first pixel."""
    lower = axis.split()[0]
    edges = [int(e) for e in range(int(lower[0]), int(lower[-1]) + 1, CELLS)]
    starts = [axis.first_from(edge) - axis.start for edge in edges[1:]]
    yield from (pair for pair in pairwise([0, *starts, len(axis)]) if pair[0] < pair[1])


def _render_strip(codes: Tensor, image: Tensor, rows: Blocks, columns: Taps, out: Tensor) -> None:
    """Fill `out` (H, w, 3) with the colours of these columns. codes: (h, w, functions * functions * 3). image: (h, w, 3)."""
    first, last = int(columns.code.min()), int(columns.code.max()) + 1
    top, bottom = int(rows.first[0]), int(rows.first[-1]) + rows.window.shape[2]
    height, functions = bottom - top, columns.function.shape[-1]
    inside = columns.code - first
    series = banded(inside, columns.function, last - first).flatten(1).to(codes.dtype)  # (w, codes * functions)
    window = banded(inside, columns.window.unsqueeze(-1), last - first).squeeze(-1)
    part = codes[top:bottom, first:last].reshape(height, -1, functions * COLOURS)  # (h, codes * functions of x, others)
    across = torch.bmm(part.transpose(1, 2), series.t().expand(height, -1, -1))  # (h, functions of y * colours, w)
    tall = across.view(height * functions, -1)
    base = torch.bmm(image[top:bottom, first:last].transpose(1, 2), window.t().expand(height, -1, -1)).view(height, -1)
    done = _down(rows, rows.series, tall, top, functions).float() + _down(rows, rows.window, base, top, 1)
    out.copy_(done.view(-1, COLOURS, len(columns.code))[rows.rows].transpose(1, 2))


def _down(rows: Blocks, matrix: Tensor, lines: Tensor, top: int, per_code: int) -> Tensor:
    """The products of all blocks with their codes' `lines` ((h * per_code), n) -> (blocks * pixels, n)."""
    blocks, _, reach = matrix.shape
    if blocks > 2:  # all but the last begin `CELLS` codes after one another
        most = lines.as_strided(
            (blocks - 1, reach, lines.shape[1]), (CELLS * per_code * lines.shape[1], lines.shape[1], 1)
        )
        head = torch.bmm(matrix[:-1], most)
        tail = matrix[-1] @ lines[(int(rows.first[-1]) - top) * per_code :][:reach]
        return torch.cat([head.flatten(0, 1), tail])
    parts = [m @ lines[(int(f) - top) * per_code :][:reach] for m, f in zip(matrix, rows.first, strict=True)]
    return torch.cat(parts)

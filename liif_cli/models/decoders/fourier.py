"""The decoder of `light`: each latent code is a small Fourier series, damped according to the output pixel's size.

A code predicts, for each colour, the coefficients of n x n separable functions of the offset from its LR pixel: a constant and
cosines and sines of `frequencies` multiples of one base frequency per axis (n = 2 * frequencies + 1). Cell decoding damps a
wave of frequency w by exp(-kappa w^2 cell^2), as a box or Gaussian of the pixel's size would (after Thera, Becker et al. 2025;
the scale is clamped at `LARGEST_SCALE`, the largest in training). The two nearest codes per axis overlap by
cos^2 windows, which sum to 1. All of it is linear in the coefficients, so a grid of pixels is two banded matrix products.

The series are added to the LR image, which is interpolated with the same windows. Each code's series is shifted to be zero at
its own LR pixel at scale 1, so at ×1 an LR pixel changes only by its code's `correction`.
"""

import math
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Annotated, Literal

import torch
from annotated_types import Interval
from torch import Tensor, nn

from liif_cli.coords import Axis
from liif_cli.machine.threads import run
from liif_cli.models.finite import all_finite
from liif_cli.models.interfaces import Decoder, Field
from liif_cli.models.kernels.banded import COLOURS, Blocks, Taps, banded, render_banded, scratch
from liif_cli.models.schema import PartConfig

LARGEST_SCALE = 4.0  # higher scales use this one's cell
PIXELS = 4608  # LR pixels whose coefficients one thread computes at once
WIDEST = 1024  # codes per side of the largest tile for which `scratch_bytes` is valid


@dataclass(frozen=True)
class FourierConfig(PartConfig):
    """Damped separable Fourier series per latent code, the decoder of `light`. frequencies: multiples of the base per axis."""

    name: Literal["fourier"] = "fourier"
    frequencies: Annotated[int, Interval(ge=1, le=16)] = 3


@dataclass(frozen=True)
class FourierField(Field):
    """The data of a tile that queries read.

    codes: (B, h, n * 3 * n, w), coefficients ordered by (function of y, colour, function of x), contiguous. In float32 the
    constant coefficients include the LR image; in 16 bits the image is added separately, in float32. image: (B, h, w, 3)
    float32, the LR image, normalised, with the codes' corrections. origin: (y, x) of the tile's first code in the whole image.
    size: (height, width) of the whole image, to which codes are clamped.
    """

    image: Tensor

    @property
    def extent(self) -> tuple[int, int]:
        """(height, width) of the tile in latent codes."""
        return self.codes.shape[1], self.codes.shape[3]

    @property
    def latent(self) -> Tensor:
        """See `Field`."""
        return self.codes.transpose(2, 3)

    def is_finite(self) -> bool:
        """Whether codes and image are finite."""
        return super().is_finite() and all_finite(self.image)


class Fourier(Decoder):
    """Damped separable Fourier series per latent code.

    frequency and damping: learned scalars, in cycles per LR pixel and in squared LR pixels.
    """

    Config = FourierConfig
    tiny = FourierConfig(frequencies=2)
    halo = 1
    whole_patches = True

    def __init__(self, in_channels: int, frequencies: int = 3) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.functions = 2 * frequencies + 1
        self.coefficients = nn.Conv2d(in_channels, COLOURS * (self.functions**2 - 1), 1)
        self.correction = nn.Conv2d(in_channels, COLOURS, 1)
        self.frequency = nn.Parameter(torch.tensor(0.25))
        self.damping = nn.Parameter(torch.tensor(0.2))
        # Uniform, with standard deviation 1e-3: on the meta device, `normal_` would take a second to import torch's compiler.
        nn.init.uniform_(self.coefficients.weight, -(3**0.5) * 1e-3, 3**0.5 * 1e-3)
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
        """Weight (n * 3 * n + 3, in_channels) and bias of all coefficients, in the order of `FourierField.codes`, and of the
        corrections. The constant coefficients cancel the others at offset 0 and scale 1.
        """
        n = self.functions
        device = self.frequency.device
        weight = torch.cat([self.coefficients.weight.flatten(1), self.coefficients.bias.unsqueeze(1)], 1)  # type: ignore[union-attr]
        weight = weight.view(COLOURS, n * n - 1, -1)
        own = self.basis(torch.zeros((), device=device), torch.ones((), device=device))
        own = (own.unsqueeze(1) * own).flatten()[1:]
        constant = -(own.view(1, -1, 1) * weight).sum(1, keepdim=True)
        weight = torch.cat([constant, weight], 1).view(COLOURS, n, n, -1).transpose(0, 1).flatten(0, 2)
        correction = torch.cat([self.correction.weight.flatten(1), self.correction.bias.unsqueeze(1)], 1)  # type: ignore[union-attr]
        weight = torch.cat([weight, correction])
        return weight[:, :-1], weight[:, -1]

    def prepare(
        self,
        features: Tensor,
        image: Tensor,
        origin: tuple[int, int] = (0, 0),
        size: tuple[int, int] | None = None,
        dtype: torch.dtype | None = None,
    ) -> FourierField:
        """See `Decoder`.

        dtype: of the coefficients and of the products in `render`; default: that of the features. On the CPU, without
        gradients, the coefficients always have the dtype of the features.
        """
        weight, bias = self.head()
        if features.device.type == "cpu" and not (torch.is_grad_enabled() or torch.compiler.is_exporting()):
            codes, correction = coefficients_by_row(features, weight, bias)
        else:
            weight, bias = weight.to(features.dtype), bias.to(features.dtype)
            codes = nn.functional.conv2d(features, weight[:, :, None, None], bias).permute(0, 2, 1, 3)
            codes = codes.to(dtype or codes.dtype)
            codes, correction = codes[:, :, :-COLOURS].contiguous(), codes[:, :, -COLOURS:]
        pixels = image.float().permute(0, 2, 3, 1) + correction.float().transpose(2, 3)
        if codes.dtype == torch.float32:
            codes[:, :, : self.functions * COLOURS : self.functions] += pixels.transpose(2, 3)
        height, width = size or (features.shape[2], features.shape[3])
        return FourierField(codes, origin, (height, width), pixels.contiguous())

    def bytes_per_code(self, dtype: torch.dtype) -> int:
        """See `Decoder`."""
        return COLOURS * (dtype.itemsize * self.functions**2 + 4)

    def scratch_bytes(self, queries: int | None = None) -> int:
        """The most bytes that `render` needs in addition to its result, in tiles of up to `WIDEST` codes per side."""
        return scratch(self.functions, WIDEST, self.frequency.device.type)

    def query(self, field: FourierField, position: Tensor, cell: Tensor) -> Tensor:
        """See `Decoder`."""
        y, x = (self.taps(position[..., i], cell[..., i], field.size[i], field.origin[i]) for i in range(2))
        batch = torch.arange(len(position), device=position.device).view(-1, 1, 1, 1)
        at = batch, y.code.unsqueeze(-1), x.code.unsqueeze(-2)
        codes = field.codes.transpose(2, 3)[at].view(*y.code.shape, 2, self.functions, COLOURS, self.functions)
        colours = torch.einsum("bqyxicj,bqyi,bqxj->bqc", codes.to(y.function.dtype), y.function, x.function)
        if field.codes.dtype == torch.float32:
            return colours
        return colours + torch.einsum("bqyxc,bqy,bqx->bqc", field.image[at].to(y.window.dtype), y.window, x.window)

    def taps(self, position: Tensor, cell: Tensor, size: int, origin: int) -> Taps:
        """The codes that the pixels of one axis read, with their weights.

        position (...) float64 and cell (...): in LR pixels. size: the number of codes on the axis of the whole image. origin:
        the tile's first code.
        """
        lower = position.floor()
        return self.weigh(lower.long(), position - lower, cell, size, origin)

    def weigh(self, lower: Tensor, fraction: Tensor, cell: Tensor, size: int, origin: int) -> Taps:
        """Like `taps`, for positions in two parts: integers (...) and fractions (...) in [0, 1), float64."""
        neighbour = lower.unsqueeze(-1) + torch.arange(2, device=lower.device)
        code = neighbour.clamp(0, size - 1)
        offset = (lower.unsqueeze(-1) - code + fraction.unsqueeze(-1)).to(cell.dtype)
        upper = (0.5 - 0.5 * torch.cos(math.pi * fraction)).to(cell.dtype)  # sin^2(pi f / 2)
        window = torch.stack([1 - upper, upper], -1)
        functions = self.basis(offset, cell.unsqueeze(-1).expand_as(offset))
        return Taps(lower - origin, code - origin, window, window.unsqueeze(-1) * functions)

    def patches(self, field: FourierField, side: Tensor, largest: int) -> Tensor:
        """All pixels of outputs of `side` (B,) pixels per side over whole square images, with gradients.

        Returns (B, largest, largest, 3) float32, normalised; zero beyond each output's side.
        """
        batch, height, _, width = field.codes.shape
        index = torch.arange(largest, device=side.device)
        position = ((2 * index + 1) * height).double() / (2 * side).unsqueeze(1) - 0.5
        cell = (height / side.float()).unsqueeze(1).expand_as(position)
        taps = self.taps(position, cell, height, 0)
        inside = (index < side.unsqueeze(1)).unsqueeze(-1)
        matrix = inside * banded(taps.code, taps.function, height).flatten(2)  # (B, largest, functions * height)
        n = self.functions
        codes = field.codes.view(batch, height, n, COLOURS, n, width)
        wide = codes.permute(0, 4, 5, 2, 1, 3).reshape(
            batch, n * width, -1
        )  # function of x, x; function of y, y, colour
        across = (matrix @ wide).view(batch, largest, n * height, COLOURS)
        tall = across.permute(0, 2, 1, 3).reshape(batch, n * height, -1)
        out = (matrix @ tall).view(batch, largest, largest, COLOURS).float()
        if field.codes.dtype == torch.float32:
            return out
        with torch.autocast(side.device.type, enabled=False):
            window = inside * banded(taps.code, taps.window.unsqueeze(-1), height).squeeze(-2)
            across = torch.einsum("bpx,byxc->bypc", window, field.image)
            return out + torch.einsum("bqy,bypc->bqpc", window, across)

    @torch.no_grad()
    def render(self, field: FourierField, rows: Axis, columns: Axis, queries: int | None = None) -> Tensor:
        """Colours of a regular grid, (B, len(rows), len(columns), 3) float32, normalised, not clamped, equal to `query`.

        queries: ignored, because no memory is needed per pixel.
        """
        if not len(rows) or not len(columns):
            return field.image.new_empty(len(field.image), len(rows), len(columns), COLOURS)
        if at_codes(rows) and at_codes(columns):  # ×1: the series are zero, except for rounding
            y, x = (
                torch.from_numpy(axis.split()[0]).to(field.image.device) - origin
                for axis, origin in zip((rows, columns), field.origin, strict=True)
            )
            return field.image[:, y][:, :, x]
        own = self.frequencies, self.frequency.item(), self.damping.item(), field.codes.device
        down = blocks(rows, field.size[0], field.origin[0], own, by_code=True)
        across = blocks(columns, field.size[1], field.origin[1], own, by_code=False)
        return render_banded(field.codes, None if field.codes.dtype == torch.float32 else field.image, down, across)


@lru_cache(16)
def blocks(
    axis: Axis, size: int, origin: int, decoder: tuple[int, float, float, torch.device], by_code: bool
) -> Blocks:
    """The codes that an axis's pixels read, with their weights; computed in float64 on the CPU and rounded once. Tiles share
    them.

    size and origin: see `FourierField`. decoder: its frequencies, frequency, damping and device.
    """
    exact = Fourier.__new__(Fourier)
    nn.Module.__init__(exact)
    exact.frequencies, frequency, damping, device = decoder
    exact.functions = 2 * exact.frequencies + 1
    exact.frequency, exact.damping = (
        nn.Parameter(torch.tensor(value, dtype=torch.float64), requires_grad=False) for value in (frequency, damping)
    )
    lower, fraction = (torch.from_numpy(part) for part in axis.split())
    taps = exact.weigh(lower, fraction, torch.full((), axis.cell, dtype=torch.float64), size, origin)
    taps = Taps(taps.lower, taps.code, taps.window.float(), taps.function.float())
    return Blocks.of(taps, device.type, by_code).to(device)


def coefficients_by_row(features: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """A 1x1 convolution of (B, C, h, w) by (n + 3, C), in the features' dtype, on the CPU -> (B, h, n, w) and (B, h, 3, w).

    Works row by row, because the result is needed in that order and transposing a whole array afterwards takes longer.
    """
    weight, bias = weight.to(features.dtype), bias.to(features.dtype).unsqueeze(1)
    batch, _, height, width = features.shape
    codes = features.new_empty(batch, height, len(weight) - COLOURS, width)
    correction = features.new_empty(batch, height, COLOURS, width)

    rows = max(1, PIXELS // width)

    def some(image: int, first: int) -> None:
        part = features[image, :, first : first + rows].transpose(0, 1)
        for own, out in ((slice(-COLOURS), codes), (slice(-COLOURS, None), correction)):
            each = weight[own].expand(len(part), -1, -1)
            torch.baddbmm(bias[own], each, part, out=out[image, first : first + rows])

    run([partial(some, image, first) for image in range(batch) for first in range(0, height, rows)])
    return codes, correction


def at_codes(axis: Axis) -> bool:
    """Whether every pixel of the axis lies on a code and has its size."""
    return axis.cell == 1 and not axis.split()[1].any()

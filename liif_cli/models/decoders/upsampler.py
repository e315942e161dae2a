"""The up-sampling modules of EDSR and RDN: convolutions and pixel shuffles for one fixed scale; baselines at ×2, ×3 and ×4.

Pixel shuffle: Shi et al., "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural
Network", 2016.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from liif_cli.coords import Axis, Grid
from liif_cli.models.interfaces import Decoder, Field, render_by_query
from liif_cli.models.schema import PartConfig

QUERIES = 16384  # pixels at once


@dataclass(frozen=True)
class UpSamplerConfig(PartConfig):
    """An up-sampling module. layout: whose parameter names to use; the computation is the same."""

    name: Literal["upsampler"] = "upsampler"
    scale: Literal[2, 3, 4, 8] = 2
    layout: Literal["edsr", "rdn"] = "edsr"


class UpSampler(Decoder):
    """Renders one fixed scale: `prepare` computes all pixels, and a query returns the nearest one.

    ×2 and ×3 use one stage of a convolution and a pixel shuffle; ×4 and ×8 use two and three ×2 stages. A last convolution
    gives colours.
    """

    Config = UpSamplerConfig
    tiny = UpSamplerConfig()
    dtypes = frozenset({torch.float32})
    encoder_prefix = ""

    def __init__(self, in_channels: int, scale: int = 2, layout: str = "edsr") -> None:
        super().__init__()
        self.scale, self.in_channels = scale, in_channels
        self.scales = (float(scale), float(scale))
        factors = (3,) if scale == 3 else (2,) * (scale.bit_length() - 1)
        self.halo = reach(factors, scale)
        stages: list[nn.Module] = []
        for factor in factors:
            stages += [nn.Conv2d(in_channels, in_channels * factor**2, 3, padding=1), nn.PixelShuffle(factor)]
        last = nn.Conv2d(in_channels, 3, 3, padding=1)
        if layout == "edsr":
            self.tail = nn.Sequential(nn.Sequential(*stages), last)
        else:
            self.UPNet = nn.Sequential(*stages, last)

    def prepare(
        self,
        features: Tensor,
        image: Tensor | None = None,
        origin: tuple[int, int] = (0, 0),
        size: tuple[int, int] | None = None,
        dtype: torch.dtype | None = None,
    ) -> Field:
        """See `Decoder`. Codes: (B, h, w, 3 scale^2), per code its pixels, (colour, row, column)."""
        (network,) = self.children()
        codes = F.pixel_unshuffle(network(features), self.scale).permute(0, 2, 3, 1)
        return Field(codes.contiguous(), origin, size or (features.shape[2], features.shape[3]))

    def query(self, field: Field, position: Tensor, cell: Tensor) -> Tensor:
        """See `Decoder`: the colour of the pixel that the position lies in."""
        # Code i covers positions from i - 1/2 on. Pixel centres are half a pixel away from the rounding boundaries.
        pixel = ((position + 0.5) * self.scale).floor().long()
        y, x = (pixel[..., i].clamp(0, self.scale * field.size[i] - 1) for i in (0, 1))
        batch = torch.arange(len(position), device=position.device).view(-1, 1)
        codes = field.codes[batch, y // self.scale - field.origin[0], x // self.scale - field.origin[1]]
        place = (y % self.scale) * self.scale + x % self.scale
        colours = codes.view(*place.shape, 3, self.scale**2)
        return colours.gather(3, place.view(*place.shape, 1, 1).expand(-1, -1, 3, 1)).squeeze(3)

    def supports(self, grid: Grid) -> str | None:
        """See `Decoder`."""
        same = all(axis.count == self.scale * axis.extent for axis in (grid.rows, grid.columns))
        return None if same else f"it renders only ×{self.scale}"

    def bytes_per_code(self, dtype: torch.dtype) -> int:
        """See `Decoder`."""
        return 3 * self.scale**2 * 4

    def prepare_bytes(self, dtype: torch.dtype) -> int:
        """See `Decoder`: the largest maps, before and after the last pixel shuffle."""
        return 2 * self.in_channels * self.scale**2 * 4

    def scratch_bytes(self, queries: int | None = None) -> int:
        """See `Decoder`."""
        return (queries or QUERIES) * (3 * self.scale**2 * 4 + 160)

    def render(self, field: Field, rows: Axis, columns: Axis, queries: int | None = None) -> Tensor:
        """See `Decoder`."""
        return render_by_query(self, field, rows, columns, queries or QUERIES)


def reach(factors: tuple[int, ...], scale: int) -> int:
    """How many codes beyond a pixel's lower code the stages and the last 3x3 convolution read, at most over all pixels."""
    farthest = 0
    for pixel in range(scale):
        first, last = pixel - 1, pixel + 1
        for factor in reversed(factors):
            first, last = first // factor - 1, last // factor + 1
        lower = 0 if 2 * pixel + 1 >= scale else -1
        farthest = max(farthest, lower - first, last - lower)
    return farthest

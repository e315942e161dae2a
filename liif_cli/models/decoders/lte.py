"""LTE's decoder (Lee and Jin, "Local Texture Estimator for Implicit Representation Function", CVPR 2022).

Each code has amplitudes and frequencies. The MLP's input for a query is the amplitudes times the cosine and sine of the
frequencies at its relative coordinate, shifted by a phase computed from the cell. Codes are blended as in LIIF, and the
bilinearly interpolated LR image is added. Parameters have the authors' names.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import MinLen, MultipleOf
from torch import Tensor, nn

from liif_cli.coords import Axis
from liif_cli.models.decoders.mlp import MLP
from liif_cli.models.interfaces import Decoder, Field, render_by_query
from liif_cli.models.schema import PartConfig, Width

QUERIES = 2048  # pixels at once: each reads four codes
CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))


@dataclass(frozen=True)
class LTEConfig(PartConfig):
    """LTE's decoder. width: amplitudes per code, half for cosines and half for sines. hidden: widths of the MLP's layers."""

    name: Literal["lte"] = "lte"
    width: Annotated[Width, MultipleOf(2)] = 256
    hidden: Annotated[tuple[Width, ...], MinLen(1)] = (256, 256, 256)


class LTE(Decoder):
    """Local texture estimator. Its halo covers the 3x3 convolutions and the ensemble's neighbour."""

    Config = LTEConfig
    tiny = LTEConfig(width=12, hidden=(16, 16))
    halo = 2
    dtypes = frozenset({torch.float32})

    def __init__(self, in_channels: int, width: int = 256, hidden: tuple[int, ...] = (256, 256, 256)) -> None:
        super().__init__()
        self.width = width
        self.coef = nn.Conv2d(in_channels, width, 3, padding=1)
        self.freq = nn.Conv2d(in_channels, width, 3, padding=1)
        self.phase = nn.Linear(2, width // 2, bias=False)
        self.imnet = MLP(width, 3, hidden)

    def prepare(
        self,
        features: Tensor,
        image: Tensor,
        origin: tuple[int, int] = (0, 0),
        size: tuple[int, int] | None = None,
        dtype: torch.dtype | None = None,
    ) -> Field:
        """See `Decoder`. Codes: (B, h, w, 2 width + 3), amplitudes, frequencies as pairs (y, x), and the LR pixel."""
        codes = torch.cat([self.coef(features), self.freq(features), image], 1).permute(0, 2, 3, 1)
        return Field(codes.contiguous(), origin, size or (features.shape[2], features.shape[3]))

    def query(self, field: Field, position: Tensor, cell: Tensor) -> Tensor:
        """See `Decoder`."""
        lower = position.floor()
        fraction = position - lower
        phase = self.phase((2 * cell).to(field.codes.dtype))
        batch = torch.arange(len(position), device=position.device).view(-1, 1)
        total = torch.zeros((), dtype=field.codes.dtype, device=position.device)
        for corner in CORNERS:
            y, x = ((lower[..., i] + corner[i]).clamp(0, field.size[i] - 1) for i in (0, 1))
            codes = field.codes[batch, y.long() - field.origin[0], x.long() - field.origin[1]]
            relative = (2 * (position - torch.stack([y, x], -1))).to(codes.dtype)
            weights = [fraction[..., i] if corner[i] else 1 - fraction[..., i] for i in (0, 1)]
            share = (weights[0] * weights[1]).to(codes.dtype).unsqueeze(-1)
            total = total + share * self._colours(codes, relative, phase)
        return total

    def _colours(self, codes: Tensor, relative: Tensor, phase: Tensor) -> Tensor:
        """Colours of codes (..., 2 width + 3) at relative coordinates (..., 2)."""
        amplitudes, image = codes[..., : self.width], codes[..., 2 * self.width :]
        pairs = codes[..., self.width : 2 * self.width].view(*codes.shape[:-1], -1, 2)
        angle = math.pi * ((pairs * relative.unsqueeze(-2)).sum(-1) + phase)
        colours: Tensor = self.imnet(amplitudes * torch.cat([angle.cos(), angle.sin()], -1))
        return colours + image

    def render(self, field: Field, rows: Axis, columns: Axis, queries: int | None = None) -> Tensor:
        """See `Decoder`."""
        return render_by_query(self, field, rows, columns, queries or QUERIES)

    def bytes_per_code(self, dtype: torch.dtype) -> int:
        """See `Decoder`."""
        return (2 * self.width + 3) * 4

    def prepare_bytes(self, dtype: torch.dtype) -> int:
        """See `Decoder`: the convolutions' results and the codes."""
        return 3 * self.bytes_per_code(dtype)

    def scratch_bytes(self, queries: int | None = None) -> int:
        """See `Decoder`: the codes, angles and basis, the MLP's widest layers, and about 60 float64 numbers."""
        widest = max(layer.out_features for layer in self.imnet.linears)
        return (queries or QUERIES) * ((7 * self.width + 3 * widest) * 4 + 60 * 8)

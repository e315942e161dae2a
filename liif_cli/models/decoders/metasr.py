"""Meta-SR's decoder (Hu et al., "Meta-SR: A Magnification-Arbitrary Network for Super-Resolution", 2019), in the version
of the LIIF authors: the baseline of the paper's tables.

An MLP with one hidden layer predicts a 3x3 kernel for each output pixel from its cell's edge and size. The kernel is linear in
the hidden layer, so the MLP's last layer can be applied to the features first, exactly: one convolution gives each code
3 x (hidden + 1) numbers, and a query multiplies them by its hidden layer.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from liif_cli.coords import Axis, Grid
from liif_cli.models.decoders.mlp import MLP
from liif_cli.models.interfaces import Decoder, Field, render_by_query
from liif_cli.models.schema import PartConfig, Width

QUERIES = 4096  # pixels at once: each gathers the 3 x (hidden + 1) numbers of its code
LARGEST_CELL = 3.0  # in LR pixels: a larger cell begins outside the halo
TIE = 1e-9  # LR pixels: an edge this close below a code's edge counts as equal; positions are exact to 1e-11


@dataclass(frozen=True)
class MetaSRConfig(PartConfig):
    """Meta-SR's decoder: width of the one hidden layer."""

    name: Literal["metasr"] = "metasr"
    hidden: Width = 256


class MetaSR(Decoder):
    """Kernels predicted from (offset y, offset x, cell y); the cell is 1 / scale, and that of the rows is used for both axes.

    Its halo covers the 3x3 kernel and the code next to the lower one, where a cell may begin.
    """

    Config = MetaSRConfig
    tiny = MetaSRConfig(hidden=16)
    halo = 2
    dtypes = frozenset({torch.float32})

    def __init__(self, in_channels: int, hidden: int = 256) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.imnet = MLP(3, in_channels * 9 * 3, (hidden,))

    def prepare(
        self,
        features: Tensor,
        image: Tensor | None = None,
        origin: tuple[int, int] = (0, 0),
        size: tuple[int, int] | None = None,
        dtype: torch.dtype | None = None,
    ) -> Field:
        """See `Decoder`. Codes: (B, h, w, 3 (hidden + 1)), per colour the hidden layer's weights and then the bias."""
        codes = F.conv2d(features, self._kernel().to(features.dtype), padding=1).permute(0, 2, 3, 1)
        return Field(codes.contiguous(), origin, size or (features.shape[2], features.shape[3]))

    def _kernel(self) -> Tensor:
        """The MLP's last layer as (3 (hidden + 1), in_channels, 3, 3); its outputs are ordered (channel, 3x3, colour)."""
        last = self.imnet.linears[-1]
        weights = torch.cat([last.weight, last.bias.unsqueeze(1)], 1)
        return weights.view(self.in_channels, 3, 3, 3, -1).permute(3, 4, 0, 1, 2).flatten(0, 1)

    def query(self, field: Field, position: Tensor, cell: Tensor) -> Tensor:
        """See `Decoder`."""
        edge = position + 0.5 - cell / 2  # code i begins at i
        y, x = ((edge[..., i] + TIE).floor().clamp(0, field.size[i] - 1) for i in (0, 1))
        offset = edge - torch.stack([y, x], -1)
        inputs = torch.cat([offset, cell[..., :1]], -1).to(field.codes.dtype)
        hidden = self.imnet.linears[0](inputs).relu()
        batch = torch.arange(len(position), device=position.device).view(-1, 1)
        codes = field.codes[batch, y.long() - field.origin[0], x.long() - field.origin[1]]
        codes = codes.view(*hidden.shape[:2], 3, -1)
        colours: Tensor = (codes[..., :-1] @ hidden.unsqueeze(-1) + codes[..., -1:]).squeeze(-1)
        return colours

    def render(self, field: Field, rows: Axis, columns: Axis, queries: int | None = None) -> Tensor:
        """See `Decoder`."""
        return render_by_query(self, field, rows, columns, queries or QUERIES)

    def supports(self, grid: Grid) -> str | None:
        """See `Decoder`."""
        largest = max(grid.rows.cell, grid.columns.cell)
        return None if largest <= LARGEST_CELL else f"it renders only cells of up to {LARGEST_CELL:g} LR pixels"

    def bytes_per_code(self, dtype: torch.dtype) -> int:
        """See `Decoder`."""
        return 3 * (int(self.imnet.linears[0].out_features) + 1) * 4

    def scratch_bytes(self, queries: int | None = None) -> int:
        """See `Decoder`: the codes, their products' operands, the hidden layer, and about 40 float64 numbers."""
        hidden = int(self.imnet.linears[0].out_features)
        return (queries or QUERIES) * (2 * 3 * (hidden + 1) * 4 + 3 * hidden * 4 + 40 * 8)

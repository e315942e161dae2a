"""The LIIF decoder: latent codes around a position -> the colour there (paper, section 3).

Its first layer is linear, so its three kinds of input are taken apart, exactly: the features' part (with feature unfolding a
3x3 convolution) is computed once for each latent code by `prepare`; the relative coordinate's and the cell's parts are added
for each query.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from annotated_types import MinLen
from torch import Tensor
from torch.nn import functional as F

from liif_cli.coords import Axis
from liif_cli.models.decoders.mlp import MLP
from liif_cli.models.interfaces import Decoder, Field
from liif_cli.models.kernels.backward import Corners, decode
from liif_cli.models.kernels.fp16_range import fits_fp16
from liif_cli.models.kernels.grid import render_grid
from liif_cli.models.kernels.plain import Layers, scratch_bytes
from liif_cli.models.schema import PartConfig, Width

LARGEST_CELL = 4.0  # in LR pixels: cells beyond it are far outside what any network was trained with


@dataclass(frozen=True)
class LIIFConfig(PartConfig):
    """The LIIF decoder (paper, section 3): widths of the hidden layers, and its three parts, each of which can be off."""

    name: Literal["liif"] = "liif"
    hidden: Annotated[tuple[Width, ...], MinLen(1)] = (256, 256, 256, 256)
    local_ensemble: bool = True
    feature_unfolding: bool = True
    cell_decoding: bool = True


class LIIF(Decoder):
    """Local implicit image function with local ensemble, feature unfolding and cell decoding (paper, eq. 2 to 4).

    Its halo is for unfolding and for the ensemble's neighbour (without an ensemble the nearest code may be the next one too).
    On x86 processors `render` computes the same bits for any chunks, parts and batches of the same codes.
    """

    Config = LIIFConfig
    tiny = LIIFConfig(hidden=(16, 16))

    def __init__(
        self,
        in_channels: int,
        hidden: tuple[int, ...] = (256, 256, 256, 256),
        local_ensemble: bool = True,
        feature_unfolding: bool = True,
        cell_decoding: bool = True,
    ) -> None:
        super().__init__()
        self.local_ensemble = local_ensemble
        self.cell_decoding = cell_decoding
        self.kernel = 3 if feature_unfolding else 1
        self.in_channels = in_channels
        self.halo = int(feature_unfolding) + 1
        self.imnet = MLP(in_channels * self.kernel**2 + 2 + 2 * cell_decoding, 3, hidden)

    def split_first_layer(self) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """The first layer as (kernel, bias, coord weight, cell weight).

        kernel: (width, in_channels, k, k), since unfolding orders its channels `c * 9 + k`. coord weight and cell weight:
        (width, 2) in (y, x) order; the cell's is None without cell decoding.
        """
        first = self.imnet.linears[0]
        n = self.in_channels * self.kernel**2
        kernel = first.weight[:, :n].reshape(-1, self.in_channels, self.kernel, self.kernel)
        cell = first.weight[:, n + 2 :] if self.cell_decoding else None
        return kernel, first.bias, first.weight[:, n : n + 2], cell

    def layers(self) -> Layers:
        """What the kernels read of this decoder."""
        _, _, coord, cell = self.split_first_layer()
        return Layers(coord, cell, self.imnet.linears[1:], self.local_ensemble)

    def prepare(
        self,
        features: Tensor,
        image: Tensor | None = None,
        origin: tuple[int, int] = (0, 0),
        size: tuple[int, int] | None = None,
        dtype: torch.dtype | None = None,
    ) -> Field:
        """Features (B, in_channels, h, w) of a tile at `origin` of an image of `size` (default: the tile) -> its field.

        dtype: of the codes and of the hidden layers in `render`; default: the features' own. Where fp16 might overflow, bf16
        is taken in its place.

        Zero padding outside the tile is the paper's own at the image's border; elsewhere the tile's outermost codes are wrong
        by it, which is what `halo` allows for.
        """
        codes = self._codes(features)
        if dtype == torch.float16 and not self._fits_fp16(codes):
            dtype, codes = torch.bfloat16, self._codes(features.float())
        height, width = size or (features.shape[2], features.shape[3])
        return Field(codes.to(dtype or codes.dtype).permute(0, 2, 3, 1).contiguous(), origin, (height, width))

    def _codes(self, features: Tensor) -> Tensor:
        """(B, width, h, w): the features' share of the first layer, in the features' dtype."""
        kernel, bias, _, _ = self.split_first_layer()
        weight, bias = kernel.to(features.dtype), bias.to(features.dtype)
        return F.conv2d(features, weight, bias, padding=self.kernel // 2)

    def _fits_fp16(self, codes: Tensor) -> bool:
        """Whether fp16 holds the hidden layers of every query, with cells of at most `LARGEST_CELL`."""
        _, _, coord, cell = self.split_first_layer()
        terms = 2 * coord.float().norm(dim=0).sum()  # relative coords go from -2 to 2
        if cell is not None:
            terms = terms + 2 * LARGEST_CELL * cell.float().norm(dim=0).sum()
        longest = torch.linalg.vector_norm(codes, dim=1, dtype=torch.float32).amax()
        return fits_fp16(longest + terms, self.imnet.linears[1:])

    def bytes_per_code(self, dtype: torch.dtype) -> int:
        """See `Decoder`."""
        return dtype.itemsize * int(self.imnet.linears[0].out_features)

    def scratch_bytes(self, queries: int | None = None) -> int:
        """See `Decoder`."""
        linears = self.imnet.linears
        return scratch_bytes(max(layer.out_features for layer in linears), linears[0].weight.device, queries)

    def query(self, field: Field, position: Tensor, cell: Tensor) -> Tensor:
        """See `Decoder`."""
        _, _, coord_weight, cell_weight = self.split_first_layer()
        corners = self._corners(field, position)
        if position.requires_grad or cell.requires_grad:
            return self._query_by_autograd(field, corners, cell)
        inputs, first = corners.relative, coord_weight
        if cell_weight is not None:
            cells = (2 * cell).unsqueeze(1).expand_as(inputs)
            inputs, first = torch.cat([inputs, cells], -1), torch.cat([coord_weight, cell_weight], 1)
        layers = [(linear.weight, linear.bias) for linear in self.imnet.linears[1:]]
        return decode(field.codes, corners, inputs.float(), first, layers)

    def _query_by_autograd(self, field: Field, corners: Corners, cell: Tensor) -> Tensor:
        """`query` in torch's own operators, with gradients of the positions and cells too."""
        _, _, coord_weight, cell_weight = self.split_first_layer()
        hidden = field.codes.flatten(0, -2)[corners.index].float() + corners.relative.float() @ coord_weight.t()
        if cell_weight is not None:
            hidden = hidden + (2 * cell).float().unsqueeze(1) @ cell_weight.t()
        for linear in self.imnet.linears[1:]:
            hidden = linear(hidden.relu())
        return (hidden * corners.share.float().unsqueeze(-1)).sum(1)

    def _corners(self, field: Field, position: Tensor) -> Corners:
        """The codes around each position and what they weigh."""
        device = position.device
        number = torch.arange(4, device=device)  # made there: to send them would be to wait for the device
        corner = torch.stack([number // 2, number % 2], -1).view(1, 4, 1, 2)
        lower = position.floor().unsqueeze(1)
        fraction = position.unsqueeze(1) - lower
        if self.local_ensemble:
            code, share = lower + corner, torch.where(corner == 1, fraction, 1 - fraction).prod(-1)
        else:
            # The reference rounds to the nearest code, ties to the even one, as torch.round does.
            code, share = position.unsqueeze(1).round(), torch.ones_like(fraction[..., 0])
        y, x = (part.clamp(0, n - 1).long() for part, n in zip(code.unbind(-1), field.size, strict=True))
        code = torch.stack([y, x], -1)
        y, x = y - field.origin[0], x - field.origin[1]
        height, width = field.extent
        image = torch.arange(len(position), device=device).view(-1, 1, 1)
        return Corners((image * height + y) * width + x, 2 * (position.unsqueeze(1) - code), share)

    def bind(self, field: Field, cell: tuple[float, float]) -> Field:
        """The field, in bf16 where fp16 was not shown to hold the hidden layers for so large a cell."""
        if field.codes.dtype == torch.float16 and max(cell) > LARGEST_CELL:
            return replace(field, codes=field.codes.to(torch.bfloat16))
        return field

    def render(self, field: Field, rows: Axis, columns: Axis, queries: int | None = None) -> Tensor:
        """See `Decoder`; by a kernel for regular grids."""
        return render_grid(self.layers(), field, rows, columns, queries)

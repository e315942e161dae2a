"""The LIIF decoder: predicts the colour at a position from the latent codes around it (paper, section 3).

The first layer is linear, so it is split exactly into the parts of its three inputs: `prepare` computes the features' part
(with feature unfolding, a 3x3 convolution) once per latent code; the parts of the relative coordinate and the cell are added
per query.
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

LARGEST_CELL = 4.0  # in LR pixels: larger cells are far outside any network's training


@dataclass(frozen=True)
class LIIFConfig(PartConfig):
    """The LIIF decoder (paper, section 3): the widths of its hidden layers, and switches for its three components."""

    name: Literal["liif"] = "liif"
    hidden: Annotated[tuple[Width, ...], MinLen(1)] = (256, 256, 256, 256)
    local_ensemble: bool = True
    feature_unfolding: bool = True
    cell_decoding: bool = True


class LIIF(Decoder):
    """Local implicit image function with local ensemble, feature unfolding and cell decoding (paper, eq. 2 to 4).

    Its halo covers unfolding and the ensemble's neighbour (without an ensemble, the nearest code may also be the next one).
    On x86 processors, `render` is bit-for-bit independent of chunks, parts and batches.
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
        """The parameters that the kernels need."""
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

        dtype: of the codes and of the hidden layers in `render`; default: the features' own. If fp16 might overflow, bf16 is
        used instead.

        At the image's border, zero padding is what the paper does. Inside the image it makes the tile's outermost codes wrong,
        which is why tiles have a halo.
        """
        codes = self._codes(features)
        if dtype == torch.float16 and not self._fits_fp16(codes):
            dtype, codes = torch.bfloat16, self._codes(features.float())
        height, width = size or (features.shape[2], features.shape[3])
        return Field(codes.to(dtype or codes.dtype).permute(0, 2, 3, 1).contiguous(), origin, (height, width))

    def _codes(self, features: Tensor) -> Tensor:
        """(B, width, h, w): the features' part of the first layer, in the features' dtype."""
        kernel, bias, _, _ = self.split_first_layer()
        weight, bias = kernel.to(features.dtype), bias.to(features.dtype)
        return F.conv2d(features, weight, bias, padding=self.kernel // 2)

    def _fits_fp16(self, codes: Tensor) -> bool:
        """Whether no query with a cell up to `LARGEST_CELL` can overflow fp16 in the hidden layers."""
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
        """`query` in torch's own operators, with gradients for positions and cells too."""
        _, _, coord_weight, cell_weight = self.split_first_layer()
        hidden = field.codes.flatten(0, -2)[corners.index].float() + corners.relative.float() @ coord_weight.t()
        if cell_weight is not None:
            hidden = hidden + (2 * cell).float().unsqueeze(1) @ cell_weight.t()
        for linear in self.imnet.linears[1:]:
            hidden = linear(hidden.relu())
        return (hidden * corners.share.float().unsqueeze(-1)).sum(1)

    def _corners(self, field: Field, position: Tensor) -> Corners:
        """The codes around each position, with their weights."""
        device = position.device
        number = torch.arange(4, device=device)  # created on the device: a copy from the CPU would wait for it
        corner = torch.stack([number // 2, number % 2], -1).view(1, 4, 1, 2)
        lower = position.floor().unsqueeze(1)
        fraction = position.unsqueeze(1) - lower
        if self.local_ensemble:
            code, share = lower + corner, torch.where(corner == 1, fraction, 1 - fraction).prod(-1)
        else:
            # Like the reference: the nearest code, ties to the even one, which is how torch.round works.
            code, share = position.unsqueeze(1).round(), torch.ones_like(fraction[..., 0])
        y, x = (part.clamp(0, n - 1).long() for part, n in zip(code.unbind(-1), field.size, strict=True))
        code = torch.stack([y, x], -1)
        y, x = y - field.origin[0], x - field.origin[1]
        height, width = field.extent
        image = torch.arange(len(position), device=device).view(-1, 1, 1)
        return Corners((image * height + y) * width + x, 2 * (position.unsqueeze(1) - code), share)

    def bind(self, field: Field, cell: tuple[float, float]) -> Field:
        """The field; in bf16 if the cell is too large for the fp16 check of `prepare`."""
        if field.codes.dtype == torch.float16 and max(cell) > LARGEST_CELL:
            return replace(field, codes=field.codes.to(torch.bfloat16))
        return field

    def render(self, field: Field, rows: Axis, columns: Axis, queries: int | None = None) -> Tensor:
        """See `Decoder`; uses the kernels for regular grids."""
        return render_grid(self.layers(), field, rows, columns, queries)

"""RDN without its up-sampler (Zhang et al., "Residual Dense Network for Image Super-Resolution", 2018)."""

from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from liif_cli.models.interfaces import Encoder
from liif_cli.models.schema import Depth, PartConfig, Width


@dataclass(frozen=True)
class RDNConfig(PartConfig):
    """RDN without up-sampler (Zhang et al. 2018). RDN "B": 64 features, 16 blocks of 8 convolutions, growth 64."""

    name: Literal["rdn"] = "rdn"
    features: Width = 64
    blocks: Depth = 16
    layers: Depth = 8
    growth: Width = 64


class DenseLayer(nn.Module):
    """A 3x3 convolution with ReLU, whose output is appended to its input channels."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(inputs, growth, 3, padding=1), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, inputs + growth, H, W)."""
        return torch.cat((x, self.conv(x)), 1)


class ResidualDenseBlock(nn.Module):
    """Dense layers, fused by a 1x1 convolution (LFF) and added to the input."""

    def __init__(self, features: int, growth: int, layers: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(*(DenseLayer(features + i * growth, growth) for i in range(layers)))
        self.LFF = nn.Conv2d(features + layers * growth, features, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, features, H, W) -> the same shape."""
        fused: Tensor = self.LFF(self.convs(x))
        return fused + x


class RDN(Encoder):
    """Normalised image (B, 3, H, W) -> features (B, out_channels, H, W). The defaults are configuration "B" (authors' names).

    Its radius is one pixel per 3x3 convolution on the longest path, 131 for "B". Only two stages of one block are in memory at
    once: the 1x1 convolution over all blocks is a sum, so each block's output is added as soon as it is computed.
    """

    Config = RDNConfig
    tiny = RDNConfig(features=8, blocks=2, layers=2, growth=4)
    safe_dtypes = frozenset({torch.float16})

    def __init__(self, features: int = 64, blocks: int = 16, layers: int = 8, growth: int = 64) -> None:
        super().__init__()
        self.out_channels = features
        self.receptive_radius = 3 + blocks * layers
        self.live_channels = 2 * (features + layers * growth) + 6 * features
        self.SFENet1 = nn.Conv2d(3, features, 3, padding=1)
        self.SFENet2 = nn.Conv2d(features, features, 3, padding=1)
        self.RDBs = nn.ModuleList(ResidualDenseBlock(features, growth, layers) for _ in range(blocks))
        self.GFF = nn.Sequential(
            nn.Conv2d(blocks * features, features, 1),
            nn.Conv2d(features, features, 3, padding=1),
        )

    def shallow(self, image: Tensor) -> Tensor:
        """The features of the first convolution, (B, features, H, W), to which `deep` adds its result."""
        x: Tensor = self.SFENet1(image)
        return x

    def deep(self, shallow: Tensor) -> Tensor:
        """Features from `shallow`."""
        x, fused = self.SFENet2(shallow), torch.zeros_like(shallow)
        fuse, last = cast(list[nn.Conv2d], list(self.GFF))
        for block, weight in zip(self.RDBs, fuse.weight.chunk(len(self.RDBs), 1), strict=True):
            x = block(x)
            fused += F.conv2d(x, weight)
        features: Tensor = last(fused + cast(Tensor, fuse.bias).view(-1, 1, 1)) + shallow
        return features

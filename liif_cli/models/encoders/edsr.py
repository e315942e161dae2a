"""EDSR without its up-sampler (Lim et al., "Enhanced Deep Residual Networks for Single Image Super-Resolution", 2017)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from liif_cli.models.interfaces import Encoder
from liif_cli.models.kernels.inplace import add_, relu_
from liif_cli.models.schema import Depth, PartConfig, Width


@dataclass(frozen=True)
class EDSRConfig(PartConfig):
    """EDSR without up-sampler (Lim et al. 2017). EDSR-baseline: 64 features, 16 residual blocks, no residual scaling."""

    name: Literal["edsr"] = "edsr"
    features: Width = 64
    blocks: Depth = 16
    residual_scale: float = 1.0


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a ReLU between them, added to their input."""

    def __init__(self, features: int, scale: float) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(features, features, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(features, features, 3, padding=1),
        )
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """(B, features, H, W) -> the same shape; without gradients, the result overwrites `x`."""
        if torch.is_grad_enabled():
            return x + self._scaled(self.body(x))
        first, _, second = self.body
        return add_(x, self._scaled(second(relu_(first(x)))))

    def _scaled(self, out: Tensor) -> Tensor:
        return out if self.scale == 1 else out * self.scale


class EDSR(Encoder):
    """Normalised image (B, 3, H, W) -> features (B, out_channels, H, W). EDSR-baseline: 64 features, 16 blocks, no mean shift.

    Its radius is one pixel per 3x3 convolution on the longest path, 34 for the baseline.
    """

    Config = EDSRConfig
    tiny = EDSRConfig(features=8, blocks=2)
    safe_dtypes = frozenset({torch.float16, torch.bfloat16})

    def __init__(self, features: int = 64, blocks: int = 16, residual_scale: float = 1.0) -> None:
        super().__init__()
        self.out_channels = features
        self.receptive_radius = 2 * blocks + 2
        self.live_channels = 6 * features
        self.head = nn.Sequential(nn.Conv2d(3, features, 3, padding=1))
        self.body = nn.Sequential(
            *(ResidualBlock(features, residual_scale) for _ in range(blocks)),
            nn.Conv2d(features, features, 3, padding=1),
        )

    def shallow(self, image: Tensor) -> Tensor:
        """The input of the blocks, (B, features, H, W)."""
        x: Tensor = self.head(image)
        return x

    def deep(self, shallow: Tensor) -> Tensor:
        """Features from `shallow`. Under autocast, the blocks compute in 16 bits and sum in the dtype of `shallow`."""
        if torch.is_grad_enabled():
            features: Tensor = self.body(shallow) + shallow
            return features
        x = shallow.clone()
        out: Tensor = self.body(x)
        return add_(x.copy_(shallow), out)  # the blocks overwrote `x`; its memory can be reused

"""The encoder of `light`: residual blocks of three 3x3 convolutions, each with a gate computed from its residual.

After SPANV2 (NTIRE 2026 efficient SR challenge), whose blocks multiply `x + f` by a 1x1 convolution of `f`. No pooling and no
normalisation layers, so an image can be cut into tiles exactly.

A gate is clamped to `GATE`. Without bounds, each block would double the degree of a polynomial of the image: patterns that no
photograph has, such as a halftone or a checkerboard of single pixels, would grow from block to block until they drown
everything else.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Interval
from torch import Tensor, nn

from liif_cli.models.interfaces import Encoder
from liif_cli.models.kernels.inplace import relu_
from liif_cli.models.schema import PartConfig, Width

GATE = (-0.5, 1.75)  # in photographs, only one pixel in ten thousand exceeds it
# Features fade from this norm of the last block's features on, and are 0 at twice this norm. Photographs reach 10.
TRUSTED = 20.0


@dataclass(frozen=True)
class GatedConfig(PartConfig):
    """Gated residual blocks of three 3x3 convolutions, the encoder of `light`."""

    name: Literal["gated"] = "gated"
    features: Width = 48
    blocks: Annotated[int, Interval(ge=2, le=1024)] = 6


class GatedBlock(nn.Module):
    """x -> (x + f) * gate(f): f is three 3x3 convolutions with ReLUs between them, gate a 1x1 convolution clamped to `GATE`.

    The gate starts as the constant 1, so a new network is a plain residual one.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(features, features, 3, padding=1)
        self.second = nn.Conv2d(features, features, 3, padding=1)
        self.third = nn.Conv2d(features, features, 3, padding=1)
        self.gate = nn.Conv2d(features, features, 1)
        nn.init.zeros_(self.gate.weight)
        nn.init.ones_(self.gate.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B, features, H, W) -> the same shape."""
        in_place = not torch.is_grad_enabled()
        relu = relu_ if in_place else torch.relu
        f: Tensor = self.third(relu(self.second(relu(self.first(x)))))
        gate: Tensor = self.gate(f)
        return f.add_(x).mul_(gate.clamp_(*GATE)) if in_place else (x + f) * gate.clamp(*GATE)


class GatedResNet(Encoder):
    """Normalised image (B, 3, H, W) -> features (B, 3 * features, H, W): the stem's, the first block's and the last block's.

    Its radius is one pixel per consecutive 3x3 convolution.
    """

    Config = GatedConfig
    tiny = GatedConfig(features=4, blocks=2)
    safe_dtypes = frozenset({torch.float16, torch.bfloat16})

    def __init__(self, features: int = 48, blocks: int = 6) -> None:
        super().__init__()
        self.out_channels = 3 * features
        self.receptive_radius = 3 * blocks + 1
        self.live_channels = 6 * features
        self.stem = nn.Conv2d(3, features, 3, padding=1)
        self.blocks = nn.ModuleList(GatedBlock(features) for _ in range(blocks))

    def shallow(self, image: Tensor) -> Tensor:
        """The input of the blocks, (B, features, H, W)."""
        x: Tensor = self.stem(image)
        return x

    def deep(self, shallow: Tensor) -> Tensor:
        """Features from `shallow`; under autocast, the blocks compute and sum in 16 bits."""
        first, *others = self.blocks
        if torch.is_autocast_enabled(shallow.device.type):
            shallow = shallow.to(torch.get_autocast_dtype(shallow.device.type))
        early: Tensor = first(shallow)
        last = early
        for block in others:
            last = block(last)
        features = torch.cat([shallow, early, last], 1)
        return features if self.training else trusted(features, last)

    def completed(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `Encoder`: blocks beyond those in `tensors` return their input, because their f is 0 and their gate is 1."""
        own, present = self.state_dict(), {name.split(".")[1] for name in tensors if name.startswith("blocks.")}
        beyond = (name for name in own if name.startswith("blocks.") and name.split(".")[1] not in present)
        return {**{name: passing(name, own[name]) for name in beyond}, **tensors}


def passing(name: str, tensor: Tensor) -> Tensor:
    """The value of a `GatedBlock`'s parameter in a block that returns its input; the values of most do not matter there."""
    if ".third." in name:
        return torch.zeros_like(tensor)
    return torch.ones_like(tensor) if name.endswith(".gate.bias") else tensor


def trusted(features: Tensor, last: Tensor) -> Tensor:
    """Features (B, C, H, W), faded to 0 where the last block's features are larger than any in training.

    Without features, the decoder interpolates the pixels, which suits patterns unseen in training, such as a checkerboard.
    """
    trust = (2 - last.square().sum(1, keepdim=True).sqrt() / TRUSTED).clamp(0, 1)
    if torch.is_grad_enabled() or torch.compiler.is_exporting():
        return features * trust
    return features.mul_(trust) if trust.device.type != "cpu" or bool((trust < 1).any()) else features

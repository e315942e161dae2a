"""The discriminator of adversarial training: it tells, pixel by pixel, real patches from rendered ones."""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from liif_cli.training.recipe import AdversarialConfig


class UNet(nn.Module):
    """A U-Net with spectral normalisation (Wang et al., "Real-ESRGAN", ICCVW 2021; Schoenfeld et al., CVPR 2020).

    Three times, it halves the resolution and doubles the channels, then goes back up, adding what it had at each resolution.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        widths = [features << level for level in range(4)]
        self.stem = nn.Conv2d(3, features, 3, padding=1)
        self.down = nn.ModuleList(spectral_norm(nn.Conv2d(a, b, 4, 2, 1, bias=False)) for a, b in pairwise(widths))
        self.up = nn.ModuleList(
            spectral_norm(nn.Conv2d(b, a, 3, padding=1, bias=False))
            for a, b in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        self.head = nn.Sequential(
            spectral_norm(nn.Conv2d(features, features, 3, padding=1, bias=False)),
            nn.LeakyReLU(0.2),
            nn.Conv2d(features, 1, 3, padding=1),
        )

    def forward(self, rgb: Tensor) -> Tensor:
        """RGB (B, 3, N, N), nominally in [0, 1] -> logits (B, 1, N, N), positive where it takes a pixel for real."""
        levels = [F.leaky_relu(self.stem(2 * rgb - 1), 0.2)]
        for layer in self.down:
            levels.append(F.leaky_relu(layer(levels[-1]), 0.2))
        x = levels.pop()
        for layer in self.up:
            below = levels.pop()
            x = F.interpolate(x, below.shape[2:], mode="bilinear", align_corners=False)
            x = F.leaky_relu(layer(x), 0.2) + below
        logits: Tensor = self.head(x)
        return logits


class Discriminator:
    """A U-Net and its optimiser. The forward pass runs in `precision` under torch's autocast, losses in float32."""

    def __init__(self, config: AdversarialConfig, device: torch.device, precision: torch.dtype) -> None:
        self.network = UNet(config.features).to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = torch.optim.Adam(self.network.parameters(), config.lr, betas=(0.9, 0.99))
        self.device, self.precision = device.type, precision

    def logits(self, rgb: Tensor) -> Tensor:
        """What it thinks of each pixel, (B, 1, N, N) float32; see `UNet`."""
        with torch.autocast(self.device, self.precision, enabled=self.precision != torch.float32):
            logits: Tensor = self.network(rgb)
        return logits.float()

    def fooled(self, rgb: Tensor, share: Tensor) -> Tensor:
        """The loss of a renderer whose patches are to look real; its gradient does not reach the discriminator's weights.

        rgb (B, 3, N, N). share (B, N, N): the weights of the pixels in the mean.
        """
        self.network.requires_grad_(False)
        loss = weighted(F.softplus(-self.logits(rgb)), share)
        self.network.requires_grad_(True)
        return loss

    def learn(self, real: Tensor, rendered: Tensor, share: Tensor) -> None:
        """One step towards telling real from rendered patches, (B, 3, N, N) each; share as for `fooled`."""
        loss = weighted(F.softplus(-self.logits(real)), share)
        loss = loss + weighted(F.softplus(self.logits(rendered.detach())), share)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()

    def state(self) -> dict[str, Any]:
        """Weights and optimiser."""
        return {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Load such a state."""
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])


def weighted(values: Tensor, share: Tensor) -> Tensor:
    """The weighted sum over pixels of the mean over channels. values (B, C, N, N), share (B, N, N) with the sum 1."""
    return (values.mean(1) * share).sum()

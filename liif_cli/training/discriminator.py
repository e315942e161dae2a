"""The discriminator of adversarial training, which classifies each pixel of a patch as real or rendered."""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from liif_cli.training.recipe import AdversarialConfig


class UNet(nn.Module):
    """A U-Net with spectral normalisation (Wang et al., "Real-ESRGAN", ICCVW 2021; Schoenfeld et al., CVPR 2020).

    It halves the resolution and doubles the channels three times, then upsamples again, with an additive skip connection at
    each resolution.
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
        """RGB (B, 3, N, N), nominally in [0, 1] -> logits (B, 1, N, N), positive for pixels classified as real."""
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
        """The logits of each pixel, (B, 1, N, N) float32; see `UNet`."""
        with torch.autocast(self.device, self.precision, enabled=self.precision != torch.float32):
            logits: Tensor = self.network(rgb)
        return logits.float()

    def fooled(self, rgb: Tensor, share: Tensor) -> Tensor:
        """The generator's loss, a scalar: small if the patches are classified as real. No gradient reaches this network's
        weights.

        rgb: rendered patches (B, 3, N, N). share: (B, N, N), the weights of the pixels in the mean.
        """
        self.network.requires_grad_(False)
        loss = weighted(F.softplus(-self.logits(rgb)), share)
        self.network.requires_grad_(True)
        return loss

    def learn(self, real: Tensor, rendered: Tensor, share: Tensor) -> None:
        """One optimiser step on real and rendered patches, (B, 3, N, N) each. share: see `fooled`."""
        loss = weighted(F.softplus(-self.logits(real)), share)
        loss = loss + weighted(F.softplus(self.logits(rendered.detach())), share)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()

    def state(self) -> dict[str, Any]:
        """The state of weights and optimiser, for `restore`."""
        return {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Load a state from `state`."""
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])


def weighted(values: Tensor, share: Tensor) -> Tensor:
    """The mean over channels, summed over pixels with weights. values: (B, C, N, N). share: (B, N, N), which sums to 1."""
    return (values.mean(1) * share).sum()

"""The loss that training minimises, over a batch's queried colours (paper, section 5.1)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from liif_cli.models.model import SRModel


def charbonnier(difference: Tensor) -> Tensor:
    """sqrt(difference^2 + 1e-6): like L1, but smooth at zero."""
    return (difference.square() + 1e-6).sqrt()


LOSSES: dict[str, Callable[[Tensor], Tensor]] = {"l1": torch.abs, "l2": torch.square, "charbonnier": charbonnier}
"""Losses of a difference, elementwise."""


class Objective(nn.Module):
    """Loss and squared error of a batch, as one module, so that DistributedDataParallel can wrap it.

    The loss compares colours in the model's normalised space, as in the paper. The forward pass runs in `precision` under
    torch's autocast, the loss always in float32.
    """

    def __init__(self, model: SRModel, loss: str = "l1", precision: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.model = model
        self.loss = LOSSES[loss]
        self.precision = precision

    def forward(self, lr: Tensor, rgb: Tensor, position: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """lr (B, 3, L, L) uint8, rgb (B, Q, 3) uint8, position and cell (B, Q, 2) float64 in LR pixels.

        Returns the loss and the mean squared error in RGB (0 to 1), both scalars.
        """
        model = self.model
        image = (lr.float() / 255).contiguous(memory_format=torch.channels_last)
        wanted = (rgb.float() / 255 - model.mean) / model.std
        with torch.autocast(lr.device.type, self.precision, enabled=self.precision != torch.float32):
            predicted = model.decoder.query(model.encode(image), position, cell)
        predicted = predicted.float()
        with torch.no_grad():
            error = ((predicted - wanted) * model.std).square().mean()
        return self.loss(predicted - wanted).mean(), error


class PatchObjective(Objective):
    """Loss and squared error of whole patches: the mean over each patch's pixels, then over the patches, which may differ in
    size.

    fourier: weight of the mean magnitude of the difference's spectrum (orthonormal; zero beyond a patch's side).
    """

    def __init__(
        self, model: SRModel, loss: str = "l1", precision: torch.dtype = torch.float32, fourier: float = 0.0
    ) -> None:
        super().__init__(model, loss, precision)
        self.fourier = fourier

    def forward(self, lr: Tensor, hr: Tensor, side: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """lr (B, 3, L, L) uint8, hr (B, N, N, 3) uint8, side (B,) int64; see `Patches`. Returns the same as `Objective`."""
        wanted, share = (hr.float() / 255 - self.model.mean) / self.model.std, shares(side, hr.shape[1])
        return self.compare(self.render(self.model, lr, side, hr.shape[1]), wanted, side, share)

    def render(self, model: SRModel, lr: Tensor, side: Tensor, largest: int) -> Tensor:
        """The patches (B, largest, largest, 3) float32 that a model renders, normalised."""
        image = (lr.float() / 255).contiguous(memory_format=torch.channels_last)
        with torch.autocast(lr.device.type, self.precision, enabled=self.precision != torch.float32):
            return model.decoder.patches(model.encode(image), side, largest).float()

    def compare(self, predicted: Tensor, wanted: Tensor, side: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and squared error of normalised patches (B, N, N, 3). share: see `shares`."""
        largest, difference = predicted.shape[1], predicted - wanted
        with torch.no_grad():
            error = ((difference * self.model.std).square().mean(-1) * share).sum()
        loss = (self.loss(difference).mean(-1) * share).sum()
        if self.fourier:
            spectrum = torch.fft.rfft2((difference * (share > 0).unsqueeze(-1)).permute(0, 3, 1, 2), norm="ortho")
            weight = (largest / side.float()).view(-1, 1, 1, 1)  # compensates for the zeros beyond the side
            loss = (
                loss + self.fourier * ((spectrum.real.square() + spectrum.imag.square() + 1e-12).sqrt() * weight).mean()
            )
        return loss, error


def shares(side: Tensor, largest: int) -> Tensor:
    """(B, largest, largest): each pixel's weight in the mean over each patch's pixels, then over the patches of `side` (B,)."""
    inside = torch.arange(largest, device=side.device) < side[:, None]
    return (inside[:, :, None] & inside[:, None, :]) / (len(side) * side.double().square()).float()[:, None, None]

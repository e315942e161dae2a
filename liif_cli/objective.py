"""The quantity that training minimises: the loss of a batch's queried colours (paper, section 5.1)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from liif_cli.model import SRModel


def charbonnier(predicted: Tensor, wanted: Tensor) -> Tensor:
    """sqrt(difference^2 + 1e-6), mean: L1 that is smooth at zero."""
    return ((predicted - wanted).square() + 1e-6).sqrt().mean()


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"l1": F.l1_loss, "l2": F.mse_loss, "charbonnier": charbonnier}


class Objective(nn.Module):
    """Loss and squared error of a batch, as one module, so that DistributedDataParallel can wrap it.

    The loss is of colours in the model's normalised space, as the paper's; forward and loss run in `precision` where torch's
    autocast allows it, the loss itself always in float32.
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
        return self.loss(predicted, wanted), error

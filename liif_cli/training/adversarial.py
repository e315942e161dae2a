"""The loss of adversarial training: pixel and perceptual losses of whole patches, and that of a discriminator."""

from collections.abc import Callable

import torch
from torch import Tensor

from liif_cli.models.model import SRModel
from liif_cli.training.discriminator import Discriminator
from liif_cli.training.objective import PatchObjective, shares
from liif_cli.training.perceptual import artefacts, consistency, structure
from liif_cli.training.recipe import AdversarialConfig


class AdversarialObjective(PatchObjective):
    """The weighted sum of the loss of `PatchObjective`, the losses of `perceptual`, and the discriminator's loss.

    average: returns the moving average of the model; None if there is none. shown: the real and rendered patches of the last
    batch, (B, 3, N, N) each, and the weights of their pixels, (B, N, N), for the discriminator's step.
    """

    def __init__(
        self,
        model: SRModel,
        loss: str,
        precision: torch.dtype,
        fourier: float,
        config: AdversarialConfig,
        discriminator: Discriminator,
        average: Callable[[], SRModel] | None,
    ) -> None:
        super().__init__(model, loss, precision, fourier)
        self.config, self.discriminator, self.average = config, discriminator, average
        self.shown: tuple[Tensor, Tensor, Tensor] | None = None

    def forward(self, lr: Tensor, hr: Tensor, side: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """See `PatchObjective`."""
        model, config, largest = self.model, self.config, hr.shape[1]
        share = shares(side, largest)
        predicted = self.render(model, lr, side, largest)
        loss, error = self.compare(predicted, (hr.float() / 255 - model.mean) / model.std, side, share)
        real, rendered = planes(hr.float() / 255, share), planes(model.denormalise(predicted), share)
        loss = config.pixels * loss + config.structure * structure(rendered, real, share)
        loss = loss + config.consistency * consistency(rendered, real, share)
        if config.artefacts and self.average is not None:
            with torch.no_grad():
                steady = model.denormalise(self.render(self.average(), lr, side, largest))
            loss = loss + config.artefacts * artefacts(rendered, planes(steady, share), real, share)
        self.shown = real, rendered.detach(), share
        return loss + config.weight * self.discriminator.fooled(rendered, share), error

    def learn(self) -> None:
        """One step of the discriminator, on the patches of the last batch."""
        assert self.shown is not None
        self.discriminator.learn(*self.shown)
        self.shown = None


def planes(rgb: Tensor, share: Tensor) -> Tensor:
    """(B, N, N, 3) -> (B, 3, N, N); pixels whose share is 0 become 0."""
    return (rgb * (share > 0).unsqueeze(-1)).permute(0, 3, 1, 2)

"""Validation during training: PSNR in RGB of image centres at some scales, and a preview sheet."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from liif_cli.coords import Axis
from liif_cli.images.panels import Panel, draw_sheet, enlarged
from liif_cli.models.model import SRModel
from liif_cli.training import degradations
from liif_cli.training.recipe import TrainConfig
from liif_cli.training.sources import ImageFolders
from liif_cli.training.trainer import psnr

PANEL = 288
"""Pixels per side of each panel in a preview."""


@dataclass(frozen=True)
class Case:
    """One validation image at one scale: LR (h, w, 3) and HR (H, W, 3), uint8."""

    scale: float
    lr: NDArray[np.uint8]
    hr: NDArray[np.uint8]

    def bicubic(self) -> NDArray[np.uint8]:
        """LR resized to HR's size by Pillow's bicubic."""
        return np.asarray(Image.fromarray(self.lr).resize(self.hr.shape[1::-1], Image.Resampling.BICUBIC))


class Validation:
    """The images on which a run is validated: the centres of its first validation images.

    LR is always made by the clean degradation. `bicubic`: PSNR of bicubic up-sampling by scale, for comparison.
    """

    def __init__(self, config: TrainConfig) -> None:
        check = config.validation
        images = ImageFolders(
            [Path(folder) for folder in config.data.val], round(2 * max(*check.scales, *check.preview_scales))
        )
        chosen = [images[i] for i in range(min(check.pictures or len(images), len(images)))]
        self.cases = [make_case(image, check.crop, scale) for image in chosen for scale in check.scales]
        sharpest = max(chosen, key=_sharpness)
        self.shown = [make_case(sharpest, check.crop, scale) for scale in check.preview_scales]
        self.bicubic = _means((case.scale, _psnr(case.bicubic(), case.hr)) for case in self.cases)

    def scores(self, model: SRModel) -> dict[str, float]:
        """Mean PSNR in RGB by scale ("2", "2.5"), in dB. Results are rounded to 8 bits; no border is shaved."""
        return _means((case.scale, _psnr(render(model, case), case.hr)) for case in self.cases)

    def preview(self, model: SRModel) -> Image.Image:
        """LR, bicubic, the model's output and HR side by side, one row per preview scale."""
        return Image.fromarray(draw_sheet([panel for case in self.shown for panel in _panels(model, case)], columns=4))


def _panels(model: SRModel, case: Case) -> list[Panel]:
    ours, simple = render(model, case), case.bicubic()
    labelled = {
        f"LR, x{case.scale:g}": case.lr,
        f"bicubic {_psnr(simple, case.hr):.2f} dB": simple,
        f"liif {_psnr(ours, case.hr):.2f} dB": ours,
        "HR": case.hr,
    }
    return [Panel(label, enlarged(pixels, PANEL)) for label, pixels in labelled.items()]


def make_case(image: NDArray[np.uint8], crop: int, scale: float) -> Case:
    """HR is the central square whose side is `scale` times a whole number (at most `crop`); LR has that number per side."""
    size = int(min(*image.shape[:2], crop or max(image.shape)) / scale)
    side = round(size * scale)
    top, left = ((n - side) // 2 for n in image.shape[:2])
    hr = image[top : top + side, left : left + side]
    return Case(scale, degradations.clean(hr, size), hr)


@torch.no_grad()
def render(model: SRModel, case: Case) -> NDArray[np.uint8]:
    """The model's output for the case's LR at HR's size, (H, W, 3) uint8."""
    device = next(model.parameters()).device
    image = torch.from_numpy(case.lr).permute(2, 0, 1).unsqueeze(0).to(device).float() / 255
    rows, columns = (Axis.whole(n, size) for n, size in zip(case.lr.shape[:2], case.hr.shape[:2], strict=True))
    out = model.render(model.bind(model.encode(image), rows, columns), rows, columns)[0].clamp(0, 1).mul(255).round()
    return out.to(torch.uint8).cpu().numpy()


def _psnr(shown: NDArray[np.uint8], wanted: NDArray[np.uint8]) -> float:
    return psnr(float(np.square((shown.astype(np.float64) - wanted) / 255).mean()))


def _means(scores: Iterable[tuple[float, float]]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for scale, value in scores:
        found.setdefault(f"{scale:g}", []).append(value)
    return {scale: round(float(np.mean(values)), 4) for scale, values in found.items()}


def _sharpness(image: NDArray[np.uint8]) -> float:
    return float(np.abs(np.diff(image.astype(np.float32), axis=0)).mean())

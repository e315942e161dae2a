"""Validation while training: PSNR in RGB of a few pictures' centres at a few scales, and a preview to look at."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from liif_cli.coords import Axis
from liif_cli.models.model import SRModel
from liif_cli.training import degradations
from liif_cli.training.recipe import TrainConfig
from liif_cli.training.report import sheet
from liif_cli.training.sources import Pictures
from liif_cli.training.trainer import psnr


@dataclass(frozen=True)
class Case:
    """One validation picture at one scale: LR (h, w, 3) and HR (H, W, 3), uint8."""

    scale: float
    lr: NDArray[np.uint8]
    hr: NDArray[np.uint8]

    def bicubic(self) -> NDArray[np.uint8]:
        """LR as Pillow's bicubic shows it at HR's size."""
        return np.asarray(Image.fromarray(self.lr).resize(self.hr.shape[1::-1], Image.Resampling.BICUBIC))


class Validation:
    """What a run is validated on: the centres of its first validation pictures.

    Reduction is always the clean one. `bicubic`: PSNR by scale of bicubic up-sampling, to compare with.
    """

    def __init__(self, config: TrainConfig) -> None:
        check = config.validation
        pictures = Pictures(
            [Path(folder) for folder in config.data.val], round(2 * max(*check.scales, *check.preview_scales))
        )
        chosen = [pictures[i] for i in range(min(check.pictures or len(pictures), len(pictures)))]
        self.cases = [make_case(picture, check.crop, scale) for picture in chosen for scale in check.scales]
        sharpest = max(chosen, key=_sharpness)
        self.shown = [make_case(sharpest, check.crop, scale) for scale in check.preview_scales]
        self.bicubic = _means((case.scale, _psnr(case.bicubic(), case.hr)) for case in self.cases)

    def scores(self, model: SRModel) -> dict[str, float]:
        """Mean PSNR in RGB, dB, by scale ("2", "2.5"); 8-bit-rounded results, no border shaved."""
        return _means((case.scale, _psnr(render(model, case), case.hr)) for case in self.cases)

    def preview(self, model: SRModel) -> Image.Image:
        """LR, bicubic, the model and HR side by side, a row for each preview scale."""
        rows = []
        for case in self.shown:
            ours, simple = render(model, case), case.bicubic()
            captions = (
                f"LR, x{case.scale:g}",
                f"bicubic {_psnr(simple, case.hr):.2f} dB",
                f"liif {_psnr(ours, case.hr):.2f} dB",
            )
            rows.append([*zip(captions, (case.lr, simple, ours), strict=True), ("HR", case.hr)])
        return sheet(rows)


def make_case(picture: NDArray[np.uint8], crop: int, scale: float) -> Case:
    """The square in a picture's centre whose side is `scale` times a whole number, reduced by Pillow's bicubic to that."""
    size = int(min(*picture.shape[:2], crop or max(picture.shape)) / scale)
    side = round(size * scale)
    top, left = ((n - side) // 2 for n in picture.shape[:2])
    hr = picture[top : top + side, left : left + side]
    return Case(scale, degradations.clean(hr, size), hr)


@torch.no_grad()
def render(model: SRModel, case: Case) -> NDArray[np.uint8]:
    """The case's LR as the model shows it at HR's size, (H, W, 3)."""
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


def _sharpness(picture: NDArray[np.uint8]) -> float:
    return float(np.abs(np.diff(picture.astype(np.float32), axis=0)).mean())

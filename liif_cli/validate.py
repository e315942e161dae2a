"""Validation while training: PSNR in RGB of a few pictures' centres at a few scales (paper, section 5.1)."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from liif_cli import degrade
from liif_cli.coords import Axis
from liif_cli.datasets import Pictures
from liif_cli.model import SRModel
from liif_cli.recipe import ValidationConfig


@dataclass(frozen=True)
class Case:
    """One validation picture at one scale: LR (h, w, 3) and HR (H, W, 3), uint8."""

    scale: float
    lr: NDArray[np.uint8]
    hr: NDArray[np.uint8]


def cases(pictures: Pictures, config: ValidationConfig) -> list[Case]:
    """The centre squares of the first `config.pictures` pictures, reduced by Pillow's bicubic at each scale."""
    found = []
    for index in range(min(config.pictures or len(pictures), len(pictures))):
        picture = pictures[index]
        for scale in config.scales:
            hr, size = _centre(picture, config.crop, scale)
            found.append(Case(scale, degrade.clean(hr, size), hr))
    return found


def _centre(picture: NDArray[np.uint8], crop: int, scale: float) -> tuple[NDArray[np.uint8], int]:
    """A square from the picture's centre, whose side is `scale` times a whole number, and that number."""
    side = min(*picture.shape[:2], crop or max(picture.shape))
    size = int(side / scale)
    side = round(size * scale)
    top, left = ((n - side) // 2 for n in picture.shape[:2])
    return picture[top : top + side, left : left + side], size


@torch.no_grad()
def render(model: SRModel, lr: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.float32]:
    """LR (h, w, 3) uint8 as the model shows it at `size` (height, width): RGB, float32, clamped to [0, 1]."""
    device = next(model.parameters()).device
    image = torch.from_numpy(np.ascontiguousarray(lr)).permute(2, 0, 1).unsqueeze(0).to(device).float() / 255
    out = model.render(model.encode(image), Axis.whole(lr.shape[0], size[0]), Axis.whole(lr.shape[1], size[1]))
    rendered: NDArray[np.float32] = out[0].clamp(0, 1).cpu().numpy()
    return rendered


def validate(model: SRModel, todo: list[Case]) -> dict[float, float]:
    """Mean PSNR in RGB, dB, by scale; unrounded, no border shaved."""
    scores: dict[float, list[float]] = {}
    for case in todo:
        error = float(np.square(render(model, case.lr, case.hr.shape[:2]) - case.hr / 255.0).mean())
        scores.setdefault(case.scale, []).append(-10 * math.log10(max(error, 1e-12)))
    return {scale: float(np.mean(values)) for scale, values in scores.items()}

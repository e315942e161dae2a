"""Measurement protocols: channels, border shave, rounding, LR images and the bicubic baseline.

A score is meaningless without its protocol: the scores of the same images differ by 2 dB between `benchmark` and `mmediting`.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from liif_cli.errors import InputError, UsageError
from liif_cli.evaluation import metrics
from liif_cli.evaluation.metrics import Channels
from liif_cli.images.levels import as_floats
from liif_cli.images.resize import matlab_bicubic, resample

LowFrom = Literal["files", "matlab", "pillow"]
"""Where LR images come from: the set's own files, or the HR images, shrunk with MATLAB's or Pillow's bicubic."""
Bytes = NDArray[np.uint8]
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Pair:
    """An LR image, (h, w, 3) uint8, and its ground truth, (H, W, 3) uint8."""

    low: Bytes
    high: Bytes


@dataclass(frozen=True)
class Protocol:
    """A measurement protocol.

    channels: what PSNR and SSIM compare. border: pixels shaved per side in addition to the scale; None to shave nothing.
    rounded: whether results are rounded to 8 bits first. multiple: HR images are first cropped to multiples of it.
    matlab_scales: the scales whose LR images are made with MATLAB's bicubic; the others use Pillow's. baseline: the bicubic
    to compare with.
    """

    name: str
    channels: Channels
    border: int | None
    rounded: bool
    multiple: int
    matlab_scales: tuple[float, ...]
    baseline: Literal["matlab", "pillow"]

    def shaved(self, scale: float) -> int:
        """Pixels shaved from each side of a result at `scale`."""
        return 0 if self.border is None else math.ceil(scale) + self.border

    def low_from(self, scale: float) -> LowFrom:
        """How this protocol makes LR images at `scale`."""
        return "matlab" if scale in self.matlab_scales else "pillow"

    def low_size(self, height: int, width: int, scale: float) -> tuple[int, int]:
        """(height, width) of the LR image of a `height` x `width` HR image."""
        height, width = (n - n % self.multiple for n in (height, width))
        return math.floor(height / scale + 1e-9), math.floor(width / scale + 1e-9)

    def takes(self, height: int, width: int, scale: float) -> bool:
        """Whether an HR image of that size is included: at least 11 pixels per side must remain after border shaving."""
        sides = (round(n * scale) for n in self.low_size(height, width, scale))
        return min(sides) - 2 * self.shaved(scale) >= metrics.WINDOW

    def pair(self, high: Bytes, scale: float, low_from: LowFrom | None = None, low: Bytes | None = None) -> Pair:
        """LR and cropped HR image of an (H, W, 3) uint8 image.

        low_from: overrides how the protocol makes the LR image. With "files", the file's pixels are given as `low`, (h, w, 3)
        uint8, and the HR image is cropped to its size times the scale, from the top left corner. Raises InputError if the HR
        image is too small, and ValueError if `low` is missing.
        """
        source = low_from or self.low_from(scale)
        if source != "files":
            size = self.low_size(high.shape[0], high.shape[1], scale)
            high = _crop(high, size, scale)
            return Pair(_shrink(high, size, source), high)
        if low is None:
            raise ValueError('"files" needs the pixels of the file')
        return Pair(low, _crop(high, low.shape[:2], scale))

    def bicubic(self, low: Bytes, height: int, width: int) -> Floats:
        """The baseline: (h, w, 3) uint8 -> (height, width, 3) float in [0, 1]."""
        if self.baseline == "pillow":
            return as_floats(resample(low, height, width))
        return np.clip(matlab_bicubic(low / 255.0, height, width), 0.0, 1.0)

    def score(self, result: Floats, truth: Bytes, scale: float) -> tuple[float, float]:
        """PSNR in dB and SSIM of a result, (H, W, 3) float, which is clipped to [0, 1], against (H, W, 3) uint8."""
        result = np.clip(result.astype(np.float64), 0.0, 1.0)
        if self.rounded:
            result = np.rint(result * 255) / 255
        border, reference = self.shaved(scale), truth / 255.0
        return (
            metrics.psnr(result, reference, self.channels, border),
            metrics.ssim(result, reference, self.channels, border),
        )

    def __str__(self) -> str:
        border = "no shave" if self.border is None else "shave scale" + f" + {self.border}" * bool(self.border)
        return f"{self.name} ({self.channels}, {border}{', 8-bit' * self.rounded})"


def _crop(high: Bytes, low_size: tuple[int, ...], scale: float) -> Bytes:
    height, width = (round(n * scale) for n in low_size[:2])
    if height > high.shape[0] or width > high.shape[1]:
        raise InputError(
            f"cannot score at ×{scale:g}: an LR image of {low_size[1]}x{low_size[0]} times the scale exceeds the HR image of "
            f"{high.shape[1]}x{high.shape[0]}"
        )
    return high[:height, :width]


def _shrink(high: Bytes, size: tuple[int, int], source: LowFrom) -> Bytes:
    if source == "matlab":
        return matlab_bicubic(high, size[0], size[1])
    return resample(np.ascontiguousarray(high), size[0], size[1])


_MATLAB = (2.0, 3.0, 4.0)  # the scales for which the sets come with files
PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("benchmark", "luma", 0, False, 1, _MATLAB, "matlab"),
        Protocol("div2k", "rgb", 6, False, 1, _MATLAB, "matlab"),
        Protocol("mmediting", "rgb", 0, True, 12, (), "pillow"),
        Protocol("celebahq", "rgb", None, False, 1, (), "pillow"),
    )
}


def protocol_named(name: str) -> Protocol:
    """The protocol of that name. Raises UsageError, with the known names, if there is none."""
    if name not in PROTOCOLS:
        raise UsageError(f"{name!r} is not a protocol", hint=f"use one of {', '.join(PROTOCOLS)}", argument="protocol")
    return PROTOCOLS[name]

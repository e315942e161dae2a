"""PSNR and SSIM as computed in the super-resolution literature: with shaved borders, in luma or RGB, one value per image.

Everything is computed in float64 with NumPy, so that scores do not depend on the number of threads.
"""

from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

Channels = Literal["luma", "rgb"]
Floats = NDArray[np.float64]

STUDIO_LUMA = np.array([65.738, 129.057, 25.064]) / 256
"""BT.601 luma weights of R, G, B in [0, 1], studio range: their sum is 219.859 / 256, and black is at `STUDIO_BLACK`."""
STUDIO_BLACK = 16 / 255
WINDOW = 11
"""Side of SSIM's Gaussian window, and so of the smallest image that has an SSIM."""
_SIGMA = 1.5
_C1, _C2 = 0.01**2, 0.03**2
_STRIP = 48


def shave(image: NDArray[np.generic], border: int) -> NDArray[np.generic]:
    """(H, W, ...) without `border` pixels on each of the four sides. Raises ValueError if nothing would be left."""
    height, width = image.shape[:2]
    if min(height, width) <= 2 * border:
        raise ValueError(
            f"cannot shave {border} pixels per side from an image of {width}x{height}: nothing would be left"
        )
    return image[border : height - border, border : width - border]


def psnr(result: NDArray[np.generic], truth: NDArray[np.generic], channels: Channels = "rgb", border: int = 0) -> float:
    """Peak signal-to-noise ratio in dB of two (H, W, 3) float images in [0, 1]; infinite if they are equal.

    `luma` weights the **difference** with `STUDIO_LUMA`, as the LIIF paper does for the benchmark sets; `rgb` takes the mean
    squared error of all three channels. Neither image is rounded. border: pixels to shave per side. Raises ValueError if the
    shapes differ.
    """
    first, second = _pair(result, truth, border)
    difference = first - second
    if channels == "luma":
        difference = difference @ STUDIO_LUMA
    error = float(np.mean(difference**2))
    return float("inf") if error == 0 else -10 * float(np.log10(error))


def ssim(result: NDArray[np.generic], truth: NDArray[np.generic], channels: Channels = "rgb", border: int = 0) -> float:
    """Structural similarity (Wang et al. 2004) of two (H, W, 3) float images in [0, 1] with at least 11 pixels per side.

    Gaussian window of 11x11 with sigma 1.5, population covariance, only windows inside the image, K1 = 0.01 and K2 = 0.03
    for a range of 1. `luma` compares the Y channels; `rgb` is the mean over the three channels. border: pixels to shave per
    side. Raises ValueError.
    """
    first, second = _pair(result, truth, border)
    if channels == "luma":
        first, second = ((image @ STUDIO_LUMA + STUDIO_BLACK)[..., None] for image in (first, second))
    return float(np.mean([_ssim_plane(first[..., c], second[..., c]) for c in range(first.shape[2])]))


def _pair(result: NDArray[np.generic], truth: NDArray[np.generic], border: int) -> tuple[Floats, Floats]:
    if result.shape != truth.shape or result.ndim != 3:
        raise ValueError(f"cannot compare {result.shape} with {truth.shape}")
    return shave(result, border).astype(np.float64), shave(truth, border).astype(np.float64)


def _ssim_plane(first: Floats, second: Floats) -> float:
    """Mean over the windows of one channel, strip by strip, to bound memory and to stay in the cache."""
    rows = first.shape[0] - WINDOW + 1
    if rows < 1 or first.shape[1] < WINDOW:
        raise ValueError(f"SSIM needs at least {WINDOW} pixels per side, not {first.shape[1]}x{first.shape[0]}")
    total = 0.0
    for top in range(0, rows, _STRIP):
        part = slice(top, min(top + _STRIP, rows) + WINDOW - 1)
        total += float(_ssim_map(first[part], second[part]).sum())
    return float(total / (rows * (first.shape[1] - WINDOW + 1)))


def _ssim_map(first: Floats, second: Floats) -> Floats:
    """SSIM of every window: two (H, W) -> (H - 10, W - 10)."""
    x, y, xx, yy, xy = _blur(np.stack([first, second, first * first, second * second, first * second]))
    variances, covariance = xx - x * x + yy - y * y, xy - x * y
    similarity = (2 * x * y + _C1) * (2 * covariance + _C2) / ((x * x + y * y + _C1) * (variances + _C2))
    return cast(Floats, similarity)


def _blur(planes: Floats) -> Floats:
    """Gaussian-weighted means over the windows of (N, H, W): (N, H - 10, W - 10)."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-0.5 * (offsets / _SIGMA) ** 2)
    weights /= weights.sum()
    height, width = planes.shape[1] - WINDOW + 1, planes.shape[2] - WINDOW + 1
    down = sum((w * planes[:, i : i + height] for i, w in enumerate(weights)), np.zeros(()))
    return cast(Floats, sum((w * down[:, :, i : i + width] for i, w in enumerate(weights)), np.zeros(())))

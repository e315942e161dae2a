"""Resizing: Pillow's filters, and MATLAB's `imresize` bit for bit.

Nearly all low-resolution images of the field were made with one of these two, and their bicubics differ: both use the kernel
with a = -0.5 and widen it when shrinking, but MATLAB rounds to 8 bits between its two passes. Pillow is used itself, in 8
bits or float32. MATLAB's is implemented here, because no Python library reproduces it exactly.
"""

import math
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Filter = Literal["nearest", "box", "bicubic", "lanczos"]
Floats = NDArray[np.float64]
Pixels = NDArray[Any]

_PILLOW = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_SUPPORT = {"nearest": 0.5, "box": 0.5, "bicubic": 2.0, "lanczos": 3.0}
_CUBIC_SUPPORT = 2.0


def resample(
    image: Pixels,
    height: int,
    width: int,
    filter: Filter = "bicubic",
    box: tuple[float, float, float, float] | None = None,
) -> Pixels:
    """Resize (H, W, C) to (height, width, C) with one of Pillow's filters, antialiased when shrinking.

    uint8 (C = 1 or 3) is computed in Pillow's 8-bit arithmetic and stays uint8. float32, with any range and C, stays float32
    and is **not clipped**: bicubic and Lanczos overshoot. An axis that keeps its size does not change.

    box: the part (top, left, bottom, right) of the image to map to the output, in pixels, which may be fractions (Pillow
    keeps them in float32). The kernel also reads pixels outside it, so resizing in bands with a margin of `reach` pixels gives
    the same result as resizing the whole image. Raises ValueError for another dtype or shape.
    """
    if image.ndim != 3 or image.dtype not in (np.uint8, np.float32):
        raise ValueError(f"resample takes (H, W, C) in uint8 or float32, not {image.shape} in {image.dtype}")
    part = None if box is None else (box[1], box[0], box[3], box[2])
    if image.dtype == np.uint8 and image.shape[2] == 3:
        return np.asarray(Image.fromarray(image).resize((width, height), _PILLOW[filter], part))
    out = np.empty((height, width, image.shape[2]), image.dtype)
    for channel in range(image.shape[2]):
        plane = Image.fromarray(np.ascontiguousarray(image[..., channel]))
        out[..., channel] = plane.resize((width, height), _PILLOW[filter], part)
    return out


def reach(length: int, target: int, filter: Filter = "bicubic") -> int:
    """The number of source pixels, at most, that an output pixel reads on each side of its centre.

    length, target: the source and output size of the axis, in pixels.
    """
    return math.ceil(_SUPPORT[filter] * max(length / target, 1.0)) + 1


def matlab_bicubic(image: Pixels, height: int, width: int) -> Pixels:
    """Resize (H, W, C) to (height, width, C) as MATLAB's `imresize(..., 'bicubic')`, antialiased when shrinking.

    uint8 gives uint8, rounded (half away from zero) after each of the two passes, bit for bit as in MATLAB. Floats are
    computed in float64, neither rounded nor clipped, and returned in their own dtype. The axis with the smaller scale is
    resized first, or the rows if both are equal. Borders are clamped.
    """
    scales = (height / image.shape[0], width / image.shape[1])
    axes = (0, 1) if scales[0] <= scales[1] else (1, 0)
    for axis in axes:
        image = _matlab_pass(image, (height, width)[axis], axis)
    return image


def _matlab_pass(image: Pixels, length: int, axis: int) -> Pixels:
    indices, weights = _matlab_taps(image.shape[axis], length)
    lines = np.moveaxis(image, axis, 0)
    total = np.zeros((length, *lines.shape[1:]))
    for tap in range(indices.shape[1]):  # tap by tap, not a matrix product: the order of the sum is part of the result
        total += weights[:, tap, None, None] * lines[indices[:, tap]]
    if image.dtype == np.uint8:
        total = np.clip(np.floor(total + 0.5), 0, 255)
    return cast(Pixels, np.moveaxis(total, 0, axis).astype(image.dtype))


def _matlab_taps(source: int, target: int) -> tuple[NDArray[np.intp], Floats]:
    """Indices and weights, both (target, taps), of MATLAB's `contributions` for one axis."""
    scale = target / source
    stretch = min(scale, 1.0)  # below 1 the kernel widens
    width = 2 * _CUBIC_SUPPORT / stretch
    centre = (np.arange(1, target + 1)) / scale + 0.5 * (1 - 1 / scale)  # 1-based, as MATLAB counts
    left = np.floor(centre - width / 2)
    indices = left[:, None] + np.arange(math.ceil(width) + 2)
    weights = stretch * cubic(stretch * (centre[:, None] - indices))
    weights /= weights.sum(axis=1, keepdims=True)
    used = weights.any(axis=0)
    clamped = np.clip(indices, 1, source).astype(np.intp) - 1
    return clamped[:, used], weights[:, used]


def cubic(x: Floats) -> Floats:
    """Keys' cubic convolution kernel, a = -0.5, at distances `x` in pixels (IEEE Trans. ASSP 29, 1981, eq. 15), float64."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x**2 + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return cast(Floats, np.where(x <= 1, near, np.where(x <= 2, far, 0.0)))

"""Conversion between full-range integers and floats in [0, 1], and luma."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
Floats = NDArray[np.float32]


def luma(rgb: Floats) -> Floats:
    """The luma (ITU-R BT.601), (h, w, 1), of RGB rows (h, w, 3), float32, in the range of the input."""
    return (rgb @ LUMA)[..., None]


def as_floats(rows: NDArray[Any]) -> NDArray[np.float32]:
    """Full-range integer rows as float32 in [0, 1]; float rows as float32, unscaled."""
    if rows.dtype.kind == "f":
        return rows.astype(np.float32, copy=False)
    return rows.astype(np.float32) / np.float32(np.iinfo(rows.dtype).max)


def quantize(rows: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
    """Float rows in [0, 1] as full-range `dtype` (uint8 or uint16): clamped, and rounded half to even."""
    return to_levels(rows, int(np.iinfo(np.dtype(dtype)).max))


def to_levels(rows: NDArray[Any], top: int) -> NDArray[Any]:
    """Float rows in [0, 1] as integers 0 to `top` (uint8 if `top` <= 255, otherwise uint16): clamped, rounded half to even."""
    levels: NDArray[Any] = np.rint(np.clip(rows, 0, 1) * np.float32(top)).astype(np.uint8 if top <= 255 else np.uint16)
    return levels

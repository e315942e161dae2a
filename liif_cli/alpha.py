"""Gray and alpha on their way into the network and back."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Rec. 601 luma: what is kept of the network's three outputs for a gray picture."""


def network_input(pixels: NDArray[Any]) -> NDArray[Any]:
    """What the network sees of a picture's pixels (H, W, C): (H, W, 3) of the same dtype, gray repeated, no alpha."""
    colour = pixels[..., : 1 if pixels.shape[2] < 3 else 3]
    return np.broadcast_to(colour, (*colour.shape[:2], 3))


def network_output(rows: NDArray[np.float32], alpha: NDArray[np.float32] | None, channels: int) -> NDArray[np.float32]:
    """Rows of the output picture, (h, w, channels) float32 in [0, 1], from the network's (h, w, 3) and scaled alpha
    (h, w) in [0, 1], which must be there for channels 2 and 4. Gray is the luma of the three outputs."""
    colour = (rows @ LUMA)[..., None] if channels < 3 else rows
    if channels in (1, 3):
        return colour
    if alpha is None:
        raise ValueError("a picture with alpha needs its scaled alpha")
    return np.concatenate([colour, alpha[..., None]], axis=2)

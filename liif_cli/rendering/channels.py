"""Converts grayscale and alpha to the network's input, and its output back. The reasons are in `alpha`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from liif_cli.images.levels import luma
from liif_cli.rendering.alpha import bled, is_soft

Pixels = NDArray[Any]
Floats = NDArray[np.float32]


def network_input(pixels: Pixels) -> Pixels:
    """The network's input for an image (H, W, C): (H, W, 3) of the same dtype, or (H, W, 4) with a soft alpha mask.

    Grayscale is replicated. With alpha (C = 2, 4), colours are extended into transparent areas.
    """
    colour = bled(pixels) if pixels.shape[2] in (2, 4) else pixels
    colour = np.broadcast_to(colour, (*colour.shape[:2], 3))
    return np.concatenate([colour, pixels[..., -1:]], axis=2) if has_soft_alpha(pixels) else colour


def has_soft_alpha(pixels: Pixels) -> bool:
    """Whether an image (H, W, C) has alpha with values between transparent and opaque."""
    return pixels.shape[2] in (2, 4) and is_soft(pixels[..., -1])


def network_output(rows: Floats, alpha: Floats | None, channels: int) -> Floats:
    """Output rows, (h, w, channels) float32, from the network's (h, w, 3 or 4) and the scaled alpha (h, w) in [0, 1].

    Grayscale is the luma of the network's three channels. Raises ValueError if channels is 2 or 4 and alpha is None.
    """
    colour = luma(rows[..., :3]) if channels < 3 else rows[..., :3]
    if channels in (1, 3):
        return colour
    if alpha is None:
        raise ValueError("an image with alpha needs its scaled alpha")
    return np.concatenate([colour, alpha[..., None]], axis=2)

"""How a low-resolution patch is made from a high-resolution one."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


def clean(hr: Pixels, size: int) -> Pixels:
    """HR (N, N, 3) -> LR (size, size, 3) by Pillow's antialiased bicubic on 8-bit values (paper, section 5.1)."""
    if hr.shape[:2] == (size, size):
        return hr.copy()
    return np.asarray(Image.fromarray(hr).resize((size, size), Image.Resampling.BICUBIC))

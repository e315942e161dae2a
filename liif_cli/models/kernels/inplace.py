"""Operators that overwrite their operand, for use without gradients."""

import torch
from torch import Tensor

PIECE = 2**20  # values


def add_(x: Tensor, more: Tensor) -> Tensor:
    """x (B, C, H, W) += more, which may have fewer bits.

    On the CPU in pieces that stay in the caches: there, torch first converts `more` to the dtype of `x`, and an array of the
    full size would be requested from the system, zeroed, each time.
    """
    rows = max(1, PIECE // max(1, x[:, :, :1].numel())) if x.device.type == "cpu" else x.shape[2]
    for part, of_more in zip(torch.split(x, rows, 2), torch.split(more, rows, 2), strict=True):
        part.add_(of_more)
    return x


def relu_(values: Tensor) -> Tensor:
    """ReLU in place. 16-bit floats are treated as integers, whose sign is the same bit; torch would convert to float32."""
    if values.dtype in (torch.float16, torch.bfloat16):
        values.view(torch.int16).clamp_min_(0)
        return values
    return values.relu_()

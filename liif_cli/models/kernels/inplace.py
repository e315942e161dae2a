"""Operators that overwrite their operand, for where no gradients are wanted."""

import torch
from torch import Tensor

PIECE = 2**20  # values


def add_(x: Tensor, more: Tensor) -> Tensor:
    """x (B, C, H, W) += more, which may have fewer bits.

    On the CPU in pieces that stay in the caches: of `more` torch first makes an array of the dtype of `x` there, and memory of
    that size would be asked of the system, zeroed, each time.
    """
    rows = max(1, PIECE // max(1, x[:, :, :1].numel())) if x.device.type == "cpu" else x.shape[2]
    for part, of_more in zip(torch.split(x, rows, 2), torch.split(more, rows, 2), strict=True):
        part.add_(of_more)
    return x


def relu_(values: Tensor) -> Tensor:
    """16-bit floats are taken for integers, whose sign is the same bit: torch would go through float32."""
    if values.dtype in (torch.float16, torch.bfloat16):
        values.view(torch.int16).clamp_min_(0)
        return values
    return values.relu_()

"""Whether all values of an array are finite, in one pass and without a mask as large as the array."""

import torch
from torch import Tensor


def all_finite(values: Tensor) -> bool:
    """Whether no value is NaN or infinite. Checks the minimum and the maximum, which are NaN if any value is."""
    if not values.numel():
        return True
    if values.dim() == 4 and values.is_contiguous(memory_format=torch.channels_last):
        values = values.permute(0, 2, 3, 1)  # `aminmax` copies tensors that are not contiguous
    low, high = values.aminmax()
    return bool(low.isfinite() & high.isfinite())

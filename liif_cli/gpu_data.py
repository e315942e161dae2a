"""Training data that lives on the accelerator: crops, reduction and sampling happen there, so that small networks do not wait.

The pairs are those of `datasets.Pairs`: same pictures, scales, crops and flips by the same numbers. Reduction is Pillow's
bicubic to within one level. Which pixels are asked for is drawn on the device, so it differs from the CPU's draw.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from liif_cli.datasets import Batch, Draw, Pairs, locate


class DevicePairs:
    """`Pairs` with a clean degradation, served from the device's memory."""

    def __init__(self, pairs: Pairs, device: torch.device) -> None:
        self.pairs, self.device = pairs, device
        self.largest = round(pairs.patch * pairs.scale[1])
        pictures = [pairs.pictures[i] for i in range(len(pairs.pictures))]
        self.shapes = [picture.shape[:2] for picture in pictures]
        self.offsets = np.cumsum([0] + [height * width for height, width in self.shapes])
        self.pixels = torch.empty(int(self.offsets[-1]), 3, dtype=torch.uint8, device=device)
        for picture, start in zip(pictures, self.offsets, strict=False):
            flat = torch.from_numpy(picture.reshape(-1, 3))
            self.pixels[int(start) : int(start) + len(flat)].copy_(flat)
        smallest = pairs.patch if pairs.identity else round(pairs.patch * pairs.scale[0])
        self.smallest = smallest
        self.kernels = torch.stack([reduction(n, pairs.patch, self.largest) for n in range(smallest, self.largest + 1)])
        self.kernels = self.kernels.to(device)
        self.generator = torch.Generator(device)

    def batch(self, numbers: range) -> Batch:
        """The pairs of these numbers; see `Batch`. All tensors are on the device."""
        draws = [self.pairs.draw(number)[0] for number in numbers]
        side = torch.tensor([draw.side for draw in draws], device=self.device)
        start, stride = torch.tensor([self._place(draw) for draw in draws], device=self.device).unbind(1)
        flips = torch.tensor([draw.flips for draw in draws], device=self.device)
        lr = turn(self._reduce(start, stride, side), flips)
        index = self._sample(numbers, draws)
        position, cell = locate(index, side, self.pairs.patch)
        y, x = unturn(index // side[:, None], index % side[:, None], side[:, None], flips)
        rgb = self.pixels[start[:, None] + y * stride[:, None] + x]
        return Batch(lr, rgb, position, cell)

    def _place(self, draw: Draw) -> tuple[int, int]:
        """Where a crop begins in the flat pixels, and how long its picture's rows are."""
        height, width = self.shapes[draw.picture]
        top, left = (int(c * (n - draw.side + 1)) for c, n in zip(draw.corner, (height, width), strict=True))
        return int(self.offsets[draw.picture]) + top * width + left, width

    def _reduce(self, start: Tensor, stride: Tensor, side: Tensor) -> Tensor:
        """(B, 3, patch, patch) uint8: the crops reduced as Pillow does it, across and then down, 8-bit values between."""
        reach = torch.arange(self.largest, device=self.device)
        inside = torch.minimum(reach, side[:, None] - 1)  # beyond a crop's side the kernels are zero
        crops = self.pixels[start[:, None, None] + inside[:, :, None] * stride[:, None, None] + inside[:, None, :]]
        kernel = self.kernels[side - self.smallest]
        across = to_levels(torch.einsum("bow,bhwc->bhoc", kernel, crops.float()))
        return to_levels(torch.einsum("bph,bhoc->bcpo", kernel, across)).to(torch.uint8)

    def _sample(self, numbers: range, draws: list[Draw]) -> Tensor:
        """(B, Q) flat indices into each HR patch, without replacement, from a generator seeded by the pair's number."""
        keys = torch.full((len(draws), self.largest**2), -1.0, device=self.device)
        for row, number, draw in zip(keys, numbers, draws, strict=True):
            self.generator.manual_seed(self.pairs.seed * 0x9E3779B97F4A7C15 + number & 0x7FFFFFFFFFFFFFFF)
            torch.rand(draw.side**2, generator=self.generator, out=row[: draw.side**2])
        return keys.topk(self.pairs.queries, sorted=False).indices


def bytes_needed(pairs: Pairs) -> int:
    """Bytes of the pictures' pixels on a device."""
    return sum(math.prod(pairs.pictures[i].shape) for i in range(len(pairs.pictures)))


def reduction(source: int, target: int, columns: int) -> Tensor:
    """Pillow's antialiased bicubic (a = -0.5) from `source` to `target` pixels as a matrix (target, columns), float32.

    Columns from `source` on are zero.
    """
    scale = source / target
    centre = (np.arange(target) + 0.5) * scale
    reach = max(scale, 1.0)
    first = np.maximum(np.floor(centre - 2 * reach + 0.5), 0)
    last = np.minimum(np.floor(centre + 2 * reach + 0.5), source)
    taps = np.arange(columns)
    weights = _cubic((taps - centre[:, None] + 0.5) / reach)
    weights[(taps < first[:, None]) | (taps >= last[:, None])] = 0
    return torch.from_numpy((weights / weights.sum(1, keepdims=True)).astype(np.float32))


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    x = np.abs(x)
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def to_levels(values: Tensor) -> Tensor:
    """Rounded half up and clamped to 0..255, as Pillow's fixed-point passes end; float32."""
    return (values + 0.5).floor_().clamp_(0, 255)


def turn(images: Tensor, flips: Tensor) -> Tensor:
    """`datasets.turn` for (B, C, N, N), each by its own (up-down, left-right, transpose), (B, 3) bool."""
    up_down, left_right, transpose = flips.view(-1, 3, 1, 1, 1).unbind(1)
    images = torch.where(up_down, images.flip(2), images)
    images = torch.where(left_right, images.flip(3), images)
    return torch.where(transpose, images.transpose(2, 3), images)


def unturn(y: Tensor, x: Tensor, side: Tensor, flips: Tensor) -> tuple[Tensor, Tensor]:
    """Where the pixels (y, x) of turned patches of `side` lie in the patches as they were."""
    up_down, left_right, transpose = flips.unsqueeze(2).unbind(1)
    y, x = torch.where(transpose, x, y), torch.where(transpose, y, x)
    return torch.where(up_down, side - 1 - y, y), torch.where(left_right, side - 1 - x, x)

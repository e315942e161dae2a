"""Training data that lives on the accelerator: crops, reduction and sampling happen there, so that small networks do not wait.

The pairs are those of `pairs.Pairs`: same pictures, scales, crops and flips by the same numbers. Reduction is Pillow's
bicubic to within one level. Which pixels are asked for is drawn on the device by a hash, so it differs from the CPU's draw.
"""

import math
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from liif_cli.training.pairs import Batch, Draw, Pairs, locate

MASK = 0xFFFFFFFF
Integers = TypeVar("Integers", int, Tensor)


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
        self.reach = torch.arange(self.largest, device=device)

    def batch(self, numbers: range) -> Batch:
        """The pairs of these numbers; see `Batch`. All tensors are on the device; nothing here waits for it."""
        draws = [self.pairs.draw(number)[0] for number in numbers]
        drawn = self._send([self._row(number, draw) for number, draw in zip(numbers, draws, strict=True)])
        side, stride, key, flips, starts = drawn[:, 0], drawn[:, 1], drawn[:, 2], drawn[:, 3:6].bool(), drawn[:, 6:]
        start = self._most_detailed(starts, stride, side)
        lr = turn(self._reduce(self._crops(start, stride, side), side), flips)
        index = self._sample(key, side)
        position, cell = locate(index, side, self.pairs.patch)
        y, x = unturn(index // side[:, None], index % side[:, None], side[:, None], flips)
        rgb = self.pixels[start[:, None] + y * stride[:, None] + x]
        return Batch(lr, rgb, position, cell)

    def _row(self, number: int, draw: Draw) -> list[int]:
        """A pair as numbers: side, length of its picture's rows, key of its sampling, flips, and where each candidate begins
        in the flat pixels."""
        height, width = self.shapes[draw.picture]
        places = [
            [int(c * (n - draw.side + 1)) for c, n in zip(corner, (height, width), strict=True)]
            for corner in draw.corners
        ]
        starts = [int(self.offsets[draw.picture]) + top * width + left for top, left in places]
        return [draw.side, width, key_of(self.pairs.seed, number), *map(int, draw.flips), *starts]

    def _send(self, rows: list[list[int]]) -> Tensor:
        """To the device, (B, numbers) int64, in one copy that a GPU is not waited for."""
        table = torch.tensor(rows)
        return table.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else table

    def _crops(self, start: Tensor, stride: Tensor, side: Tensor) -> Tensor:
        """(B, largest, largest, 3) uint8: the crops; beyond a crop's side its last row and column are repeated."""
        inside = torch.minimum(self.reach, side[:, None] - 1)
        return self.pixels[start[:, None, None] + inside[:, :, None] * stride[:, None, None] + inside[:, None, :]]

    def _most_detailed(self, starts: Tensor, stride: Tensor, side: Tensor) -> Tensor:
        """Of each pair's candidates (B, N) the start (B,) of the one with the most detail, as `pairs.detail` counts it."""
        count = starts.shape[1]
        if count == 1:
            return starts[:, 0]
        sides = side.repeat_interleave(count, output_size=starts.numel())
        strides = stride.repeat_interleave(count, output_size=starts.numel())
        green = self._crops(starts.flatten(), strides, sides)[..., 1].short()
        counted = self.reach[::2] < sides[:, None]  # every other line, inside the crop
        across = green[:, ::2].diff(dim=2).abs().sum(2) * counted
        down = green[:, :, ::2].diff(dim=1).abs().sum(1) * counted
        steps = (across + down).sum(1).view(-1, count)  # of one pair's candidates all have as many
        return starts.gather(1, steps.argmax(1, keepdim=True)).squeeze(1)

    def _reduce(self, crops: Tensor, side: Tensor) -> Tensor:
        """(B, 3, patch, patch) uint8: crops reduced as Pillow does it, across and then down, 8-bit values between."""
        kernel = self.kernels[side - self.smallest]  # zero beyond the crop's side
        across = to_levels(torch.einsum("bow,bhwc->bhoc", kernel, crops.float()))
        return to_levels(torch.einsum("bph,bhoc->bcpo", kernel, across)).to(torch.uint8)

    def _sample(self, key: Tensor, side: Tensor) -> Tensor:
        """(B, Q) flat indices into each HR patch, without replacement: those of the largest hashes under the pair's key."""
        pixel = torch.arange(self.largest**2, device=self.device)
        hashes = scramble(scramble(pixel) ^ key[:, None])
        hashes = torch.where(pixel < (side * side)[:, None], hashes, -1)
        return hashes.topk(self.pairs.queries, sorted=False).indices


def key_of(seed: int, number: int) -> int:
    """32 bits that two pairs hardly ever share."""
    return scramble(scramble(number & MASK) ^ (seed * 0x9E3779B1 + (number >> 32)) & MASK)


def scramble(values: Integers) -> Integers:
    """A hash that maps the integers below 2^32 onto themselves, one to one (MurmurHash3's finaliser; Appleby)."""
    values = ((values ^ (values >> 16)) * 0x85EBCA6B) & MASK
    values = ((values ^ (values >> 13)) * 0xC2B2AE35) & MASK
    return values ^ (values >> 16)


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
    """`pairs.turn` for (B, C, N, N), each by its own (up-down, left-right, transpose), (B, 3) bool."""
    up_down, left_right, transpose = flips.view(-1, 3, 1, 1, 1).unbind(1)
    images = torch.where(up_down, images.flip(2), images)
    images = torch.where(left_right, images.flip(3), images)
    return torch.where(transpose, images.transpose(2, 3), images)


def unturn(y: Tensor, x: Tensor, side: Tensor, flips: Tensor) -> tuple[Tensor, Tensor]:
    """Where the pixels (y, x) of turned patches of `side` lie in the patches as they were."""
    up_down, left_right, transpose = flips.unsqueeze(2).unbind(1)
    y, x = torch.where(transpose, x, y), torch.where(transpose, y, x)
    return torch.where(up_down, side - 1 - y, y), torch.where(left_right, side - 1 - x, x)

"""Training data that lives on the accelerator: crops, reduction and sampling happen there, so that small networks do not wait.

The pairs are those of `pairs.Pairs`: same pictures, scales, crops and flips by the same numbers. Reduction is Pillow's
bicubic to within one level. Which pixels are asked for is drawn on the device by a hash, so it differs from the CPU's draw.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from liif_cli.images.resize import cubic
from liif_cli.training.device_degradations import photo
from liif_cli.training.pairs import GOLDEN, MASK, Batch, Pairs, Patches, locate, scramble

Floats = NDArray[np.float64]


class DevicePairs:
    """`Pairs` served from the device's memory, clean or (`photo`) damaged as the web damages photographs."""

    def __init__(self, pairs: Pairs, device: torch.device, photo: bool = False) -> None:
        self.pairs, self.device, self.photo = pairs, device, photo
        self.largest = pairs.largest
        pictures = [pairs.pictures[i] for i in range(len(pairs.pictures))]
        self.shapes = np.array([picture.shape[:2] for picture in pictures])
        self.offsets = np.cumsum([0, *self.shapes.prod(1)])
        self.pixels = torch.empty(int(self.offsets[-1]), 3, dtype=torch.uint8, device=device)
        searched = len(self.pixels) if pairs.candidates > 1 else 0
        self.detail = torch.empty(2, searched, dtype=torch.int32, device=device)
        for picture, start in zip(pictures, self.offsets.tolist(), strict=False):
            flat = torch.from_numpy(picture.reshape(-1, 3)).to(device)
            self.pixels[start : start + len(flat)] = flat
            if searched:
                self.detail[:, start : start + len(flat)] = summed_detail(flat.view(picture.shape)[..., 1]).flatten(1)
        smallest = pairs.patch if pairs.identity else round(pairs.patch * pairs.scale[0])
        self.smallest = smallest
        sides = range(smallest, self.largest + 1)
        kinds = FILTERS if photo else {"bicubic": FILTERS["bicubic"]}
        self.kernels = torch.stack(
            [torch.stack([reduction(n, pairs.patch, self.largest, *kind) for n in sides]) for kind in kinds.values()]
        ).to(device)
        self.reach = torch.arange(self.largest, device=device)

    def rows(self, numbers: range) -> Tensor:
        """What chance decides about these pairs as a table, (B, columns) int64, on the CPU: side, length of the picture's rows,
        key of the sampling, flips, start of the picture in the flat pixels, and top and left of each candidate."""
        draws = self.pairs.draws(numbers)
        shape = self.shapes[draws.picture]
        corners = (draws.corners * (shape[:, None] - draws.side[:, None, None] + 1)).astype(np.int64)
        keys = [key_of(self.pairs.seed, number) for number in numbers]
        starts = self.offsets[draws.picture]
        table = np.column_stack([draws.side, shape[:, 1], keys, draws.flips, starts, corners.reshape(len(numbers), -1)])
        return torch.from_numpy(table)

    def batch(self, numbers: range) -> Batch | Patches:
        """The pairs of these numbers; see `Batch` and `Patches`. All tensors are on the device; nothing here waits for it."""
        return self.made(to_device(self.rows(numbers), self.device))

    def made(self, drawn: Tensor) -> Batch | Patches:
        """The pairs that `rows` describes, of such a table on the device."""
        side, stride, key, flips, picture = drawn[:, 0], drawn[:, 1], drawn[:, 2], drawn[:, 3:6].bool(), drawn[:, 6]
        top, left = self._most_detailed(drawn[:, 7:].reshape(len(drawn), -1, 2), picture, stride, side).unbind(1)
        start = picture + top * stride + left
        lr = turn(self._low(self._crops(start, stride, side), side, key), flips).to(torch.uint8)
        if not self.pairs.queries:
            return Patches(lr, self._crops(start, stride, side, flips), side)
        index = self._sample(key, side)
        position, cell = locate(index, side, self.pairs.patch)
        y, x = unturn(index // side[:, None], index % side[:, None], side[:, None], flips)
        rgb = self.pixels[start[:, None] + y * stride[:, None] + x]
        return Batch(lr, rgb, position, cell)

    def _crops(self, start: Tensor, stride: Tensor, side: Tensor, flips: Tensor | None = None) -> Tensor:
        """(B, largest, largest, 3) uint8: the crops, turned as told; beyond a crop's side its edges are repeated."""
        inside = torch.minimum(self.reach, side[:, None] - 1)
        y, x = inside * stride[:, None], inside
        if flips is not None:
            other = side[:, None] - 1 - inside
            y = torch.where(flips[:, :1], other, inside) * stride[:, None]
            x = torch.where(flips[:, 1:2], other, inside)
            y, x = torch.where(flips[:, 2:], x, y), torch.where(flips[:, 2:], y, x)
        return self.pixels[start[:, None, None] + y[:, :, None] + x[:, None, :]]

    def _most_detailed(self, corners: Tensor, picture: Tensor, stride: Tensor, side: Tensor) -> Tensor:
        """Of each pair's candidates (B, N, 2) the one (B, 2) with the most detail, as `datasets.detail` counts it."""
        if corners.shape[1] == 1:
            return corners[:, 0]
        top, left = corners.unbind(-1)
        steps = side[:, None] - 1
        even = steps - steps % 2  # from the crop's first line to the last of every other line
        across = self._summed(0, picture, stride, (top - 2, top + even), (left - 1, left + steps - 1))
        down = self._summed(1, picture, stride, (top - 1, top + steps - 1), (left - 2, left + even))
        best = (across + down).argmax(1)  # of one pair's candidates all have as many steps
        return corners[torch.arange(len(best), device=best.device), best]

    def _summed(
        self, which: int, picture: Tensor, stride: Tensor, rows: tuple[Tensor, Tensor], columns: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Sums (B, N) of steps in the rectangles beyond the first and up to the last of these rows and columns (B, N)."""
        total = torch.zeros_like(rows[0])
        for y, x, sign in ((1, 1, 1), (0, 1, -1), (1, 0, -1), (0, 0, 1)):
            row, column = rows[y], columns[x]
            at = picture[:, None] + row.clamp(min=0) * stride[:, None] + column.clamp(min=0)
            total = total + sign * torch.where((row >= 0) & (column >= 0), self.detail[which][at].long(), 0)
        return total

    def _low(self, crops: Tensor, side: Tensor, key: Tensor) -> Tensor:
        """(B, 3, patch, patch) float32 of whole levels: LR, as `photo` says."""
        clean = self._reduce(crops, side, torch.zeros_like(side))
        if not self.photo:
            return clean
        kind = torch.where(key % 2 == 0, 0, (key // 2) % len(self.kernels))  # bicubic is the most frequent one
        return photo(self._reduce(crops, side, kind), clean, key)

    def _reduce(self, crops: Tensor, side: Tensor, kind: Tensor) -> Tensor:
        """Crops reduced as Pillow does it by a kind of filter, across and then down, 8-bit values between; whole levels."""
        kernel = self.kernels[kind, side - self.smallest]  # zero beyond the crop's side
        across = to_levels(torch.einsum("bow,bhwc->bhoc", kernel, crops.float()))
        return to_levels(torch.einsum("bph,bhoc->bcpo", kernel, across))

    def _sample(self, key: Tensor, side: Tensor) -> Tensor:
        """(B, Q) flat indices into each HR patch, without replacement: those of the largest hashes under the pair's key."""
        pixel = torch.arange(self.largest**2, device=self.device)
        hashes = scramble(scramble(pixel) ^ key[:, None])
        hashes = torch.where(pixel < (side * side)[:, None], hashes, -1)
        return hashes.topk(self.pairs.queries, sorted=False).indices


def to_device(table: Tensor, device: torch.device) -> Tensor:
    """A copy on the device, for which nothing is waited."""
    return table.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else table


def key_of(seed: int, number: int) -> int:
    """32 bits that two pairs hardly ever share."""
    return scramble(scramble(number & MASK) ^ (seed * GOLDEN + (number >> 32)) & MASK)


def summed_detail(green: Tensor) -> Tensor:
    """(H, W) uint8 -> (2, H, W) int32: sums of the steps to the next pixel, across and down, over all pixels above and to the
    left; only lines of the same parity count, every other one."""
    values = green.int()
    tables = []
    for plane in (values, values.T):
        steps = torch.zeros_like(plane)
        steps[:, :-1] = plane.diff(dim=1).abs()
        sums = steps.cumsum(1, dtype=torch.int32)
        for first in (0, 1):
            sums[first::2] = sums[first::2].cumsum(0, dtype=torch.int32)
        tables.append(sums)
    return torch.stack([tables[0], tables[1].T])


def bytes_needed(pairs: Pairs) -> int:
    """Bytes of the pictures' pixels on a device."""
    return sum(math.prod(pairs.pictures[i].shape) for i in range(len(pairs.pictures)))


def reduction(
    source: int, target: int, columns: int, kernel: Callable[[Floats], Floats] | None = None, support: float = 2.0
) -> Tensor:
    """Pillow's antialiased filter from `source` to `target` pixels as a matrix (target, columns), float32.

    kernel: reaches `support`; default bicubic, a = -0.5. Columns from `source` on are zero.
    """
    scale = source / target
    centre = (np.arange(target) + 0.5) * scale
    reach = max(scale, 1.0)
    first = np.maximum(np.floor(centre - support * reach + 0.5), 0)
    last = np.minimum(np.floor(centre + support * reach + 0.5), source)
    taps = np.arange(columns)
    weights = (kernel or cubic)((taps - centre[:, None] + 0.5) / reach)
    weights[(taps < first[:, None]) | (taps >= last[:, None])] = 0
    return torch.from_numpy((weights / weights.sum(1, keepdims=True)).astype(np.float32))


def _box(x: Floats) -> Floats:
    return ((x > -0.5) & (x <= 0.5)).astype(np.float64)


def _triangle(x: Floats) -> Floats:
    return np.where(np.abs(x) < 1, 1 - np.abs(x), 0.0)


def _lanczos(x: Floats) -> Floats:
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)


FILTERS: dict[str, tuple[Callable[[Floats], Floats], float]] = {
    "bicubic": (cubic, 2.0),
    "box": (_box, 0.5),
    "bilinear": (_triangle, 1.0),
    "lanczos": (_lanczos, 3.0),
}
"""Pillow's filters: the kernel, and how far it reaches."""


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

"""Training data in GPU memory: cropping, downsampling and sampling run there, so that small networks need not wait for data.

The pairs are those of `pairs.Pairs`: the same numbers give the same images, scales, crops and flips. LR is within one level
of Pillow's bicubic. A hash on the device chooses the queried pixels, so these differ from the CPU's.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from liif_cli.images.resize import cubic
from liif_cli.training.degradations import BICUBIC
from liif_cli.training.device_degradations import photo
from liif_cli.training.pairs import GOLDEN, MASK, Batch, Pairs, Patches, locate, scramble

Floats = NDArray[np.float64]


class DevicePairs:
    """`Pairs` served from the device's memory, clean or, with `photo`, degraded like photographs on the web."""

    def __init__(self, pairs: Pairs, device: torch.device, photo: bool = False) -> None:
        self.pairs, self.device, self.photo = pairs, device, photo
        self.largest = pairs.largest
        images = [pairs.images[i] for i in range(len(pairs.images))]
        self.shapes = np.array([image.shape[:2] for image in images])
        self.offsets = np.cumsum([0, *self.shapes.prod(1)])
        self.pixels = torch.empty(int(self.offsets[-1]), 3, dtype=torch.uint8, device=device)
        searched = len(self.pixels) if pairs.candidates > 1 else 0
        self.detail = torch.empty(2, searched, dtype=torch.int32, device=device)
        for image, start in zip(images, self.offsets.tolist(), strict=False):
            flat = torch.from_numpy(image.reshape(-1, 3)).to(device)
            self.pixels[start : start + len(flat)] = flat
            if searched:
                self.detail[:, start : start + len(flat)] = summed_detail(flat.view(image.shape)[..., 1]).flatten(1)
        smallest = pairs.patch if pairs.identity else round(pairs.patch * pairs.scale[0])
        self.smallest = smallest
        sides = range(smallest, self.largest + 1)
        kinds = FILTERS if photo else {"bicubic": FILTERS["bicubic"]}
        self.kernels = torch.stack(
            [torch.stack([reduction(n, pairs.patch, self.largest, *kind) for n in sides]) for kind in kinds.values()]
        ).to(device)
        self.reach = torch.arange(self.largest, device=device)

    def rows(self, numbers: range) -> Tensor:
        """Random choices for these pairs as a table, (B, columns) int64, on the CPU.

        The columns are the side, the image's width, the key for sampling, the flips, the image's start in the flat pixels, and
        top and left of each candidate.
        """
        draws = self.pairs.draws(numbers)
        shape = self.shapes[draws.image]
        corners = (draws.corners * (shape[:, None] - draws.side[:, None, None] + 1)).astype(np.int64)
        keys = [key_of(self.pairs.seed, number) for number in numbers]
        starts = self.offsets[draws.image]
        table = np.column_stack([draws.side, shape[:, 1], keys, draws.flips, starts, corners.reshape(len(numbers), -1)])
        return torch.from_numpy(table)

    def batch(self, numbers: range) -> Batch | Patches:
        """The pairs with these numbers, on the device; see `Batch` and `Patches`. Does not wait for the device."""
        return self.made(to_device(self.rows(numbers), self.device))

    def made(self, drawn: Tensor) -> Batch | Patches:
        """The pairs described by a table of `rows`, which is on the device."""
        side, stride, key, flips, image = drawn[:, 0], drawn[:, 1], drawn[:, 2], drawn[:, 3:6].bool(), drawn[:, 6]
        top, left = self._most_detailed(drawn[:, 7:].reshape(len(drawn), -1, 2), image, stride, side).unbind(1)
        start = image + top * stride + left
        lr = turn(self._low(self._crops(start, stride, side), side, key), flips).to(torch.uint8)
        if not self.pairs.queries:
            return Patches(lr, self._crops(start, stride, side, flips), side)
        index = self._sample(key, side)
        position, cell = locate(index, side, self.pairs.patch)
        y, x = unturn(index // side[:, None], index % side[:, None], side[:, None], flips)
        rgb = self.pixels[start[:, None] + y * stride[:, None] + x]
        return Batch(lr, rgb, position, cell)

    def _crops(self, start: Tensor, stride: Tensor, side: Tensor, flips: Tensor | None = None) -> Tensor:
        """The crops, flipped by `flips`, (B, largest, largest, 3) uint8. Beyond a crop's side, its edges are repeated."""
        inside = torch.minimum(self.reach, side[:, None] - 1)
        y, x = inside * stride[:, None], inside
        if flips is not None:
            other = side[:, None] - 1 - inside
            y = torch.where(flips[:, :1], other, inside) * stride[:, None]
            x = torch.where(flips[:, 1:2], other, inside)
            y, x = torch.where(flips[:, 2:], x, y), torch.where(flips[:, 2:], y, x)
        return self.pixels[start[:, None, None] + y[:, :, None] + x[:, None, :]]

    def _most_detailed(self, corners: Tensor, image: Tensor, stride: Tensor, side: Tensor) -> Tensor:
        """Each pair's candidate (B, 2), out of (B, N, 2), with the most detail as measured by `pairs.detail`."""
        if corners.shape[1] == 1:
            return corners[:, 0]
        top, left = corners.unbind(-1)
        steps = side[:, None] - 1
        even = steps - steps % 2  # from the crop's first line to the last of every other line
        across = self._summed(0, image, stride, (top - 2, top + even), (left - 1, left + steps - 1))
        down = self._summed(1, image, stride, (top - 1, top + steps - 1), (left - 2, left + even))
        best = (across + down).argmax(1)  # sums suffice: a pair's candidates all have the same number of steps
        return corners[torch.arange(len(best), device=best.device), best]

    def _summed(
        self, which: int, image: Tensor, stride: Tensor, rows: tuple[Tensor, Tensor], columns: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Sums (B, N) of steps in rectangles: after the first row and column, up to the last ones; each (B, N)."""
        total = torch.zeros_like(rows[0])
        for y, x, sign in ((1, 1, 1), (0, 1, -1), (1, 0, -1), (0, 0, 1)):
            row, column = rows[y], columns[x]
            at = image[:, None] + row.clamp(min=0) * stride[:, None] + column.clamp(min=0)
            total = total + sign * torch.where((row >= 0) & (column >= 0), self.detail[which][at].long(), 0)
        return total

    def _low(self, crops: Tensor, side: Tensor, key: Tensor) -> Tensor:
        """LR, (B, 3, patch, patch) float32 of whole levels, clean or degraded."""
        clean = self._reduce(crops, side, torch.zeros_like(side))
        if not self.photo:
            return clean
        usual = key % 1000 < 1000 * BICUBIC
        kind = torch.where(usual, 0, (key // 1000) % len(self.kernels))
        return photo(self._reduce(crops, side, kind), clean, key)

    def _reduce(self, crops: Tensor, side: Tensor, kind: Tensor) -> Tensor:
        """Crops downsampled by a kind of filter as Pillow does: rows first, then columns, each rounded to whole levels."""
        kernel = self.kernels[kind, side - self.smallest]  # zero beyond the crop's side
        across = to_levels(torch.einsum("bow,bhwc->bhoc", kernel, crops.float()))
        return to_levels(torch.einsum("bph,bhoc->bcpo", kernel, across))

    def _sample(self, key: Tensor, side: Tensor) -> Tensor:
        """Flat indices (B, Q) into each HR patch, without replacement: the pixels with the largest hashes by the pair's key."""
        pixel = torch.arange(self.largest**2, device=self.device)
        hashes = scramble(scramble(pixel) ^ key[:, None])
        hashes = torch.where(pixel < (side * side)[:, None], hashes, -1)
        return hashes.topk(self.pairs.queries, sorted=False).indices


def to_device(table: Tensor, device: torch.device) -> Tensor:
    """A copy on the device, without waiting for it."""
    return table.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else table


def key_of(seed: int, number: int) -> int:
    """The 32-bit key of a pair; two pairs rarely share one."""
    return scramble(scramble(number & MASK) ^ (seed * GOLDEN + (number >> 32)) & MASK)


def summed_detail(green: Tensor) -> Tensor:
    """Summed-area tables of the steps to the next pixel, across and down: (H, W) uint8 -> (2, H, W) int32.

    Each sum includes only every other line: those with the parity of its own line.
    """
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
    """Bytes that the images' pixels take on a device."""
    return sum(math.prod(pairs.images[i].shape) for i in range(len(pairs.images)))


def reduction(
    source: int, target: int, columns: int, kernel: Callable[[Floats], Floats] | None = None, support: float = 2.0
) -> Tensor:
    """Pillow's antialiased filter from `source` to `target` pixels as a matrix (target, columns), float32.

    kernel: default bicubic, a = -0.5. support: the kernel's radius. Columns from `source` on are zero.
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
"""Pillow's filters: the kernel and its radius."""


def to_levels(values: Tensor) -> Tensor:
    """Values rounded half up and clamped to 0..255, as at the end of each of Pillow's passes; float32."""
    return (values + 0.5).floor_().clamp_(0, 255)


def turn(images: Tensor, flips: Tensor) -> Tensor:
    """`pairs.turn` for images (B, C, N, N), each with its own flips (up-down, left-right, transpose), (B, 3) bool."""
    up_down, left_right, transpose = flips.view(-1, 3, 1, 1, 1).unbind(1)
    images = torch.where(up_down, images.flip(2), images)
    images = torch.where(left_right, images.flip(3), images)
    return torch.where(transpose, images.transpose(2, 3), images)


def unturn(y: Tensor, x: Tensor, side: Tensor, flips: Tensor) -> tuple[Tensor, Tensor]:
    """The positions, before `turn`, of the pixels (y, x) of turned patches with `side` pixels per side."""
    up_down, left_right, transpose = flips.unsqueeze(2).unbind(1)
    y, x = torch.where(transpose, x, y), torch.where(transpose, y, x)
    return torch.where(up_down, side - 1 - y, y), torch.where(left_right, side - 1 - x, x)

"""Training data: folders of images -> random-scale pairs -> batches of sampled queries (paper, section 5.1).

Pair number i of a run is a pure function of (seed, i). The epoch's permutation gives its image, a hash its scale, crop and
flips, a counter-based generator its queries and degradation. The data are therefore the same in a resumed run, and for any
number of workers and processes.
"""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from liif_cli.training.degradations import Degradation, clean
from liif_cli.training.sources import ImageFolders

Pixels = NDArray[np.uint8]
T = TypeVar("T")
Integers = TypeVar("Integers", int, Tensor, NDArray[np.int64])
ORDER, PAIR = 0, 1  # streams of random numbers
MASK = 0xFFFFFFFF
GOLDEN = 0x9E3779B1  # 2^32 over the golden ratio: its multiples are spread evenly


@dataclass(frozen=True)
class Batch:
    """Pairs of one step.

    lr: (B, 3, L, L) uint8. rgb: (B, Q, 3) uint8, the queried HR pixels. position: (B, Q, 2) float64, their positions (y, x) in
    LR pixels. cell: (B, Q, 2) float64, their size in LR pixels.
    """

    lr: Tensor
    rgb: Tensor
    position: Tensor
    cell: Tensor

    def tensors(self) -> tuple[Tensor, ...]:
        """All fields, in order."""
        return self.lr, self.rgb, self.position, self.cell

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device. Positions become float32 on MPS, which lacks float64; that is enough for patches."""
        if device.type == "mps":
            return Batch(*(t.to(device) for t in (self.lr, self.rgb, self.position.float(), self.cell.float())))
        return Batch(*(t.to(device, non_blocking=True) for t in (self.lr, self.rgb, self.position, self.cell)))


@dataclass(frozen=True)
class Patches:
    """Pairs of one step with all HR pixels, for decoders that render whole patches cheaply.

    lr: (B, 3, L, L) uint8. hr: (B, N, N, 3) uint8, where N is the largest side; pixels beyond a pair's side are meaningless.
    side: (B,) int64, HR pixels per side.
    """

    lr: Tensor
    hr: Tensor
    side: Tensor

    def tensors(self) -> tuple[Tensor, ...]:
        """All fields, in order."""
        return self.lr, self.hr, self.side

    def to(self, device: torch.device) -> "Patches":
        """The same pairs on a device."""
        return Patches(*(t.to(device, non_blocking=True) for t in self.tensors()))


@dataclass(frozen=True)
class Draw:
    """The random choices for one pair: the image's index, the HR crop's side, its candidate corners and its flips.

    corners: (y, x) in [0, 1) of each candidate. The crop with the most detail is taken; see `crop` and `detail`.
    """

    image: int
    side: int
    corners: tuple[tuple[float, float], ...]
    flips: tuple[bool, bool, bool]


@dataclass(frozen=True)
class Draws:
    """The random choices for n pairs. image, side: (n,) int64. corners: (n, candidates, 2). flips: (n, 3) bool."""

    image: NDArray[np.int64]
    side: NDArray[np.int64]
    corners: NDArray[np.float64]
    flips: NDArray[np.bool_]

    def __getitem__(self, index: int) -> Draw:
        corners = tuple((float(y), float(x)) for y, x in self.corners[index])
        a, b, c = map(bool, self.flips[index])
        return Draw(int(self.image[index]), int(self.side[index]), corners, (a, b, c))


class Pairs:
    """The endless sequence of a run's pairs, addressed by number.

    crops: whether pairs are crops, so that `DevicePairs` can make them too. The arguments are those of `recipe.DataConfig`.
    """

    crops = True

    def __init__(
        self,
        images: ImageFolders,
        patch: int,
        scale: tuple[float, float],
        queries: int,
        augment: bool = True,
        degradation: Degradation = clean,
        seed: int = 0,
        identity: float = 0.0,
        candidates: int = 1,
    ) -> None:
        self.images = images
        self.patch, self.scale, self.queries, self.augment, self.seed = patch, scale, queries, augment, seed
        self.degradation = degradation
        self.identity, self.candidates = identity, candidates
        self._orders: dict[int, NDArray[np.int64]] = {}

    def order(self, epoch: int) -> NDArray[np.int64]:
        """The order of the images in an epoch: a permutation of their indices."""
        order = self._orders.get(epoch)
        if order is None:
            order = np.random.default_rng((self.seed, ORDER, epoch)).permutation(len(self.images))
            self._orders = {k: v for k, v in self._orders.items() if k >= epoch - 1} | {epoch: order}
        return order

    def draw(self, number: int) -> tuple[Draw, np.random.Generator]:
        """Random choices for pair `number`, and the generator for its queries and degradation."""
        return self.draws([number])[0], np.random.default_rng((self.seed, PAIR, number))

    def draws(self, numbers: Sequence[int]) -> Draws:
        """Random choices for these pairs. A pair's choices do not depend on the other pairs."""
        number = np.asarray(numbers, np.int64)
        epoch, place = np.divmod(number, len(self.images))
        image = np.array([self.order(int(e))[p] for e, p in zip(epoch, place, strict=True)])
        chance = uniform(self.seed, number, 5 + 2 * self.candidates)
        low, high = self.scale
        side = np.rint(self.patch * (low + (high - low) * chance[:, 0])).astype(np.int64)
        side[chance[:, 1] < self.identity] = self.patch
        flips = (chance[:, 2:5] < 0.5) & self.augment
        return Draws(image, side, chance[:, 5:].reshape(len(number), self.candidates, 2), flips)

    def pair(self, number: int) -> tuple[Pixels, Pixels, NDArray[np.int64], int]:
        """LR (L, L, 3), queried HR pixels (Q, 3), their flat indices in the HR patch (Q,), and the HR patch's side."""
        draw, rng = self.draw(number)
        hr = most_detailed(self.images[draw.image], draw)
        lr = turn(self.degradation(hr, self.patch, rng), draw.flips)
        index = rng.choice(draw.side**2, self.queries, replace=False, shuffle=False)
        return lr, turn(hr, draw.flips).reshape(-1, 3)[index], index, draw.side

    @property
    def largest(self) -> int:
        """HR pixels per side of the largest patch."""
        return round(self.patch * self.scale[1])

    def whole(self, number: int) -> tuple[Pixels, Pixels, int]:
        """LR (L, L, 3), the HR patch in the top-left corner of (N, N, 3), and its side."""
        draw, rng = self.draw(number)
        hr = most_detailed(self.images[draw.image], draw)
        canvas = np.zeros((self.largest, self.largest, 3), np.uint8)
        canvas[: draw.side, : draw.side] = turn(hr, draw.flips)
        return turn(self.degradation(hr, self.patch, rng), draw.flips), canvas, draw.side

    def batch(self, numbers: Sequence[int]) -> Batch | Patches:
        """The pairs with these numbers as one batch; whole patches if `queries` is 0."""
        if not self.queries:
            small, large, sides = zip(*map(self.whole, numbers), strict=True)
            channels_first = torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2)
            return Patches(channels_first, torch.from_numpy(np.stack(large)), torch.tensor(sides))
        lr, rgb, index, side = zip(*map(self.pair, numbers), strict=True)
        position, cell = locate(torch.from_numpy(np.stack(index)), torch.tensor(side), self.patch)
        lr_tensor = torch.from_numpy(np.stack(lr)).permute(0, 3, 1, 2)  # stays channels-last in memory
        return Batch(lr_tensor, torch.from_numpy(np.stack(rgb)), position, cell)


def uniform(seed: int, numbers: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Uniform values (len(numbers), count) in [0, 1) of 32 bits: a pure function of seed, number and column."""
    key = scramble(scramble(numbers & MASK) ^ (seed * GOLDEN + (numbers >> 32)) & MASK)
    columns = scramble(np.arange(1, count + 1) * GOLDEN & MASK)
    return scramble(scramble(key[:, None] ^ columns)) / 2.0**32


def scramble(values: Integers) -> Integers:
    """A hash: a permutation of the integers below 2^32 (the finaliser of MurmurHash3, Appleby)."""
    values = ((values ^ (values >> 16)) * 0x85EBCA6B) & MASK
    values = ((values ^ (values >> 13)) * 0xC2B2AE35) & MASK
    return values ^ (values >> 16)


def locate(index: Tensor, side: Tensor, patch: int) -> tuple[Tensor, Tensor]:
    """Flat indices (B, Q) into square HR patches of `side` (B,) -> positions and cells in LR pixels, (B, Q, 2) float64.

    Pixel I of N over n LR pixels is at (2I + 1) n / 2N - 1/2.
    """
    side = side.unsqueeze(1)
    pixel = torch.stack([index // side, index % side], -1)
    position = ((2 * pixel + 1) * patch).double() / (2 * side).unsqueeze(-1) - 0.5
    cell = (patch / side.double()).unsqueeze(-1).expand_as(position)
    return position, cell


def crop(image: Pixels, side: int, corner: tuple[float, float]) -> Pixels:
    """The `side` x `side` crop at `corner`: the (y, x) fraction, in [0, 1), of the range of possible top-left pixels."""
    top, left = (int(c * (n - side + 1)) for c, n in zip(corner, image.shape[:2], strict=True))
    return image[top : top + side, left : left + side]


def most_detailed(image: Pixels, draw: Draw) -> Pixels:
    """The candidate crop with the most detail; the first one if several are equal."""
    crops = [crop(image, draw.side, corner) for corner in draw.corners]
    return max(crops, key=detail) if len(crops) > 1 else crops[0]


def detail(pixels: Pixels) -> float:
    """A measure of detail in (H, W, 3): the mean absolute difference of neighbouring green values, in every other line."""
    green = pixels[..., 1].astype(np.int16)
    return float(np.abs(np.diff(green[::2], axis=1)).mean() + np.abs(np.diff(green[:, ::2], axis=0)).mean())


def turn(pixels: Pixels, flips: tuple[bool, bool, bool]) -> Pixels:
    """Flip (H, W, 3) up-down and left-right, and transpose it, each if the corresponding one of `flips` is set."""
    if flips[0]:
        pixels = pixels[::-1]
    if flips[1]:
        pixels = pixels[:, ::-1]
    return pixels.transpose(1, 0, 2) if flips[2] else pixels


def numbers_of(step: int, batch: int, rank: int = 0, world: int = 1) -> range:
    """Numbers of the pairs that process `rank` of `world` takes in a step. Together the processes take `batch` pairs."""
    share = batch // world
    first = step * batch + rank * share
    return range(first, first + share)


def batches(make: Callable[[int], T], first: int, last: int, workers: int) -> Generator[T]:
    """`make(step)` for first <= step < last, in order, prepared ahead by `workers` threads (0: in the caller's thread)."""
    if workers < 1:
        yield from map(make, range(first, last))
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="batches") as pool:
        ahead: deque[Future[T]] = deque(
            pool.submit(make, step) for step in range(first, min(first + 2 * workers, last))
        )
        try:
            for step in range(first, last):
                batch = ahead.popleft().result()
                if (coming := step + 2 * workers) < last:
                    ahead.append(pool.submit(make, coming))
                yield batch
        finally:
            for future in ahead:
                future.cancel()

"""Training data: folders of pictures -> random-scale pairs -> batches of sampled queries (paper, section 5.1).

Pair number i of a run is a pure function of (seed, i): its picture by the epoch's permutation, and its scale, crop, flips and
queries by a counter-based generator. So a resumed run, any number of workers and any number of processes see the same data.
"""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from liif_cli.training.degradations import Degradation, clean
from liif_cli.training.sources import Pictures

Pixels = NDArray[np.uint8]
ORDER, PAIR = 0, 1  # streams of random numbers


@dataclass(frozen=True)
class Batch:
    """Pairs of one step.

    lr: (B, 3, L, L) uint8. rgb: (B, Q, 3) uint8, the HR pixels asked for. position: (B, Q, 2) float64, where they lie, (y, x)
    in LR pixels. cell: (B, Q, 2) float64, their size in LR pixels.
    """

    lr: Tensor
    rgb: Tensor
    position: Tensor
    cell: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device; positions are float32 where it has no float64 (Apple's), which is enough for patches."""
        if device.type == "mps":
            return Batch(*(t.to(device) for t in (self.lr, self.rgb, self.position.float(), self.cell.float())))
        return Batch(*(t.to(device, non_blocking=True) for t in (self.lr, self.rgb, self.position, self.cell)))


@dataclass(frozen=True)
class Draw:
    """What chance decides about one pair: the picture, the HR crop's side, where it may lie, and its symmetry.

    corners: of the candidates, (y, x) in [0, 1); the one with the most detail is taken, see `crop` and `detail`.
    """

    picture: int
    side: int
    corners: tuple[tuple[float, float], ...]
    flips: tuple[bool, bool, bool]


class Pairs:
    """The endless sequence of pairs of a run, addressed by their number."""

    def __init__(
        self,
        pictures: Pictures,
        patch: int,
        scale: tuple[float, float],
        queries: int,
        augment: bool = True,
        degradation: Degradation = clean,
        seed: int = 0,
        identity: float = 0.0,
        candidates: int = 1,
    ) -> None:
        self.pictures = pictures
        self.patch, self.scale, self.queries, self.augment, self.seed = patch, scale, queries, augment, seed
        self.degradation = degradation
        self.identity, self.candidates = identity, candidates
        self._orders: dict[int, NDArray[np.int64]] = {}

    def order(self, epoch: int) -> NDArray[np.int64]:
        """The permutation of the pictures in an epoch."""
        order = self._orders.get(epoch)
        if order is None:
            order = np.random.default_rng((self.seed, ORDER, epoch)).permutation(len(self.pictures))
            self._orders = {k: v for k, v in self._orders.items() if k >= epoch - 1} | {epoch: order}
        return order

    def draw(self, number: int) -> tuple[Draw, np.random.Generator]:
        """Chance's decisions about pair `number`, and the generator in the state after them."""
        rng = np.random.default_rng((self.seed, PAIR, number))
        epoch, place = divmod(number, len(self.pictures))
        low, high = self.scale
        side = round(self.patch * rng.uniform(low, high))
        y, x = rng.random(2).tolist()
        flips = tuple(bool(v) and self.augment for v in rng.integers(0, 2, 3))
        if self.identity and rng.random() < self.identity:
            side = self.patch
        others = rng.random((self.candidates - 1, 2)).tolist()
        corners = ((y, x), *((v[0], v[1]) for v in others))
        return Draw(int(self.order(epoch)[place]), side, corners, (flips[0], flips[1], flips[2])), rng

    def pair(self, number: int) -> tuple[Pixels, Pixels, NDArray[np.int64], int]:
        """LR (L, L, 3), HR pixels (Q, 3), their flat indices in the HR patch (Q,), and the HR patch's side."""
        draw, rng = self.draw(number)
        hr = most_detailed(self.pictures[draw.picture], draw)
        lr = turn(self.degradation(hr, self.patch, rng), draw.flips)
        index = rng.choice(draw.side**2, self.queries, replace=False, shuffle=False)
        return lr, turn(hr, draw.flips).reshape(-1, 3)[index], index, draw.side

    def batch(self, numbers: Sequence[int]) -> Batch:
        """The pairs of these numbers as one batch."""
        lr, rgb, index, side = zip(*map(self.pair, numbers), strict=True)
        position, cell = locate(torch.from_numpy(np.stack(index)), torch.tensor(side), self.patch)
        lr_tensor = torch.from_numpy(np.stack(lr)).permute(0, 3, 1, 2)  # stays channels-last in memory
        return Batch(lr_tensor, torch.from_numpy(np.stack(rgb)), position, cell)


def locate(index: Tensor, side: Tensor, patch: int) -> tuple[Tensor, Tensor]:
    """Flat indices (B, Q) of pixels of square HR patches of `side` (B,) -> their positions and cells in LR pixels.

    Both (B, Q, 2) float64: pixel I of N over n LR pixels lies at (2I + 1) n / 2N - 1/2.
    """
    side = side.unsqueeze(1)
    pixel = torch.stack([index // side, index % side], -1)
    position = ((2 * pixel + 1) * patch).double() / (2 * side).unsqueeze(-1) - 0.5
    cell = (patch / side.double()).unsqueeze(-1).expand_as(position)
    return position, cell


def crop(picture: Pixels, side: int, corner: tuple[float, float]) -> Pixels:
    """The `side` x `side` window of a picture whose top-left pixel is `corner` of the way through the possible ones."""
    top, left = (int(c * (n - side + 1)) for c, n in zip(corner, picture.shape[:2], strict=True))
    return picture[top : top + side, left : left + side]


def most_detailed(picture: Pixels, draw: Draw) -> Pixels:
    """Of the crops of a picture that were drawn, the one with the most detail; the first of equals."""
    crops = [crop(picture, draw.side, corner) for corner in draw.corners]
    return max(crops, key=detail) if len(crops) > 1 else crops[0]


def detail(pixels: Pixels) -> float:
    """How much there is to see in (H, W, 3): the mean absolute step of green between every other pixel's neighbours."""
    green = pixels[..., 1].astype(np.int16)
    return float(np.abs(np.diff(green[::2], axis=1)).mean() + np.abs(np.diff(green[:, ::2], axis=0)).mean())


def turn(pixels: Pixels, flips: tuple[bool, bool, bool]) -> Pixels:
    """Flip (H, W, 3) up-down, left-right, and transpose, as told."""
    if flips[0]:
        pixels = pixels[::-1]
    if flips[1]:
        pixels = pixels[:, ::-1]
    return pixels.transpose(1, 0, 2) if flips[2] else pixels


def numbers_of(step: int, batch: int, rank: int = 0, world: int = 1) -> range:
    """Numbers of the pairs that process `rank` of `world` takes at a step; together the processes take `batch` in order."""
    share = batch // world
    first = step * batch + rank * share
    return range(first, first + share)


def batches(make: Callable[[int], Batch], first: int, last: int, workers: int) -> Generator[Batch]:
    """`make(step)` for first <= step < last, in order, prepared ahead by `workers` threads (0: none)."""
    if workers < 1:
        yield from map(make, range(first, last))
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="batches") as pool:
        ahead: deque[Future[Batch]] = deque(
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

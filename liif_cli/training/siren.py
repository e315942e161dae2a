"""1-SIREN: one sinusoidal network fitted to one image, without an encoder (paper, figure 5; Sitzmann et al., "Implicit Neural
Representations with Periodic Activation Functions", 2020).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from liif_cli.coords import Axis, Grid, pixel_centres
from liif_cli.training.trainer import psnr

Floats = NDArray[np.float32]
FREQUENCY = 30.0  # the authors' omega_0, in every layer
PIXELS = 2**16  # per step, and per rendered block
PATIENCE, GAIN = 300, 0.1  # fitting stops if this number of iterations gains less than this PSNR, in dB


class Siren(nn.Module):
    """Coordinates (..., 2) in [-1, 1] -> colours (..., 3), nominally in [-1, 1]: sine layers, the last one linear."""

    def __init__(self, width: int = 256, hidden: int = 3) -> None:
        super().__init__()
        sizes = [2, *[width] * (hidden + 1), 3]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        for index, layer in enumerate(self.layers):
            bound = math.sqrt(6 / sizes[index]) / FREQUENCY if index else 1 / sizes[index]
            nn.init.uniform_(layer.weight, -bound, bound)  # type: ignore[arg-type]

    def forward(self, coord: Tensor) -> Tensor:
        """See the class."""
        *sines, last = self.layers
        for layer in sines:
            coord = (FREQUENCY * layer(coord)).sin()
        colours: Tensor = last(coord)
        return colours


@dataclass(frozen=True)
class Fitted:
    """A fitted network.

    size: (height, width) of the image. psnr: in dB, over all pixels of the image. reason: why fitting stopped: "psnr", "no
    gain" or "iterations".
    """

    network: Siren
    size: tuple[int, int]
    iterations: int
    psnr: float
    reason: str


def fit(
    pixels: NDArray[np.uint8],
    *,
    iterations: int = 3000,
    target: float = 45.0,
    seed: int = 0,
    device: torch.device | None = None,
    width: int = 256,
    progress: Callable[[int, float], None] = lambda iteration, psnr: None,
) -> Fitted:
    """Fit a network to an image (H, W, 3) uint8 with Adam at 1e-4. Each step uses all pixels, or 65,536 random ones if more.

    It stops when these pixels reach `target` dB, when the PSNR no longer improves, or after `iterations`. progress: called with
    the iteration and the PSNR of its pixels in dB.
    """
    torch.manual_seed(seed)
    place, size = device or torch.device("cpu"), pixels.shape[:2]
    network = Siren(width).to(place)
    optimiser = torch.optim.Adam(network.parameters(), 1e-4)
    coords = _grid(pixel_centres(size[0]), pixel_centres(size[1])).view(-1, 2).to(place)
    wanted = (torch.from_numpy(pixels).float() / 127.5 - 1).view(-1, 3).to(place)
    stop, step, found = Stop(iterations, target), 0, -math.inf
    while not (reason := stop.reason(step, found)):
        chosen = slice(None) if len(coords) <= PIXELS else torch.randint(len(coords), (PIXELS,), device=place)
        loss = F.mse_loss(network(coords[chosen]), wanted[chosen])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        step, found = step + 1, psnr(float(loss.detach()) / 4)
        progress(step, found)
    whole = Grid.whole((size[0], size[1]), (size[0], size[1]))
    fitted = Fitted(network, (size[0], size[1]), step, found, reason)
    error = np.square(np.concatenate(list(render(fitted, whole))) - pixels / np.float32(255)).mean()
    return Fitted(network, fitted.size, step, psnr(float(error)), reason)


class Stop:
    """Decides when to stop; see `fit`."""

    def __init__(self, iterations: int, target: float) -> None:
        self.iterations, self.target = iterations, target
        self.best, self.mark, self.since = -math.inf, -math.inf, 0

    def reason(self, iteration: int, found: float) -> str:
        """Why to stop after `iteration` steps, the last of which reached `found` dB; "" to continue."""
        self.best = max(self.best, found)
        if self.best >= self.mark + GAIN:
            self.mark, self.since = self.best, iteration
        if found >= self.target:
            return "psnr"
        if iteration >= self.iterations:
            return "iterations"
        return "no gain" if iteration - self.since >= PATIENCE else ""


@torch.no_grad()
def render(fitted: Fitted, grid: Grid) -> Iterator[Floats]:
    """The grid's pixels in blocks of rows, (h, w, 3) float32 in [0, 1]."""
    device = next(fitted.network.parameters()).device
    y, x = (_coords(axis) for axis in (grid.rows, grid.columns))
    step = max(1, PIXELS // len(x))
    for top in range(0, len(y), step):
        colours: Any = fitted.network(_grid(y[top : top + step], x).to(device))
        yield (colours / 2 + 0.5).clamp(0, 1).cpu().numpy()


def _coords(axis: Axis) -> NDArray[np.float64]:
    return (2 * axis.positions() + 1) / axis.size - 1


def _grid(y: NDArray[np.float64], x: NDArray[np.float64]) -> Tensor:
    """(len(y), len(x), 2) float32."""
    axes = (torch.from_numpy(axis) for axis in (y, x))
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).float()

"""The latent codes next to each pixel of an axis, with their weights: one axis's part of the local ensemble."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from liif_cli.coords import Axis


@dataclass(frozen=True)
class Neighbours:
    """One axis's part of the local ensemble, for each pixel of the axis.

    at: (n,) int64, the pixels' positions in the output. code: (neighbours, n), the latent codes' indices in the tile; two
    neighbours, or the nearest one without an ensemble. relative: (neighbours, n) float32, the relative coord of the pixel.
    share: (n,) float32, the second neighbour's weight.
    """

    at: Tensor
    code: NDArray[np.int64]
    relative: Tensor
    share: Tensor

    @classmethod
    def of(cls, axis: Axis, origin: int, ensemble: bool, device: torch.device) -> "Neighbours":
        """The neighbours of an axis's pixels in a tile that begins at code `origin`."""
        lower, fraction = axis.split()
        # Without an ensemble, the reference uses the nearest code, ties to the even one.
        upper = (fraction > 0.5) | ((fraction == 0.5) & (lower % 2 == 1))
        code = np.stack([lower, lower + 1] if ensemble else [lower + upper]).clip(0, axis.size - 1)
        relative = 2 * ((lower - code) + fraction)
        tensors = (torch.from_numpy(array.astype(np.float32)).to(device) for array in (relative, fraction))
        return cls(torch.arange(len(axis), device=device), code - origin, *tensors)

    def __len__(self) -> int:
        return int(self.code.shape[1])

    def part(self, start: int, stop: int) -> "Neighbours":
        """The neighbours of the pixels [start, stop)."""
        return self._of(slice(start, stop), len(self.code))

    def by_need(self) -> "list[Neighbours]":
        """The pixels that need both neighbours, and those that lie on a code, where the second one's weight is exactly 0 and
        the first one is enough: a third of them at ×3, all at ×1, none at an even scale."""
        lone = (self.share == 0).cpu().numpy()
        if len(self.code) == 1 or not lone.any():
            return [self]
        parts = [self._of(np.flatnonzero(mask), count) for mask, count in ((~lone, 2), (lone, 1))]
        return [part for part in parts if len(part)]

    def runs(self) -> Iterator[tuple[tuple[int, ...], slice]]:
        """Runs of pixels with the same neighbours: their codes, and the pixels' range."""
        changes = np.flatnonzero(np.any(self.code[:, 1:] != self.code[:, :-1], axis=0)) + 1
        for start, stop in pairwise([0, *changes.tolist(), len(self)]):
            yield tuple(self.code[:, start].tolist()), slice(start, stop)

    def _of(self, pixels: slice | NDArray[np.int64], neighbours: int) -> "Neighbours":
        code, relative = self.code[:neighbours, pixels], self.relative[:neighbours, pixels]
        return Neighbours(self.at[pixels], code, relative, self.share[pixels])

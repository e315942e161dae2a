"""The methods that a benchmark compares: bicubic, ×4 then Lanczos, and networks."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liif_cli.coords import Grid
from liif_cli.evaluation.protocols import Protocol
from liif_cli.images.levels import as_floats
from liif_cli.images.resize import resample
from liif_cli.machine.devices import choose_device
from liif_cli.machine.precision import Precision
from liif_cli.models.model import SRModel
from liif_cli.models.store import find
from liif_cli.rendering.renderer import render_image
from liif_cli.rendering.sizes import RAW, Cell

Bytes = NDArray[np.uint8]
Floats = NDArray[np.floating[Any]]

BASELINES = ("bicubic", "x4-lanczos")
"""The baselines of the usual tables."""


@dataclass(frozen=True)
class Method:
    """A name and a function: (h, w, 3) uint8, height, width -> (height, width, 3) float, nominally in [0, 1].

    supports: returns None for a grid that it can render, otherwise the reason why not.
    """

    name: str
    upscale: Callable[[Bytes, int, int], Floats]
    supports: Callable[[Grid], str | None] = lambda grid: None

    def takes(self, scale: float) -> bool:
        """Whether it supports `scale`, to three decimals."""
        return self.supports(Grid.whole((1000, 1000), (round(1000 * scale),) * 2)) is None


def bicubic(protocol: Protocol) -> Method:
    """The bicubic of the protocol, the baseline of every table."""
    return Method("bicubic", protocol.bicubic)


def lanczos() -> Method:
    """Pillow's Lanczos filter, the best of the usual filters; the same in every protocol."""
    return Method("lanczos", lambda low, height, width: as_floats(resample(low, height, width, "lanczos")))


def network(
    model: SRModel,
    name: str,
    *,
    cell: Cell = RAW,
    self_ensemble: bool = False,
    precision: Precision = "fp32",
) -> Method:
    """A model on the device of its parameters, for the scales that it supports. cell: the cell size passed to the decoder."""

    def upscale(low: Bytes, height: int, width: int) -> Floats:
        grid = cell.over(Grid.whole((low.shape[0], low.shape[1]), (height, width)))
        return render_image(model, low, grid, precision=precision, self_ensemble=self_ensemble)

    return Method(name, upscale, model.supports)


def lanczos_from(method: Method, factor: int = 4) -> Method:
    """×4 with `method`, then Pillow's Lanczos to the target size (antialiased if that is smaller)."""

    def upscale(low: Bytes, height: int, width: int) -> Floats:
        large = method.upscale(low, factor * low.shape[0], factor * low.shape[1]).astype(np.float32)
        return np.clip(resample(large, height, width, "lanczos"), 0.0, 1.0)

    return Method(f"x{factor}-lanczos", upscale)


def networks(
    references: Sequence[str],
    device: str = "auto",
    *,
    cell: Cell = RAW,
    self_ensemble: bool = False,
    precision: Precision = "fp32",
) -> list[Method]:
    """Load models by name, file or Hub reference. Models with the same name are listed by reference.

    Raises `ModelNotFound`, `CheckpointError`, `DeviceError`.
    """
    chosen = choose_device(device)
    checkpoints = [find(reference) for reference in dict.fromkeys(references)]
    seen = Counter(checkpoint.name for checkpoint in checkpoints)
    return [
        network(
            checkpoint.load(chosen),
            checkpoint.name if seen[checkpoint.name] == 1 else reference,
            cell=cell,
            self_ensemble=self_ensemble,
            precision=precision,
        )
        for reference, checkpoint in zip(dict.fromkeys(references), checkpoints, strict=True)
    ]


def compared(models: Sequence[Method], protocol: Protocol, baselines: Sequence[str] = BASELINES) -> list[Method]:
    """The methods of a table: the requested baselines, then the models.

    `bicubic` is the protocol's, `lanczos` Pillow's. `x4-lanczos` is ×4 with the first model that supports it, then Lanczos.
    """
    free = [model for model in models if model.takes(4)][:1]
    own = [bicubic(protocol), lanczos(), *map(lanczos_from, free)]
    return [*(method for method in own if method.name in baselines), *models]

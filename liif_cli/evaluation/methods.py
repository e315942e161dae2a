"""What a benchmark compares: ways to bring a low-resolution picture to a size."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liif_cli.coords import Grid
from liif_cli.evaluation.protocols import Protocol
from liif_cli.images.resize import resample
from liif_cli.machine.devices import Precision, choose_device
from liif_cli.models.model import SRModel
from liif_cli.models.store import find
from liif_cli.rendering.renderer import render_image
from liif_cli.rendering.sizes import with_cell

Bytes = NDArray[np.uint8]
Floats = NDArray[np.floating[Any]]

BASELINES = ("bicubic", "x4-lanczos")


@dataclass(frozen=True)
class Method:
    """A name and a function: (h, w, 3) uint8, height, width -> (height, width, 3) float, nominally in [0, 1].

    scales: the only ones it can do, None for any.
    """

    name: str
    upscale: Callable[[Bytes, int, int], Floats]
    scales: tuple[float, ...] | None = None

    def takes(self, scale: float) -> bool:
        """Whether it can do `scale`."""
        return self.scales is None or scale in self.scales


def bicubic(protocol: Protocol) -> Method:
    """The baseline of every table: the bicubic that the protocol names."""
    return Method("bicubic", protocol.bicubic)


def network(
    model: SRModel,
    name: str,
    *,
    cell: str = "raw",
    self_ensemble: bool = False,
    precision: Precision = "fp32",
) -> Method:
    """A model, on the device where its parameters are. cell: as `sizes.with_cell` has it.

    A model of one scale takes part at that scale alone.
    """

    def upscale(low: Bytes, height: int, width: int) -> Floats:
        grid = with_cell(Grid.whole((low.shape[0], low.shape[1]), (height, width)), cell)
        return render_image(model, low, grid, precision=precision, self_ensemble=self_ensemble)

    scale = getattr(model.decoder, "scale", None)
    return Method(name, upscale, None if scale is None else (float(scale),))


def lanczos_from(method: Method, factor: int = 4) -> Method:
    """x4 by `method`, and from there to the size by Pillow's Lanczos (antialiased where that is smaller)."""

    def upscale(low: Bytes, height: int, width: int) -> Floats:
        large = method.upscale(low, factor * low.shape[0], factor * low.shape[1]).astype(np.float32)
        return np.clip(resample(large, height, width, "lanczos"), 0.0, 1.0)

    return Method(f"x{factor}-lanczos", upscale)


def networks(
    references: Sequence[str],
    device: str = "auto",
    *,
    cell: str = "raw",
    self_ensemble: bool = False,
    precision: Precision = "fp32",
) -> list[Method]:
    """Load models by name, file or Hub reference. Two of one name are told apart by their references.

    Raises `ModelNotFound`, `CheckpointError`, `DeviceError`, and `UsageError` for a cell that is none.
    """
    with_cell(Grid.whole((1, 1), (1, 1)), cell)
    place = choose_device(device)
    checkpoints = [find(reference) for reference in dict.fromkeys(references)]
    seen = Counter(checkpoint.name for checkpoint in checkpoints)
    return [
        network(
            checkpoint.load(place),
            checkpoint.name if seen[checkpoint.name] == 1 else reference,
            cell=cell,
            self_ensemble=self_ensemble,
            precision=precision,
        )
        for reference, checkpoint in zip(dict.fromkeys(references), checkpoints, strict=True)
    ]


def compared(models: Sequence[Method], protocol: Protocol, baselines: Sequence[str] = BASELINES) -> list[Method]:
    """What stands in a table: the baselines that are asked for, and the models.

    `bicubic` is the protocol's; `x4-lanczos` is x4 by the first model that can do any scale, and Lanczos from there.
    """
    free = [model for model in models if model.scales is None][:1]
    own = [bicubic(protocol), *map(lanczos_from, free)]
    return [*(method for method in own if method.name in baselines), *models]

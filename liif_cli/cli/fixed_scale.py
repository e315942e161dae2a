"""The scale of a fixed-scale model: the default for `--scale`, and a check of it."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from liif_cli.errors import UsageError

if TYPE_CHECKING:
    from liif_cli.models.checkpoints import Checkpoint


def own_scale(found: "Callable[[], Checkpoint]") -> list[str]:
    """The scale of a fixed-scale model, as a value of `--scale`; empty for other models."""
    only = found().only_scale
    return [] if only is None else [f"{only:g}"]


def check_scales(checkpoint: "Checkpoint", scales: list[str]) -> None:
    """Raises `UsageError` if another scale is requested of a fixed-scale model: once, not for every image."""
    from liif_cli.rendering.sizes import Scale

    only = checkpoint.only_scale
    for each in map(Scale.parse, scales):
        if only is not None and {float(each.x), float(each.y)} != {only}:
            raise UsageError(
                f"{checkpoint.name} renders only ×{only:g}, not ×{each.text}",
                hint=f"use --scale {only:g}, or another model",
            )

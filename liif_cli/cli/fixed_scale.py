"""The scale of a model for one scale, in place of `--scale` and held against it."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from liif_cli.errors import UsageError

if TYPE_CHECKING:
    from liif_cli.models.checkpoints import Checkpoint


def own_scale(found: "Callable[[], Checkpoint]") -> list[str]:
    """The scale of a model for one scale, as for `--scale`; empty for other models."""
    only = found().only_scale
    return [] if only is None else [f"{only:g}"]


def check_scales(checkpoint: "Checkpoint", scales: list[str]) -> None:
    """Raises `UsageError` once, not for every image, if a model for one scale is asked for another."""
    from liif_cli.rendering.sizes import Scale

    only = checkpoint.only_scale
    for each in map(Scale.parse, scales):
        if only is not None and {float(each.x), float(each.y)} != {only}:
            raise UsageError(
                f"{checkpoint.name} renders only ×{only:g}, not ×{each.text}",
                hint=f"--scale {only:g}, or another model",
            )

"""liif: upscales images to any size with a Local Implicit Image Function (Chen, Liu, Wang; CVPR 2021).

    from liif_cli import encode, upscale

Importing this module is cheap: torch is loaded only when a function is used.
"""

TYPE_CHECKING = False  # `typing` is not loaded, so that `liif` handles Ctrl-C sooner
if TYPE_CHECKING:
    from typing import Any

    from liif_cli.errors import LiifError
    from liif_cli.evaluation.api import evaluate
    from liif_cli.evaluation.metrics import psnr, ssim
    from liif_cli.models.store import load_model
    from liif_cli.training.api import train
    from liif_cli.upscaling.api import ContinuousImage, encode, upscale


__version__ = "0.1.0"
__all__ = [
    "ContinuousImage",
    "LiifError",
    "__version__",
    "encode",
    "evaluate",
    "load_model",
    "psnr",
    "ssim",
    "train",
    "upscale",
]

_HOMES = {
    "ContinuousImage": "upscaling.api",
    "LiifError": "errors",
    "encode": "upscaling.api",
    "evaluate": "evaluation.api",
    "load_model": "models.store",
    "psnr": "evaluation.metrics",
    "ssim": "evaluation.metrics",
    "train": "training.api",
    "upscale": "upscaling.api",
}


def __getattr__(name: str) -> "Any":
    """Import a public name when it is first asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

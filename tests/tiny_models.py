"""Tiny models, and weights that are a formula of their names."""

import hashlib
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from liif_cli.models.decoders.liif import LIIFConfig
from liif_cli.models.encoders.edsr import EDSRConfig
from liif_cli.models.encoders.rdn import RDNConfig
from liif_cli.models.model import SRModel
from liif_cli.models.registry import ModelConfig


def formula(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The parameter NAME of the golden models: a formula of its name, so that no weights file is needed."""
    return torch.from_numpy(_numbers(name, shape).copy())


@cache
def _numbers(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Kept: the same names come in many models, and RDN's 22 million numbers take half a second."""
    generator = np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))
    scale = 0.05 if len(shape) < 2 else 1 / np.sqrt(np.prod(shape[1:]))
    return (generator.standard_normal(shape) * scale).astype(np.float32)


def golden_model(config: ModelConfig) -> SRModel:
    """A model whose parameters are the formula of their names."""
    with torch.device("meta"):
        names = SRModel(config).export()
    return SRModel.from_tensors(config, {name: formula(name, tuple(t.shape)) for name, t in names.items()}).eval()


def tiny_config(encoder: str = "edsr", **decoder: object) -> ModelConfig:
    """A model of a few thousand parameters with every part of a real one."""
    small = (
        EDSRConfig(features=8, blocks=2) if encoder == "edsr" else RDNConfig(features=8, blocks=2, layers=2, growth=4)
    )
    return ModelConfig(small, LIIFConfig(**({"hidden": (16, 16)} | decoder)))  # type: ignore[arg-type]

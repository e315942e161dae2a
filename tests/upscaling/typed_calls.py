"""The types of the public functions: mypy checks this file, and a test runs it."""

from pathlib import Path
from typing import Any, assert_type

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from liif_cli import ContinuousImage, encode, upscale
from liif_cli.models.model import SRModel


def calls(model: SRModel, path: Path) -> None:
    """One call of each kind; `path` is an image of at least 8x8 pixels."""
    image = Image.open(path)
    array: NDArray[Any] = np.asarray(image)
    tensor = torch.zeros(3, 8, 8)
    assert_type(upscale(image.convert("RGB"), scale=2, model=model), Image.Image)
    assert_type(upscale(path, scale=2, model=model), Image.Image)
    assert_type(upscale(str(path), size=(9, 9), model=model), Image.Image)
    assert_type(upscale(array, scale=(2, 1.5), model=model), NDArray[Any])
    assert_type(upscale(tensor, scale="2", model=model), torch.Tensor)
    assert_type(upscale([tensor, tensor], scale=2, model=model), list[torch.Tensor])
    assert_type(encode(path, model=model), ContinuousImage[Image.Image])
    assert_type(encode([path], model=model), list[ContinuousImage[Image.Image]])
    encoded = encode(tensor, model=model)
    assert_type(encoded, ContinuousImage[torch.Tensor])
    assert_type(encoded.render(1.5, region=(1, 1, 4, 4)), torch.Tensor)
    assert_type(encoded.query(torch.zeros(1, 2)), torch.Tensor)
    assert_type(encoded.query(np.zeros((1, 2))), NDArray[Any])
    assert_type(encoded.size, tuple[int, int])
    assert_type(encoded.latent, torch.Tensor)

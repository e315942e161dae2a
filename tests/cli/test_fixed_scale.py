"""`liif upscale` and `liif eval` with a model of one scale."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_models import golden_model

from liif_cli.models.checkpoints import save_model
from liif_cli.models.decoders.upsampler import UpSamplerConfig
from liif_cli.models.encoders.edsr import EDSRConfig
from liif_cli.models.registry import ModelConfig
from liif_cli.models.store import find

Run = Callable[..., Any]


@pytest.fixture
def twice(desk: Path) -> Path:
    """A model for x2, and in.png, 12 x 8 pixels, and b.png."""
    for name in ("in.png", "b.png"):
        Image.fromarray(np.random.default_rng(3).integers(0, 256, (8, 12, 3), np.uint8)).save(name)
    config = ModelConfig(EDSRConfig(features=8, blocks=1), UpSamplerConfig(scale=2))
    save_model(golden_model(config), desk / "twice.safetensors", licence="CC0-1.0", provenance={})
    return desk / "twice.safetensors"


def test_its_scale_is_the_default(liif: Run, twice: Path) -> None:
    assert find(str(twice)).only_scale == 2
    assert liif("upscale", "in.png", "-m", twice, "-o", "out.png").code == 0
    assert liif("upscale", "in.png", "-m", twice, "-s", 2, "-o", "same.png").code == 0
    with Image.open("out.png") as out, Image.open("same.png") as same:
        assert out.size == (24, 16) and out.tobytes() == same.tobytes()


def test_another_scale_is_one_error(liif: Run, twice: Path) -> None:
    ran = liif("upscale", "in.png", "b.png", "-m", twice, "-s", 3, "-o", "out")
    assert ran.code == 2 and ran.err == [
        "Error: twice renders only ×2, not ×3",
        "Hint: use --scale 2, or another model",
    ]
    assert not Path("out").exists()
    assert liif("upscale", "in.png", "-m", twice, "-s", "2x3", "--dry-run").code == 2


def test_a_size_is_fine_if_it_is_that_scale(liif: Run, twice: Path) -> None:
    assert liif("upscale", "in.png", "-m", twice, "--size", "24x16", "-o", "out.png").code == 0
    ran = liif("upscale", "in.png", "-m", twice, "--size", "36x24", "-o", "other.png")
    assert ran.code == 2 and "cannot render 36x24 pixels: it renders only ×2" in ran.err[0]


def test_other_models_still_need_a_scale(liif: Run, twice: Path, tiny_file: Path) -> None:
    assert find(str(tiny_file)).only_scale is None
    ran = liif("upscale", "in.png", "-m", tiny_file, "-o", "out.png")
    assert ran.code == 2 and ran.err[0] == "Error: no output size given"

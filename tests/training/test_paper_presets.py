"""The presets of what the paper compares: its recipe, and each system's difference alone."""

from dataclasses import replace

import pytest

from liif_cli.errors import UsageError
from liif_cli.models.registry import PRESETS
from liif_cli.training.recipe import TrainConfig, presets, read
from liif_cli.training.train import check

FOLDER = {"data": {"folders": ["x"]}}
SYSTEMS = [name for name in PRESETS if not name.startswith("light") and name != "edsr-baseline-liif"]


@pytest.mark.parametrize("name", SYSTEMS)
def test_each_system_of_the_tables_has_a_preset(name: str) -> None:
    recipe = read(name, FOLDER)
    assert recipe.model == PRESETS[name]
    check(recipe)
    paper = read("edsr-baseline-liif-paper")
    rest = {"name": name, "model": recipe.model, "data": recipe.data, "validation": recipe.validation}
    assert recipe == replace(paper, **rest)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_one_scale_alone(scale: int) -> None:
    recipe = read(f"edsr-baseline-liif-x{scale}-only")
    assert recipe.data.scale == (scale, scale) and recipe.model == PRESETS["edsr-baseline-liif"]


def test_a_model_of_one_scale_is_trained_at_it() -> None:
    with pytest.raises(UsageError, match="the model renders only ×2; it must be trained and validated at that scale"):
        check(read("edsr-baseline-x2", {"data": {"folders": ["x"], "scale": [1.0, 4.0]}}))


def test_every_preset_is_a_recipe() -> None:
    assert all(isinstance(read(name), TrainConfig) for name in presets())
    with pytest.raises(UsageError, match="unknown preset nowhere"):
        read("edsr-baseline-liif", {}) and read("nowhere")

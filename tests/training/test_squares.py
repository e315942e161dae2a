"""Size-varied ground truths (paper, section 5.3)."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import tiny_config

from liif_cli.errors import UsageError
from liif_cli.models.decoders.upsampler import UpSamplerConfig
from liif_cli.models.registry import ModelConfig
from liif_cli.models.store import load_model
from liif_cli.training.recipe import DataConfig, TrainConfig, ValidationConfig, read
from liif_cli.training.run_folder import Run
from liif_cli.training.sources import ImageFolders
from liif_cli.training.squares import Squares
from liif_cli.training.train import check, make_pairs, train

SIDES = (8, 16)


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """Five images, of which one is no square."""
    (tmp_path / "faces").mkdir()
    for index in range(5):
        pixels = np.random.default_rng(index).integers(0, 256, (20, 20 + 6 * (index == 2), 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "faces" / f"{index}.png")
    return tmp_path / "faces"


def test_truths_have_sizes_spread_evenly(faces: Path) -> None:
    pairs = Squares(ImageFolders([faces], 16), SIDES, 30, augment=False)
    assert [pairs.side(i) for i in range(5)] == [8, 10, 12, 14, 16]
    batch = pairs.batch(range(5))
    assert batch.lr.shape == (5, 3, 8, 8) and sorted(batch.cell[:, 0, 0].tolist()) == pytest.approx(
        sorted(8 / side for side in (8, 10, 12, 14, 16))
    )
    for number in range(5):  # each query is the truth's pixel at its own size
        low, rgb, index, side = pairs.pair(number)
        image = pairs.draw(number)[0].image
        square = Image.open(faces / f"{image}.png")
        square = square.crop((3, 0, 23, 20)) if image == 2 else square
        truth = np.asarray(square.resize((side, side), Image.Resampling.BICUBIC))
        np.testing.assert_array_equal(rgb, truth.reshape(-1, 3)[index])
        np.testing.assert_array_equal(low, np.asarray(square.resize((8, 8), Image.Resampling.BICUBIC)))


def test_up_sampling_modules_see_every_truth_resized(faces: Path) -> None:
    pairs = Squares(ImageFolders([faces], 16), SIDES, 30, augment=False, resized=True)
    batch = pairs.batch(range(5))
    assert (batch.cell == 0.5).all()
    low, truth = pairs.square(0)
    again = Image.fromarray(low).resize((16, 16), Image.Resampling.BICUBIC)  # the smallest truth is the input itself
    np.testing.assert_array_equal(truth, np.asarray(again))


@pytest.mark.parametrize("resized", [False, True])
def test_a_run(faces: Path, tmp_path: Path, resized: bool) -> None:
    model = ModelConfig(tiny_config().encoder, UpSamplerConfig(scale=2)) if resized else tiny_config()
    data = DataConfig(folders=(str(faces),), queries=40, sides=SIDES, resized=resized)
    check_at = ValidationConfig(scales=(2.0,), preview_scales=(2.0,))
    config = TrainConfig("tiny", model, data, validation=check_at, iterations=3, batch=2)
    run = Run.create(tmp_path / "run", config)
    assert make_pairs(config).sides == SIDES  # type: ignore[attr-defined]
    assert train(run, config) == "done"
    assert all(torch.isfinite(t).all() for t in load_model(run.model_path("tiny")).export().values())


@pytest.mark.parametrize("pair", ["64-128", "32-256"])
@pytest.mark.parametrize("method", ["liif", "upsampling"])
def test_the_presets(pair: str, method: str) -> None:
    recipe = read(f"celebahq-{pair}-{method}", {"data": {"folders": ["x"]}})
    check(recipe)
    low, high = map(int, pair.split("-"))
    assert recipe.data.sides == (low, high) and recipe.data.resized == (method == "upsampling")
    assert recipe.data.queries == low**2 and recipe.schedule.milestones == (recipe.iterations // 2,)


def test_an_up_sampling_module_needs_one_size() -> None:
    with pytest.raises(UsageError, match="renders only ×2"):
        check(read("celebahq-64-128-upsampling", {"data": {"folders": ["x"], "resized": False}}))

"""The public `train` and `evaluate`."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import liif_cli
from liif_cli.errors import InputError, UsageError
from liif_cli.training.recipe import TrainConfig, read

TINY = {
    "model.encoder": {"name": "edsr", "features": 4, "blocks": 1},
    "model.decoder": {"name": "liif", "hidden": [8]},
    "batch": 2,
    "data.patch": 8,
    "data.scale": [1.0, 2.0],
    "data.queries": 16,
    "iterations": 2,
    "schedule.name": "constant",
}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 48, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def test_a_run_is_made_and_continued_and_its_model_scored(photos: Path, tmp_path: Path) -> None:
    path = liif_cli.train(tmp_path / "run", photos, settings=TINY)
    assert path == tmp_path / "run" / "light.safetensors"  # named after the default recipe
    before = path.read_bytes()
    again = liif_cli.train(tmp_path / "run", settings={"iterations": 3})
    assert again == path and path.read_bytes() != before
    model = liif_cli.load_model(path)
    rows = liif_cli.evaluate([path, model], photos, scales=[2])
    assert [row.method for row in rows] == ["bicubic", "x4-lanczos", path.stem, "model 2"]
    assert rows[2].psnr == pytest.approx(rows[3].psnr) and {row.scale for row in rows} == {2.0}


@pytest.mark.parametrize(
    ("model", "preset"), [(None, "light"), ("rdn-liif", "rdn-liif"), ("light-large", "light-large")]
)
def test_the_default_recipe_is_that_of_the_model(
    model: str | None, preset: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes: list[TrainConfig] = []

    def stopped(run: object, recipe: TrainConfig, **_: object) -> str:
        recipes.append(recipe)
        return "done"

    monkeypatch.setattr("liif_cli.training.train.train", stopped)
    liif_cli.train(tmp_path / "run", photos, model=model)
    expected = read(preset, {"data": {"folders": [str(photos)]}})
    assert recipes == [expected]


def test_invalid_requests(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not contain a run"):
        liif_cli.train(tmp_path / "none")
    with pytest.raises(UsageError, match="not an architecture"):
        liif_cli.train(tmp_path / "run", photos, model="unet")
    with pytest.raises(UsageError, match="iteration"):
        liif_cli.train(tmp_path / "run", photos, settings={"iteration": 3})
    with pytest.raises(UsageError, match="not a protocol"):
        liif_cli.evaluate(dataset=photos, protocol="none")
    assert not (tmp_path / "run").exists()

"""A tiled TIFF that does not fit into the memory looks as if it did."""

from pathlib import Path

import numpy as np
import pytest
import pyvips

from liif_cli.viewing.iiif import Canvas, Limits, Refused, parse
from liif_cli.viewing.images import Images, LargeImage, Look, Models


@pytest.fixture(scope="module")
def models(tiny_file: Path) -> Models:
    return Models([str(tiny_file)], "cpu")


def saved(path: Path, tile: bool) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (700, 900, 3), np.uint8)
    smooth = pyvips.Image.new_from_array(pixels).gaussblur(2).cast("uchar")
    smooth.copy(interpretation="srgb").tiffsave(str(path), tile=tile, tile_width=128, tile_height=128)
    return path


@pytest.mark.parametrize("method", ["network", "bicubic", "lanczos"])
@pytest.mark.parametrize(
    ("region", "size"),
    [("500,500,40,30", "^160,120"), ("0,0,20,20", "^50,50"), ("880,690,20,10", "^60,30"), ("full", "90,70")],
)
def test_parts_are_those_of_the_whole(tmp_path: Path, models: Models, region: str, size: str, method: str) -> None:
    path = saved(tmp_path / "a.tif", True)
    grid = parse(Canvas(900, 700), region, size, "0", "default.png", Limits()).grid
    look = Look(models.names[0], method)  # type: ignore[arg-type]
    small, large = Images(models, 2**20), Images(models, 2**28)
    found, wanted = (images.render(path, grid, look).astype(int) for images in (small, large))
    assert isinstance(next(iter(small._open.values())), LargeImage)
    assert np.abs(found - wanted).max() <= (1 if region != "full" else 12)  # shrinking is libvips' there


def test_another_file_is_refused(tmp_path: Path, models: Models) -> None:
    grid = parse(Canvas(900, 700), "0,0,9,9", "max", "0", "default.png", Limits()).grid
    with pytest.raises(Refused, match="too large"):
        Images(models, 2**20).render(saved(tmp_path / "b.tif", False), grid, Look(models.names[0]))

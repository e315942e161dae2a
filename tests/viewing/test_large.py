"""A tiled TIFF that does not fit into memory looks as if it did."""

from pathlib import Path

import numpy as np
import psutil
import pytest
import pyvips
from gigapixel import tile_of, write_tiff
from PIL import Image

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


def part(path: Path, models: Models, images: Images, region: str, size: str, method: str = "bicubic") -> np.ndarray:
    header = images.header(path)
    grid = parse(Canvas(header.width, header.height), region, size, "0", "default.png", Limits()).grid
    return images.render(path, grid, Look(models.names[0], method))  # type: ignore[arg-type]


def test_a_gigapixel_tiff_opens_without_being_decoded_whole(tmp_path: Path, models: Models) -> None:
    """40,960 pixels per side would be 4.7 GiB."""
    path, images = tmp_path / "giga.tif", Images(models, 2**28)
    write_tiff(path, [40960])
    before = psutil.Process().memory_info().rss
    assert (images.header(path).width, images.header(path).height) == (40960, 40960)
    found = part(path, models, images, "30720,20480,64,64", "^128,128")
    assert psutil.Process().memory_info().rss - before < 2**27
    whole = np.asarray(Image.fromarray(tile_of(0)).resize((1024, 1024), Image.Resampling.BICUBIC))
    assert np.abs(found[:120, :120].astype(int) - whole[:120, :120]).max() > 0  # the tile begins with its own neighbour
    assert np.abs(found[8:120, 8:120].astype(int) - whole[8:120, 8:120]).max() <= 1
    assert part(path, models, images, "30720,20480,64,64", "^128,128", "network").shape == (128, 128, 3)


def test_the_whole_of_a_pyramid_is_read_from_its_smaller_copies(tmp_path: Path, models: Models) -> None:
    path, images = tmp_path / "pyramid.tif", Images(models, 2**28)
    write_tiff(path, [40960, 20480, 10240, 5120, 2560, 1280, 640])
    for region, size, level in (
        ("full", "512,", 6),
        ("full", "700,", 5),
        ("0,0,20480,20480", "256,", 6),
        ("1024,2048,2048,2048", "1024,", 1),
        ("1024,2048,2048,2048", "1500,", 0),
    ):
        assert np.abs(part(path, models, images, region, size)[..., 2].astype(int) - level).max() <= 1, (region, size)


@pytest.mark.parametrize("subifd", [True, False])
def test_a_copy_gives_what_the_image_gives(tmp_path: Path, models: Models, subifd: bool) -> None:
    x, y = np.meshgrid(np.arange(900), np.arange(700))
    waves = 128 + 60 * np.sin(x / 40) + 60 * np.cos(y / 30)
    image = pyvips.Image.new_from_array(waves.astype(np.uint8)[..., None].repeat(3, 2)).copy(interpretation="srgb")
    image.tiffsave(str(tmp_path / "a.tif"), tile=True, tile_width=128, tile_height=128, pyramid=True, subifd=subifd)
    image.tiffsave(str(tmp_path / "b.tif"), tile=True, tile_width=128, tile_height=128)
    images = Images(models, 2**20)
    for region, size in (("full", "90,"), ("full", "400,"), ("101,53,513,401", "100,"), ("700,500,200,200", "50,40")):
        one, other = (part(tmp_path / name, models, images, region, size).astype(int) for name in ("a.tif", "b.tif"))
        assert one.shape == other.shape and np.abs(one - other).max() <= 6


def test_pages_that_are_no_copies_are_not_taken_for_them(tmp_path: Path, models: Models) -> None:
    path, images = tmp_path / "pages.tif", Images(models, 2**22)
    write_tiff(path, [2048, 2048, 1900])
    assert np.abs(part(path, models, images, "full", "100,")[..., 2].astype(int)).max() <= 1

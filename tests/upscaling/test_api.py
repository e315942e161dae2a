"""`upscale` for images in memory, axes that shrink, and the meaning of the options."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import liif_cli
from liif_cli.coords import Grid
from liif_cli.errors import InputError, LimitError, UsageError
from liif_cli.images.resize import resample
from liif_cli.models.model import SRModel
from liif_cli.rendering.renderer import Renderer, render_image
from liif_cli.rendering.sizes import Region, Scale, Size, make_grid
from liif_cli.upscaling.options import Options
from liif_cli.upscaling.results import grid_notes
from liif_cli.upscaling.upscaler import Upscaler

RNG = np.random.default_rng(5)
PIXELS = RNG.integers(0, 256, (20, 30, 3), np.uint8)


def test_the_public_names() -> None:
    assert set(liif_cli.__all__) == {
        *("ContinuousImage", "LiifError", "__version__", "encode", "evaluate"),
        *("load_model", "psnr", "ssim", "train", "upscale"),
    }
    for name in liif_cli.__all__:
        assert getattr(liif_cli, name)
    with pytest.raises(AttributeError):
        liif_cli.nothing  # noqa: B018


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(20, 30, 3), (20, 30, 1), (20, 30)])
def test_arrays_keep_their_kind(tiny: SRModel, dtype: Any, shape: tuple[int, ...]) -> None:
    top = np.iinfo(dtype).max if np.dtype(dtype).kind == "u" else 1
    image = (RNG.random(shape) * top).astype(dtype)
    out = liif_cli.upscale(image, scale=1.5, model=tiny)
    assert isinstance(out, np.ndarray)
    assert (out.dtype, out.shape) == (dtype, (30, 45, *shape[2:]))


def test_rgb_is_the_rendered_image_rounded_once(tiny: SRModel) -> None:
    out = liif_cli.upscale(PIXELS, scale="1.7", model=tiny, precision="fp32")
    expected = render_image(tiny, PIXELS, Grid.whole((20, 30), (34, 51)))
    np.testing.assert_array_equal(out, np.rint(expected * 255))


def test_gray_is_the_luma_of_the_repeated_channel(tiny: SRModel) -> None:
    gray = PIXELS[..., 0]
    out = liif_cli.upscale(gray, scale=2, model=tiny, precision="fp32")
    renderer, grid = Renderer(tiny, torch.device("cpu")), Grid.whole((20, 30), (40, 60))
    [piece] = renderer.pieces(np.repeat(gray[..., None], 3, 2), [grid], renderer.plan((20, 30), [grid], 1))
    assert np.abs(out - (piece.rgb @ [0.299, 0.587, 0.114]).clip(0, 1) * 255).max() <= 0.51  # luma first, then clamped


@pytest.mark.parametrize(
    ("mode", "back"),
    [("RGB", "RGB"), ("L", "L"), ("P", "RGB"), ("1", "L"), ("RGBA", "RGBA"), ("LA", "LA"), ("CMYK", "RGB")],
)
def test_pil_images(tiny: SRModel, mode: str, back: str) -> None:
    out = liif_cli.upscale(Image.fromarray(PIXELS).convert(mode), size=(45, 25), model=tiny)
    assert isinstance(out, Image.Image)
    assert (out.mode, out.size) == (back, (45, 25))


def test_pil_images_keep_16_bits_profile_and_transparency(tiny: SRModel) -> None:
    deep = Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257)
    assert deep.mode == "I;16"
    out = liif_cli.upscale(deep, scale=2, model=tiny, precision="fp32")
    array = liif_cli.upscale(np.asarray(deep), scale=2, model=tiny, precision="fp32")
    assert isinstance(out, Image.Image) and out.mode == "I;16"
    np.testing.assert_array_equal(np.asarray(out), array)
    keyed = Image.fromarray(PIXELS)
    keyed.info.update(transparency=tuple(int(v) for v in PIXELS[0, 0]), icc_profile=b"profile", exif=b"old")
    out = liif_cli.upscale(keyed, scale=2, model=tiny)
    assert isinstance(out, Image.Image) and out.mode == "RGBA" and out.info == {"icc_profile": b"profile"}


@pytest.mark.parametrize("channels", [2, 4])
def test_arrays_with_alpha(tiny: SRModel, channels: int) -> None:
    pixels = RNG.integers(0, 256, (20, 30, channels), np.uint8)
    pixels[:, :15, -1], pixels[:, 15:, -1] = 0, 255
    out = liif_cli.upscale(pixels, scale=2, model=tiny)
    assert isinstance(out, np.ndarray) and out.shape == (40, 60, channels)
    assert (out[:, :29, -1] == 0).all() and (out[:, 31:, -1] == 255).all()


def test_a_model_by_name_file_or_itself(tiny: SRModel, tmp_path: Path) -> None:
    from liif_cli.models.checkpoints import save_model

    save_model(tiny, tmp_path / "m.safetensors", licence="CC0-1.0", provenance={})
    ours = liif_cli.upscale(PIXELS, scale=2, model=tiny)
    np.testing.assert_array_equal(ours, liif_cli.upscale(PIXELS, scale=2, model=tmp_path / "m.safetensors"))
    np.testing.assert_array_equal(ours, liif_cli.upscale(PIXELS, scale=2, model=str(tmp_path / "m.safetensors")))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, UsageError),
        ({"scale": 2, "size": (10, 10)}, UsageError),
        ({"scale": -2}, UsageError),
        ({"scale": float("nan")}, UsageError),
        ({"size": (0, 5)}, UsageError),
        ({"scale": 1e9}, LimitError),
        ({"scale": 2, "max_pixels": 100}, LimitError),
        ({"scale": 2, "region": (0, 0, 31, 5)}, UsageError),
        ({"scale": 2, "cell": "2"}, UsageError),
    ],
)
def test_invalid_arguments(tiny: SRModel, arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        liif_cli.upscale(PIXELS, model=tiny, **arguments)


@pytest.mark.parametrize("image", [np.zeros((3, 4, 5)), np.zeros(4), np.zeros((0, 4)), np.zeros((4, 4), int)])
def test_arrays_that_are_not_images(tiny: SRModel, image: Any) -> None:
    with pytest.raises(UsageError):
        liif_cli.upscale(image, scale=2, model=tiny)


def test_floats_that_are_not_numbers(tiny: SRModel) -> None:
    with pytest.raises(InputError, match="NaN"):
        liif_cli.upscale(np.full((4, 4), np.nan), scale=2, model=tiny)


class TestAxesThatShrink:
    def test_both_are_filtered_without_the_network(self, tiny: SRModel, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(SRModel, "encode", lambda *_: pytest.fail("the network was asked"))
        out = liif_cli.upscale(PIXELS, size=(14, 9), model=tiny)
        expected = resample(PIXELS.astype(np.float32) / 255, 9, 14).clip(0, 1)
        assert np.abs(out.astype(float) - expected * 255).max() <= 0.51

    def test_one_is_filtered_and_the_other_grows(self, tiny: SRModel) -> None:
        out = liif_cli.upscale(PIXELS, size=(60, 9), model=tiny, precision="fp32")
        reduced = resample(PIXELS.astype(np.float32) / 255, 9, 30).clip(0, 1)
        expected = render_image(tiny, reduced, Grid.whole((9, 30), (9, 60)))
        assert np.abs(out.astype(float) - expected * 255).max() <= 0.51

    def test_the_size_as_it_is_goes_through_the_network(self, tiny: SRModel) -> None:
        expected = render_image(tiny, PIXELS, Grid.whole((20, 30), (20, 30)))
        out = liif_cli.upscale(PIXELS, scale=1, model=tiny, precision="fp32")
        np.testing.assert_array_equal(out, np.rint(expected * 255))

    @pytest.mark.parametrize("scale", ["0.5", "0.31x2"])
    def test_a_region_is_the_crop(self, tiny: SRModel, scale: str) -> None:
        whole = liif_cli.upscale(PIXELS, scale=scale, model=tiny, precision="fp32")
        grid = make_grid((20, 30), Scale.parse(scale), Region(5, 6, 12, 10))
        part = liif_cli.upscale(PIXELS, scale=scale, model=tiny, region=(5, 6, 12, 10), precision="fp32")
        crop = whole[grid.rows.start : grid.rows.stop, grid.columns.start : grid.columns.stop]
        assert np.abs(part.astype(int) - crop).max() <= 1

    def test_bands_are_the_whole(self, monkeypatch: pytest.MonkeyPatch, tiny: SRModel) -> None:
        from liif_cli.rendering import shrink

        whole = liif_cli.upscale(PIXELS, scale=0.37, model=tiny)
        monkeypatch.setattr(shrink, "BAND_PIXELS", 1)
        assert np.abs(liif_cli.upscale(PIXELS, scale=0.37, model=tiny).astype(int) - whole).max() <= 1

    def test_a_note_says_so(self) -> None:
        notes = list(grid_notes(Size.parse("14x60"), make_grid((20, 30), Size.parse("14x60"))))
        assert any("aspect" in note for note in notes)
        assert any("width is reduced" in note for note in notes)
        assert not list(grid_notes(Scale.parse("2"), make_grid((20, 30), Scale.parse("2"))))


def test_an_image_from_file_to_file(tiny: SRModel, tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "in.png")
    upscaler = Upscaler(tiny, Options(precision="fp32"))
    targets = [(Scale.parse("2"), tmp_path / "a.png"), (Size.parse("33x21"), tmp_path / "b.png")]
    results = upscaler.file(tmp_path / "in.png", targets)  # type: ignore[arg-type]
    assert [(r.width, r.height, Path(r.output).name) for r in results] == [(60, 40, "a.png"), (33, 21, "b.png")]
    expected = liif_cli.upscale(PIXELS, scale=2, model=tiny, precision="fp32")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), expected)
    assert results[0].scale == (2, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png", "in.png"]

"""The options of `liif upscale` that are about images, from the command line to the file."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from liif_cli.cli.app import run
from liif_cli.errors import ExitCode
from liif_cli.images import icc
from liif_cli.models.checkpoints import save_model
from liif_cli.models.model import SRModel

Y, X = np.mgrid[0:12, 0:16]
RGB = np.stack([X * 15, Y * 20, X + Y], axis=2).astype(np.uint8)
P3 = icc.built("Display P3", icc.PRIMARIES[12], icc.D65, icc.SRGB_CURVE)


@pytest.fixture
def folder(tiny: SRModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a tiny model and images in it."""
    save_model(tiny, tmp_path / "m.safetensors", licence="CC0-1.0", provenance={})
    Image.fromarray(RGB).save(tmp_path / "in.png", icc_profile=P3, dpi=(99, 99))
    Image.fromarray(np.dstack([RGB, X * 16]).astype(np.uint8)).save(tmp_path / "alpha.png")
    pages = [Image.new("RGB", (8, 6), c) for c in ("red", "lime")]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "frames.gif", save_all=True, append_images=pages[1:], duration=80, loop=0)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def upscale(source: str, *options: str) -> int:
    return run(["upscale", source, "--scale", "2", "--model", "m.safetensors", "--precision", "fp32", *options])


def opened(name: str) -> Image.Image:
    with Image.open(name) as image:
        image.load()
        return image


@pytest.mark.usefixtures("folder")
class TestOptions:
    @pytest.mark.parametrize(("form", "kind"), [("jpeg", "JPEG"), ("webp", "WEBP"), ("tiff", "TIFF"), ("avif", "AVIF")])
    def test_format(self, form: str, kind: str) -> None:
        assert upscale("in.png", "-o", "out", "--format", form) == 0  # a folder, for one image as for many
        (out,) = Path("out").iterdir()
        assert opened(str(out)).format == kind and opened(str(out)).size == (32, 24)

    def test_quality(self) -> None:
        for quality in ("10", "98"):
            assert upscale("in.png", "-o", f"{quality}.jpg", "--quality", quality) == 0
        assert Path("98.jpg").stat().st_size > Path("10.jpg").stat().st_size
        assert upscale("in.png", "-o", "a.jpg", "--quality", "0") == ExitCode.USAGE
        assert upscale("in.png", "-o", "a.png", "--quality", "50") == ExitCode.USAGE

    def test_lossless(self) -> None:
        assert upscale("in.png", "-o", "a.png") == 0
        assert upscale("in.png", "-o", "a.webp", "--lossless") == 0
        np.testing.assert_array_equal(np.asarray(opened("a.webp")), np.asarray(opened("a.png")))
        assert upscale("in.png", "-o", "a.jpg", "--lossless") == ExitCode.USAGE

    def test_strip_and_to_srgb(self) -> None:
        assert upscale("in.png", "-o", "kept.png") == 0
        assert upscale("in.png", "-o", "stripped.png", "--strip") == 0
        assert upscale("in.png", "-o", "srgb.png", "--to-srgb") == 0
        assert upscale("in.png", "-o", "place.png", "--strip=location") == 0
        assert opened("place.png").info["icc_profile"] == P3
        assert upscale("in.png", "--strip", "-o", "all.png") == upscale("in.png", "-o", "none.png", "--strip=none") == 0
        assert not opened("all.png").info and opened("none.png").info
        assert upscale("in.png", "-o", "x.png", "--strip=gps") == ExitCode.USAGE
        Path("liif.toml").write_text("[upscale]\nstrip = true\n")
        assert upscale("in.png", "-o", "set.png") == 0
        assert not opened("set.png").info
        assert opened("kept.png").info["icc_profile"] == P3
        assert not opened("stripped.png").info
        assert icc.name(opened("srgb.png").info["icc_profile"]) == "sRGB"
        np.testing.assert_array_equal(np.asarray(opened("stripped.png")), np.asarray(opened("srgb.png")))

    def test_background(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert upscale("alpha.png", "-o", "a.jpg", "--background", "#00ff00", "--quality", "100") == 0
        assert "#00ff00" in capsys.readouterr().err
        red, green, blue = np.asarray(opened("a.jpg"))[:, 0].astype(int).mean(axis=0)
        assert green > 250 and red < 20 and blue < 20  # the left column is transparent
        assert upscale("alpha.png", "-o", "b.jpg", "--background", "nocolour") == ExitCode.USAGE

    def test_page(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert upscale("pages.tif", "-o", "a.png") == 0
        assert "--page" in capsys.readouterr().err
        assert upscale("pages.tif", "-o", "b.png", "--page", "2") == 0
        first, second = (np.asarray(opened(name)).astype(int).mean(axis=(0, 1)) for name in ("a.png", "b.png"))
        assert np.abs(first - second).max() > 1
        assert upscale("pages.tif", "-o", "c.png", "--page", "3") == ExitCode.INPUT

    def test_frame(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert upscale("frames.gif", "-o", "a.jpg") == ExitCode.USAGE
        assert "--frame" in capsys.readouterr().err
        assert upscale("frames.gif", "-o", "a.jpg", "--frame", "2") == 0
        assert upscale("frames.gif", "-o", "a.webp") == 0
        with Image.open("a.webp") as image:
            assert image.n_frames == 2  # type: ignore[attr-defined]

    def test_limits_and_refused_inputs_have_their_codes(self, capsys: pytest.CaptureFixture[str]) -> None:
        model = ["--model", "m.safetensors"]
        assert run(["upscale", "in.png", "--size", "16384x2", "-o", "a.webp", *model]) == ExitCode.LIMIT
        assert run(["upscale", "in.png", "--size", "70000x2", "-o", "a.jpg", *model]) == ExitCode.LIMIT
        Path("x.png").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')
        assert upscale("x.png", "-o", "a.png") == ExitCode.INPUT
        lines = capsys.readouterr().err.strip().splitlines()
        assert [line.split(":")[0] for line in lines if not line.startswith("Note")] == ["Error", "Hint"] * 3
        assert not Path("a.png").exists() and not Path("a.webp").exists()

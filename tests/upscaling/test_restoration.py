"""`--restore`: the strength for each image, and the notes on it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import liif_cli
from liif_cli.errors import UsageError
from liif_cli.models import restore, store
from liif_cli.models.checkpoints import save_model
from liif_cli.models.model import SRModel
from liif_cli.models.store import DEFAULT

PIXELS = np.random.default_rng(6).integers(0, 256, (16, 24, 3), np.uint8)


@pytest.fixture
def pair(tiny: SRModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model that is the default, with its counterpart; automatic restoration is on, by a curve of this test."""
    other = SRModel.from_tensors(tiny.config, {name: 0.7 * t for name, t in tiny.export().items()})
    folder = tmp_path / "shipped"
    folder.mkdir()
    for name, model in ((DEFAULT, tiny), (f"{DEFAULT}-photo", other)):
        save_model(model, folder / f"{name}.safetensors", licence="CC0-1.0", provenance={})
    monkeypatch.setattr(store, "shipped", lambda: {path.stem: path for path in sorted(folder.glob("*"))})
    monkeypatch.setattr(restore, "AUTOMATIC", True)
    monkeypatch.setattr(restore, "CURVES", {"jpeg": ((60, 1.0), (80, 0.5), (95, 0.0)), "webp": ((1, 0.25),)})
    return folder


def pixels_of(path: str) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_an_array_is_restored_when_asked_for(pair: Path, tiny: SRModel) -> None:
    file = pair / f"{DEFAULT}.safetensors"
    plain, half, full = (liif_cli.upscale(PIXELS, scale=2, model=file, restore=s) for s in (0, 0.5, 1))
    np.testing.assert_array_equal(plain, liif_cli.upscale(PIXELS, scale=2, model=tiny))
    np.testing.assert_array_equal(plain, liif_cli.upscale(PIXELS, scale=2, model=file))
    np.testing.assert_array_equal(full, liif_cli.upscale(PIXELS, scale=2, model=pair / f"{DEFAULT}-photo.safetensors"))
    assert (half != plain).any() and (half != full).any()
    np.testing.assert_array_equal(plain, liif_cli.upscale(PIXELS, scale=2, model=file, restore="auto"))  # says nothing
    with pytest.raises(UsageError, match="loaded model"):
        liif_cli.upscale(PIXELS, scale=2, model=tiny, restore=0.5)
    with pytest.raises(UsageError, match="is not a strength"):
        liif_cli.upscale(PIXELS, scale=2, model=file, restore=1.5)


def test_the_quality_of_a_pil_images_jpeg_is_detected(pair: Path, desk: Path) -> None:
    Image.fromarray(PIXELS).save("in.jpg", quality=80)
    file = pair / f"{DEFAULT}.safetensors"
    with Image.open("in.jpg") as image:
        auto = liif_cli.upscale(image, scale=2, model=file, restore="auto")
        half = liif_cli.upscale(image, scale=2, model=file, restore=0.5)
        np.testing.assert_array_equal(np.asarray(auto), np.asarray(half))


class TestCommand:
    @pytest.fixture(autouse=True)
    def images(self, pair: Path, desk: Path) -> None:
        for quality in (40, 80, 97):
            Image.fromarray(PIXELS).save(f"q{quality}.jpg", quality=quality)
        Image.fromarray(PIXELS).save("in.png")

    def test_auto_goes_by_each_file(self, liif: Callable[..., Any]) -> None:
        ran = liif("upscale", "q40.jpg", "q80.jpg", "q97.jpg", "in.png", "-s", 2, "--json")
        said = [json.loads(line) for line in ran.out]
        assert [(each["restore"], each["restore_reason"]) for each in said] == [
            (1.0, "JPEG quality 40"),
            (0.5, "JPEG quality 80"),
            (0.0, "JPEG quality 97"),
            (0.0, "no lossy compression found"),
        ]
        notes = [line for line in ran.err if "restored" in line]
        assert len(notes) == 2 and "strength 0.5: JPEG quality 80; --restore 0 turns it off" in notes[1]
        for name, strength in (("q40", "1"), ("q80", "0.5"), ("in", "0")):
            suffix = "png" if name == "in" else "jpg"
            again = liif(
                "upscale", f"{name}.{suffix}", "-s", 2, "-o", "again.png", "--restore", strength, "--overwrite"
            )
            assert again.code == 0
            np.testing.assert_array_equal(pixels_of("again.png"), pixels_of(f"{name}_2x.png"))

    def test_each_format_has_its_own_curve(self, liif: Callable[..., Any]) -> None:
        Image.fromarray(PIXELS).save("in.webp", quality=50)
        (said,) = map(json.loads, liif("upscale", "in.webp", "-s", 2, "--json", "-o", "webp.png").out)
        assert said["restore"] == 0.25 and said["restore_reason"].startswith("WebP quality ")

    def test_with_a_model_it_is_off_unless_asked_for(self, liif: Callable[..., Any]) -> None:
        ran = liif("upscale", "q40.jpg", "-s", 2, "-m", DEFAULT, "--json")
        assert json.loads(ran.out[0])["restore_reason"] == "off" and not ran.err
        ran = liif("upscale", "q40.jpg", "-s", 2, "-m", DEFAULT, "--restore", "auto", "--json", "--overwrite")
        assert json.loads(ran.out[0])["restore"] == 1.0

    def test_as_long_as_it_is_not_automatic_a_note_says_so(
        self, liif: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(restore, "AUTOMATIC", False)
        ran = liif("upscale", "q40.jpg", "-s", 2, "--json")
        assert json.loads(ran.out[0])["restore"] == 0
        (note,) = (line for line in ran.err if "artefacts" in line)
        assert not liif("upscale", "q80.jpg", "-s", 2).err  # mildly compressed
        assert "JPEG quality 40" in note and "a strength of 1 suits it" in note and "--restore" in note

    def test_without_a_counterpart(self, liif: Callable[..., Any], pair: Path) -> None:
        (pair / f"{DEFAULT}-photo.safetensors").unlink()
        ran = liif("upscale", "q40.jpg", "-s", 2, "--json")
        assert ran.code == 0 and json.loads(ran.out[0])["restore"] == 0 and not ran.err
        ran = liif("upscale", "q40.jpg", "-s", 2, "--restore", "0.5", "-o", "x.png")
        assert ran.code == 2 and f"there is no {DEFAULT}-photo" in ran.err[0] and not Path("x.png").exists()
        ran = liif("upscale", "q40.jpg", "-s", 2, "--restore", "half", "-o", "x.png")
        assert ran.code == 2 and ran.err[0].startswith("Error: --restore 'half' is not a strength")


def test_a_comparison_restores_by_what_it_degraded(liif: Callable[..., Any], pair: Path, desk: Path) -> None:
    Image.fromarray(PIXELS).save("in.png")
    ran = liif("compare", "in.png", "-s", 2, "--degrade", "jpeg:80", "--json")
    assert json.loads(ran.out[0])["panels"][-1] == f"{DEFAULT}, restored 0.5"
    assert "strength 0.5: JPEG quality 80" in ran.err[0]

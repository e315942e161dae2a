"""`liif compare`: the sheet."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from liif_cli.images.degrade import Degradation
from liif_cli.images.panels import GAP, Panel, draw_sheet, load_font, sheet_shape, shortened
from liif_cli.models.checkpoints import save_model
from liif_cli.models.model import SRModel
from liif_cli.rendering.renderer import render_image
from liif_cli.rendering.sizes import Region, Scale, Size, make_grid
from liif_cli.upscaling.comparison import Variant, filtered, opaque, panels
from liif_cli.upscaling.options import Options
from liif_cli.upscaling.upscaler import Upscaler

RNG = np.random.default_rng(4)
PIXELS = RNG.integers(0, 256, (16, 24, 3), np.uint8)
X3 = make_grid((16, 24), Scale.parse("3"))


def test_the_filters_are_pillow_s_and_the_model_is_ours(tiny: SRModel) -> None:
    mild = PIXELS // 3 + 80  # nothing overshoots: Pillow's 8-bit arithmetic clips between its passes, floats do not
    shown = list(panels(mild, X3, [Variant(Upscaler(tiny, Options(precision="fp32")))]))
    assert [panel.label for panel in shown] == ["input", "bicubic", "Lanczos", "SRModel"]
    np.testing.assert_array_equal(shown[0].pixels, mild.repeat(3, 0).repeat(3, 1))
    for panel, filter in zip(shown[1:], (Image.Resampling.BICUBIC, Image.Resampling.LANCZOS), strict=False):
        expected = np.asarray(Image.fromarray(mild).resize((72, 48), filter))
        assert np.abs(panel.pixels.astype(int) - expected).max() <= 1
    ours = np.rint(render_image(tiny, mild, X3) * 255)
    assert np.abs(shown[3].pixels - ours).max() <= 1


@pytest.mark.parametrize("target", [Scale.parse("2x3.5"), Size.parse("31x17"), Scale.parse("0.5"), Size.parse("9x60")])
def test_all_panels_show_the_same_place(tiny: SRModel, target: Any) -> None:
    """Regions too: a smooth ramp looks the same by every filter, and its parts as in the whole."""
    ramp = np.broadcast_to(np.linspace(0, 255, 24, dtype=np.float32)[None, :, None] / 255, (16, 24, 3)).copy()
    whole = make_grid((16, 24), target)
    full = filtered(ramp, whole, "bicubic")
    if isinstance(target, Scale):
        part = make_grid((16, 24), target, Region(6, 4, 12, 8))
        cut = full[part.rows.start : part.rows.stop, part.columns.start : part.columns.stop]
        assert np.abs(filtered(ramp, part, "bicubic").astype(int) - cut).max() <= 1
    own = make_grid((16, 24), target, Region(6, 4, 12, 8))
    shown = filtered(ramp, own, "lanczos")
    assert shown.shape[:2] == own.shape
    step = own.columns.extent / own.columns.count
    centres = own.columns.offset + (np.arange(own.columns.start, own.columns.stop) + 0.5) * step - 0.5
    assert np.abs(shown[0, :, 0] - centres * 255 / 23).max() < 8


def test_transparency_is_shown_on_white() -> None:
    pixels = np.array([[[10, 0], [10, 255]]], np.uint8)
    np.testing.assert_allclose(opaque(pixels) * 255, [[[255] * 3, [10] * 3]], atol=1e-4)
    deep = np.full((1, 1, 4), 65535, np.uint16)
    assert opaque(deep).tolist() == [[[1, 1, 1]]]


@pytest.mark.parametrize("columns", [None, 1, 2, 9])
def test_the_sheet_holds_every_panel_whole(columns: int | None) -> None:
    shown = [Panel(f"way {i}", RNG.integers(0, 200, (20, 30, 3), np.uint8)) for i in range(3)]
    sheet = draw_sheet(shown, columns)
    across = min(columns or 3, 3)
    strip = (sheet.shape[0] - GAP) // -(-3 // across) - 20 - GAP
    for index, panel in enumerate(shown):
        left, top = GAP + index % across * (30 + GAP), GAP + index // across * (20 + strip + GAP) + strip
        np.testing.assert_array_equal(sheet[top : top + 20, left : left + 30], panel.pixels)
        assert sheet[top - strip : top, left : left + 30].min() < 128, "no label"
    least = sheet_shape(make_grid((20, 30), Scale.parse("1")), 3, columns)
    assert least[0] <= sheet.shape[0] and least[1] == sheet.shape[1]


def test_long_labels_are_shortened_to_fit() -> None:
    font = load_font(14)
    short = shortened("hf://somebody/a-very-long-name-of-a-model", 100, font)
    assert font.getlength(short) <= 100 and short.startswith("hf") and short.endswith("l") and "..." in short
    assert shortened("bicubic", 100, font) == "bicubic"
    assert len(shortened("abc", 1, font)) == 1


def test_the_command(liif: Callable[..., Any], desk: Path, tiny_file: Path) -> None:
    Image.fromarray(PIXELS).save("in.png")
    other = desk / "other.safetensors"
    other.write_bytes(tiny_file.read_bytes())
    ran = liif("compare", "in.png", "-m", tiny_file, "-m", other, "-s", 3, "--region", "4,4,10,8", "--json")
    about = json.loads(ran.out[0])
    assert ran.code == 0 and about["panels"] == ["input", "bicubic", "Lanczos", "tiny", "other"]
    assert about["output"] == "in_compared_3x.png" and about["width"] == 5 * (30 + GAP) + GAP
    with Image.open("in_compared_3x.png") as sheet:
        assert sheet.size == (about["width"], about["height"])
    again = liif("compare", "in.png", "-m", tiny_file, "-s", 3)
    assert again.code == 4 and again.err[1] == "Hint: --overwrite replaces it"
    assert liif("compare", "in.png", "-m", tiny_file, "--size", "40x", "--overwrite", "-o", "x.webp").out == ["x.webp"]
    assert liif("compare", "in.png", "-m", tiny_file, "-s", 1000, "-o", "y.png").code == 9
    assert liif("compare", "gone.png", "-m", tiny_file).code == 3
    assert liif("compare", "in.png", "-m", "no-such-model", "-o", "y.png").code == 5
    assert not Path("y.png").exists()


def test_a_panel_for_each_cell(liif: Callable[..., Any], desk: Path, tiny_file: Path) -> None:
    """Each is what `liif upscale --cell` makes; paper, figure 7."""
    Image.fromarray(PIXELS).save("in.png")
    up = ("in.png", "-m", tiny_file, "-s", 4)
    about = json.loads(liif("compare", *up, "--cell", "raw,1/1,1/2,1/30", "-o", "sheet.png", "--json").out[0])
    assert about["panels"][3:] == ["tiny", "tiny, cell 1/1", "tiny, cell 1/2", "tiny, cell 1/30"]
    with Image.open("sheet.png") as sheet:
        shown = np.asarray(sheet)[-GAP - 64 : -GAP]
    seen = set()
    for index, cell in enumerate(["raw", "1/1", "1/2", "1/30"]):
        assert liif("upscale", *up, "--cell", cell, "-o", "one.png", "--overwrite").code == 0
        with Image.open("one.png") as one:
            left = GAP + (3 + index) * (96 + GAP)
            np.testing.assert_allclose(shown[:, left : left + 96].astype(int), np.asarray(one), atol=1)
            seen.add(one.tobytes())
    assert len(seen) == 4
    assert liif("compare", *up, "--cell", "raw,2", "-o", "x.png").code == 2


def test_a_typed_size_stands_against_a_configured_scale(
    liif: Callable[..., Any], tiny_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(PIXELS).save("in.png")
    monkeypatch.setenv("LIIF_SCALE", "2")
    assert liif("compare", "in.png", "-m", tiny_file).out == ["in_compared_2x.png"]
    assert liif("compare", "in.png", "-m", tiny_file, "--size", "40x").out == ["in_compared_40x.png"]
    monkeypatch.setenv("LIIF_SIZE", "50x")
    assert liif("compare", "in.png", "-m", tiny_file).code == 2


def test_several_images_are_a_contact_sheet(
    liif: Callable[..., Any], tiny_file: Path, tiny: SRModel, desk: Path
) -> None:
    Image.fromarray(PIXELS).save("a.png")
    Image.fromarray(PIXELS[:10, :12]).save("b.png")
    other = SRModel.from_tensors(tiny.config, {name: 0.7 * t for name, t in tiny.export().items()})
    pair = desk / "pair.safetensors"
    pair.write_bytes(tiny_file.read_bytes())
    save_model(other, desk / "pair-photo.safetensors", licence="CC0-1.0", provenance={})
    options = ("-m", pair, "-s", 2, "--degrade", "noise:9+jpeg:30", "--restore", 0, "--restore", 1)
    assert liif("compare", "a.png", "b.png", *options).err[0] == "Error: a sheet of several images needs a name"
    ran = liif("compare", "a.png", "b.png", *options, "-o", "sheet.png", "--json")
    about = json.loads(ran.out[0])
    rest = ["bicubic", "Lanczos", "pair", "pair, restored 1"]
    assert about["panels"] == ["a", *rest, "b", *rest] and about["width"] == 5 * (48 + GAP) + GAP
    lone = liif("compare", "a.png", *options, "-o", "a-only.png", "--json")
    assert json.loads(lone.out[0])["panels"][0] == "input"
    with Image.open("sheet.png") as sheet, Image.open("a-only.png") as first:
        both, alone = np.asarray(sheet), np.asarray(first)
    top = alone.shape[0]
    np.testing.assert_array_equal(both[top - 40 : top], alone[-40:])  # the labels differ
    assert both.shape[0] > top + 20 and (both[top:, 5 * (24 + GAP) + GAP :] == 255).all()
    damaged = Degradation.parse("noise:9+jpeg:30").apply(PIXELS, "a.png")
    np.testing.assert_array_equal(alone[-GAP - 32 : -GAP, GAP : GAP + 48], damaged.repeat(2, 0).repeat(2, 1))
    assert liif("compare", "a.png", "-m", tiny_file, "--restore", 1, "-o", "x.png").code == 2
    assert liif("compare", "a.png", "-m", tiny_file, "--degrade", "rain", "-o", "x.png").code == 2
    assert liif("compare", "a.png", "b.png", *options, "-o", "x.png", "--max-pixels", 20000).code == 9
    assert not Path("x.png").exists()

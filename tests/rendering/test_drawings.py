"""The shipped models on what is no photograph: at least as good as Lanczos, and thin lines stay whole."""

from pathlib import Path

import numpy as np
import pytest
import torch
from bench_flat import SIDE, decibels, line_art, palette, text
from make_line_art import draw, flat
from PIL import Image

from liif_cli.coords import Grid
from liif_cli.images.degrade import Degradation
from liif_cli.images.resize import resample
from liif_cli.models.store import load_model
from liif_cli.rendering.renderer import render_image
from liif_cli.training.validation import Case, make_case, render

pytestmark = pytest.mark.weights
CHELSEA = Path(__file__).parents[2] / "docs" / "chelsea.png"


@pytest.mark.parametrize(("name", "how"), [("light", "clean"), ("light-photo", "jpeg:75")])
@pytest.mark.parametrize("draw", [text, line_art, palette])
def test_better_than_lanczos(draw, name: str, how: str) -> None:
    clean = make_case(np.asarray(draw()), SIDE, 2.0)
    case = Case(2.0, Degradation.parse(how).apply(clean.lr, draw.__name__), clean.hr)
    filtered = resample(case.lr, SIDE, SIDE, "lanczos")
    assert decibels(render(load_model(name), case), case) > decibels(filtered, case) + 1


@pytest.mark.parametrize(
    ("kind", "scale"), [("line_art.png", 2), ("line_art.png", 3), ("line_art.png", 4), ("line_art.gif", 3)]
)
def test_the_sample_of_line_art_is_better_than_by_lanczos(kind: str, scale: int) -> None:
    """Thin lines, small text and rims, in full colour and in a palette."""
    with Image.open(CHELSEA.with_name(kind)) as image:
        fine = np.asarray(image.convert("RGB"))
    for filter in ("bicubic", "box"):
        low = resample(fine, fine.shape[0] // scale, fine.shape[1] // scale, filter).copy()
        case = Case(float(scale), low, fine)
        filtered = decibels(resample(low, *fine.shape[:2], "lanczos"), case)
        assert decibels(render(load_model("light"), case), case) > filtered + (1 if filter == "bicubic" else 0)


def test_the_sample_is_what_its_tool_draws() -> None:
    for name, drawn in (("line_art.png", draw()), ("line_art.gif", flat(draw()))):
        with Image.open(CHELSEA.with_name(name)) as image:
            kept = np.asarray(image.convert("RGB")).astype(int)
        assert np.abs(kept - np.asarray(drawn.convert("RGB"))).mean() < 0.5  # libraries round letters in their own ways


@pytest.mark.parametrize("slope", [0.05, 0.3, 0.5])
@pytest.mark.parametrize("name", ["light", "light-photo"])
def test_a_thin_line_does_not_break_into_dashes(name: str, slope: float) -> None:
    """A slanted line, as wide as an input pixel: its lightest place is darker than by Lanczos."""
    side = 48
    x = np.arange(4 * side) / 4
    distance = np.abs(x[:, None] - (8 + slope * x)[None]) / np.hypot(1, slope)
    fine = np.where(distance < 0.5, 0, 255).astype(np.uint8)[..., None].repeat(3, 2)
    low = resample(fine, side, side, "box").copy()
    shown, filtered = render(load_model(name), Case(4.0, low, fine)), resample(low, *fine.shape[:2], "lanczos")
    lightest, usual = (image.min(2).min(0)[16:-16].max() for image in (shown, filtered))  # of each column the darkest
    assert lightest < usual


def strange(side: int) -> dict[str, np.ndarray]:
    """What no photograph looks like, (side, side, 3) uint8."""
    generator, (y, x) = np.random.default_rng(0), np.mgrid[:side, :side]
    with Image.open(CHELSEA) as image:
        photograph = image.convert("RGB").crop((100, 100, 100 + side, 100 + side))
    gray = {
        "checkerboard": 255 * ((x + y) % 2),
        "stripes": 255 * (x % 2),
        "dithered": 255 * np.asarray(photograph.convert("1")),
        "one bit": 255 * generator.integers(0, 2, (side, side)),
    }
    noisy = np.asarray(photograph) + generator.normal(0, 80, (side, side, 3))
    colour = {"noise": generator.integers(0, 256, (side, side, 3)), "very noisy": noisy.clip(0, 255)}
    shown = colour | {name: values[..., None].repeat(3, 2) for name, values in gray.items()}
    return {name: values.astype(np.uint8) for name, values in shown.items()}


@pytest.mark.parametrize("name", ["light", "light-photo", "light-large"])
def test_images_that_training_did_not_show_stay_recognisable(name: str) -> None:
    """Products of features grow without bound there, up to black and white blots and NaN, unless something bounds them."""
    model, side = load_model(name), 40
    for kind, image in strange(side).items():
        grid = Grid.whole((side, side), (2 * side, 2 * side))
        shown = render_image(model, image, grid)
        filtered = resample(image, 2 * side, 2 * side, "lanczos") / 255
        assert np.abs(shown - filtered).mean() < 0.2, kind
        tiled = render_image(model, image, grid, side=32)
        assert np.abs(shown - tiled).max() < 1e-4, kind


@pytest.mark.parametrize("name", ["light", "light-photo", "light-large"])
def test_photographs_are_not_touched_by_that(name: str) -> None:
    with Image.open(CHELSEA) as image:
        pixels = torch.from_numpy(np.asarray(image.convert("RGB"))[60:124, 60:124].copy()).permute(2, 0, 1)[None] / 255
    model = load_model(name)
    with torch.inference_mode():
        shown = model.encoder(model.normalise(pixels))
        model.encoder.train()
        assert torch.equal(shown, model.encoder(model.normalise(pixels)))

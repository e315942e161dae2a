"""The shipped models on what is no photograph: at least as good as Lanczos, and thin lines stay whole."""

import numpy as np
import pytest
from bench_flat import SIDE, decibels, line_art, palette, text

from liif_cli.images.degrade import Degradation
from liif_cli.images.resize import resample
from liif_cli.models.store import load_model
from liif_cli.training.validation import Case, make_case, render

pytestmark = pytest.mark.weights


@pytest.mark.parametrize(("name", "how"), [("light", "clean"), ("light-photo", "jpeg:75")])
@pytest.mark.parametrize("draw", [text, line_art, palette])
def test_better_than_lanczos(draw, name: str, how: str) -> None:
    clean = make_case(np.asarray(draw()), SIDE, 2.0)
    case = Case(2.0, Degradation.parse(how).apply(clean.lr, draw.__name__), clean.hr)
    filtered = resample(case.lr, SIDE, SIDE, "lanczos")
    assert decibels(render(load_model(name), case), case) > decibels(filtered, case) + 1


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

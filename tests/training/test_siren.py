"""`liif fit`: one sinusoidal network for one image."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from liif_cli.coords import Grid
from liif_cli.training.siren import GAIN, PATIENCE, Stop, fit, render

Y, X = np.mgrid[0:12, 0:16] / 16.0
PIXELS = np.rint(127 + 90 * np.stack([np.sin(7 * X), np.cos(5 * Y), np.sin(4 * X + 6 * Y)], -1)).astype(np.uint8)


def test_it_fits_its_image_and_stops_where_asked() -> None:
    seen: list[int] = []
    fitted = fit(PIXELS, target=30, width=32, iterations=2000, progress=lambda iteration, psnr: seen.append(iteration))
    assert fitted.reason == "psnr" and fitted.psnr > 29 and seen == [*range(1, fitted.iterations + 1)]
    own = np.concatenate(list(render(fitted, Grid.whole((12, 16), (12, 16)))))
    assert np.abs(own * 255 - PIXELS).mean() < 10
    large = np.concatenate(list(render(fitted, Grid.whole((12, 16), (36, 48)))))
    np.testing.assert_allclose(large[1::3, 1::3], own, atol=1e-4)  # x3: its middle pixels lie on the image's
    assert fit(PIXELS, target=30, width=32, iterations=7).reason == "iterations"


def test_it_stops_when_nothing_is_gained() -> None:
    stop = Stop(iterations=10_000, target=99)
    assert stop.reason(1, 20.0) == "" and stop.reason(PATIENCE, 20.0 + GAIN / 2) == ""
    assert stop.reason(PATIENCE + 1, 20.0 + GAIN / 2) == "no gain"


@pytest.mark.parametrize("target", [("-s", 2.5), ("--size", "40x30")])
def test_the_command(liif: Callable[..., Any], desk: Path, target: tuple[object, ...]) -> None:
    Image.fromarray(PIXELS).save("in.png")
    ran = liif("fit", "in.png", *target, "--iterations", 5, "-o", "out.png", "--json")
    about = json.loads(ran.out[0])
    assert ran.code == 0 and about["stopped"] == "iterations" and about["iterations"] == 5 and about["psnr"] > 5
    assert "dB over the image's own pixels after 5 iterations (all iterations done)" in ran.err[0]
    with Image.open("out.png") as out:
        assert out.size == (40, 30)
    assert liif("fit", "in.png", *target, "-o", "out.png").code == 4
    assert liif("fit", "in.png").code == 2 and liif("fit", "gone.png", "-s", 2).code == 3

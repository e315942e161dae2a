"""Parsing URLs of the IIIF Image API 3.0, by the tables of its specification (sections 4 and 5)."""

import time

import numpy as np
import pytest

from liif_cli.coords import Axis
from liif_cli.viewing.iiif import Canvas, Limits, Refused, Request, information, parse

CANVAS = Canvas(300, 200)
LIMITS = Limits(width=2000, area=1_000_000)


def ask(
    region: str = "full", size: str = "max", rotation: str = "0", last: str = "default.png", canvas: Canvas = CANVAS
) -> Request:
    return parse(canvas, region, size, rotation, last, LIMITS)


@pytest.mark.parametrize(
    ("region", "box"),
    [
        ("full", (0, 0, 300, 200)),
        ("square", (50, 0, 200, 200)),
        ("125,15,120,140", (125, 15, 120, 140)),
        ("125,15,200,200", (125, 15, 175, 185)),  # cropped at the image's edge
        ("pct:41.6,7.5,40,70", (125, 15, 120, 140)),
        ("pct:41.6,7.5,66.6,100", (125, 15, 175, 185)),
        ("0,0,1,1", (0, 0, 1, 1)),
    ],
)
def test_regions(region: str, box: tuple[int, ...]) -> None:
    assert ask(region).box == box


@pytest.mark.parametrize(
    ("region", "size", "expected"),
    [
        ("full", "max", (300, 200)),
        ("full", "^max", (1224, 816)),
        ("full", "150,", (150, 100)),
        ("full", "^360,", (360, 240)),
        ("full", ",150", (225, 150)),
        ("full", "^,240", (360, 240)),
        ("full", "pct:50", (150, 100)),
        ("full", "^pct:120", (360, 240)),
        ("full", "225,100", (225, 100)),
        ("full", "^360,360", (360, 360)),
        ("full", "!225,100", (150, 100)),
        ("full", "!1000,1000", (300, 200)),  # without ^ the region is not enlarged
        ("full", "^!360,360", (360, 240)),
        ("10,10,30,20", "max", (30, 20)),
        ("10,10,30,20", "^300,", (300, 200)),
    ],
)
def test_sizes(region: str, size: str, expected: tuple[int, int]) -> None:
    assert ask(region, size).size == expected


@pytest.mark.parametrize(
    ("rotation", "mirrored", "turn"), [("0", False, 0), ("90", False, 90), ("!180", True, 180), ("270.0", False, 270)]
)
def test_rotations(rotation: str, mirrored: bool, turn: int) -> None:
    found = ask(rotation=rotation)
    assert (found.mirrored, found.turn) == (mirrored, turn)


@pytest.mark.parametrize(
    "parts",
    [
        {"region": text}
        for text in ("", "Full", "1,2,3", "0,0,0,5", "300,0,5,5", "-1,0,5,5", "0,0,1.5,2", "pct:0,0,0,0", "1e9,0,1,1")
    ]
    + [{"region": f"{'9' * 4000},0,1,1"}, {"region": "pct:100,0,5,5"}, {"region": "٣,0,1,1"}]
    + [
        {"size": text}
        for text in (
            "",
            ",",
            "^",
            "full",
            "0,",
            ",0",
            "301,",
            "pct:101",
            "^pct:0.01",
            "1,0",
            "!5,",
            "^2001,",
            "^1500,900",
        )
    ]
    + [{"size": "^999999999,999999999"}, {"size": "-1,5"}, {"size": "^^max"}, {"size": "²,"}]
    + [{"rotation": text} for text in ("", "45", "-90", "!", "!!90", "361", "nan", "9e1")]
    + [{"last": text} for text in ("", "default", "default.", ".png", "default.gif", "colour.png", "default.png/x")],
)
def test_an_invalid_request_is_refused_before_any_work(parts: dict[str, str]) -> None:
    began = time.perf_counter()
    with pytest.raises(Refused) as error:
        ask(**parts)
    assert error.value.status == 400
    assert time.perf_counter() - began < 0.5


@pytest.mark.parametrize(
    ("parts", "canonical"),
    [
        ({}, "full/max/0/default.png"),
        ({"region": "0,0,300,200", "size": "300,"}, "full/max/0/default.png"),
        ({"size": "pct:50"}, "full/150,100/0/default.png"),
        ({"region": "square", "size": "^!400,400", "rotation": "!90.0"}, "50,0,200,200/^400,400/!90/default.png"),
    ],
)
def test_canonical_forms(parts: dict[str, str], canonical: str) -> None:
    found = ask(**parts)
    assert found.canonical == canonical
    assert ask(*canonical.split("/")).canonical == canonical


def centres(axis: Axis) -> np.ndarray:
    whole, fraction = axis.split()
    return whole + fraction


@pytest.mark.parametrize("level", range(7))
def test_tiles_of_an_enlarged_canvas_lie_on_the_grid_of_the_whole(level: int) -> None:
    canvas, step = Canvas(30, 20, 64), 2**level
    for column in range(0, 30 * 64, 256 * step):
        width = min(256 * step, 30 * 64 - column)
        count = width // step
        grid = ask(f"{column},0,{width},{step}", f"{count},1", canvas=canvas).grid
        whole = Axis.whole(30, 30 * 64 // step).part(column // step, column // step + count)
        assert np.array_equal(centres(grid.columns), centres(whole)) and grid.columns.cell == whole.cell


def test_an_odd_region_of_an_enlarged_canvas_is_less_than_half_a_pixel_off() -> None:
    axis = ask("101,0,333,64", "97,19", canvas=Canvas(30, 20, 64)).grid.columns
    wanted = (101 + (np.arange(97) + 0.5) * 333 / 97) / 64 - 0.5
    assert len(axis) == 97
    assert np.abs(centres(axis) - wanted).max() < 1.0 * 333 / 97 / 64


def test_information() -> None:
    found = information(Canvas(451, 300, 8), "http://h/iiif/x8/a", LIMITS)
    assert (found["type"], found["profile"], found["protocol"]) == (
        "ImageService3",
        "level2",
        "http://iiif.io/api/image",
    )
    assert (found["width"], found["height"]) == (3608, 2400)
    assert found["tiles"][0]["scaleFactors"] == [1, 2, 4, 8, 16]
    assert all(size["width"] * size["height"] <= LIMITS.area for size in found["sizes"])
    assert {"sizeUpscaling", "mirroring"} <= set(found["extraFeatures"])

"""Sizes, scales, regions and cells as users write them."""

from itertools import pairwise

import pytest

from liif_cli.coords import Grid
from liif_cli.errors import LimitError, UsageError
from liif_cli.rendering.sizes import (
    GRAVITY,
    Cell,
    PrintSize,
    Region,
    Scale,
    Size,
    aspect_change,
    check_pixels,
    make_grid,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "size", "expected"),
    [
        ("7.5", (100, 101), (750, 758)),  # 757.5 rounds up
        ("2.675", (200, 200), (535, 535)),  # as a binary float it is below 2.675
        ("1.005", (100, 300), (101, 302)),  # 100.5 and 301.5, both up
        ("2x3.5", (10, 10), (35, 20)),
        ("0.001", (10, 10), (1, 1)),
        ("1e1", (3, 4), (30, 40)),
        ("4x", (3, 4), (12, 16)),
        ("x4", (3, 4), (12, 16)),
        ("\u00d74", (3, 4), (12, 16)),
        ("2\u00d73.5", (10, 10), (35, 20)),
        ("2*3.5", (10, 10), (35, 20)),
        ("250 %", (10, 10), (25, 25)),
    ],
)
def test_scale(text: str, size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert Scale.parse(text).of(size) == expected


@pytest.mark.parametrize(
    "text", ["0", "-1", "nan", "inf", "", "x", "xx", "x2x", "2x0", "%", "-5%", "1x2x3", "four", "2,5"]
)
def test_no_scale(text: str) -> None:
    with pytest.raises(UsageError):
        Scale.parse(text)


@pytest.mark.parametrize(
    ("text", "fit", "expected"),
    [
        ("1920x1080", "exact", (1080, 1920)),
        ("1920x", "exact", (1280, 1920)),
        ("x1080", "exact", (1080, 1620)),
        ("1920x1080", "contain", (1080, 1620)),
        ("1920x1080", "cover", (1280, 1920)),
        ("300x4000", "contain", (200, 300)),
        ("300x4000", "cover", (4000, 6000)),
        ("1x1", "contain", (1, 1)),
    ],
)
def test_size_of_a_600x400_image(text: str, fit: str, expected: tuple[int, int]) -> None:
    assert Size.parse(text, fit).of((400, 600)) == expected  # type: ignore[arg-type]


def test_a_scale_is_named_as_it_is_written() -> None:
    labels = [Scale.parse(text).label for text in ("4", "4x", "X4", "\u00d74", "400%", "7.50", "2 x 3.5", "1000%")]
    assert labels == ["4x", "4x", "4x", "4x", "4x", "7.50x", "2x3.5x", "10x"]


def test_sizes_with_other_signs() -> None:
    assert [Size.parse(text) for text in ("1920\u00d71080", "1920*1080", "1920 X 1080")] == [Size(1920, 1080)] * 3


@pytest.mark.parametrize(
    ("kind", "text", "hint"),
    [
        (Scale, "2,5", "use a decimal point: 2.5"),
        (Scale, "4K", "give this screen size as a size: 3840x2160"),
        (Size, "4k", "use 3840x2160 for exactly this size, or 3840x or x2160 to keep the aspect ratio"),
        (Size, "1080P", "use 1920x1080 for exactly this size, or 1920x or x1080 to keep the aspect ratio"),
        (Size, "FHD", "use 1920x1080 for exactly this size, or 1920x or x1080 to keep the aspect ratio"),
        (Size, "1920", "use 1920x for the width, or x1920 for the height"),
    ],
)
def test_hints_tell_the_right_spelling(kind: type[Scale | Size], text: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        kind.parse(text)
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30x20cm", (3543, 2362)),
        ("30cm x 20cm", (3543, 2362)),
        ("300\u00d7200mm", (3543, 2362)),
        ("12x8in", (3600, 2400)),
        ('12"x8"', (3600, 2400)),
        ("10.5xin", (3150, None)),
        ("x20cm", (None, 2362)),
        ("1920x1080px", (1920, 1080)),
        ("1920x", (1920, None)),
    ],
)
def test_sizes_on_paper(text: str, expected: tuple[int | None, int | None]) -> None:
    found = parse_size(text, "cover", dpi=300)
    assert isinstance(found, Size) and (found.width, found.height, found.fit) == (*expected, "cover")


def test_a_size_on_paper_takes_the_images_own_resolution_and_one_unit() -> None:
    size = parse_size("10x5cm")
    assert isinstance(size, PrintSize) and size.at((254.0, 508.0)) == Size(1000, 1000)
    with pytest.raises(UsageError, match="has no resolution"):
        size.at(None)
    with pytest.raises(UsageError, match="several units"):
        parse_size("30cmx8in")
    for text in ("0x0cm", "xcm", "-3x2cm", "3..2x1in", "axbcm"):
        with pytest.raises(UsageError, match="is not a size"):
            parse_size(text, dpi=300)


@pytest.mark.parametrize("size", [(400, 600), (600, 400), (101, 333)])
@pytest.mark.parametrize("gravity", GRAVITY)
def test_a_crop_fills_the_box_with_the_part_that_is_wanted(size: tuple[int, int], gravity: str) -> None:
    whole = make_grid(size, Size(300, 250, "cover"))
    grid = make_grid(size, Size(300, 250, "crop", gravity))
    assert grid.shape == (250, 300)
    for axis, full, word in (
        (grid.rows, whole.rows, ("north", "south")),
        (grid.columns, whole.columns, ("west", "east")),
    ):
        assert axis.count == full.count >= len(axis)
        over = full.count - len(axis)
        assert axis.start == (0 if word[0] in gravity else over if word[1] in gravity else over // 2)
    assert make_grid(size, Size(300, None, "crop")) == make_grid(size, Size(300, None))


@pytest.mark.parametrize("text", ["0x10", "-1x5", "x", "1920", "19.5x10", "", "axb", "10x0"])
def test_no_size(text: str) -> None:
    with pytest.raises(UsageError):
        Size.parse(text)


def test_absurd_sizes_are_refused_without_building_them() -> None:
    for text in ("1e9", "1e999999999"):
        with pytest.raises(LimitError):
            check_pixels(Scale.parse(text).of((100, 100)))
    check_pixels((1, 2**31))


def test_aspect_change() -> None:
    assert aspect_change((400, 600), (800, 1200)) == 0
    assert aspect_change((400, 600), (800, 800)) == pytest.approx(1 / 3)


@pytest.mark.parametrize("text", ["1,2,3", "1,2,3,0", "-1,0,5,5", "a,b,c,d", "1.5,0,3,3"])
def test_no_region(text: str) -> None:
    with pytest.raises(UsageError):
        Region.parse(text)


def test_region_beyond_the_image() -> None:
    with pytest.raises(UsageError, match="beyond"):
        make_grid((10, 10), Scale.parse("2"), Region(5, 5, 6, 2))


def test_region_with_scale_and_with_size() -> None:
    scaled = make_grid((10, 20), Scale.parse("2.5"), Region(4, 2, 6, 3))
    assert (scaled.columns.start, scaled.columns.stop) == (10, 25)
    assert (scaled.rows.start, scaled.rows.stop) == (5, 13)  # 7.5 rows from 5 on, rounded half up
    own = make_grid((10, 20), Size.parse("60x30"), Region(4, 2, 6, 3))
    assert own.shape == (30, 60)
    assert own.columns.cell == pytest.approx(0.1)


@pytest.mark.parametrize("scale", ["1.5", "0.31", "2.675", "7.3", "0.01", "1x3.5"])
def test_a_region_has_one_size_wherever_its_corner_lies(scale: str) -> None:
    """`--region 0,0,15,15` at x1.5 gave 22x22, `--region 3,3,15,15` 23x23."""
    target = Scale.parse(scale)
    shapes = {make_grid((40, 40), target, Region(i, i, 15, 15)).shape for i in range(26)}
    assert shapes == {target.of((15, 15))}
    assert make_grid((40, 40), target, Region(0, 0, 40, 40)) == make_grid((40, 40), target)


def test_neighbouring_regions_leave_no_gap_and_overlap_by_a_pixel_at_most() -> None:
    for scale in ("1.5", "2.3", "3.7"):
        parts = [make_grid((60, 60), Scale.parse(scale), Region(x, 0, 15, 60)).columns for x in range(0, 60, 15)]
        assert parts[0].start == 0 and parts[-1].stop == parts[-1].count
        assert all(0 <= one.stop - other.start <= 1 for one, other in pairwise(parts))


def test_cells() -> None:
    grid = Grid.whole((10, 10), (100, 20))
    clipped = Cell.parse("clip").over(grid)
    assert (clipped.rows.cell, clipped.columns.cell) == (0.25, 0.5)
    assert Cell.parse("1/8").over(grid).rows.cell == 0.125
    assert Cell.parse("raw").over(grid) is grid
    for wrong in ("1/0", "2/3", "1/x", "big", "1/nan"):
        with pytest.raises(UsageError):
            Cell.parse(wrong)

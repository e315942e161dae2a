"""Positions, cells and nearest codes, against the paper's formulas in exact rational arithmetic."""

from fractions import Fraction

import numpy as np
import pytest

from liif_cli.coords import Axis, pixel_centres, to_position


def exact(size: int, count: int, index: int) -> Fraction:
    """Position of a pixel's centre, from the paper's coords."""
    coord = -1 + Fraction(2 * index + 1, count)
    return (coord + 1) * size / 2 - Fraction(1, 2)


@pytest.mark.parametrize(
    ("size", "count"), [(13, 13), (13, 39), (13, 29), (17, 9), (1, 5), (8000, 60000), (30000, 2**31)]
)
def test_positions_are_exact(size: int, count: int) -> None:
    for index in {0, 1, count // 3, count // 2, count - 1}:
        lower, fraction = Axis.whole(size, count).part(index, index + 1).split()
        position = exact(size, count, index)
        assert lower[0] == position.numerator // position.denominator
        assert fraction[0] == float(position - int(lower[0]))


def test_float32_coords_would_err_where_ours_do_not() -> None:
    size, count = 8000, 60000
    index = np.arange(count)
    float32 = (np.float32(-1) + (2 * index.astype(np.float32) + 1) / np.float32(count) + 1) * np.float32(
        size
    ) / 2 - np.float32(0.5)
    ours = Axis.whole(size, count).positions()
    reference = [float(exact(size, count, int(i))) for i in index[::997]]
    assert np.abs(float32 - ours).max() > 3e-4
    assert np.abs(ours[::997] - reference).max() < 1e-11


def test_coords_and_positions_say_the_same() -> None:
    coord = np.stack(np.meshgrid(pixel_centres(29), pixel_centres(41), indexing="ij"), -1)
    position = to_position(coord, (13, 17))
    np.testing.assert_allclose(position[:, 0, 0], Axis.whole(13, 29).positions(), atol=1e-12)
    np.testing.assert_allclose(position[0, :, 1], Axis.whole(17, 41).positions(), atol=1e-12)


def test_cell_is_the_pixel_in_lr_pixels() -> None:
    assert Axis.whole(13, 39).cell == pytest.approx(1 / 3)
    assert Axis(13, 20, 0, 20, offset=2, extent=5).cell == 0.25
    assert Axis.whole(13, 39).with_cell(0.5).part(1, 2).cell == 0.5


@pytest.mark.parametrize(("size", "count"), [(13, 29), (13, 39), (13, 13), (13, 5), (50, 1000)])
def test_tiles_take_each_pixel_once(size: int, count: int) -> None:
    axis = Axis.whole(size, count)
    lower, _ = axis.split()
    for code in range(-1, size + 1):
        assert axis.first_from(code) == int((lower < code).sum())


@pytest.mark.parametrize("region", [(0, 13), (3, 4), (5, 12), (12, 13), (0, 1)])
def test_a_window_is_the_middle_of_its_region(region: tuple[int, int]) -> None:
    first, last = region
    for count in (13, 29, 39, 7, 130, 1):
        axis = Axis.whole(13, count)
        wanted = max(1, (2 * (last - first) * count + 13) // 26)
        part = axis.window(first, last, wanted)
        assert len(part) == wanted and part.start >= 0 and part.stop <= count
        begin, end = (Fraction(edge * count, 13) for edge in region)  # in output pixels
        assert abs(part.start - begin) <= 1 and abs(part.stop - end) <= 1
    assert axis.whole(13, 29).window(0, 13, 29) == Axis.whole(13, 29)


def test_a_region_with_a_grid_of_its_own() -> None:
    axis = Axis(100, 40, 0, 40, offset=30, extent=10)
    np.testing.assert_allclose(axis.positions(), 30 - 0.5 + (np.arange(40) + 0.5) * 0.25)


@pytest.mark.parametrize("axis", [Axis.whole(13, 29), Axis(100, 40, 3, 20, offset=30, extent=10)])
def test_the_axis_from_its_other_end(axis: Axis) -> None:
    mirrored = axis.size - 1 - axis.reversed().positions()[::-1]
    np.testing.assert_allclose(mirrored, axis.positions(), atol=1e-12)
    assert axis.reversed().reversed() == axis


def test_codes_are_those_that_the_ensemble_reads() -> None:
    assert Axis.whole(13, 39).codes() == (0, 13)
    assert Axis.whole(13, 39).part(12, 13).codes() == (3, 5)
    assert Axis.whole(13, 39).part(14, 15).codes() == (4, 6)

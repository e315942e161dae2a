"""Labelled images on one sheet."""

import numpy as np

from liif_cli.images.panels import GAP, Panel, draw_sheet, enlarged


def flat(height: int, width: int, value: int) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def test_panels_of_different_sizes_do_not_overlap() -> None:
    sizes = [(20, 60), (30, 40), (10, 30), (25, 50)]
    shown = [Panel("a\nb", flat(*size, 0)) for size in sizes]
    for index, panel in enumerate(shown):
        panel.pixels[:] = (100 + 20 * index, 0, 200)  # no gray, which the labels have
    sheet = draw_sheet(shown, 2)
    assert sheet.shape[1] == 60 + 50 + 3 * GAP
    for index, (height, width) in enumerate(sizes):
        rows, columns = np.nonzero((sheet == shown[index].pixels[0, 0]).all(axis=2))
        assert len(rows) == height * width and np.ptp(rows) == height - 1
        assert columns.min() == (GAP if index % 2 == 0 else GAP + 60 + GAP)


def test_a_second_line_of_a_label_makes_room_for_itself() -> None:
    one, two = (draw_sheet([Panel(label, flat(40, 40, 0))]) for label in ("a", "a\nb"))
    assert two.shape[0] > one.shape[0] + GAP and two.shape[1] == one.shape[1]
    strip = two.shape[0] - 40 - 2 * GAP
    assert (two[GAP : GAP + strip // 2] < 128).any() and (two[GAP + strip // 2 : GAP + strip] < 128).any()


def test_pixels_are_repeated_when_enlarged() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (3, 5, 3), np.uint8)
    np.testing.assert_array_equal(enlarged(pixels, 6), pixels.repeat(2, 0).repeat(2, 1))
    np.testing.assert_array_equal(enlarged(pixels, 6, 5), pixels.repeat(2, 0))

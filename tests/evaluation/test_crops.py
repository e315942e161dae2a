"""The figure of crops and the plot."""

import numpy as np
import pytest
from PIL import Image

from liif_cli.errors import UsageError
from liif_cli.evaluation.crops import PANEL, Box, box_of_largest_difference, draw_figure
from liif_cli.evaluation.plot import draw_plot
from liif_cli.evaluation.scores import Row, Score
from liif_cli.images.panels import GAP, Panel


def colours(*values, height=40, width=60):
    return [np.full((height, width, 3), value, np.uint8) for value in values]


def test_boxes_as_users_write_them():
    assert Box.parse("3, 4,5,6") == Box(3, 4, 5, 6)
    for text in ("1,2,3", "1,2,0,4", "a,b,c,d", "-1,2,3,4", ""):
        with pytest.raises(UsageError, match="is not a crop"):
            Box.parse(text)
    with pytest.raises(UsageError, match="beyond the 10x9 image"):
        Box(5, 5, 6, 4).check(9, 10)
    Box(5, 5, 5, 4).check(9, 10)


def test_the_box_lies_where_the_images_differ_most():
    first = np.zeros((100, 120, 3))
    second = first.copy()
    second[70:80, 30:40] = 0.5
    second[5, 5] = 1.0
    box = box_of_largest_difference(first, second, 12)
    assert box.left <= 30 and box.left + 12 >= 40 and box.top <= 70 and box.top + 12 >= 80
    assert box_of_largest_difference(first, second).width == 25


def test_every_method_shows_its_own_crop():
    truth, red, blue = colours((0, 255, 0), (255, 0, 0), (0, 0, 255))
    red[:, 30:] = 0  # outside the box
    panels = [Panel("bicubic\n20.00 dB", red), Panel("mine\n30.00 dB", blue)]
    sheet = draw_figure(Panel("ground truth\nx4", truth), panels, Box(10, 10, 20, 20))
    assert sheet.shape[0] > PANEL and sheet.shape[1] > 4 * PANEL
    row = sheet[-GAP - PANEL // 2]
    runs = [tuple(int(v) for v in row[0])]
    for pixel in row:
        if tuple(int(v) for v in pixel) != runs[-1]:
            runs.append(tuple(int(v) for v in pixel))
    white, green = (255, 255, 255), (0, 255, 0)
    assert runs[-7:] == [white, (255, 0, 0), white, (0, 0, 255), white, green, white]
    assert any(pixel[0] > 200 and pixel[1] < 60 for pixel in runs[:-7])  # the frame in the whole image
    assert (sheet[: -GAP - PANEL] < 100).any()  # the labels


def test_panels_must_agree_in_size():
    small, large = colours(0, height=20)[0], colours(0)[0]
    with pytest.raises(ValueError, match="differ in size"):
        draw_figure(Panel("truth", large), [Panel("mine", small)], Box(0, 0, 5, 5))


def rows():
    for scale in (2.0, 4.0, 8.0):
        for method, offset in (("bicubic", 0.0), ("mine", 1.0)):
            yield Row("set5", scale, method, "benchmark", True, (Score("a", 40 - scale + offset, 0.9, 1.0),))
    yield Row("set14", 2.0, "bicubic", "benchmark", True, ())


def test_the_plot(tmp_path):
    pytest.importorskip("matplotlib")
    draw_plot(list(rows()), tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as image:
        assert image.width > image.height > 300
        assert len(image.convert("RGB").getcolors(1 << 24)) > 10
    draw_plot(list(rows()), tmp_path / "plot.svg")
    text = (tmp_path / "plot.svg").read_text()
    assert "bicubic" in text and "PSNR in dB" in text


def test_without_matplotlib_the_command_that_installs_it_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    from liif_cli.evaluation.plot import check_matplotlib

    with pytest.raises(UsageError, match="needs matplotlib") as caught:
        check_matplotlib()
    assert "pip install" in caught.value.hint

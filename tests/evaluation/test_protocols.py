"""Protocols: borders, crops, how LR is made, rounding; and the published bicubic scores."""

import numpy as np
import pytest
from PIL import Image

from liif_cli.errors import InputError, UsageError
from liif_cli.evaluation import metrics
from liif_cli.evaluation.benchmarks import find
from liif_cli.evaluation.evaluate import evaluate
from liif_cli.evaluation.methods import bicubic
from liif_cli.evaluation.protocols import PROTOCOLS, protocol_named
from liif_cli.images.resize import matlab_bicubic

BENCHMARK, DIV2K, MMEDITING, FACES = (PROTOCOLS[name] for name in ("benchmark", "div2k", "mmediting", "celebahq"))


def image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(
    ("protocol", "scale", "border"),
    [(BENCHMARK, 2, 2), (BENCHMARK, 30, 30), (DIV2K, 4, 10), (MMEDITING, 3, 3), (FACES, 8, 0), (BENCHMARK, 2.5, 3)],
)
def test_borders(protocol, scale, border):
    assert protocol.shaved(scale) == border


def test_mmediting_crops_to_a_multiple_of_twelve_and_then_to_the_scale():
    high = image(100, 59)
    pair = MMEDITING.pair(high, 18)
    assert pair.high.shape == (90, 36, 3) and pair.low.shape == (5, 2, 3)  # 96 x 48 -> 5 x 2 pixels of 18
    np.testing.assert_array_equal(pair.high, high[:90, :36])
    assert BENCHMARK.pair(high, 18).high.shape == (90, 54, 3)


def test_low_resolution_images_are_made_as_each_protocol_says():
    high = image(48, 48)
    small = np.asarray(Image.fromarray(high).resize((24, 24), Image.Resampling.BICUBIC))
    matlab = matlab_bicubic(high, 24, 24)
    assert (small != matlab).any()
    np.testing.assert_array_equal(BENCHMARK.pair(high, 2).low, matlab)
    np.testing.assert_array_equal(DIV2K.pair(high, 2).low, matlab)
    np.testing.assert_array_equal(MMEDITING.pair(high, 2).low, small)
    np.testing.assert_array_equal(BENCHMARK.pair(high, 2, "pillow").low, small)
    np.testing.assert_array_equal(MMEDITING.pair(high, 2, "matlab").low, matlab)
    eighth = np.asarray(Image.fromarray(high).resize((8, 8), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(BENCHMARK.pair(high, 6).low, eighth)


def test_files_crop_the_truth_from_its_top_left_corner():
    high, low = image(41, 33), image(20, 16)
    pair = BENCHMARK.pair(high, 2, "files", low)
    np.testing.assert_array_equal(pair.high, high[:40, :32])
    assert pair.low is low
    with pytest.raises(InputError, match="exceeds the HR image of 33x41"):
        BENCHMARK.pair(high, 3, "files", low)


@pytest.mark.parametrize(("side", "scale", "takes"), [(15, 2, False), (16, 2, True), (71, 30, False), (90, 30, True)])
def test_which_images_are_included(side, scale, takes):
    # 15 -> 14 - 4 = 10; 16 -> 16 - 4 = 12; 71 -> 60 - 60 = 0; 90 -> 90 - 60 = 30
    assert BENCHMARK.takes(side, 200, scale) is takes
    assert BENCHMARK.takes(200, side, scale) is takes


def test_eleven_pixels_are_enough_and_ten_are_not():
    assert FACES.takes(12, 12, 2) and not FACES.takes(11, 99, 2)  # 12 and 10 pixels of result
    assert BENCHMARK.takes(17, 17, 3) is False and BENCHMARK.takes(18, 18, 3) is True  # 15 - 6 = 9, 18 - 6 = 12
    assert FACES.takes(11, 11, 1.1)  # 10 LR pixels, 11 of the result


def test_scores_are_unrounded_and_clipped_except_in_mmediting():
    truth = np.full((30, 30, 3), 100, np.uint8)
    result = np.full((30, 30, 3), 100.4 / 255, np.float32)
    expected = -20 * np.log10(0.4 / 255)
    assert BENCHMARK.score(result, truth, 2)[0] == pytest.approx(
        expected - 20 * np.log10(metrics.STUDIO_LUMA.sum()), abs=1e-3
    )
    assert DIV2K.score(result, truth, 2)[0] == pytest.approx(expected, abs=1e-3)
    assert MMEDITING.score(result, truth, 2) == (float("inf"), pytest.approx(1.0))
    white = np.full((30, 30, 3), 255, np.uint8)
    assert DIV2K.score(np.full((30, 30, 3), 1.3), white, 2)[0] == float("inf")


def test_div2k_shaves_six_more():
    truth = np.zeros((40, 40, 3), np.uint8)
    result = np.zeros((40, 40, 3))
    result[7, 20] = 1.0  # the eighth row: inside what benchmark compares at x2, outside of div2k's 8 pixels
    assert DIV2K.score(result, truth, 2)[0] == float("inf")
    assert MMEDITING.score(result, truth, 2)[0] == pytest.approx(10 * np.log10(36 * 36))


def test_the_baseline_is_matlabs_or_pillows():
    low = image(12, 14)
    pillow = np.asarray(Image.fromarray(low).resize((28, 24), Image.Resampling.BICUBIC)) / np.float32(255)
    np.testing.assert_array_equal(MMEDITING.bicubic(low, 24, 28), pillow)
    np.testing.assert_array_equal(BENCHMARK.bicubic(low, 24, 28), np.clip(matlab_bicubic(low / 255, 24, 28), 0, 1))


def test_names():
    assert protocol_named("div2k") is DIV2K
    assert str(DIV2K) == "div2k (rgb, shave scale + 6)" and "8-bit" in str(MMEDITING)
    with pytest.raises(UsageError, match="'ntire' is not a protocol"):
        protocol_named("ntire")


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "protocol", "known", "within"),
    [
        ("set5", "benchmark", {2: 33.685, 3: 30.408, 4: 28.433}, 0.002),
        ("set14", "benchmark", {4: 26.094}, 0.002),
        pytest.param("set14", "benchmark", {2: 30.332, 3: 27.636}, 0.002, marks=pytest.mark.slow),
        ("set5", "mmediting", {2: 31.77, 3: 28.61, 4: 26.66}, 0.005),
        ("set14", "mmediting", {4: 24.46}, 0.005),
    ],
)
def test_known_answers_of_bicubic(shared, name, protocol, known, within):
    dataset, how = find(name, shared / "benchmarks")[0], PROTOCOLS[protocol]
    rows = evaluate([bicubic(how)], dataset, list(known), how)
    assert [row.psnr for row in rows] == pytest.approx(list(known.values()), abs=within)
    assert dataset.notes == () and all(row.images == len(dataset.images) and row.standard for row in rows)


@pytest.mark.shared
def test_the_sets_own_files_give_the_same_numbers(shared):
    dataset = find("set5", shared / "benchmarks")[0]
    scales, method = dataset.low_scales(), bicubic(BENCHMARK)
    derived, files = (evaluate([method], dataset, scales, low_from=source) for source in (None, "files"))
    assert scales == (2, 3, 4) and [row.psnr for row in derived] == [row.psnr for row in files]
    assert derived[0].standard and not files[0].standard

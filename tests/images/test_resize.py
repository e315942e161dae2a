"""Resampling: identities, known values, bands, and MATLAB's own files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from liif_cli.images.resize import cubic, matlab_bicubic, reach, resample

FILTERS = ("box", "bicubic", "lanczos")


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).random(shape, dtype=np.float32)


@pytest.mark.parametrize("filter", FILTERS)
def test_a_flat_image_stays_flat(filter):
    flat = np.full((17, 23, 3), 0.25, np.float32)
    np.testing.assert_allclose(resample(flat, 5, 40, filter), 0.25, atol=1e-6)


def test_float_resampling_is_pillows_up_to_its_rounding():
    image = (noise(40, 31, 3) * 255).astype(np.uint8)
    eight_bit = np.asarray(Image.fromarray(image).resize((13, 11), Image.Resampling.BICUBIC))
    ours = resample(image.astype(np.float32), 11, 13)
    assert np.abs(np.clip(ours, 0, 255) - eight_bit).max() <= 1.01  # Pillow rounds to 8 bits between its passes too
    np.testing.assert_array_equal(resample(image, 11, 13), eight_bit)


def test_a_gray_channel_resamples_as_a_plane():
    image = (noise(20, 20, 1) * 255).astype(np.uint8)
    expected = np.asarray(Image.fromarray(image[..., 0]).resize((7, 9), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(resample(image, 9, 7, "lanczos")[..., 0], expected)


def test_resample_refuses_other_types():
    with pytest.raises(ValueError, match="uint8 or float32"):
        resample(np.zeros((4, 4, 3)), 2, 2)
    with pytest.raises(ValueError, match="uint8 or float32"):
        resample(np.zeros((4, 4), np.uint8), 2, 2)


def test_box_reduction_is_the_mean_of_its_block():
    image = noise(6, 8, 2)
    expected = image.reshape(3, 2, 4, 2, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(resample(image, 3, 4, "box"), expected, atol=1e-6)


@pytest.mark.parametrize(("filter", "target"), [("box", 13), *((f, t) for f in FILTERS[1:] for t in (13, 50, 131))])
def test_bands_with_reach_are_the_whole(filter, target):
    image = noise(50, 9, 3)
    whole = resample(image, target, 9, filter)
    scale, margin = 50 / target, reach(50, target, filter)
    for top in range(0, target, 5):
        bottom = min(top + 5, target)
        first, last = max(0, int(top * scale) - margin), min(50, int(bottom * scale) + 1 + margin)
        box = (top * scale - first, 0.0, bottom * scale - first, 9.0)
        band = resample(image[first:last], bottom - top, 9, filter, box)
        np.testing.assert_allclose(band, whole[top:bottom], atol=1e-5)


def test_matlab_halving_matches_values_worked_out_by_hand():
    # half the kernel at distances 0.25, 0.75, 1.25, 1.75: 0.43359375, 0.11328125, -0.03515625, -0.01171875
    row = np.repeat(np.array([0.0, 1.0]), 8)[None, :, None]
    out = matlab_bicubic(row, 1, 8)[0, :, 0]
    last, three = -0.01171875, 0.11328125 - 0.03515625 - 0.01171875  # taps that reach over the step
    expected = [0, 0, last, three, 1 - three, 1 - last, 1, 1]
    np.testing.assert_allclose(out, expected, atol=1e-12)


def test_matlab_rounds_between_its_passes():
    image = (noise(24, 24, 3) * 255).astype(np.uint8)
    in_one_go = np.clip(np.floor(matlab_bicubic(image.astype(np.float64), 8, 8) + 0.5), 0, 255).astype(np.uint8)
    rows_first = matlab_bicubic(matlab_bicubic(image, 8, 24), 8, 8)
    np.testing.assert_array_equal(matlab_bicubic(image, 8, 8), rows_first)
    assert (in_one_go != rows_first).any()


def test_matlab_takes_the_smaller_scale_first():
    image = (noise(24, 24, 3) * 255).astype(np.uint8)
    np.testing.assert_array_equal(matlab_bicubic(image, 12, 4), matlab_bicubic(matlab_bicubic(image, 24, 4), 12, 4))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_matlab_up_sampling_keeps_a_ramp_inside(scale):
    ramp = np.linspace(0.0, 1.0, 20)[:, None, None] * np.ones((1, 6, 3))
    out = matlab_bicubic(ramp, 20 * scale, 6 * scale)
    centre = (np.arange(20 * scale) + 0.5) / scale - 0.5
    inside = slice(3 * scale, -3 * scale)  # cubic convolution with a = -1/2 reproduces polynomials of degree 2
    np.testing.assert_allclose(out[inside, 0, 0], centre[inside] / 19, atol=1e-12)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["Set5", "Set14"])
def test_every_low_resolution_file_is_reproduced_bit_for_bit(shared: Path, name):
    files = sorted((shared / "benchmarks" / name / "LR_bicubic").glob("X*/*.png"))
    assert len(files) == {"Set5": 15, "Set14": 42}[name]
    for file in files:
        scale = int(file.parent.name[1:])
        low = np.asarray(Image.open(file).convert("RGB"))
        high = np.asarray(Image.open(file.parents[2] / "HR" / f"{file.stem[:-2]}.png").convert("RGB"))
        height, width = low.shape[:2]
        made = matlab_bicubic(high[: height * scale, : width * scale], height, width)
        assert (made == low).all(), f"{file.name}: {(made != low).sum()} values differ"


def test_the_cubic_kernel_interpolates_and_sums_to_one():
    assert cubic(np.array([0.0, 1.0, -1.0, 2.0, 3.0])).tolist() == [1, 0, 0, 0, 0]
    distances = np.linspace(0, 1, 11)[:, None] - np.arange(-1, 3)
    np.testing.assert_allclose(cubic(distances).sum(axis=1), 1, atol=1e-15)
    np.testing.assert_allclose(cubic(np.array([0.5, 1.5])), [0.5625, -0.0625], atol=1e-15)  # Keys, a = -0.5

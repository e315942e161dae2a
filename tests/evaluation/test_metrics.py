"""PSNR by hand, SSIM against scikit-image, and what is refused."""

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from liif_cli.evaluation.metrics import STUDIO_BLACK, STUDIO_LUMA, psnr, shave, ssim


def pair(height=40, width=31, seed=3):
    rng = np.random.default_rng(seed)
    first = rng.random((height, width, 3))
    return first, np.clip(first + rng.normal(0, 0.1, first.shape), 0, 1)


def reference(first, second, channel_axis=-1):
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    return structural_similarity(first, second, channel_axis=channel_axis, **options)


def test_psnr_of_a_constant_error():
    truth = np.full((20, 20, 3), 0.5)
    assert psnr(truth + 0.1, truth) == pytest.approx(20.0)
    assert psnr(truth + 0.01, truth) == pytest.approx(40.0)


def test_rgb_psnr_pools_the_channels_before_the_logarithm():
    truth = np.zeros((12, 12, 3))
    result = truth + np.array([0.1, 0.2, 0.3])
    assert psnr(result, truth) == pytest.approx(-10 * np.log10((0.01 + 0.04 + 0.09) / 3))


def test_luma_psnr_weighs_the_difference():
    truth = np.full((12, 12, 3), 0.25)
    red = truth + np.array([0.1, 0, 0])
    assert psnr(red, truth, "luma") == pytest.approx(-20 * np.log10(0.1 * 65.738 / 256))
    canceling = truth + np.array([129.057, -65.738, 0]) / 1000  # luma cannot see it
    assert psnr(canceling, truth, "luma") > 300 > psnr(canceling, truth)


def test_the_border_does_not_count():
    truth = np.full((30, 30, 3), 0.5)
    result = truth.copy()
    result[:4] = result[-4:] = 0
    result[:, :4] = result[:, -4:] = 0
    assert psnr(result, truth, border=4) == float("inf")
    assert psnr(result, truth, border=3) < 20
    assert ssim(result, truth, border=4) == pytest.approx(1.0)


def test_shave_keeps_the_middle_and_refuses_to_keep_nothing():
    image = np.arange(7 * 9).reshape(7, 9)
    np.testing.assert_array_equal(shave(image, 3), [[30, 31, 32]])
    assert shave(image, 0).shape == (7, 9)
    with pytest.raises(ValueError, match="nothing would be left"):
        shave(image, 4)


@pytest.mark.parametrize("size", [(11, 11), (11, 40), (47, 61), (150, 33)])
def test_ssim_rgb_is_scikit_images(size):
    first, second = pair(*size)
    assert ssim(first, second) == pytest.approx(reference(first, second), abs=1e-6)


@pytest.mark.parametrize("size", [(11, 11), (130, 61)])
def test_ssim_luma_is_scikit_images(size):
    first, second = pair(*size)
    expected = reference(first @ STUDIO_LUMA + STUDIO_BLACK, second @ STUDIO_LUMA + STUDIO_BLACK, None)
    assert ssim(first, second, "luma") == pytest.approx(expected, abs=1e-6)


def test_ssim_after_shaving_is_scikit_images_of_the_middle():
    first, second = pair(60, 50)
    assert ssim(first, second, border=6) == pytest.approx(reference(first[6:-6, 6:-6], second[6:-6, 6:-6]), abs=1e-6)


def test_float32_results_are_compared_in_double():
    first, second = pair()
    assert psnr(first.astype(np.float32), second) == pytest.approx(psnr(first, second), abs=1e-5)
    assert ssim(first.astype(np.float32), second) == pytest.approx(ssim(first, second), abs=1e-6)


def test_refusals():
    first, second = pair()
    with pytest.raises(ValueError, match="cannot compare"):
        psnr(first[1:], second)
    with pytest.raises(ValueError, match="at least 11"):
        ssim(first[:10], second[:10])

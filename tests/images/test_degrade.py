"""Degradations of images, with seeds derived from their names."""

import io

import numpy as np
import pytest
from PIL import Image

from liif_cli.errors import UsageError
from liif_cli.images.degrade import CLEAN, Degradation, parse_degradations

GRAY = np.full((64, 64, 3), 128, np.uint8)
RAMP = np.dstack([np.add.outer(np.arange(40), np.arange(56) * 3)] * 3).astype(np.uint8)


def test_the_seed_is_the_name() -> None:
    how = Degradation.parse("noise:4+jpeg:65")
    first, again, other = how.apply(GRAY, "a.png"), how.apply(GRAY, "a.png"), how.apply(GRAY, "b.png")
    np.testing.assert_array_equal(first, again)
    assert (first != other).any() and (GRAY == 128).all()


def test_noise_has_the_deviation_that_was_asked_for() -> None:
    noisy = Degradation.parse("noise:4").apply(GRAY, "x").astype(float) - 128
    assert noisy.std() == pytest.approx(np.sqrt(16 + 1 / 12), rel=0.03) and abs(noisy.mean()) < 0.15
    assert abs(np.corrcoef(noisy[..., 0].ravel(), noisy[..., 1].ravel())[0, 1]) < 0.06


def test_jpeg_is_what_pillow_writes_and_steps_are_taken_in_their_order() -> None:
    buffer = io.BytesIO()
    Image.fromarray(RAMP).save(buffer, "JPEG", quality=40)
    np.testing.assert_array_equal(
        Degradation.parse("jpeg:40").apply(RAMP, "x"), np.asarray(Image.open(buffer).convert("RGB"))
    )
    one, other = (Degradation.parse(text).apply(RAMP, "x") for text in ("noise:20+jpeg:10", "jpeg:10+noise:20"))
    assert np.abs(np.diff(one.astype(int), axis=0)).mean() < np.abs(np.diff(other.astype(int), axis=0)).mean()


def test_clean_does_nothing() -> None:
    assert Degradation.parse("clean") is CLEAN and CLEAN.label == ""
    np.testing.assert_array_equal(CLEAN.apply(RAMP, "x"), RAMP)


def test_lists() -> None:
    names = [each.name for each in parse_degradations(["jpeg:75,JPEG:40", "webp:50+blur:1", "jpeg:75"])]
    assert names == ["jpeg:75", "jpeg:40", "webp:50+blur:1"]


@pytest.mark.parametrize(
    "text", ["", "jpeg", "jpeg:0", "jpeg:101", "jpeg:7.5", "noise:-1", "rain:3", "jpeg:75+", "noise:nan"]
)
def test_refusals(text: str) -> None:
    with pytest.raises(UsageError, match="is not a degradation"):
        Degradation.parse(text)

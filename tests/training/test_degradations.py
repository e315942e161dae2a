"""Degradations: clean is Pillow's bicubic and nothing else; photo is varied, repeatable, and never extreme."""

import numpy as np
import pytest
from PIL import Image

from liif_cli.images.formats.compression import scaled
from liif_cli.training import degradations


@pytest.fixture(scope="module")
def hr():
    """A smooth image with edges, 120x120."""
    y, x = np.mgrid[0:120, 0:120]
    waves = 128 + 60 * np.sin(x / 9) + 50 * np.cos(y / 13)
    rings = np.where((x - 60) ** 2 + (y - 60) ** 2 < 900, 40, 0)
    return np.clip(np.stack([waves, waves[::-1] - rings, 255 - waves], -1), 0, 255).astype(np.uint8)


def rng(seed=0):
    return np.random.default_rng(seed)


def test_clean_is_pillows_bicubic(hr):
    expected = np.asarray(Image.fromarray(hr).resize((48, 48), Image.Resampling.BICUBIC))
    assert np.array_equal(degradations.clean(hr, 48), expected)
    same = degradations.clean(hr, 120)
    assert np.array_equal(same, hr) and same is not hr


def test_photo_has_the_right_shape_and_repeats(hr):
    for seed in range(20):
        first, again = (degradations.photo(hr, 40, rng(seed)) for _ in range(2))
        assert first.shape == (40, 40, 3) and first.dtype == np.uint8
        assert np.array_equal(first, again)


def test_photo_varies_and_stays_recognisable(hr):
    wanted = degradations.clean(hr, 40).astype(float)
    results = [degradations.photo(hr, 40, rng(seed)) for seed in range(120)]
    errors = np.array([np.sqrt(np.square(result - wanted).mean()) for result in results])
    assert len({result.tobytes() for result in results}) > 100
    assert 0.03 < np.mean(errors == 0) < 0.3  # some stay clean
    assert errors.max() < 40 and np.median(errors) > 2


def test_photo_works_without_enlargement_too(hr):
    assert degradations.photo(hr[:48, :48], 48, rng(3)).shape == (48, 48, 3)


@pytest.mark.parametrize("step", [degradations.blur, degradations.noise, degradations.compress])
def test_each_step_keeps_the_size_and_can_change_the_pixels(hr, step):
    image = Image.fromarray(hr)
    results = [np.asarray(step(image, 40, rng(seed))) for seed in range(40)]
    assert all(result.shape == hr.shape for result in results)
    assert any(not np.array_equal(result, hr) for result in results)


def test_blur_takes_away_detail_and_noise_adds_it(hr):
    def detail(pixels):
        return np.square(np.diff(pixels.astype(float), axis=1)).mean()

    image = Image.fromarray(hr)
    blurred = [detail(np.asarray(degradations.blur(image, 40, rng(seed)))) for seed in range(80)]
    noisy = [detail(np.asarray(degradations.noise(image, 40, rng(seed)))) for seed in range(10)]
    assert max(blurred) == detail(hr) > min(blurred)
    assert min(noisy) == detail(hr) < max(noisy)


def test_every_kernel_of_the_reduction_is_used(hr, monkeypatch):
    used = set()
    resize = Image.Image.resize

    def spy(self, size, resample=None, **options):
        used.add(resample)
        return resize(self, size, resample, **options)

    monkeypatch.setattr(Image.Image, "resize", spy)
    for seed in range(60):
        degradations.reduce(Image.fromarray(hr), 40, rng(seed))
    assert used == set(degradations.KERNELS)


def test_mozjpegs_tables_arrive_in_the_file(hr, monkeypatch):
    monkeypatch.setattr(degradations, "WEBP", 0)
    monkeypatch.setattr(degradations, "MOZJPEG", 1)
    opened, original = [], Image.open
    monkeypatch.setattr(Image, "open", lambda buffer: opened.append(original(buffer)) or opened[-1])
    for seed in range(8):
        degradations.compress(Image.fromarray(hr), 40, rng(seed))
    tables = [image.quantization for image in opened]
    possible = [scaled(degradations.MOZJPEG_STEPS, quality) for quality in range(*degradations.QUALITY)]
    assert all(list(table[0]) in possible and table[0] == table[1] for table in tables)
    assert len({tuple(table[0]) for table in tables}) > 4

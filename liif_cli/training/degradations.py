"""Makes LR patches from HR patches: clean, as in the paper, or degraded, like images on the web."""

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from liif_cli.images.formats.compression import scaled

Pixels = NDArray[np.uint8]
Degradation = Callable[[Pixels, int, np.random.Generator], Pixels]
"""(HR (N, N, 3) uint8, pixels per side of LR, generator) -> LR (side, side, 3) uint8."""

KERNELS = (
    Image.Resampling.BOX,
    Image.Resampling.BILINEAR,
    Image.Resampling.HAMMING,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
)
CLEAN = 0.15  # the share of pairs that stay clean, so that the model still learns from clean images
BLURRED = 0.05  # shares of the other pairs, as are the next three
NOISY = 0.4
COMPRESSED = 0.95
TWICE = 0.15  # compressed (again) at the end
BETWEEN = 0.1  # the share that is reduced in two steps; half of these are compressed at the intermediate size
BICUBIC = 0.8  # the share that is reduced by the bicubic kernel; the others by any of `KERNELS`
WEBP = 0.1  # the share of compressions that are WebP instead of JPEG
HALVED, MOZJPEG = 0.5, 0.25  # shares of the JPEGs: chroma at half the size (4:2:0); the quantisation table of mozjpeg
QUALITY = (30, 96)  # of JPEG and WebP; the upper end is excluded
SIGMA = (0.2, 1.0)  # standard deviation of the blur, in LR pixels
NOISE = 8.0  # the largest standard deviation, in 8-bit levels
SHOT = 0.3  # the largest variance of Poisson noise per 8-bit level

# The table that mozjpeg uses by default for luma and chroma (after N. Robidoux), at quality 50, in row-major order.
_STEPS = """16 16 16 18 25 37 56 85 16 17 20 27 34 40 53 75 16 20 24 31 43 62 91 135 18 27 31 40 53 74 106 156
25 34 43 53 69 94 131 189 37 40 62 74 94 124 169 238 56 53 91 106 131 169 226 311 85 75 135 156 189 238 311 418"""
MOZJPEG_STEPS = [int(step) for step in _STEPS.split()]


def clean(hr: Pixels, size: int, rng: np.random.Generator | None = None) -> Pixels:
    """HR (N, N, 3) -> LR (size, size, 3) with Pillow's antialiased bicubic filter on 8-bit values (paper, section 5.1)."""
    if hr.shape[:2] == (size, size):
        return hr.copy()
    return np.array(Image.fromarray(hr).resize((size, size), Image.Resampling.BICUBIC))


def photo(hr: Pixels, size: int, rng: np.random.Generator) -> Pixels:
    """HR (N, N, 3) -> LR (size, size, 3), degraded like images on the web: blur, downsampling, noise, JPEG or WebP.

    Compression may occur twice. The share `CLEAN` stays clean. Most of the others are reduced once, by the bicubic kernel and
    without blur: a small network that must expect many rare degradations is worse at common ones (docs/photo.md has numbers).
    """
    if rng.random() < CLEAN:
        return clean(hr, size)
    image = blur(Image.fromarray(hr), size, rng)
    image = noise(reduce(image, size, rng), size, rng)
    if rng.random() < COMPRESSED:
        image = compress(image, size, rng)
    if rng.random() < TWICE:
        image = compress(image, size, rng)
    return np.array(image)


def blur(image: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    """Blur the share `BLURRED` of the images with a Gaussian. Its standard deviation is in LR pixels at any image size."""
    if rng.random() >= BLURRED:
        return image
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(*SIGMA) * image.width / size))


def reduce(image: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    """Downsample to `size` with a random `kernel`. The share `BETWEEN` passes through an intermediate size first."""
    if rng.random() < BETWEEN and image.width > size:
        between = int(rng.integers(size, image.width + 1))
        image = image.resize((between, between), kernel(rng))
        image = compress(image, size, rng) if rng.random() < 0.5 else image
    return image.resize((size, size), kernel(rng))


def kernel(rng: np.random.Generator) -> Image.Resampling:
    """A random resampling kernel: bicubic in the share `BICUBIC` of the cases, otherwise any of `KERNELS`."""
    return Image.Resampling.BICUBIC if rng.random() < BICUBIC else KERNELS[rng.integers(len(KERNELS))]


def noise(image: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    """Add Gaussian noise, gray or coloured, to the share `NOISY` of the images.

    In half of these, part of the variance grows with the level (Poisson noise).
    """
    if rng.random() >= NOISY:
        return image
    levels = np.asarray(image).astype(np.float32)
    variance: float | NDArray[np.floating] = rng.uniform(0, NOISE) ** 2
    if rng.random() < 0.5:
        variance = 0.5 * variance + rng.uniform(0, SHOT) * levels
    normal = rng.standard_normal((image.height, image.width, int(rng.choice((1, 3)))), dtype=np.float32)
    return Image.fromarray(np.clip(np.rint(levels + np.sqrt(variance) * normal), 0, 255).astype(np.uint8))


def compress(image: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    """Compress as JPEG (4:2:0 or 4:4:4, libjpeg's or mozjpeg's tables) or WebP with a random quality, and decompress.

    The grid of blocks has a random origin, as in a patch from anywhere in an image. Otherwise the network, which sees the
    patch's edges, would learn where the blocks are.
    """
    top, left = (int(n) for n in rng.integers(0, 16, 2))
    edges = ((top, 15 - top), (left, 15 - left), (0, 0))
    padded = Image.fromarray(np.pad(np.asarray(image), edges, mode="edge"))
    quality, buffer = int(rng.integers(*QUALITY)), io.BytesIO()
    if rng.random() < WEBP:
        padded.save(buffer, "WEBP", quality=quality, method=0)
    else:
        tables = {"qtables": [scaled(MOZJPEG_STEPS, quality)] * 2} if rng.random() < MOZJPEG else {"quality": quality}
        padded.save(buffer, "JPEG", subsampling=2 if rng.random() < HALVED else 0, **tables)
    return Image.open(buffer).convert("RGB").crop((left, top, left + image.width, top + image.height))


DEGRADATIONS: dict[str, Degradation] = {"clean": clean, "photo": photo}

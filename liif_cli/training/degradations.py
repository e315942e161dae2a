"""How a low-resolution patch is made from a high-resolution one: cleanly, as in the paper, or degraded as on the web."""

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Pixels = NDArray[np.uint8]
Degradation = Callable[[Pixels, int, np.random.Generator], Pixels]
"""(HR (N, N, 3), side of the LR, generator) -> LR (side, side, 3)."""

KERNELS = (
    Image.Resampling.BOX,
    Image.Resampling.BILINEAR,
    Image.Resampling.HAMMING,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
)
CLEAN = 0.15  # share of the pairs that stay clean, so that a model does not forget what to do with a good image
BLURRED, NOISY, COMPRESSED, TWICE = 0.15, 0.4, 0.9, 0.3  # shares of the others
BETWEEN = 0.25  # share that is reduced by way of a size between, half of these compressed there
QUALITY = (30, 96)  # of JPEG and WebP, half-open
SIGMA = (0.2, 1.0)  # of the blur, in LR pixels
NOISE = 8.0  # largest standard deviation, in 8-bit levels
SHOT = 0.3  # largest variance per level of Poisson noise, in levels


def clean(hr: Pixels, size: int, rng: np.random.Generator | None = None) -> Pixels:
    """HR (N, N, 3) -> LR (size, size, 3) by Pillow's antialiased bicubic on 8-bit values (paper, section 5.1)."""
    if hr.shape[:2] == (size, size):
        return hr.copy()
    return np.array(Image.fromarray(hr).resize((size, size), Image.Resampling.BICUBIC))


def photo(hr: Pixels, size: int, rng: np.random.Generator) -> Pixels:
    """HR -> LR as images on the web come about: some blur, a reduction by any kernel, noise, and JPEG or WebP, once or twice.

    A share stays clean. Blur is rare and slight: the more of it is trained for, the softer everything else becomes.
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
    """Gaussian blur of a share of the images; its width is meant in LR pixels at whatever size the image has now."""
    if rng.random() >= BLURRED:
        return image
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(*SIGMA) * image.width / size))


def reduce(image: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    """Reduction to `size`: by bicubic for half of the images, else by any kernel; for a share by way of a size between."""
    if rng.random() < BETWEEN and image.width > size:
        between = int(rng.integers(size, image.width + 1))
        image = image.resize((between, between), kernel(rng))
        image = compress(image, size, rng) if rng.random() < 0.5 else image
    return image.resize((size, size), kernel(rng))


def kernel(rng: np.random.Generator) -> Image.Resampling:
    """Bicubic half of the time, else any of `KERNELS`."""
    return Image.Resampling.BICUBIC if rng.random() < 0.5 else KERNELS[rng.integers(len(KERNELS))]


def noise(image: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    """Noise in a share of the images, gray or coloured: Gaussian, in half of them growing with the light (Poisson's)."""
    if rng.random() >= NOISY:
        return image
    levels = np.asarray(image).astype(np.float32)
    variance: float | NDArray[np.floating] = rng.uniform(0, NOISE) ** 2
    if rng.random() < 0.5:
        variance = 0.5 * variance + rng.uniform(0, SHOT) * levels
    normal = rng.standard_normal((image.height, image.width, int(rng.choice((1, 3)))), dtype=np.float32)
    return Image.fromarray(np.clip(np.rint(levels + np.sqrt(variance) * normal), 0, 255).astype(np.uint8))


def compress(image: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    """Through JPEG (4:2:0 or 4:4:4) or WebP and back, at a quality by chance.

    Blocks begin anywhere, as a patch lies anywhere in its image: a network sees its patch's edges, and would learn where the
    blocks are.
    """
    top, left = (int(n) for n in rng.integers(0, 16, 2))
    edges = ((top, 15 - top), (left, 15 - left), (0, 0))
    padded = Image.fromarray(np.pad(np.asarray(image), edges, mode="edge"))
    form = "WEBP" if rng.random() < 0.2 else "JPEG"
    quality = int(rng.integers(*QUALITY))
    options = {"subsampling": int(rng.choice((0, 2)))} if form == "JPEG" else {"method": 0}
    buffer = io.BytesIO()
    padded.save(buffer, form, quality=quality, **options)
    return Image.open(buffer).convert("RGB").crop((left, top, left + image.width, top + image.height))


DEGRADATIONS: dict[str, Degradation] = {"clean": clean, "photo": photo}

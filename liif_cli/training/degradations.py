"""How a low-resolution patch is made from a high-resolution one: the paper's clean way, and what the web does to photos."""

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
QUALITY = (30, 96)  # of JPEG and WebP, half-open
SIGMA = (0.2, 1.2)  # of the blur, in LR pixels
NOISE = (0.5, 8.0)  # standard deviation, in 8-bit levels


def clean(hr: Pixels, size: int, rng: np.random.Generator | None = None) -> Pixels:
    """HR (N, N, 3) -> LR (size, size, 3) by Pillow's antialiased bicubic on 8-bit values (paper, section 5.1)."""
    if hr.shape[:2] == (size, size):
        return hr.copy()
    return np.array(Image.fromarray(hr).resize((size, size), Image.Resampling.BICUBIC))


def photo(hr: Pixels, size: int, rng: np.random.Generator) -> Pixels:
    """HR -> LR as pictures on the web come about: blur, reduction by varied kernels, noise, and JPEG or WebP, in any order.

    Compression always comes last once more for half of the pictures, as a re-upload; one in ten stays clean, so that a model
    trained on these does not forget what to do with a good picture.
    """
    if rng.random() < 0.1:
        return clean(hr, size)
    steps: list[Callable[[Image.Image, int, np.random.Generator], Image.Image]] = [blur, reduce, noise, compress]
    image = Image.fromarray(hr)
    for index in rng.permutation(len(steps)):
        image = steps[index](image, size, rng)
    if rng.random() < 0.5:
        image = compress(image, size, rng)
    return np.array(image)


def blur(image: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    """Gaussian blur of half of the pictures; its width is meant in LR pixels at whatever size the picture has now."""
    if rng.random() < 0.5:
        return image
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(*SIGMA) * image.width / size))


def reduce(image: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    """Reduction to `size` by a kernel by chance, for a third of the pictures by way of a size between."""
    if rng.random() < 1 / 3 and image.width > size:
        between = int(rng.integers(size, image.width + 1))
        image = image.resize((between, between), KERNELS[rng.integers(len(KERNELS))])
    return image.resize((size, size), KERNELS[rng.integers(len(KERNELS))])


def noise(image: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    """Gaussian noise, gray or coloured, for half of the pictures."""
    if rng.random() < 0.5:
        return image
    shape = (image.height, image.width, int(rng.choice((1, 3))))
    noisy = np.asarray(image) + rng.uniform(*NOISE) * rng.standard_normal(shape, dtype=np.float32)
    return Image.fromarray(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))


def compress(image: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    """Through JPEG (4:2:0 or 4:4:4) or WebP and back, at a quality by chance.

    Blocks begin anywhere, as a patch lies anywhere in its image: a network sees its patch's edges, and would learn where the
    blocks are.
    """
    top, left = (int(n) for n in rng.integers(0, 16, 2))
    edges = ((top, 15 - top), (left, 15 - left), (0, 0))
    padded = Image.fromarray(np.pad(np.asarray(image), edges, mode="edge"))
    form = "WEBP" if rng.random() < 0.25 else "JPEG"
    quality = int(rng.integers(*QUALITY))
    options = {"subsampling": int(rng.choice((0, 2)))} if form == "JPEG" else {"method": 0}
    buffer = io.BytesIO()
    padded.save(buffer, form, quality=quality, **options)
    return Image.open(buffer).convert("RGB").crop((left, top, left + image.width, top + image.height))


DEGRADATIONS: dict[str, Degradation] = {"clean": clean, "photo": photo}

"""Degrades images as the web does, for evaluation and demonstrations: blur, noise and lossy compression."""

import io
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from liif_cli.errors import UsageError

Bytes = NDArray[np.uint8]
Step = tuple[str, float]
"""A kind of degradation and its amount."""


def _noise(pixels: Bytes, sigma: float, rng: np.random.Generator) -> Bytes:
    """Gaussian noise, independent per pixel and channel, of standard deviation `sigma` in 8-bit levels."""
    noisy = pixels + sigma * rng.standard_normal(pixels.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def _blur(pixels: Bytes, sigma: float, _: np.random.Generator) -> Bytes:
    """Pillow's approximation of a Gaussian blur of standard deviation `sigma` in pixels."""
    return np.array(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(sigma)))


def coded(pixels: Bytes, form: str, **options: Any) -> Bytes:
    """Pixels (H, W, 3) uint8, encoded with one of Pillow's savers and decoded again. options: of the saver."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return np.array(Image.open(buffer).convert("RGB"))


def _jpeg(pixels: Bytes, quality: float, _: np.random.Generator) -> Bytes:
    """JPEG with Pillow's defaults: the standard tables, chroma at half the resolution (4:2:0)."""
    return coded(pixels, "JPEG", quality=int(quality))


def _webp(pixels: Bytes, quality: float, _: np.random.Generator) -> Bytes:
    return coded(pixels, "WEBP", quality=int(quality))


def _avif(pixels: Bytes, quality: float, _: np.random.Generator) -> Bytes:
    return coded(pixels, "AVIF", quality=int(quality))


CODINGS = ("jpeg", "webp", "avif")
KINDS: dict[str, Callable[[Bytes, float, np.random.Generator], Bytes]] = {
    "blur": _blur,
    "noise": _noise,
    "jpeg": _jpeg,
    "webp": _webp,
    "avif": _avif,
}
LARGEST = {"blur": 100.0, "noise": 255.0} | dict.fromkeys(CODINGS, 100.0)


@dataclass(frozen=True)
class Degradation:
    """Degradation steps, applied in order. name: as the user wrote it. steps: empty for a clean image."""

    name: str
    steps: tuple[Step, ...]

    @classmethod
    def parse(cls, text: str) -> "Degradation":
        """Parse text such as `noise:4+jpeg:65` (noise of 4 levels, then JPEG of quality 65), or `clean`. Raises UsageError.

        The steps are blur:S (Gaussian, standard deviation of S pixels), noise:S (standard deviation of S 8-bit levels), and
        jpeg:Q, webp:Q and avif:Q (quality 1 to 100).
        """
        if text == CLEAN.name:
            return CLEAN
        return cls(text, tuple(_step(part, text) for part in text.split("+")))

    @property
    def label(self) -> str:
        """The name, or "" if there are no steps."""
        return self.name if self.steps else ""

    @property
    def compression(self) -> tuple[str, int] | None:
        """(format, quality) of the last compression step; None if there is none."""
        return next(((kind, int(amount)) for kind, amount in reversed(self.steps) if kind in CODINGS), None)

    def apply(self, pixels: Bytes, name: str) -> Bytes:
        """A degraded copy of pixels (H, W, 3) uint8.

        The random seed depends only on the image's `name`, so a second call gives the same result.
        """
        rng = np.random.default_rng(zlib.crc32(name.encode("utf-8", "surrogateescape")))
        return reduce(lambda image, step: KINDS[step[0]](image, step[1], rng), self.steps, pixels.copy())


CLEAN = Degradation("clean", ())


def _step(part: str, text: str) -> Step:
    kind, _, amount = part.partition(":")
    try:
        value = float(amount)
    except ValueError:
        value = 0.0
    whole = kind not in CODINGS or value == int(value)
    if kind not in KINDS or not 0 < value <= LARGEST[kind] or not whole:
        raise UsageError(
            f"{text!r} is not a degradation",
            hint="use clean, or steps joined by +: jpeg:Q, webp:Q, avif:Q (1 to 100), noise:S, blur:S; e.g. noise:4+jpeg:65",
            argument="degrade",
        )
    return kind, value


def parse_degradations(texts: Sequence[str]) -> tuple[Degradation, ...]:
    """Parse degradations separated by commas, such as ["jpeg:75,jpeg:40", "noise:4+jpeg:65"]. Raises UsageError.

    Duplicates are dropped.
    """
    names = [name.strip().lower() for text in texts for name in text.split(",")]
    return tuple(Degradation.parse(name) for name in dict.fromkeys(names))

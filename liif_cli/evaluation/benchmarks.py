"""The benchmark sets: their images, origin and protocol.

A set is read from a folder in the usual layout (`Set14/HR/*.png`, `Set14/LR_bicubic/X2/*x2.png`), or downloaded from the
Hugging Face Hub and unpacked once into the Hub client's cache. Any other folder of images is a set of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from liif_cli.errors import InputError, ModelNotFound, UsageError
from liif_cli.evaluation.benchmark_files import (
    SOURCES,
    ensure,
    images_in,
    pixel_digest,
    read_rgb,
    square,
)

Bytes = NDArray[np.uint8]
SCALES = (2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 18.0, 24.0, 30.0)
"""The scales of the paper's and MMEditing's tables."""
NAMES = (*SOURCES, "celebahq")
FACES = ((64, 128), (32, 256))
"""Sides of the paper's pairs of faces (section 5.3): input, ground truth."""


@dataclass(frozen=True)
class Benchmark:
    """A set that was found.

    images: the HR files, sorted by name. low: the folder with the LR folders `X2`, `X3`, ..., if there is one. sides:
    (input, ground truth) if the set consists of pairs of squares (faces); `low` is then the folder of the inputs. scales:
    the scales to score. origin: where the set comes from. notes: messages for the user about deviations. centre: the side
    of the square in the middle of each image that is scored, in pixels; None for whole images.
    """

    name: str
    images: tuple[Path, ...]
    protocol: str = "benchmark"
    low: Path | None = None
    sides: tuple[int, int] | None = None
    origin: str = ""
    scales: tuple[float, ...] = SCALES
    notes: tuple[str, ...] = ()
    centre: int | None = None

    def low_scales(self) -> tuple[float, ...]:
        """The scales for which the set has LR files."""
        if self.sides is not None:
            return self.scales
        folders = self.low.glob("X*") if self.low else ()
        return tuple(sorted(float(folder.name[1:]) for folder in folders if folder.name[1:].isdecimal()))

    def high_image(self, image: Path) -> Bytes:
        """The ground truth, (H, W, 3) uint8. Raises InputError."""
        pixels = read_rgb(image) if self.sides is None else square(read_rgb(image), self.sides[1], image)
        return pixels if self.centre is None else _central(pixels, self.centre)

    def low_image(self, image: Path, scale: float) -> Bytes:
        """The set's own LR image at `scale`, (h, w, 3) uint8. Raises InputError if there is none."""
        if self.sides is not None:
            return square(read_rgb(self.low / image.name if self.low else image), self.sides[0], image)
        folder = None if self.low is None else self.low / f"X{scale:g}"
        names = [] if folder is None else [folder / f"{image.stem}x{scale:g}.png", folder / f"{image.stem}.png"]
        for file in names:
            if file.is_file():
                return read_rgb(file)
        where = f"there is no {names[0]}" if names else "the set has no LR_bicubic folder"
        raise InputError(
            f"{self.name} has no x{scale:g} file for {image.name}: {where}",
            hint="make one from the HR image",
            remedy="lr",
        )


def find(name: str, data_dir: Path | None = None, *, low_scales: Sequence[float] = ()) -> list[Benchmark]:
    """The set with that name, or a folder or file as a set; `celebahq` gives two sets, one per pair of sizes.

    data_dir: where to look for a named set; default: the Hub's cache, then the Hub. low_scales: the scales whose LR files
    are also needed. Raises UsageError (no such set), ModelNotFound (the set is not on this machine and cannot be downloaded),
    InputError (no images) and CheckpointError (a damaged or unsafe download).
    """
    key = name.lower()
    if key == "celebahq":
        return _faces(data_dir)
    if key in SOURCES:
        found = _in_folder(key, data_dir) if data_dir else _from_hub(key, low_scales)
    elif Path(name).is_dir():
        found = _any_folder(Path(name))
    elif Path(name).is_file():
        found = Benchmark(Path(name).stem, (Path(name),), origin=name)
    else:
        raise UsageError(f"{name!r} is not a set, folder or file", hint=f"sets: {', '.join(NAMES)}", argument="dataset")
    return [found]


def _central(pixels: Bytes, side: int) -> Bytes:
    """The square of `side` pixels in the middle of an (H, W, 3) image, or less if the image is smaller."""
    top, left = (max(0, n - side) // 2 for n in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]


def _any_folder(folder: Path) -> Benchmark:
    high = folder / "HR" if (folder / "HR").is_dir() else folder
    images = images_in(high)
    if not images:
        raise InputError(f"{folder} contains no images")
    low = folder / "LR_bicubic"
    return Benchmark(folder.resolve().name, images, low=low if low.is_dir() else None, origin=str(folder))


def _in_folder(key: str, data_dir: Path) -> Benchmark:
    source = SOURCES[key]
    homes = [place / name for place in (data_dir, data_dir / "benchmark") for name in source.folders]
    if data_dir.name.lower() in (name.lower() for name in source.folders):
        homes.insert(0, data_dir)
    for home in homes:
        for high in source.high:
            if (home / high).is_dir() and (images := images_in(home / high)):
                low = next((home / name for name in source.low if (home / name).is_dir()), None)
                return Benchmark(key, images, source.protocol, low, origin=str(home), notes=_deviations(key, images))
    wanted = data_dir / source.folders[0] / source.high[0]
    raise ModelNotFound(
        f"cannot find the set {key} in {data_dir}: there are no images in {wanted}",
        hint="put them there, or download the set",
        remedy="data_dir",
    )


def _from_hub(key: str, low_scales: Sequence[float]) -> Benchmark:
    from huggingface_hub import cached_assets_path, constants

    source = SOURCES[key]
    home = cached_assets_path("liif", key, "pictures", assets_dir=constants.HF_ASSETS_CACHE)
    ensure(home / "HR", key, "HR")
    for scale in low_scales:
        if scale in (2, 3, 4):
            ensure(home / "LR_bicubic" / f"X{scale:g}", key, f"LR_x{scale:g}")
    low = home / "LR_bicubic"
    images, origin = images_in(home / "HR"), f"{source.repo} on the Hugging Face Hub"
    there = low if low.is_dir() else None
    return Benchmark(key, images, source.protocol, there, origin=origin, notes=_deviations(key, images))


def _deviations(key: str, images: Sequence[Path]) -> tuple[str, ...]:
    """Notes on how a set differs from the one that published scores were measured on."""
    source = SOURCES[key]
    if len(images) != source.count:
        return (f"{key} should have {source.count} images; found {len(images)}",)
    if source.digest and pixel_digest(images) != source.digest:
        return (f"these images differ from those that published scores for {key} were measured on",)
    return ()


def _faces(data_dir: Path | None) -> list[Benchmark]:
    """Pairs from `DIR/128/*` and `DIR/64/*` (or `DIR/celebAHQ/...`). Missing sizes are shrunk from larger files."""
    if data_dir is None:
        raise ModelNotFound(
            "cannot download the set celebahq: the Hub has it only in other forms",
            hint="expected: DIR/64, DIR/128, DIR/32 and DIR/256, or a folder of larger faces",
            remedy="folder of the set",
        )
    homes = [home for home in (data_dir / "celebAHQ", data_dir / "celebahq", data_dir) if home.is_dir()]
    if not homes:
        raise ModelNotFound(f"{data_dir} does not exist", hint="it must be the folder of faces", argument="data_dir")
    pairs = [_face_pair(homes[0], low, high) for low, high in FACES]
    found = [pair for pair in pairs if pair.images]
    if not found:
        raise InputError(
            f"{homes[0]} contains no faces",
            hint="put them into its folders 128 and 256, or put larger ones into the folder itself",
        )
    return found


def _face_pair(home: Path, low: int, high: int) -> Benchmark:
    images = next((found for side in (str(high), "1024", ".") if (found := images_in(home / side))), ())
    inputs = home / str(low)
    origin, scale = str(home), high / low
    name = f"celebahq-{low}-{high}"
    return Benchmark(name, images, "celebahq", inputs if inputs.is_dir() else None, (low, high), origin, (scale,))

"""The benchmark sets: which pictures, where from, and by which protocol they are measured.

A set comes from a folder in the usual layout (`Set14/HR/*.png`, `Set14/LR_bicubic/X2/*x2.png`) or from the Hugging
Face Hub, unpacked once into the Hub client's cache. Any other folder of pictures is a set of its own.
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
    pictures_if_there,
    pictures_in,
    pixel_digest,
    read_rgb,
    square,
)

Bytes = NDArray[np.uint8]
SCALES = (2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 18.0, 24.0, 30.0)
"""The scales of the paper's and MMEditing's tables, together."""
NAMES = (*SOURCES, "celebahq")
FACES = ((64, 128), (32, 256))
"""Sides of the paper's face pairs (section 5.3): input, ground truth."""


@dataclass(frozen=True)
class Benchmark:
    """A set that was found.

    images: the files, sorted by name. low: the folder that holds `X2`, `X3` ... where the set has LR files.
    sides: (input, truth) where every picture is a square pair of its own (faces); `low` is then the inputs' folder
    itself. scales: those that are asked of it. origin: where it is from; notes: what is odd about it, for people.
    """

    name: str
    images: tuple[Path, ...]
    protocol: str = "benchmark"
    low: Path | None = None
    sides: tuple[int, int] | None = None
    origin: str = ""
    scales: tuple[float, ...] = SCALES
    notes: tuple[str, ...] = ()

    def low_scales(self) -> tuple[float, ...]:
        """The scales that the set has LR files for."""
        if self.sides is not None:
            return self.scales
        folders = self.low.glob("X*") if self.low else ()
        return tuple(sorted(float(folder.name[1:]) for folder in folders if folder.name[1:].isdecimal()))

    def high_picture(self, image: Path) -> Bytes:
        """The truth, (H, W, 3) uint8."""
        return read_rgb(image) if self.sides is None else square(read_rgb(image), self.sides[1], image)

    def low_picture(self, image: Path, scale: float) -> Bytes:
        """The set's own LR picture at `scale`, (h, w, 3) uint8. InputError where it has none."""
        if self.sides is not None:
            return square(read_rgb(self.low / image.name if self.low else image), self.sides[0], image)
        folder = None if self.low is None else self.low / f"X{scale:g}"
        names = [] if folder is None else [folder / f"{image.stem}x{scale:g}.png", folder / f"{image.stem}.png"]
        for file in names:
            if file.is_file():
                return read_rgb(file)
        where = f"there is no {names[0]}" if names else "the set has no LR_bicubic folder"
        raise InputError(f"{self.name} has no x{scale:g} file for {image.name}: {where}", hint="--lr matlab makes it")


def find(name: str, data_dir: Path | None = None, *, low_scales: Sequence[float] = ()) -> list[Benchmark]:
    """The set of that name, or a folder or one file as a set; `celebahq` gives two, one for each pair of sizes.

    data_dir: where to look for a named set; without it the Hub's cache and then the Hub. low_scales: the scales whose
    LR files are wanted too. Raises UsageError (no such set), ModelNotFound (the set is neither here nor to be had)
    and CheckpointError (what came from the Hub is not what it should be).
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
        raise UsageError(f"there is no set, folder or file {name!r}", hint=f"sets: {', '.join(NAMES)}")
    return [found]


def _any_folder(folder: Path) -> Benchmark:
    high = folder / "HR" if (folder / "HR").is_dir() else folder
    images = pictures_in(high)
    if not images:
        raise InputError(f"{folder} holds no pictures")
    low = folder / "LR_bicubic"
    return Benchmark(folder.resolve().name, images, low=low if low.is_dir() else None, origin=str(folder))


def _in_folder(key: str, data_dir: Path) -> Benchmark:
    source = SOURCES[key]
    homes = [place / name for place in (data_dir, data_dir / "benchmark") for name in source.folders]
    if data_dir.name.lower() in (name.lower() for name in source.folders):
        homes.insert(0, data_dir)
    for home in homes:
        for high in source.high:
            if (home / high).is_dir() and (images := pictures_in(home / high)):
                low = next((home / name for name in source.low if (home / name).is_dir()), None)
                return Benchmark(key, images, source.protocol, low, origin=str(home), notes=_oddities(key, images))
    wanted = data_dir / source.folders[0] / source.high[0]
    raise ModelNotFound(
        f"the set {key} is not in {data_dir}: there are no pictures in {wanted}",
        hint=f"put them there, or leave --data-dir out to fetch it: liif eval --dataset {key}",
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
    images, origin = pictures_in(home / "HR"), f"{source.repo} on the Hugging Face Hub"
    there = low if low.is_dir() else None
    return Benchmark(key, images, source.protocol, there, origin=origin, notes=_oddities(key, images))


def _oddities(key: str, images: Sequence[Path]) -> tuple[str, ...]:
    """Sentences about a set that is not what published numbers were measured on, as far as we can tell."""
    source = SOURCES[key]
    if len(images) != source.pictures:
        return (f"{key} has {source.pictures} pictures, and {len(images)} were found",)
    if source.digest and pixel_digest(images) != source.digest:
        return (f"these pictures are not those that published numbers for {key} were measured on",)
    return ()


def _faces(data_dir: Path | None) -> list[Benchmark]:
    """Pairs from `DIR/128/*` and `DIR/64/*` (or `DIR/celebAHQ/...`); where a size is absent, shrunk from larger files."""
    if data_dir is None:
        raise ModelNotFound(
            "the set celebahq is not on the Hub in a form that can be used",
            hint="liif eval --dataset celebahq --data-dir DIR, with DIR/64, DIR/128, DIR/32 and DIR/256, or large faces",
        )
    homes = [home for home in (data_dir / "celebAHQ", data_dir / "celebahq", data_dir) if home.is_dir()]
    if not homes:
        raise ModelNotFound(f"the folder {data_dir} does not exist", hint="--data-dir names the folder of faces")
    pairs = [_face_pair(homes[0], low, high) for low, high in FACES]
    found = [pair for pair in pairs if pair.images]
    if not found:
        raise InputError(
            f"{homes[0]} holds no faces", hint="put them into its folders 128 and 256, or larger ones into it"
        )
    return found


def _face_pair(home: Path, low: int, high: int) -> Benchmark:
    images = next((found for side in (str(high), "1024", ".") if (found := pictures_if_there(home / side))), ())
    inputs = home / str(low)
    origin, scale = str(home), high / low
    name = f"celebahq-{low}-{high}"
    return Benchmark(name, images, "celebahq", inputs if inputs.is_dir() else None, (low, high), origin, (scale,))

"""The files of the benchmark sets: their layouts, how they are fetched and read, and whether they are the published ones."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from liif_cli.errors import InputError, ModelNotFound
from liif_cli.evaluation.unpack import unpack_pictures
from liif_cli.images.formats.table import SUFFIXES
from liif_cli.images.resize import resample
from liif_cli.models import hub

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Source:
    """Where a set of a given name lies: folders in the usual layouts, a repository on the Hub, its protocol.

    digest: `pixel_digest` of the pictures that the published numbers were measured on, where we know them.
    """

    folders: tuple[str, ...]
    repo: str
    archive: str
    pictures: int
    digest: str = ""
    protocol: str = "benchmark"
    high: tuple[str, ...] = ("HR",)
    low: tuple[str, ...] = ("LR_bicubic",)


SOURCES = {
    "set5": Source(
        ("Set5",), "eugenesiow/Set5", "Set5", 5, "d9b9c4724a47072f9e9d8091abad6111a203cb8438e7b6c1408e8156c1fb69d2"
    ),
    "set14": Source(
        ("Set14",), "eugenesiow/Set14", "Set14", 14, "eb39c0ed3f4d0076fa5d3b7dccc94d4fd5340cf8254589f5daf8290b77128b01"
    ),
    "b100": Source(("B100", "BSD100", "BSDS100"), "eugenesiow/BSD100", "BSD100", 100),
    "urban100": Source(("Urban100",), "eugenesiow/Urban100", "Urban100", 100),
    "div2k": Source(
        ("DIV2K", "Div2k"),
        "eugenesiow/Div2k",
        "DIV2K_valid",
        100,
        "",
        "div2k",
        ("DIV2K_valid_HR", "HR"),
        ("DIV2K_valid_LR_bicubic", "LR_bicubic"),
    ),
}


def read_rgb(path: Path) -> Bytes:
    """A picture as upright 8-bit RGB, (H, W, 3), gray repeated, its bytes untouched by colour management. InputError."""
    try:
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):
                raise InputError(f"{path} has more than 8 bits a channel", hint="benchmarks compare 8-bit pictures")
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def pictures_in(folder: Path) -> tuple[Path, ...]:
    """The picture files of a folder (not of those inside it), sorted by name; hidden ones are left out."""
    files = (file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and not file.name.startswith("."))
    return tuple(sorted(files, key=lambda file: file.name))


def pixel_digest(images: Sequence[Path]) -> str:
    """SHA-256 over the pictures' pixels, whatever their names, order and file format."""
    each = sorted(hashlib.sha256(repr(rgb.shape).encode() + rgb.tobytes()).digest() for rgb in map(read_rgb, images))
    return hashlib.sha256(b"".join(each)).hexdigest()


def ensure(folder: Path, key: str, part: str) -> None:
    """Fetch and unpack one archive of a set, unless its folder is there: folders appear whole or not at all."""
    if folder.is_dir():
        return
    source = SOURCES[key]
    try:
        file = hub.fetch(source.repo, _archive_name(source, part), kind="dataset")
    except ModelNotFound as error:
        raise ModelNotFound(
            f"the set {key} is not on this machine: {error}",
            hint=f"with a network `liif eval --dataset {key}` fetches it; without, give its folder: "
            f"`liif eval --dataset {key} --data-dir DIR` with DIR/{source.folders[0]}/{source.high[0]}/*.png",
        ) from error
    unpack_pictures(file.path, folder)


def _archive_name(source: Source, part: str) -> str:
    """`data/Set14_HR.tar.gz`; DIV2K's files are looked up, since their names are not those of the other sets."""
    usual = f"data/{source.archive}_{part}.tar.gz"
    if source.protocol != "div2k":
        return usual
    number = part.removeprefix("LR_x")
    ends = ("hr",) if part == "HR" else (f"lr_x{number}", f"lr_bicubic_x{number}")
    archives = [name for name in hub.list_files(source.repo, kind="dataset") if name.endswith((".tar.gz", ".zip"))]
    fitting = [name for name in archives if _stem(name).endswith(ends) and "train" not in _stem(name)]
    return next((name for name in fitting if "valid" in _stem(name)), (*fitting, usual)[0])


def _stem(name: str) -> str:
    return name.rpartition("/")[2].lower().removesuffix(".tar.gz").removesuffix(".zip")


def pictures_if_there(folder: Path) -> tuple[Path, ...]:
    """The picture files of a folder that may be absent."""
    return pictures_in(folder) if folder.is_dir() else ()


def square(pixels: Bytes, side: int, image: Path) -> Bytes:
    """Shrink a square picture to side x side with Pillow's bicubic, as the paper's folders were made."""
    height, width = pixels.shape[:2]
    if height != width or height < side:
        raise InputError(f"{image} is {width}x{height}; a square of {side} pixels or more is needed")
    return pixels if height == side else resample(np.ascontiguousarray(pixels), side, side)

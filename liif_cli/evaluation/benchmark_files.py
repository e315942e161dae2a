"""The files of the benchmark sets: folder layouts, downloads, reading, and digests of the published sets."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from liif_cli.errors import InputError, ModelNotFound
from liif_cli.evaluation.unpack import unpack_images
from liif_cli.images.formats.table import SUFFIXES
from liif_cli.images.resize import resample
from liif_cli.models import hub

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Source:
    """A set: its usual folders, its repository and archive on the Hub, its number of images and its protocol.

    digest: `pixel_digest` of the images that published scores were measured on, if known. high and low: names of the
    folders of HR and LR images.
    """

    folders: tuple[str, ...]
    repo: str
    archive: str
    count: int
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
    """An image as upright RGB, (H, W, 3) uint8. Grayscale is replicated; colour profiles are ignored.

    Reads with Pillow instead of `images.read`, because published scores are of the stored values. Raises InputError.
    """
    try:
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):
                raise InputError(f"{path} has more than 8 bits per channel", hint="benchmarks compare 8-bit images")
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot read {path}: {error}") from error


def images_in(folder: Path) -> tuple[Path, ...]:
    """The image files of a folder, sorted by name, without hidden files and subfolders; empty if there is no such folder."""
    if not folder.is_dir():
        return ()
    files = (file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and not file.name.startswith("."))
    return tuple(sorted(files, key=lambda file: file.name))


def pixel_digest(images: Sequence[Path]) -> str:
    """SHA-256 of the images' pixels, independent of file names, order and file formats."""
    each = sorted(hashlib.sha256(repr(rgb.shape).encode() + rgb.tobytes()).digest() for rgb in map(read_rgb, images))
    return hashlib.sha256(b"".join(each)).hexdigest()


def ensure(folder: Path, key: str, part: str) -> None:
    """Download and unpack one archive of a set, unless its folder exists. The folder appears complete or not at all.

    key: of the set in `SOURCES`. part: of the archive's name, "HR" or "LR_x2". Raises ModelNotFound, CheckpointError and
    OutputError.
    """
    if folder.is_dir():
        return
    source = SOURCES[key]
    try:
        file = hub.fetch(source.repo, _archive_name(source, part), kind="dataset")
    except ModelNotFound as error:
        raise ModelNotFound(
            f"cannot find the set {key} on this machine: {error}",
            hint=f"expected: DIR/{source.folders[0]}/{source.high[0]}/*.png",
            remedy="network or folder of the set",
        ) from error
    unpack_images(file.path, folder)


def _archive_name(source: Source, part: str) -> str:
    """`data/Set14_HR.tar.gz`; DIV2K's archives are looked up, because their names follow another pattern."""
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


def square(pixels: Bytes, side: int, image: Path) -> Bytes:
    """A square image, (S, S, 3) uint8, shrunk to `side` with Pillow's bicubic, as the paper's folders were made.

    Raises InputError, which names the file `image`, if it is not square or too small.
    """
    height, width = pixels.shape[:2]
    if height != width or height < side:
        raise InputError(f"cannot use {image}: it is {width}x{height}, but must be a square of at least {side} pixels")
    return pixels if height == side else resample(np.ascontiguousarray(pixels), side, side)

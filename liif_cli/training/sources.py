"""Folders of images, read once and cached if they fit into memory."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from liif_cli.errors import InputError
from liif_cli.images import read
from liif_cli.images.formats.table import SUFFIXES

Pixels = NDArray[np.uint8]


def find_images(folders: Sequence[Path]) -> list[Path]:
    """All images in the folders and their subfolders, by suffix, sorted. `folders` may also contain files.

    Raises `InputError` if a folder does not exist.
    """
    found: set[Path] = set()
    for folder in folders:
        if not folder.exists():
            raise InputError(f"{folder} does not exist")
        inside = folder.rglob("*") if folder.is_dir() else [folder]
        found.update(path for path in inside if path.suffix.lower() in SUFFIXES and path.is_file())
    return sorted(found)


def read_image(path: Path) -> Pixels:
    """An image as upright sRGB, (H, W, 3) uint8. Gray is replicated; transparency becomes white. Raises `InputError`."""
    pixels = read.read(path, to_srgb=True).pixels
    if pixels.dtype != np.uint8:
        pixels = np.rint(pixels / 257.0).astype(np.uint8)
    if pixels.shape[2] in (2, 4):
        alpha = pixels[..., -1:] / 255.0
        pixels = np.rint(pixels[..., :-1] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return np.array(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def _read_or_reason(path: Path) -> Pixels | str:
    try:
        return read_image(path)
    except InputError as error:
        return str(error)


class ImageFolders:
    """The usable images in folders: cached in memory if all fit into `budget` bytes, otherwise read on demand.

    Images are skipped if they cannot be read or if their shorter side is under `minimum` pixels. `skipped` lists the reasons,
    one sentence each. Raises `InputError` if no image is left.
    """

    def __init__(self, folders: Sequence[Path], minimum: int, budget: float = float("inf")) -> None:
        self.skipped: list[str] = []
        self.paths, size = self._probe(find_images(folders), minimum)
        self.in_memory = size <= budget
        self._kept: list[Pixels] | None = self._read_all() if self.in_memory else None
        if not self.paths:
            reason = self.skipped[-1] if self.skipped else f"images must have at least {minimum} pixels per side"
            raise InputError(f"no usable image in {', '.join(map(str, folders)) or 'no folder'}", hint=reason)

    def _probe(self, paths: Sequence[Path], minimum: int) -> tuple[list[Path], int]:
        """The paths whose headers state a large enough image, and the bytes of all their pixels."""
        usable, size = [], 0
        for path in paths:
            try:
                header = read.probe(path)
            except InputError as error:
                self.skipped.append(str(error))
                continue
            if min(header.width, header.height) < minimum:
                self.skipped.append(f"{path} is {header.width}x{header.height}, under {minimum} pixels")
                continue
            usable.append(path)
            size += header.width * header.height * 3
        return usable, size

    def _read_all(self) -> list[Pixels]:
        with ThreadPoolExecutor() as pool:
            images = list(pool.map(_read_or_reason, self.paths))
        self.skipped += [image for image in images if isinstance(image, str)]
        kept = [(path, p) for path, p in zip(self.paths, images, strict=True) if not isinstance(p, str)]
        self.paths = [path for path, _ in kept]
        return [image for _, image in kept]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Pixels:
        """The image (H, W, 3) uint8 with this index. If it can no longer be read, the next one replaces it, and `skipped` gets
        the reason. Raises `InputError` if none can be read."""
        if self._kept is not None:
            return self._kept[index]
        for path in (*self.paths[index:], *self.paths[:index]):
            try:
                return read_image(path)
            except InputError as error:
                if str(error) not in self.skipped:
                    self.skipped.append(str(error))
        raise InputError("cannot read any of the images any more", hint=self.skipped[-1])

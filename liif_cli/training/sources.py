"""Folders of pictures, read once and kept where they fit into memory."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from liif_cli.errors import InputError
from liif_cli.images import read
from liif_cli.images.formats.table import SUFFIXES

Pixels = NDArray[np.uint8]


def find_pictures(folders: Sequence[Path]) -> list[Path]:
    """All pictures in the folders, recursively, by suffix, in sorted order; a file among `folders` stands for itself.

    Raises `InputError` for a folder that is not there.
    """
    found: set[Path] = set()
    for folder in folders:
        if not folder.exists():
            raise InputError(f"{folder} does not exist")
        inside = folder.rglob("*") if folder.is_dir() else [folder]
        found.update(path for path in inside if path.suffix.lower() in SUFFIXES and path.is_file())
    return sorted(found)


def read_picture(path: Path) -> Pixels:
    """A picture as upright sRGB, (H, W, 3) uint8; gray becomes RGB, transparency white. Raises `InputError`."""
    pixels = read.read(path, to_srgb=True).pixels
    if pixels.dtype != np.uint8:
        pixels = np.rint(pixels / 257.0).astype(np.uint8)
    if pixels.shape[2] in (2, 4):
        alpha = pixels[..., -1:] / 255.0
        pixels = np.rint(pixels[..., :-1] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return np.array(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def _read_or_reason(path: Path) -> Pixels | str:
    try:
        return read_picture(path)
    except InputError as error:
        return str(error)


class Pictures:
    """The usable pictures of folders: kept decoded where they fit into `budget` bytes together, else read when asked for.

    Pictures that cannot be read or whose shorter side is under `minimum` pixels are left out; `skipped` holds why, a sentence
    each. Raises `InputError` when none is left.
    """

    def __init__(self, folders: Sequence[Path], minimum: int, budget: float = float("inf")) -> None:
        self.skipped: list[str] = []
        self.paths, size = self._probe(find_pictures(folders), minimum)
        self.in_memory = size <= budget
        self._kept: list[Pixels] | None = self._read_all() if self.in_memory else None
        if not self.paths:
            reason = self.skipped[-1] if self.skipped else f"pictures of {minimum}x{minimum} pixels or more are needed"
            raise InputError(f"no usable picture in {', '.join(map(str, folders)) or 'no folder'}", hint=reason)

    def _probe(self, paths: Sequence[Path], minimum: int) -> tuple[list[Path], int]:
        """Those large enough by their headers, and the bytes of their pixels."""
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
            pictures = list(pool.map(_read_or_reason, self.paths))
        self.skipped += [picture for picture in pictures if isinstance(picture, str)]
        kept = [(path, p) for path, p in zip(self.paths, pictures, strict=True) if not isinstance(p, str)]
        self.paths = [path for path, _ in kept]
        return [picture for _, picture in kept]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Pixels:
        """Picture (H, W, 3) uint8. One that turns out to be unreadable is named in `skipped`, and the next takes its place."""
        if self._kept is not None:
            return self._kept[index]
        for path in (*self.paths[index:], *self.paths[:index]):
            try:
                return read_picture(path)
            except InputError as error:
                if str(error) not in self.skipped:
                    self.skipped.append(str(error))
        raise InputError("no picture can be read any more", hint=self.skipped[-1])

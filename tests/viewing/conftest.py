"""A real server over a folder of small images."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette", reason="the server is an extra: pip install 'liif[view]'")
pytest.importorskip("uvicorn", reason="the server is an extra: pip install 'liif[view]'")

from viewing_server import Served, serving

from liif_cli.viewing.iiif import Limits


def noise(height: int, width: int, channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def make_folder(top: Path) -> Path:
    """A folder of images, with a secret beside it and links that lead to it."""
    folder = top / "scans"
    (folder / "a b").mkdir(parents=True)
    Image.fromarray(noise(20, 30, 3)).save(folder / "rgb.png")
    Image.fromarray(noise(12, 10, 4)).save(folder / "a b" / "ü 100%.png")
    Image.fromarray(noise(9, 8, 1)[..., 0]).save(folder / "gray.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    (folder / "notes.txt").write_text("no image")
    Image.fromarray(noise(6, 6, 3)).save(folder / ".hidden.png")
    Image.fromarray(noise(5, 5, 3)).save(top / "secret.png")
    (folder / "link.png").symlink_to(top / "secret.png")
    (folder / "out").symlink_to(top)
    return folder


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory, tiny_file: Path) -> Iterator[Served]:
    with serving(make_folder(tmp_path_factory.mktemp("served")), tiny_file, Limits(2000, 400_000)) as running:
        yield running

"""The streaming writer, read back by Pillow and by libvips."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from liif_cli import images, savers
from liif_cli.errors import OutputError


@pytest.fixture
def photo() -> np.ndarray:
    y, x = np.mgrid[0:60, 0:80]
    return np.stack([x * 3, y * 4, (x + y)], axis=2).astype(np.uint8)


def test_png_rows_come_back_exactly(tmp_path: Path, photo: np.ndarray) -> None:
    target = tmp_path / "a.png"
    with savers.Writer(target, 60, 80, 3, np.uint8) as writer:
        writer.write(photo[:7])
        writer.write(photo[7:])
    assert (np.asarray(Image.open(target)) == photo).all()
    assert (images.read(target).pixels == photo).all()
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_failure_leaves_an_existing_output_alone(tmp_path: Path, photo: np.ndarray) -> None:
    target = tmp_path / "a.jpg"
    savers.write(target, photo)
    before = target.read_bytes()
    with (
        pytest.raises(KeyboardInterrupt),
        savers.Writer(target, 60, 80, 3, np.uint8, None, savers.SaveOptions(overwrite=True)),
    ):
        raise KeyboardInterrupt
    assert target.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(OutputError, match="exists"):
        savers.write(target, photo)

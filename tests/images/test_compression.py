"""The quality with which a file was compressed, estimated from its data."""

import io

import numpy as np
import pytest
from PIL import Image

from liif_cli.images import read
from liif_cli.images.formats import heif
from liif_cli.images.formats.compression import LUMA_STEPS, av1_quality, jpeg_quality, webp_quality

Y, X = np.mgrid[0:96, 0:128]
SCENE = np.dstack([128 + 90 * np.sin(X / 9) * np.cos(Y / 5), X * 2, Y * 2]).clip(0, 255).astype(np.uint8)


def saved(form: str, image: np.ndarray = SCENE, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, form, **options)
    return buffer.getvalue()


def quality_of(data: bytes) -> int | None:
    return read.read(data).metadata.quality


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"progressive": True}])
def test_the_quality_of_a_jpeg_is_detected(options: dict[str, object]) -> None:
    for quality in (1, 10, 30, 49, 50, 75, 90, 95, 100):
        assert quality_of(saved("JPEG", quality=quality, **options)) == quality
    assert quality_of(saved("JPEG", SCENE[..., 0], quality=62)) == 62


def test_other_tables_are_read_as_the_nearest() -> None:
    flat = [16] * 64  # about as strong as libjpeg's at 85 on average, by its logarithms
    assert quality_of(saved("JPEG", qtables=[flat, flat])) == jpeg_quality(flat)
    assert jpeg_quality([8] * 64) > jpeg_quality(flat) > jpeg_quality([32] * 64)  # type: ignore[operator]
    assert jpeg_quality([step + (i == 40) for i, step in enumerate(LUMA_STEPS)]) == 50
    assert jpeg_quality([]) is None and jpeg_quality([0] * 64) is None


def test_a_table_of_16_bits() -> None:
    data = saved("JPEG", quality=50)
    at = data.index(b"\xff\xdb\x00\x43\x00")
    wide = b"\xff\xdb\x00\x83\x10" + b"".join(bytes([0, step]) for step in data[at + 5 : at + 69])
    from liif_cli.images.formats import jpeg

    assert jpeg.read(io.BytesIO(data[:at] + wide + data[at + 69 :])).quality == 50
    assert jpeg.read(io.BytesIO(data[: at + 30])).quality is None  # cut within the table


@pytest.mark.parametrize("quality", [20, 50, 75, 90, 100])
def test_the_quality_of_a_lossy_webp_is_estimated(quality: int) -> None:
    assert quality_of(saved("WEBP", quality=quality)) == pytest.approx(quality, abs=12)
    alpha = np.dstack([SCENE, X * 2]).clip(0, 255).astype(np.uint8)
    assert quality_of(saved("WEBP", alpha, quality=quality)) == pytest.approx(quality, abs=12)


@pytest.mark.parametrize("quality", [20, 50, 75, 90])
def test_the_quality_of_an_avif_is_estimated(quality: int) -> None:
    assert quality_of(saved("AVIF", quality=quality)) == pytest.approx(quality, abs=9)
    alpha = np.dstack([SCENE, X * 2]).clip(0, 255).astype(np.uint8)
    first = quality_of(saved("AVIF", alpha, quality=quality, exif=b"Exif\0\0MM\0*\0\0\0\x08" + bytes(6)))
    assert first == pytest.approx(quality, abs=9)  # the primary item, wherever alpha and EXIF stand


def test_a_wide_avif_has_tiles() -> None:
    assert quality_of(saved("AVIF", np.tile(SCENE, (1, 40, 1)), quality=60, speed=10)) == pytest.approx(60, abs=9)


def test_a_truncated_avif_has_no_quality() -> None:
    data = saved("AVIF", quality=60)
    for length in range(0, len(data), 37):
        assert heif.read(io.BytesIO(data[:length])).quality in (None, heif.read(io.BytesIO(data)).quality)
    assert av1_quality(b"") is None and av1_quality(bytes(range(256))) is None


def test_a_lossless_file_has_no_quality() -> None:
    assert quality_of(saved("WEBP", lossless=True)) is None
    assert quality_of(saved("PNG")) is None
    assert quality_of(saved("AVIF", quality=100, subsampling="4:4:4")) is None
    assert webp_quality(b"") is None and webp_quality(bytes(200)) is None

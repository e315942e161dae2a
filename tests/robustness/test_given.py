"""Files that a first campaign found to be made wrongly, each with what is right. They lie in the shared folder."""

import resource
import time
from pathlib import Path

import numpy as np
import pytest

from liif_cli.errors import InputError
from liif_cli.images import read, write
from liif_cli.images.metadata.ifd import Reader

BUGS, HOSTILE = "review/bugs", "review/hostile"
PLAIN = [147.7, 111.4, 86.8]
"""Mean colour of the image that most of the files show."""
SMALL = [114.4, 112.4, 119.2]

READ = {
    f"{BUGS}/01-jpeg-empty-marker/icc_short.jpg": PLAIN,
    f"{BUGS}/01-jpeg-empty-marker/jfif_short.jpg": PLAIN,
    f"{BUGS}/02-png-gama-extreme/gama_short.png": PLAIN,
    f"{BUGS}/02-png-gama-extreme/p_gam_g1.png": PLAIN,
    f"{BUGS}/02-png-gama-extreme/p_gama_weird.png": PLAIN,
    f"{BUGS}/02-png-gama-extreme/s_gama2.png": PLAIN,
    f"{BUGS}/04-png-cicp-short/cicp_bad.png": PLAIN,
    f"{BUGS}/04-png-cicp-short/s_cicp3.png": PLAIN,
    f"{BUGS}/06-tiff-extra-before-alpha/t_5ch.tif": [*PLAIN, 138.2],
    f"{BUGS}/06-tiff-extra-before-alpha/s_gray_x_alpha.tif": [119.5, 127.5],
    f"{BUGS}/06-tiff-extra-before-alpha/s_rgb16_x_alpha.tif": [147.7, 111.4, 86.8, 127.5],
    f"{BUGS}/07-tiff-lab8/t_lab8.tif": [145.2, 111.7, 88.0],
    f"{BUGS}/11-avif-premultiplied/v_rgba.avif": [147.8, 111.7, 87.0, 138.2],
    f"{BUGS}/24-jpeg-no-eoi/j_noeoi.jpg": PLAIN,
    f"{HOSTILE}/01-exif-subifd-bomb/bomb.jpg": SMALL,
    f"{HOSTILE}/01-exif-subifd-bomb/small.jpg": SMALL,
    f"{HOSTILE}/02-exif-pointers-quadratic/180k.png": SMALL,
    f"{HOSTILE}/02-exif-pointers-quadratic/65k.jpg": SMALL,
    f"{HOSTILE}/03-xmp-whitespace-regex/2k.png": SMALL,
    f"{HOSTILE}/03-xmp-whitespace-regex/60k.jpg": SMALL,
    f"{HOSTILE}/03-xmp-whitespace-regex/thumbs.jpg": SMALL,
    f"{HOSTILE}/06-ztxt-bombs/two-chunks.png": SMALL,
    f"{HOSTILE}/08-png-gama/gama-1.png": SMALL,
    f"{HOSTILE}/08-png-gama/gama-400-bytes.png": SMALL,
    f"{HOSTILE}/10-jpeg-short-segments/icc-empty.jpg": SMALL,
    f"{HOSTILE}/10-jpeg-short-segments/jfif-short.jpg": SMALL,
    f"{HOSTILE}/11-avif-nested-boxes/nested.avif": SMALL,
    f"{HOSTILE}/16-exif-thumbnail-blanks-header/sony-d700.jpg": [122.8, 111.1, 101.0],
    f"{HOSTILE}/18-avif-limited-range-monochrome/fox-monochrome.avif": [55.1],
    f"{HOSTILE}/20-tiff-lab-8-bit/lab-green.tif": [0, 151, 118],
    f"{HOSTILE}/21-bmp-bitfields/V3_A4_R4_G4_B4.bmp": [85, 85, 85, 255],
    f"{HOSTILE}/21-bmp-bitfields/rgb32bf.bmp": [121.5, 118.4, 122.9],
    f"{HOSTILE}/32-apng-damaged-still-shown-by-browsers/acTL-without-frames.png": SMALL,
    f"{HOSTILE}/32-apng-damaged-still-shown-by-browsers/num_frames_high.png": [0, 255, 0, 255],
    f"{HOSTILE}/32-apng-damaged-still-shown-by-browsers/sequence_gap.png": [0, 255, 0, 255],
}
"""Files that are made: the mean of each channel, of 255."""

REFUSED = {
    f"{BUGS}/09-tiff-float64/t_f64.tif": "64-bit float",
    f"{BUGS}/09-tiff-float64/s_gray_f64.tif": "64-bit float",
    f"{BUGS}/13-raw-preview-as-tiff/nef_like.nef": "raw file",
    f"{BUGS}/13-raw-preview-as-tiff/s_arw_like.arw": "raw file",
    f"{BUGS}/13-raw-preview-as-tiff/s_cr2_like.cr2": "raw file .CR2",
    f"{BUGS}/26-png-damage-message/p_adler.png": "checksum",
    f"{BUGS}/26-png-damage-message/p_idatcrc.png": "checksum of its IDAT chunk",
    f"{BUGS}/26-png-damage-message/p_trunc.png": "ends early",
    f"{HOSTILE}/05-tiff-shared-tags/little.tif": "memory allocation",
    f"{HOSTILE}/13-ppm-plain-overflow/huge.ppm": "numbers from 0",
    f"{HOSTILE}/13-ppm-plain-overflow/large.ppm": "numbers from 0",
    f"{HOSTILE}/13-ppm-plain-overflow/negative.ppm": "numbers from 0",
    f"{HOSTILE}/14-chunk-length-allocation/45-bytes.png": "checksum",
    f"{HOSTILE}/14-chunk-length-allocation/length.webp": "unable to parse",
    f"{HOSTILE}/17-tiff-ojpeg-empty-picture/ojpeg-tile.tif": "old-style JPEG",
}
"""Files that are refused, and what the sentence says."""

NOTES = {
    f"{BUGS}/06-tiff-extra-before-alpha/t_5ch.tif": "1 extra channels",
    f"{BUGS}/11-avif-premultiplied/v_premul.avif": "premultiplied",
    f"{BUGS}/15-xmp-panorama/gpano.jpg": "panorama",
    f"{BUGS}/16-xmp-motion-photo/motion.jpg": "motion photo",
    f"{BUGS}/16-xmp-motion-photo/samsung.jpg": "bytes after the image",
    f"{BUGS}/18-c2pa-silent/c2pa.jpg": "C2PA",
    f"{BUGS}/18-c2pa-silent/c2pa.png": "C2PA",
    f"{BUGS}/24-jpeg-no-eoi/j_noeoi.jpg": "end marker",
    f"{HOSTILE}/06-ztxt-bombs/two-chunks.png": "inflates to more than 8 MiB",
    f"{HOSTILE}/32-apng-damaged-still-shown-by-browsers/sequence_gap.png": "animation is damaged",
}
"""What is said of a file when it is made."""

SECONDS = 10
"""Of processor time, for a file that once took minutes: far above what it takes on a slow machine."""
MIB = 200
"""What a file of a few kB may add to the memory of the process."""


@pytest.fixture(autouse=True)
def bounded() -> object:
    """Every file within the stated time and memory."""
    start, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert time.process_time() - start < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MIB * 1024


@pytest.mark.parametrize("name", READ)
def test_it_is_read_with_the_right_colours(shared: Path, tmp_path: Path, name: str) -> None:
    picture = read.read(shared / name)
    full = 65535 if picture.pixels.dtype == np.uint16 else 255
    means = picture.pixels.reshape(-1, picture.channels).mean(0) * 255 / full
    np.testing.assert_allclose(means, READ[name], atol=2)
    for suffix in ("png", "jpg", "tif", "webp"):
        path = tmp_path / f"out.{suffix}"
        write.write(path, picture.pixels, picture.metadata)
        assert read.probe(path).width == picture.width


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_in_a_sentence_of_ours(shared: Path, name: str) -> None:
    with pytest.raises(InputError, match=REFUSED[name]) as error:
        read.read(shared / name)
    assert "\n" not in str(error.value) and str(shared / name) in str(error.value)


@pytest.mark.parametrize("name", NOTES)
def test_what_is_left_out_or_mended_is_said(shared: Path, tmp_path: Path, name: str) -> None:
    picture = read.read(shared / name)
    notes = (*picture.notes, *write.write(tmp_path / "out.jpg", picture.pixels, picture.metadata))
    assert any(NOTES[name] in note for note in notes)


@pytest.mark.parametrize("order", ["little", "big-endian"])
def test_values_that_tags_share_are_read_as_far_as_the_file_is_long(shared: Path, order: str) -> None:
    path = shared / HOSTILE / "05-tiff-shared-tags" / f"{order}.tif"
    with path.open("rb") as file:
        reader = Reader(file)
        (page,) = reader.pages()
        values = [data for _, _, data in reader.directory(page).tags.values()]
    assert 0 < sum(map(len, values)) <= path.stat().st_size


def test_a_palette_is_probed_without_its_pixels(shared: Path) -> None:
    header = read.probe(shared / HOSTILE / "07-palette-bomb/30000x30000.png")
    assert (header.width, header.height) == (30_000, 30_000)


def test_premultiplied_colours_are_those_of_the_straight_file(shared: Path) -> None:
    folder = shared / BUGS / "11-avif-premultiplied"
    premultiplied, straight = (read.read(folder / name).pixels.astype(int) for name in ("v_premul.avif", "v_rgba.avif"))
    seen = straight[..., 3] > 100
    assert np.abs(premultiplied - straight)[seen].mean() < 4


def test_exif_of_a_camera_survives_the_loss_of_its_thumbnail(shared: Path, tmp_path: Path) -> None:
    from PIL import Image

    picture = read.read(shared / HOSTILE / "16-exif-thumbnail-blanks-header/sony-d700.jpg")
    write.write(tmp_path / "out.jpg", picture.pixels, picture.metadata)
    with Image.open(tmp_path / "out.jpg") as image:
        assert image.getexif()[0x010F].strip("\0 ") == "SONY"


@pytest.mark.parametrize("name", ["15-xmp-panorama/gpano.jpg", "16-xmp-motion-photo/motion.jpg"])
def test_xmp_promises_nothing_that_is_gone(shared: Path, name: str) -> None:
    picture = read.read(shared / BUGS / name)
    packet = picture.metadata.for_size(192, 80)[0].xmp
    assert packet is not None
    assert not any(word in packet for word in (b"FullPanoWidth", b"CroppedArea", b"MotionPhoto", b"MicroVideo"))

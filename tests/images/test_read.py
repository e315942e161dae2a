"""Reading: every variant that is documented, written by Pillow, libvips, ImageMagick or by hand."""

import io
import shutil
import struct
import subprocess
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
from PIL import Image, ImageCms

from liif_cli.errors import InputError, LiifError, OutOfMemory
from liif_cli.images import read as images
from liif_cli.images.formats.png_chunks import chunk

Y, X = np.mgrid[0:24, 0:36]
RGB = np.stack([X * 7, Y * 10, (X + Y) * 4], axis=2).astype(np.uint8)
GRAY = (X * 7).astype(np.uint8)
ALPHA = (Y * 11).astype(np.uint8)
DEEP = (np.stack([X * 1820, Y * 2849, X * Y * 70], axis=2)).astype(np.uint16)


def png(width: int, height: int, depth: int, kind: int, rows: bytes, *extra: bytes) -> bytes:
    """A PNG file by hand: `rows` are the packed samples with a filter byte before each."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    body = b"".join(extra) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + body


def saved(pixels: Any, form: str, **options: Any) -> bytes:
    """A file of the format, written by Pillow."""
    file = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(file, form, **options)
    return file.getvalue()


def vips(pixels: np.ndarray, interpretation: str) -> Any:
    return pyvips.Image.new_from_array(pixels).copy(interpretation=interpretation)


class TestPNG:
    @pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
    def test_gray_of_every_depth(self, depth: int) -> None:
        values = np.arange(8) % 2**depth
        bits = "".join(f"{v:0{depth}b}" for v in values)
        row = b"\0" + int(bits, 2).to_bytes(len(bits) // 8)
        picture = images.read(png(8, 1, depth, 0, row))
        top = 65535 if depth == 16 else 255
        np.testing.assert_array_equal(picture.pixels[0, :, 0], np.rint(values * top / (2**depth - 1)))
        assert picture.pixels.dtype == (np.uint16 if depth == 16 else np.uint8)

    def test_palette_becomes_rgb(self) -> None:
        image = Image.fromarray(RGB).quantize(7)
        picture = images.read(saved(image, "PNG"))
        np.testing.assert_array_equal(picture.pixels, np.asarray(image.convert("RGB")))

    def test_palette_of_grays_becomes_gray(self) -> None:
        image = Image.fromarray(GRAY).convert("RGB").quantize(16)
        picture = images.read(saved(image, "PNG"))
        assert picture.channels == 1
        np.testing.assert_array_equal(picture.pixels[..., 0], np.asarray(image.convert("RGB"))[..., 0])

    def test_transparent_palette_and_colour_keys_become_alpha(self) -> None:
        keyed = images.read(saved(RGB, "PNG", transparency=tuple(int(v) for v in RGB[3, 4])))
        assert keyed.channels == 4
        assert np.argwhere(keyed.pixels[..., 3] == 0).tolist() == [[3, 4]]
        gray = images.read(saved(np.tile(np.arange(36, dtype=np.uint8), (24, 1)), "PNG", transparency=5))
        assert gray.channels == 2
        assert set(np.argwhere(gray.pixels[..., 1] == 0)[:, 1]) == {5}
        palette = Image.fromarray(RGB).quantize(4)
        read = images.read(saved(palette, "PNG", transparency=bytes([0, 128, 255, 255])))
        expected = np.array([0, 128, 255, 255])[np.asarray(palette)]
        np.testing.assert_array_equal(read.pixels[..., 3], expected)

    def test_sixteen_bit_colour_stays(self) -> None:
        picture = images.read(vips(DEEP, "rgb16").pngsave_buffer())
        np.testing.assert_array_equal(picture.pixels, DEEP)
        assert picture.depth == np.uint16

    def test_interlaced(self) -> None:
        data = vips(RGB, "srgb").pngsave_buffer(interlace=True)
        assert data[28] == 1
        np.testing.assert_array_equal(images.read(data).pixels, RGB)

    def test_gamma_becomes_a_profile_and_linear_light_is_undone(self) -> None:
        linear = chunk(b"gAMA", (100_000).to_bytes(4))
        picture = images.read(png(3, 1, 8, 0, b"\0\0\x80\xff", linear))
        assert picture.metadata.icc is not None
        assert any("gAMA" in note for note in picture.notes)
        assert picture.pixels[0, 1, 0] / 257 == pytest.approx(188, abs=1)  # sRGB's code for half the light
        usual = images.read(png(3, 1, 8, 0, b"\0\0\x80\xff", chunk(b"gAMA", (45455).to_bytes(4))))
        assert usual.metadata.icc is None
        assert usual.pixels[0, :, 0].tolist() == [0, 128, 255]

    def test_chromaticities_become_a_profile(self) -> None:
        p3 = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
        picture = images.read(png(1, 1, 8, 2, b"\0\xff\0\0", chunk(b"cHRM", p3)))
        assert picture.metadata.icc is not None
        lab = ImageCms.PyCMSError
        source = ImageCms.ImageCmsProfile(io.BytesIO(picture.metadata.icc))
        there = ImageCms.profileToProfile(Image.new("RGB", (1, 1), (0, 255, 0)), source, ImageCms.createProfile("sRGB"))
        assert there is not None, lab
        x, y, z = source.profile.red_primary[0]
        assert (x, y, z) == pytest.approx((0.5151, 0.2412, -0.0011), abs=2e-3)  # Display P3's red in D50

    def test_code_points(self) -> None:
        plain = images.read(png(1, 1, 8, 2, b"\0\1\2\3", chunk(b"cICP", bytes([1, 13, 0, 1]))))
        assert plain.metadata.icc is None and not plain.notes
        wide = images.read(png(1, 1, 8, 2, b"\0\1\2\3", chunk(b"cICP", bytes([12, 13, 0, 1]))))
        assert wide.metadata.icc is not None and wide.metadata.cicp is None
        hdr = images.read(png(1, 1, 8, 2, b"\0\1\2\3", chunk(b"cICP", bytes([9, 16, 0, 1]))))
        assert hdr.metadata.cicp == bytes([9, 16, 0, 1])
        assert any("HDR" in note for note in hdr.notes)


class TestJPEG:
    @pytest.mark.parametrize("progressive", [False, True])
    def test_gray_and_rgb(self, progressive: bool) -> None:
        for pixels in (GRAY, RGB):
            data = saved(pixels, "JPEG", quality=95, progressive=progressive, subsampling=0)
            picture = images.read(data)
            expected = np.asarray(Image.open(io.BytesIO(data))).reshape(picture.pixels.shape)
            assert np.abs(picture.pixels.astype(int) - expected).max() <= 1
            assert images.probe(data).channels == (1 if pixels.ndim == 2 else 3)

    def test_cmyk_becomes_srgb(self) -> None:
        data = saved(Image.fromarray(RGB).convert("CMYK"), "JPEG", quality=95)
        picture = images.read(data)
        assert picture.channels == 3
        assert any("CMYK" in note for note in picture.notes)
        assert ImageCms.ImageCmsProfile(io.BytesIO(picture.metadata.icc or b"")).profile.xcolor_space == "RGB "
        white = images.read(saved(Image.new("CMYK", (8, 8), (0, 0, 0, 0)), "JPEG"))
        assert white.pixels.min() >= 253
        black = images.read(saved(Image.new("CMYK", (8, 8), (255, 255, 255, 255)), "JPEG"))
        assert black.pixels.max() <= 30

    def test_a_truncated_file_is_refused(self) -> None:
        data = saved(RGB.repeat(8, 0).repeat(8, 1), "JPEG", quality=95)
        with pytest.raises(InputError):
            images.read(data[: len(data) // 2])


class TestTIFF:
    @pytest.mark.parametrize("compression", ["none", "lzw", "deflate"])
    @pytest.mark.parametrize("tile", [False, True])
    def test_strips_and_tiles(self, compression: str, tile: bool) -> None:
        for pixels, kind in ((RGB, "srgb"), (DEEP, "rgb16")):
            data = vips(pixels, kind).tiffsave_buffer(compression=compression, tile=tile, tile_width=16, tile_height=16)
            np.testing.assert_array_equal(images.read(data).pixels, pixels)

    def test_jpeg_inside(self) -> None:
        data = vips(RGB, "srgb").tiffsave_buffer(compression="jpeg", Q=98)
        assert np.abs(images.read(data).pixels.astype(int) - RGB).mean() < 4

    def test_floats_are_display_values_with_16_bits(self) -> None:
        floats = (X / 35).astype(np.float32)
        picture = images.read(saved(floats, "TIFF"))
        assert picture.depth == np.uint16 and picture.channels == 1
        np.testing.assert_array_equal(picture.pixels[..., 0], np.rint(floats * 65535))
        assert any("float" in note for note in picture.notes)
        with pytest.raises(InputError, match="go up to 255"):
            images.read(saved((floats * 255).astype(np.float32), "TIFF"))

    def test_32_bit_integers_are_refused(self) -> None:
        with pytest.raises(InputError, match="32-bit integer"):
            images.read(saved(X.astype(np.int32), "TIFF"))

    def test_cmyk_and_white_is_zero(self) -> None:
        assert images.read(saved(Image.fromarray(RGB).convert("CMYK"), "TIFF")).channels == 3
        inverted = vips(GRAY, "b-w").tiffsave_buffer(miniswhite=True)
        np.testing.assert_array_equal(images.read(inverted).pixels[..., 0], GRAY)

    def test_pages(self, tmp_path: Path) -> None:
        pages = [Image.new("RGB", (5, 4), c) for c in ("red", "lime", "blue")]
        pages[0].save(tmp_path / "p.tif", save_all=True, append_images=pages[1:])
        assert images.probe(tmp_path / "p.tif").pages == 3
        assert any("3 pages" in note for note in images.read(tmp_path / "p.tif").notes)
        second = images.read(tmp_path / "p.tif", page=2)
        assert second.pixels[0, 0].tolist() == [0, 255, 0] and not second.notes
        with pytest.raises(InputError, match="no page 4"):
            images.read(tmp_path / "p.tif", page=4)
        with pytest.raises(InputError, match="only TIFF"):
            images.read(saved(RGB, "PNG"), page=1)

    def test_premultiplied_alpha_is_divided_out(self) -> None:
        straight = np.dstack([RGB, np.maximum(ALPHA, 40)])
        data = vips(straight, "srgb").tiffsave_buffer(premultiply=True)
        picture = images.read(data)
        np.testing.assert_array_equal(picture.pixels[..., 3], straight[..., 3])
        assert np.abs(picture.pixels[..., :3].astype(int) - RGB).max() <= 255 / 40 + 1  # libvips truncates twice
        assert any("premultiplied" in note for note in picture.notes)

    def test_a_raw_file_of_a_camera_is_refused(self) -> None:
        from PIL.TiffImagePlugin import ImageFileDirectory_v2

        tags = ImageFileDirectory_v2()
        tags.tagtype[50706] = 1
        tags[50706] = b"\1\4\0\0"
        with pytest.raises(InputError, match="DNG"):
            images.read(saved(RGB, "TIFF", tiffinfo=tags))


class TestOthers:
    def test_webp(self) -> None:
        pixels = np.dstack([RGB, ALPHA])
        read = images.read(saved(pixels, "WEBP", lossless=True, exact=True))
        np.testing.assert_array_equal(read.pixels, pixels)
        assert images.read(saved(RGB, "WEBP", lossless=True)).channels == 3

    @pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "P"])
    def test_bmp(self, mode: str) -> None:
        image = Image.fromarray(np.dstack([RGB, ALPHA])).convert(mode)
        picture = images.read(saved(image, "BMP"))
        expected = image.convert({"1": "L", "L": "L"}.get(mode, "RGB"))  # Pillow writes 32 bits without saying alpha
        np.testing.assert_array_equal(picture.pixels.squeeze(), np.asarray(expected))

    def test_gif_and_its_gray(self) -> None:
        image = Image.fromarray(RGB).quantize(32)
        np.testing.assert_array_equal(images.read(saved(image, "GIF")).pixels, np.asarray(image.convert("RGB")))
        assert images.read(saved(GRAY, "GIF")).channels == 1

    def test_ppm_pgm_pbm(self) -> None:
        np.testing.assert_array_equal(images.read(saved(RGB, "PPM")).pixels, RGB)
        np.testing.assert_array_equal(images.read(saved(GRAY, "PPM")).pixels[..., 0], GRAY)
        bits = Image.fromarray(GRAY).convert("1")
        np.testing.assert_array_equal(images.read(saved(bits, "PPM")).pixels[..., 0], np.asarray(bits.convert("L")))

    def test_deep_ppm_which_pillow_reads_as_8_bits(self) -> None:
        raw = b"P6\n# by hand\n36 24\n65535\n" + DEEP.astype(">u2").tobytes()
        np.testing.assert_array_equal(images.read(raw).pixels, DEEP)
        plain = b"P3\n2 1 1000\n0 500 1000\n 1000 0 0\n"
        assert images.read(plain).pixels.reshape(-1).tolist() == [0, 32768, 65535, 65535, 0, 0]
        with pytest.raises(InputError, match="ends early"):
            images.read(raw[:-10])

    @pytest.mark.parametrize("bits", [8, 10, 12])
    def test_avif_of_every_depth_reaches_white(self, bits: int) -> None:
        ramp = np.linspace(0, 65535, 36).round().astype(np.uint16)
        deep = np.repeat(np.tile(ramp, (24, 1))[..., None], 3, axis=2)
        data = vips(deep, "rgb16").heifsave_buffer(compression="av1", bitdepth=bits, lossless=True)
        picture = images.read(data)
        top = 255 if bits == 8 else 65535
        assert picture.pixels.max() == top and picture.pixels.min() == 0
        step = top / (2**bits - 1)
        assert np.abs(picture.pixels[..., 0] - deep[..., 0] * (top / 65535)).max() <= step
        assert picture.metadata.bits == bits

    def test_monochrome_avif_is_gray(self) -> None:
        picture = images.read(saved(Image.fromarray(GRAY), "AVIF", subsampling="4:0:0", quality=100))
        assert picture.channels == 1
        assert np.abs(picture.pixels[..., 0].astype(int) - GRAY).max() <= 1

    def test_only_the_first_frame_of_an_animated_avif_is_read_with_a_note(self) -> None:
        others = [Image.new("RGB", (36, 24), "blue")]
        data = saved(RGB, "AVIF", save_all=True, append_images=others, quality=100, subsampling="4:4:4")
        picture = images.read(data)
        assert np.abs(picture.pixels.astype(int) - RGB).mean() < 3
        assert any("first frame" in note for note in picture.notes)


def test_pillows_own_limit_is_neither_applied_nor_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is global to the process, and other threads read it, too."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1)
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("Image.open applies the limit"))
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    moving = saved_frames(frames)
    for data in (saved(RGB, "BMP"), saved(RGB[..., 0] > 99, "PPM"), moving):
        assert images.read(data).width == RGB.shape[1]
    assert Image.MAX_IMAGE_PIXELS == 1


def saved_frames(frames: list[Image.Image]) -> bytes:
    file = io.BytesIO()
    frames[0].save(file, "PNG", save_all=True, append_images=frames[1:])
    return file.getvalue()


class TestRefusals:
    SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect/></svg>'

    @pytest.mark.parametrize(
        "data",
        [SVG, SVG[21:], b"%PDF-1.7\n", b"", b"\0" * 100, b"GIF", b"8BPS\0\1", b"P7\n", b"\x00\x00\x00\x0cftypmp42"],
        ids=["svg", "bare svg", "pdf", "empty", "zeros", "cut gif", "psd", "pam", "mp4"],
    )
    def test_files_that_are_not_supported_images(self, data: bytes, tmp_path: Path) -> None:
        (tmp_path / "x.png").write_bytes(data)
        with pytest.raises(InputError, match=r"x\.png") as caught:
            images.read(tmp_path / "x.png")
        assert caught.value.exit_code == 3

    def test_the_content_decides_not_the_suffix(self, tmp_path: Path) -> None:
        (tmp_path / "photo.jpg").write_bytes(saved(RGB, "PNG"))
        picture = images.read(tmp_path / "photo.jpg")
        assert picture.format == "png"
        np.testing.assert_array_equal(picture.pixels, RGB)

    def test_a_header_that_claims_more_than_memory_holds(self) -> None:
        bomb = png(100_000, 100_000, 16, 6, b"")
        assert images.probe(bomb).width == 100_000
        with pytest.raises(OutOfMemory, match="100000x100000") as caught:
            images.read(bomb)
        assert caught.value.exit_code == 7

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="cannot read"):
            images.read(tmp_path / "none.png")

    @pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "AVIF"])
    def test_cut_and_scrambled_files_are_input_errors(self, form: str) -> None:
        whole = saved(RGB, form)
        generator = np.random.default_rng(1)
        for length in (12, 20, 40, len(whole) // 2):
            with pytest.raises(InputError):
                images.read(whole[:length])
        for _ in range(12):
            data = bytearray(whole)
            for at in generator.integers(8, len(data), 6):
                data[at] = generator.integers(256)
            try:
                images.read(bytes(data))
            except LiifError as error:
                assert isinstance(error, InputError)  # either it reads, or this


@pytest.mark.skipif(shutil.which("convert") is None, reason="ImageMagick is not installed")
class TestImageMagick:
    @pytest.mark.parametrize(
        ("options", "name", "channels", "bits"),
        [
            ("-depth 16", "a.png", 3, 16), ("-colorspace Gray -depth 16", "a.png", 1, 16), ("-colors 5", "a.gif", 3, 8),
            ("-colorspace CMYK", "a.jpg", 3, 8), ("-depth 16 -compress Zip", "a.tif", 3, 16), ("-depth 16", "a.ppm", 3, 16),
            ("-colorspace Lab", "a.tif", 3, 16), ("-interlace Plane", "a.jpg", 3, 8), ("", "a.bmp", 3, 8),
        ],
    )  # fmt: skip
    def test_its_files(self, tmp_path: Path, options: str, name: str, channels: int, bits: int) -> None:
        path = tmp_path / name
        made = subprocess.run(
            ["convert", "-size", "40x30", "gradient:red-blue", *options.split(), str(path)],
            capture_output=True,
            check=False,
        )
        if made.returncode or not path.exists():
            pytest.skip("this ImageMagick cannot write it")
        picture = images.read(path)
        assert (picture.channels, picture.metadata.bits, picture.pixels.shape[:2]) == (channels, bits, (30, 40))
        top = np.iinfo(picture.pixels.dtype).max
        assert channels == 1 or picture.pixels[0, 0, 0] > 0.85 * top > 4 * picture.pixels[0, 0, -1]

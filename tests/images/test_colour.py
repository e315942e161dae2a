"""Colour profiles, depth and grayscale from input to output; colours are checked with lcms through Pillow."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
from PIL import Image, ImageCms

from liif_cli.images import colour, icc, read, write
from liif_cli.images.levels import as_floats, quantize
from liif_cli.images.write import SaveOptions, open_writer
from liif_cli.models.model import SRModel
from liif_cli.rendering.sizes import Scale
from liif_cli.upscaling.options import Options
from liif_cli.upscaling.upscaler import Upscaler

Y, X = np.mgrid[0:24, 0:36]
RGB = np.stack([X * 7, Y * 10, (X + Y) * 4], axis=2).astype(np.uint8)
DEEP = np.stack([X * 1820, Y * 2849, X * Y * 70], axis=2).astype(np.uint16)
P3 = icc.built("Display P3", icc.PRIMARIES[12], icc.D65, icc.SRGB_CURVE)
LINEAR = icc.built("linear", icc.PRIMARIES[9], icc.D65, (1.0,))
GRAY_LINEAR = icc.built("linear gray", icc.PRIMARIES[1], icc.D65, (1.0,), gray=True)
ADOBE = icc.built("gamma 2.2", (0.64, 0.33, 0.21, 0.71, 0.15, 0.06), icc.D65, (2.19921875,))
WITH_PROFILE = ["png", "jpg", "webp", "tif", "avif"]


def saved(pixels: Any, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


def upscaled(
    tiny: SRModel, folder: Path, data: bytes, name: str, *, to_srgb: bool = False, **save: Any
) -> tuple[Path, tuple[str, ...]]:
    (folder / "input").write_bytes(data)
    upscaler = Upscaler(tiny, Options(precision="fp32", to_srgb=to_srgb, save=SaveOptions(**save)))
    [result] = upscaler.file(folder / "input", [(Scale.parse("2"), folder / name)])
    return folder / name, result.notes


def decoded(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def lab(pixels: np.ndarray, profile: bytes) -> np.ndarray:
    """Lab (H, W, 3) in 8-bit units of RGB pixels, by lcms through Pillow."""
    target = ImageCms.createProfile("LAB")
    image = ImageCms.profileToProfile(
        Image.fromarray(pixels), io.BytesIO(profile), target, ImageCms.Intent.RELATIVE_COLORIMETRIC, outputMode="LAB"
    )
    values = np.asarray(image)
    return np.dstack([values[..., 0].astype(int), values[..., 1:].view(np.int8).astype(int)])


class TestProfiles:
    @pytest.mark.parametrize("primaries", [1, 5, 6, 9, 12])
    @pytest.mark.parametrize("curve", [(2.2,), (1.0,), icc.SRGB_CURVE, icc.BT709_CURVE])
    def test_lcms_takes_what_is_built(self, primaries: int, curve: tuple[float, ...]) -> None:
        data = icc.built("made", icc.PRIMARIES[primaries], icc.D65, curve)
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        assert ImageCms.getProfileDescription(profile).strip() == "made" == icc.name(data)
        white = lab(np.full((1, 1, 3), 255, np.uint8), data)[0, 0]
        assert white[0] >= 254 and abs(white[1]) <= 1 and abs(white[2]) <= 1
        assert icc.space(data) == "RGB"

    def test_srgb_by_hand_is_srgb(self) -> None:
        ours = icc.built("sRGB", icc.PRIMARIES[1], icc.D65, icc.SRGB_CURVE)
        theirs = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        assert np.abs(lab(RGB, ours) - lab(RGB, theirs)).max() <= 1

    @pytest.mark.parametrize(("profile", "far"), [(P3, False), (ADOBE, False), (LINEAR, True), (GRAY_LINEAR, True)])
    def test_which_tone_curves_are_far(self, profile: bytes, far: bool) -> None:
        assert (colour.far_curve(profile) is not None) == far

    def test_a_curve_and_back_loses_nothing(self) -> None:
        curve = colour.tone_curve(LINEAR)
        for pixels in (RGB, DEEP, np.dstack([RGB, RGB[..., 0]])):
            there = colour.to_network(pixels, curve)
            top = np.iinfo(pixels.dtype).max
            back = colour.from_network(there / np.float32(65535), curve)
            np.testing.assert_allclose(back * top, pixels, atol=0.49 if top == 255 else 2)

    def test_the_network_sees_srgb_codes_of_linear_light(self) -> None:
        picture = read.read(saved(RGB, "PNG", icc_profile=LINEAR))
        expected = colour.srgb_coded(RGB / 255.0) * 65535
        assert picture.pixels.dtype == np.uint16
        assert np.abs(picture.pixels - expected).max() < 300
        assert picture.depth == np.uint8  # 8 bits come back out


class TestTravelling:
    @pytest.mark.parametrize("profile", [P3, LINEAR], ids=["near", "far"])
    @pytest.mark.parametrize("name", WITH_PROFILE)
    def test_the_profile_travels_along(self, tiny: SRModel, tmp_path: Path, name: str, profile: bytes) -> None:
        path, notes = upscaled(tiny, tmp_path, saved(RGB, "PNG", icc_profile=profile), f"out.{name}")
        with Image.open(path) as image:
            assert image.info["icc_profile"] == profile
        assert bytes(pyvips.Image.new_from_file(str(path)).get("icc-profile-data")) == profile
        assert not notes

    @pytest.mark.parametrize("name", ["png", "jpg", "tif"])
    def test_a_profile_larger_than_a_segment_travels_too(self, tmp_path: Path, name: str) -> None:
        padded = P3 + np.random.default_rng(3).bytes(150_000)
        large = len(padded).to_bytes(4) + padded[4:]
        picture = read.read(saved(RGB, "JPEG", icc_profile=large))
        write.write(tmp_path / f"out.{name}", picture.pixels, picture.metadata)
        with Image.open(tmp_path / f"out.{name}") as image:
            assert image.info["icc_profile"] == large

    def test_a_near_profile_leaves_the_numbers_alone(self, tiny: SRModel, tmp_path: Path) -> None:
        plain, _ = upscaled(tiny, tmp_path, saved(RGB, "PNG"), "plain.png")
        tagged, _ = upscaled(tiny, tmp_path, saved(RGB, "PNG", icc_profile=P3), "tagged.png")
        np.testing.assert_array_equal(decoded(plain), decoded(tagged))

    def test_linear_light_comes_back_linear(self, tmp_path: Path) -> None:
        picture = read.read(saved(RGB, "PNG", icc_profile=LINEAR))
        write.write(tmp_path / "out.png", picture.pixels, picture.metadata)
        with open_writer(tmp_path / "8.png", 24, 36, 3, picture.depth, picture.metadata) as writer:
            writer.write(as_floats(picture.pixels))
        assert np.abs(decoded(tmp_path / "8.png").astype(int) - RGB).max() <= 1

    def test_to_srgb_converts_for_good(self, tiny: SRModel, tmp_path: Path) -> None:
        soft = (RGB // 3 + 80).astype(np.uint8)  # within sRGB's gamut
        picture = read.read(saved(soft, "PNG", icc_profile=P3), to_srgb=True)
        srgb = picture.metadata.icc
        assert srgb is not None and icc.name(srgb) == "sRGB"
        assert np.abs(picture.pixels.astype(int) - soft).max() > 3
        assert np.abs(lab(picture.pixels, srgb) - lab(soft, P3)).max() <= 2
        path, notes = upscaled(tiny, tmp_path, saved(soft, "PNG", icc_profile=P3), "out.png", to_srgb=True)
        assert any("Display P3" in note for note in notes)
        with Image.open(path) as image:
            assert image.info["icc_profile"] == srgb

    def test_strip_means_srgb(self, tiny: SRModel, tmp_path: Path) -> None:
        path, _ = upscaled(tiny, tmp_path, saved(RGB, "PNG", icc_profile=P3), "s.png", strip=True)
        kept, _ = upscaled(tiny, tmp_path, saved(RGB, "PNG", icc_profile=P3), "k.png", to_srgb=True)
        with Image.open(path) as image:
            assert "icc_profile" not in image.info
            np.testing.assert_array_equal(np.asarray(image), decoded(kept))

    def test_cmyk_comes_out_as_tagged_srgb(self, tiny: SRModel, tmp_path: Path) -> None:
        file = io.BytesIO()
        Image.fromarray(RGB).convert("CMYK").save(file, "JPEG", quality=95)
        path, notes = upscaled(tiny, tmp_path, file.getvalue(), "out.jpg")
        assert any("CMYK was converted to sRGB" in note for note in notes)
        with Image.open(path) as image:
            assert image.mode == "RGB"
            assert icc.name(image.info["icc_profile"]) == "sRGB"

    @pytest.mark.parametrize("data", [b"no profile at all", P3[:200], P3[:128] + b"\xff" * 300])
    def test_a_broken_profile_is_dropped_with_a_note(self, data: bytes) -> None:
        picture = read.read(saved(RGB, "PNG", icc_profile=data))
        assert picture.metadata.icc is None
        assert any("profile" in note for note in picture.notes)
        np.testing.assert_array_equal(picture.pixels, RGB)

    def test_a_profile_of_another_space_is_dropped_with_a_note(self) -> None:
        picture = read.read(saved(RGB[..., 0], "TIFF", icc_profile=P3))
        assert picture.metadata.icc is None
        assert any("RGB ICC profile" in note for note in picture.notes)


class TestDepth:
    @pytest.mark.parametrize("source", ["png", "tif"])
    @pytest.mark.parametrize("name", ["png", "tif"])
    def test_sixteen_bits_in_give_sixteen_out(self, tmp_path: Path, source: str, name: str) -> None:
        data = pyvips.Image.new_from_array(DEEP).copy(interpretation="rgb16").write_to_buffer(f".{source}")
        picture = read.read(data)
        assert write.write(tmp_path / f"out.{name}", picture.pixels, picture.metadata) == ()
        np.testing.assert_array_equal(pyvips.Image.new_from_file(str(tmp_path / f"out.{name}")).numpy(), DEEP)
        raw = (tmp_path / f"out.{name}").read_bytes()
        if name == "png":
            assert raw[24] == 16  # IHDR's depth
        else:
            assert pyvips.Image.tiffload_buffer(raw).get("bits-per-sample") == 16

    def test_through_the_network_more_than_8_bits_are_left(self, tiny: SRModel, tmp_path: Path) -> None:
        data = pyvips.Image.new_from_array(DEEP).copy(interpretation="rgb16").pngsave_buffer()
        path, notes = upscaled(tiny, tmp_path, data, "out.png")
        out = pyvips.Image.new_from_file(str(path)).numpy()
        assert out.dtype == np.uint16 and len(np.unique(out % 257)) > 200
        assert not notes

    @pytest.mark.parametrize(("name", "bits"), [("jpg", 8), ("webp", 8), ("avif", 12)])
    def test_a_reduced_depth_is_reported(self, tmp_path: Path, name: str, bits: int) -> None:
        notes = write.write(tmp_path / f"out.{name}", DEEP)
        assert any(f"16 bits per sample became {bits}" in note for note in notes)

    def test_twelve_bit_avif_is_rounded_once(self, tmp_path: Path) -> None:
        ramp = np.repeat(np.linspace(0, 1, 4096, dtype=np.float32).reshape(64, 64, 1), 3, axis=2)
        with open_writer(tmp_path / "a.avif", 64, 64, 3, np.uint16, None, SaveOptions(lossless=True)) as writer:
            writer.write(ramp)
        levels = pyvips.Image.new_from_file(str(tmp_path / "a.avif")).numpy()[..., 1] >> 4
        assert np.abs(levels.astype(int).reshape(-1) - np.arange(4096)).max() <= 1

    def test_floats_are_rounded_half_to_even_and_clamped(self) -> None:
        rows = np.array([-0.1, 0.5 / 255, 1.5 / 255, 2.5 / 255, 1.2], np.float32)
        assert quantize(rows, np.uint8).tolist() == [0, 0, 2, 2, 255]


class TestGray:
    @pytest.mark.parametrize("name", ["png", "jpg", "tif", "avif"])
    def test_gray_stays_gray(self, tiny: SRModel, tmp_path: Path, name: str) -> None:
        path, notes = upscaled(tiny, tmp_path, saved(RGB[..., 0], "PNG"), f"out.{name}")
        assert not notes
        if name == "avif":
            assert read.read(path).channels == 1
        else:
            assert pyvips.Image.new_from_file(str(path)).bands == 1
            with Image.open(path) as image:
                assert image.mode == "L"

    @pytest.mark.parametrize("name", ["png", "tif", "avif"])
    def test_gray_and_alpha_too(self, tiny: SRModel, tmp_path: Path, name: str) -> None:
        data = saved(np.dstack([RGB[..., 0], RGB[..., 1]]), "PNG")
        path, _ = upscaled(tiny, tmp_path, data, f"out.{name}")
        assert read.read(path).channels == 2
        if name != "avif":
            assert pyvips.Image.new_from_file(str(path)).bands == 2

    def test_a_gray_profile_travels_where_gray_does(self, tmp_path: Path) -> None:
        picture = read.read(saved(RGB[..., 0], "PNG", icc_profile=GRAY_LINEAR))
        with open_writer(tmp_path / "a.png", 24, 36, 1, picture.depth, picture.metadata) as writer:
            writer.write(picture.pixels)
        with Image.open(tmp_path / "a.png") as image:
            assert image.info["icc_profile"] == GRAY_LINEAR
            assert np.abs(np.asarray(image).astype(int) - RGB[..., 0]).max() <= 1

    def test_in_other_formats_it_becomes_srgb_with_a_note(self, tmp_path: Path) -> None:
        picture = read.read(saved(RGB[..., 0], "PNG", icc_profile=GRAY_LINEAR))
        options = SaveOptions(lossless=True)
        with open_writer(tmp_path / "a.webp", 24, 36, 1, picture.depth, picture.metadata, options) as writer:
            writer.write(picture.pixels)
        assert any("gray profile" in note for note in writer.notes)
        with Image.open(tmp_path / "a.webp") as image:
            assert "icc_profile" not in image.info
            expected = colour.srgb_coded(RGB[..., 0] / 255.0) * 255
            assert np.abs(np.asarray(image)[..., 0] - expected).max() <= 3

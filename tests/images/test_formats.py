"""Tests that run for every file format: its files have the properties that its `Format` states."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make_formats import PAGE, placed

from liif_cli.cli import doctor
from liif_cli.cli.app import command
from liif_cli.errors import InputError, UsageError
from liif_cli.images import read, write
from liif_cli.images.formats.base import Format
from liif_cli.images.formats.table import ALL, FORMATS, SUFFIXES, format_of, sniff
from liif_cli.images.picture import Timing
from liif_cli.images.write import SaveOptions, open_writer

DATA = Path(__file__).parents[1] / "data"
Y, X = np.mgrid[0:32, 0:48]
RGB = np.stack([X * 5, Y * 7, X + Y], axis=2).astype(np.uint8)
OUTPUTS = list(FORMATS.values())
name_of = {"ids": lambda form: form.name}


def saved(folder: Path, form: Format, pixels: np.ndarray = RGB, **options: Any) -> Path:
    path = folder / f"{len(list(folder.iterdir()))}{form.suffixes[0]}"
    write.write(path, pixels, None, SaveOptions(**options))
    return path


def reread(folder: Path, form: Format, pixels: np.ndarray, **options: Any) -> np.ndarray:
    return read.read(saved(folder, form, pixels, **options)).pixels


@pytest.mark.parametrize("form", OUTPUTS, **name_of)
class TestEveryOutput:
    def test_its_files_are_recognised_by_it_alone(self, tmp_path: Path, form: Format) -> None:
        head = saved(tmp_path, form).read_bytes()[:64]
        assert [each.name for each in ALL if each.sniff(head)] == [form.name] == [sniff(head).name]

    def test_its_names_and_suffixes_lead_to_it(self, form: Format) -> None:
        assert all(format_of(None, name.upper()) is form for name in (form.name, *form.aliases))
        assert all(format_of(Path(f"x{suffix.upper()}")) is form for suffix in form.suffixes)

    def test_it_is_lossless_as_stated(self, tmp_path: Path, form: Format) -> None:
        noise = np.random.default_rng(0).integers(0, 256, RGB.shape, np.uint8)
        if form.lossless == "never":
            with pytest.raises(UsageError, match="not lossless"):
                saved(tmp_path, form, lossless=True)
            assert (reread(tmp_path, form, noise) != noise).any()
        else:
            np.testing.assert_array_equal(reread(tmp_path, form, noise, lossless=True), noise)
            assert np.array_equal(reread(tmp_path, form, noise), noise) == (form.lossless == "always")

    def test_it_has_a_quality_as_stated(self, tmp_path: Path, form: Format) -> None:
        if form.quality is None:
            with pytest.raises(UsageError, match="has no quality"):
                saved(tmp_path, form, quality=90)
            return
        usual = saved(tmp_path, form).read_bytes()
        assert saved(tmp_path, form, quality=form.quality).read_bytes() == usual
        assert len(saved(tmp_path, form, quality=20).read_bytes()) < len(usual)

    def test_it_holds_alpha_as_stated(self, tmp_path: Path, form: Format) -> None:
        alpha = np.where(X < 24, 0, 255)[..., None].astype(np.uint8)
        back = reread(tmp_path, form, np.concatenate([RGB, alpha], axis=2))
        assert back.shape[2] == (4 if form.alpha else 3)
        if form.alpha:
            np.testing.assert_array_equal(back[..., 3:], alpha)

    def test_gray_stays_gray_as_stated(self, tmp_path: Path, form: Format) -> None:
        back = reread(tmp_path, form, RGB[..., :1])
        colours = 1 if 8 in form.gray or form.palette else 3
        assert back.shape[2] in ((1, 2) if form.palette else (colours,))
        assert np.abs(back[..., :colours].astype(int) - RGB[..., :1]).mean() < 3

    def test_its_depths_are_those_stated(self, tmp_path: Path, form: Format) -> None:
        path = tmp_path / f"deep{form.suffixes[0]}"
        notes = write.write(path, RGB.astype(np.uint16) * 257)
        assert read.probe(path).bits == max(form.depths)
        assert any("bits" in note for note in notes) == (max(form.depths) < 16)

    def test_it_holds_animations_as_stated(self, tmp_path: Path, form: Format) -> None:
        path, timing = tmp_path / f"moves{form.suffixes[0]}", Timing((40, 60), 0)
        if not form.animation:
            with pytest.raises(UsageError, match="holds one"):
                open_writer(path, 32, 48, 3, np.uint8, timing=timing)
            return
        with open_writer(path, 32, 48, 3, np.uint8, timing=timing) as writer:
            writer.write(RGB)
            writer.write(255 - RGB)
        assert read.read(path).timing == timing

    def test_the_command_line_names_it(self, form: Format) -> None:
        option = next(each for each in command().commands["upscale"].params if each.name == "format")
        assert form.name in option.help and form.name in option.shell_complete(None, form.name[:2])[0].value
        assert doctor._formats()[form.name] == "read yes, write yes"


def test_no_two_formats_share_a_name_or_a_suffix() -> None:
    names = [name for form in ALL for name in (form.name, *form.aliases)]
    assert len(set(names)) == len(names) and len(set(SUFFIXES)) == len(SUFFIXES)


def test_the_documented_tables_are_made_of_them() -> None:
    text = PAGE.read_text("utf-8")
    assert placed(text) == text, "run python tests/tools/make_formats.py"
    assert placed(text.replace("256 colours", "16 colours").replace("Lab, strips", "strips")) == text
    with pytest.raises(ValueError, match="has no"):
        placed(text.replace("<!-- output formats -->", ""))


def test_what_is_refused_names_what_is_read() -> None:
    with pytest.raises(InputError) as caught:
        sniff(b"nothing of ours")
    assert all(kind in str(caught.value.hint) for form in ALL for kind in form.kinds or (form.label,))


class TestHeic:
    def test_a_phone_s_photograph(self) -> None:
        pytest.importorskip("pi_heif")
        header = read.probe(DATA / "phone.heic")
        image = read.read(DATA / "phone.heic")
        assert (header.format, header.width, header.height, header.channels) == ("heic", 32, 48, 3)
        assert np.abs(np.rot90(RGB, -1).astype(int) - image.pixels).mean() < 1
        assert image.metadata.orientation == 1 and b"Maker" in image.metadata.exif and image.metadata.xmp

    def test_ten_bits(self) -> None:
        pytest.importorskip("pi_heif")
        image = read.read(DATA / "deep.heic")
        assert image.pixels.dtype == np.uint16 and image.metadata.bits == 10
        assert np.abs(image.pixels / 257 - RGB).mean() < 1

    def test_a_broken_one_is_an_input_error(self, tmp_path: Path) -> None:
        data = (DATA / "phone.heic").read_bytes()
        for stop in range(40, len(data), 97):
            (tmp_path / "cut.heic").write_bytes(data[:stop])
            with pytest.raises(InputError, match=r"cut\.heic"):
                read.read(tmp_path / "cut.heic")

    def test_without_a_decoder_the_extra_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pi_heif", None)
        monkeypatch.setattr("liif_cli.images.formats.heic.find_spec", lambda name: None)
        try:
            assert read.read(DATA / "phone.heic").pixels.shape == (48, 32, 3)
        except InputError as error:
            assert "HEVC" in str(error) and "liif[heic]" in str(error.hint)

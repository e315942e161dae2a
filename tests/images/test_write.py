"""The streaming writer: from rows to a complete file or none; outputs are read by Pillow and libvips."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
from PIL import Image

from liif_cli.errors import LimitError, OutputError, UsageError
from liif_cli.images import read, spool, write
from liif_cli.images.formats.table import FORMATS, format_of
from liif_cli.images.metadata import photoshop
from liif_cli.images.picture import Metadata
from liif_cli.images.write import SaveOptions, open_writer
from liif_cli.machine import files

Y, X = np.mgrid[0:60, 0:80]
RGB = np.stack([X * 3, Y * 4, X + Y], axis=2).astype(np.uint8)
NAMES = ["a.png", "a.jpg", "a.tif", "a.webp", "a.avif", "a.gif"]


def decoded(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def written(folder: Path, name: str, pixels: np.ndarray = RGB, **options: Any) -> Path:
    write.write(folder / name, pixels, None, SaveOptions(**options))
    return folder / name


@pytest.fixture(params=["memory", "disk", "disk by name"])
def waits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are kept in memory, or on disk in strips of a few rows, in named or unnamed files."""
    monkeypatch.setattr(spool, "NAMELESS", spool.NAMELESS and request.param == "disk")
    if request.param != "memory":
        monkeypatch.setattr(spool, "IN_MEMORY", 0)
        monkeypatch.setattr(spool, "STRIP_ROWS", 16)


@pytest.mark.usefixtures("waits")
class TestRows:
    @pytest.mark.parametrize("name", ["a.png", "a.tif"])
    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_come_back_exactly(self, tmp_path: Path, name: str, channels: int, dtype: Any) -> None:
        top = int(np.iinfo(dtype).max)
        pixels = np.random.default_rng(0).integers(0, top + 1, (61, 47, channels)).astype(dtype)
        with open_writer(tmp_path / name, 61, 47, channels, dtype) as writer:
            for start, stop in ((0, 1), (1, 16), (16, 33), (33, 61)):
                writer.write(pixels[start:stop])
        seen = pyvips.Image.new_from_file(str(tmp_path / name)).numpy().reshape(pixels.shape)
        np.testing.assert_array_equal(seen, pixels)
        if dtype == np.uint8:
            np.testing.assert_array_equal(decoded(tmp_path / name).reshape(pixels.shape), pixels)
        assert [p.name for p in tmp_path.iterdir()] == [name]

    @pytest.mark.parametrize("name", NAMES)
    def test_every_format_is_read_by_pillow(self, tmp_path: Path, name: str) -> None:
        path = written(tmp_path, name)
        with Image.open(path) as image:
            assert image.format == {"jpg": "JPEG", "tif": "TIFF"}.get(name[2:], name[2:].upper())
            difference = np.abs(np.asarray(image.convert("RGB")).astype(int) - RGB)
        assert difference.mean() < (8 if name == "a.gif" else 4)

    @pytest.mark.parametrize("name", ["a.webp", "a.avif"])
    def test_lossless_is(self, tmp_path: Path, name: str) -> None:
        pixels = np.random.default_rng(1).integers(0, 256, (20, 30, 4), np.uint8)
        np.testing.assert_array_equal(decoded(written(tmp_path, name, pixels, lossless=True)), pixels)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "a.webp"])
def test_the_estimate_of_a_lossless_file_is_an_upper_bound(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3)).astype(np.uint8)
    lossless = name == "a.webp"
    path, form = written(tmp_path, name, noise, lossless=lossless), format_of(Path(name))
    assert noise.nbytes < path.stat().st_size + 2**16
    assert path.stat().st_size <= write.file_bytes(form, 300, 400, 3, np.uint8, lossless=lossless)


class TestJPEG:
    def test_quality_95_and_full_chroma_by_default(self, tmp_path: Path) -> None:
        with Image.open(written(tmp_path, "a.jpg")) as image:
            assert [(c[1], c[2]) for c in image.layer] == [(1, 1)] * 3  # type: ignore[attr-defined]
            ours = image.quantization  # type: ignore[attr-defined]
        reference = io.BytesIO()
        Image.fromarray(RGB).save(reference, "JPEG", quality=95, subsampling=0)
        assert ours == Image.open(reference).quantization  # type: ignore[attr-defined]

    @pytest.mark.parametrize("name", ["a.jpg", "a.webp", "a.avif"])
    def test_quality_decides_the_size(self, tmp_path: Path, name: str) -> None:
        noise = np.random.default_rng(2).integers(0, 256, (64, 64, 3), np.uint8)
        sizes = [written(tmp_path, name, noise, quality=q, overwrite=True).stat().st_size for q in (20, 60, 98)]
        assert sizes == sorted(sizes) and sizes[2] > 1.5 * sizes[0]


class TestFormats:
    def test_the_suffix_decides_unless_a_format_is_given(self, tmp_path: Path) -> None:
        assert read.probe(written(tmp_path, "a.JPEG")).format == "jpeg"
        assert read.probe(written(tmp_path, "a.png", format="webp")).format == "webp"
        assert read.probe(written(tmp_path, "noname", format="tiff")).format == "tiff"
        for name, message in (("a.tga", r"\.tga"), ("a", "no suffix")):
            with pytest.raises(UsageError, match=message):
                written(tmp_path, name)
        with pytest.raises(UsageError, match="'jxl'"):
            written(tmp_path, "a.png", format="jxl")

    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("a.png", {"quality": 90}), ("a.jpg", {"quality": 0}), ("a.jpg", {"quality": 101}), ("a.jpg", {"lossless": True}),
            ("a.webp", {"quality": 80, "lossless": True}),
        ],
    )  # fmt: skip
    def test_invalid_options(self, tmp_path: Path, name: str, options: dict[str, Any]) -> None:
        with pytest.raises(UsageError):
            written(tmp_path, name, **options)

    @pytest.mark.parametrize("name", ["webp", "avif", "jpeg", "gif", "bmp"])
    def test_limits_are_told_before_work_and_are_the_encoders_own(self, tmp_path: Path, name: str) -> None:
        form = FORMATS[name]
        most = form.max_side
        path = tmp_path / f"a{form.suffixes[0]}"
        for height, width in ((1, most + 1), (most + 1, 1)):
            with pytest.raises(LimitError, match=f"{most:,}") as caught:
                open_writer(path, height, width, 3, np.uint8)
            assert caught.value.exit_code == 9
        assert not list(tmp_path.iterdir())
        write.write(path, np.zeros((2 if name == "avif" else 1, most, 3), np.uint8))
        assert read.probe(path).width == most

    def test_bigtiff_beyond_four_gib(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write.write(tmp_path / "a.tif", RGB, Metadata(dpi=(99, 99)))
        assert (tmp_path / "a.tif").read_bytes()[:4] == b"II*\0"
        monkeypatch.setattr("liif_cli.images.formats.tiff.CLASSIC_TIFF", 10_000)
        write.write(tmp_path / "b.tif", RGB, Metadata(dpi=(99, 99), xmp=b"<x/>", icc=None))
        assert (tmp_path / "b.tif").read_bytes()[:4] == b"II+\0"
        with Image.open(tmp_path / "b.tif") as image:
            assert image.info["dpi"] == (99, 99) and image.info["xmp"] == b"<x/>"
            np.testing.assert_array_equal(np.asarray(image), RGB)
        np.testing.assert_array_equal(read.read(tmp_path / "b.tif").pixels, RGB)


class TestStreams:
    @pytest.mark.parametrize("form", ["png", "jpeg", "tiff", "webp", "avif"])
    def test_a_stream_gets_the_same_bytes_as_a_file(self, tmp_path: Path, form: str) -> None:
        stream = io.BytesIO()
        write.write(stream, RGB, None, SaveOptions(format=form))
        assert stream.getvalue() == written(tmp_path, "a", format=form).read_bytes()

    def test_a_failure_writes_nothing_to_it(self) -> None:
        stream = io.BytesIO()
        with (
            pytest.raises(RuntimeError),
            open_writer(stream, 60, 80, 3, np.uint8, None, SaveOptions(format="png")) as writer,
        ):
            writer.write(RGB[:30])
            raise RuntimeError
        assert stream.getvalue() == b""


@pytest.mark.usefixtures("waits")
class TestFailures:
    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError, MemoryError])
    def test_an_existing_output_is_left_and_nothing_else(self, tmp_path: Path, error: type[BaseException]) -> None:
        path = written(tmp_path, "a.png")
        before = path.read_bytes()
        with pytest.raises(error), open_writer(path, 60, 80, 3, np.uint8, None, SaveOptions(overwrite=True)) as writer:
            writer.write(RGB[:40])
            raise error
        assert path.read_bytes() == before
        assert [p.name for p in tmp_path.iterdir()] == ["a.png"]

    def test_missing_rows_make_no_file(self, tmp_path: Path) -> None:
        with (
            pytest.raises(ValueError, match="59 of 60"),
            open_writer(tmp_path / "a.png", 60, 80, 3, np.uint8) as writer,
        ):
            writer.write(RGB[:59])
        assert not list(tmp_path.iterdir())

    def test_rows_of_another_shape_are_refused(self, tmp_path: Path) -> None:
        for rows in (RGB[:, :70], np.zeros((61, 80, 3), np.uint8), RGB[..., 0]):
            with (
                pytest.raises(ValueError, match="rows"),
                open_writer(tmp_path / "a.png", 60, 80, 3, np.uint8) as writer,
            ):
                writer.write(rows)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("name", NAMES)
    def test_an_encoder_that_fails_leaves_nothing(
        self, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise pyvips.Error("unable to call\n  disk on fire")

        for saver in ("pngsave_target", "jpegsave_target", "tiffsave", "webpsave_buffer", "heifsave", "gifsave"):
            monkeypatch.setattr(pyvips.Image, saver, fail, raising=False)
        with pytest.raises(OutputError, match="disk on fire"):
            written(tmp_path, name)
        assert not list(tmp_path.iterdir())

    def test_a_full_disk_while_the_file_is_written(self, tmp_path: Path) -> None:
        if not Path("/dev/full").exists():
            pytest.skip("only Linux has /dev/full")
        from liif_cli.images.formats.base import Coding
        from liif_cli.images.write import encode

        image = pyvips.Image.new_from_array(RGB)
        with pytest.raises(OutputError, match="No space left"):
            encode(image, Path("/dev/full"), FORMATS["png"], Coding(), Metadata())


class TestTargets:
    def test_an_existing_file_is_refused_before_work(self, tmp_path: Path) -> None:
        path = written(tmp_path, "a.png")
        with pytest.raises(OutputError, match="exists") as caught:
            open_writer(path, 60, 80, 3, np.uint8)
        assert caught.value.exit_code == 4 and caught.value.remedy == "overwrite"
        written(tmp_path, "a.png", RGB[:9], overwrite=True)
        assert decoded(path).shape == (9, 80, 3)

    def test_one_that_appears_meanwhile_is_left(self, tmp_path: Path) -> None:
        path = tmp_path / "a.png"
        with pytest.raises(OutputError, match="exists"), open_writer(path, 60, 80, 3, np.uint8) as writer:
            writer.write(RGB)
            path.write_bytes(b"somebody else's")
        assert path.read_bytes() == b"somebody else's"
        assert len(list(tmp_path.iterdir())) == 1

    def test_folders(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match="does not exist"):
            open_writer(tmp_path / "no" / "a.png", 1, 1, 3, np.uint8)
        (tmp_path / "d.png").mkdir()
        with pytest.raises(OutputError, match="is a folder"):
            open_writer(tmp_path / "d.png", 1, 1, 3, np.uint8, None, SaveOptions(overwrite=True))

    @pytest.mark.skipif(os.name != "posix", reason="devices and links are POSIX's")
    def test_devices_are_refused_and_links_followed(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.png")
        for path in (tmp_path / "pipe.png", Path("/dev/null")):
            with pytest.raises(OutputError, match="not a file"):
                open_writer(path, 1, 1, 3, np.uint8, None, SaveOptions(overwrite=True, format="png"))
        (tmp_path / "elsewhere").mkdir()
        real = written(tmp_path / "elsewhere", "real.png", RGB[:5])
        (tmp_path / "link.png").symlink_to(real)
        written(tmp_path, "link.png", overwrite=True)
        assert (tmp_path / "link.png").is_symlink() and decoded(real).shape == RGB.shape

    def test_room_is_checked_before_work(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        class Usage:
            free = 10 * 2**20

        monkeypatch.setattr(files.shutil, "disk_usage", lambda _: Usage)
        with pytest.raises(OutputError, match="10 MiB are free"):
            open_writer(tmp_path / "a.png", 8000, 8000, 3, np.uint8)
        open_writer(tmp_path / "a.png", 800, 800, 3, np.uint8).abort()
        assert not list(tmp_path.iterdir())

    @pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
    def test_modes(self, tmp_path: Path) -> None:
        before = os.umask(0o027)
        try:
            path = written(tmp_path, "a.png")
            assert path.stat().st_mode & 0o777 == 0o640
            path.chmod(0o604)
            written(tmp_path, "a.png", overwrite=True)
            assert path.stat().st_mode & 0o777 == 0o604
        finally:
            os.umask(before)


SCRIPT = """
import sys, time, numpy as np
from pathlib import Path
from liif_cli.images import spool
from liif_cli.images.write import open_writer
spool.IN_MEMORY = 0
rows = np.random.default_rng(0).integers(0, 256, (100, 4000, 3), np.uint8)
with open_writer(Path(sys.argv[1]), 10_000, 4000, 3, np.uint8) as writer:
    for _ in range(100):
        writer.write(rows)
    print("saving", flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
class TestSignals:
    def run(self, folder: Path, number: signal.Signals) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(folder / "a.png")], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None and process.stdout.readline() == "saving\n"
        time.sleep(0.3)
        process.send_signal(number)
        process.wait(20)
        process.stdout.close()
        return process

    def test_ctrl_c_stops_the_encoder_and_leaves_nothing(self, tmp_path: Path) -> None:
        started = time.monotonic()
        process = self.run(tmp_path, signal.SIGINT)
        assert process.returncode != 0 and time.monotonic() - started < 15
        assert not list(tmp_path.iterdir())

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux has files without a name")
    def test_the_scratch_goes_even_with_sigkill(self, tmp_path: Path) -> None:
        self.run(tmp_path, signal.SIGKILL)
        left = [p for p in tmp_path.iterdir() if p.suffix != ".png"]
        assert not left  # the half-written output itself is all that a killed process can leave
        assert not (tmp_path / "a.png").exists()


def test_writers_of_several_threads_do_not_disturb_each_other(tmp_path: Path) -> None:
    def work(index: int) -> None:
        pixels = np.full((300, 200, 3), index * 20, np.uint8)
        write.write(tmp_path / f"{index}.png", pixels)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [int(decoded(tmp_path / f"{i}.png").max()) for i in range(8)] == [i * 20 for i in range(8)]


@pytest.mark.slow
def test_every_strip_of_an_image_of_gigabytes_is_in_its_place(tmp_path: Path) -> None:
    """libvips accepts no offset beyond 1 GB in a file: it would repeat the first rows without an error."""
    height, width = 30_000, 15_000
    with open_writer(tmp_path / "a.jpg", height, width, 3, np.uint8) as writer:
        for top in range(0, height, 100):
            writer.write(np.full((100, width, 3), top // 1000 * 8, np.uint8))
    seen = (
        pyvips.Image.new_from_file(str(tmp_path / "a.jpg"), access="sequential")
        .resize(1 / 50, kernel="nearest")
        .numpy()
    )
    assert [int(seen[20 * i + 10, 0, 0]) for i in range(30)] == [8 * i for i in range(30)]


@pytest.mark.skipif(sys.platform != "linux", reason="VmHWM is Linux's")
@pytest.mark.slow
@pytest.mark.parametrize("name", ["png", "jpg", "tif"])
def test_memory_is_flat_against_the_height(tmp_path: Path, name: str) -> None:
    script = Path(__file__).parents[1] / "benchmarks" / "bench_memory.py"

    def above(height: int) -> float:
        call = [sys.executable, str(script), "--one", str(tmp_path / f"{height}.{name}"), "8192", str(height)]
        environment = {**os.environ, "PYTHONPATH": str(script.parents[1])}
        done = json.loads(subprocess.run(call, check=True, capture_output=True, text=True, env=environment).stdout)
        return float(done["peak"] - done["before"])

    small, large = above(4096), above(12288)
    assert large < 100 and large - small < 30  # MiB; the images have 96 and 288


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "avif", "bmp"])
@pytest.mark.parametrize("order", ["<", ">", None])
def test_a_resolution_is_written_wherever_readers_look(tmp_path: Path, suffix: str, order: str | None) -> None:
    """It replaces the input's resolution in EXIF, in either byte order, and keeps the other tags."""
    exif = None
    if order is not None:
        tags = Image.Exif()
        tags.endian = order
        tags[0x010F], tags[0x011A], tags[0x0128], tags[0x0132] = "maker", 72.0, 2, "2020:01:01 00:00:00"
        exif = tags.tobytes().removeprefix(b"Exif\0\0")
    path, about = tmp_path / f"a.{suffix}", Metadata(exif=exif, dpi=(72, 72))
    write.write(path, np.zeros((4, 6, 3), np.uint8), about, SaveOptions(dpi=300))
    assert read.probe(path).dpi == pytest.approx((300, 300), abs=0.1)
    with Image.open(path) as image:
        if suffix != "bmp" and exif:
            found = image.getexif()
            assert (found[0x010F], float(found[0x011A]), float(found[0x011B]), found[0x0128]) == ("maker", 300, 300, 2)
    write.write(path, np.zeros((4, 6, 3), np.uint8), about, SaveOptions(dpi=150, strip=True, overwrite=True))
    assert read.probe(path).dpi == pytest.approx((150, 150), abs=0.1)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "avif"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_location_and_serial_numbers_are_dropped_and_nothing_else(tmp_path: Path, suffix: str, order: str) -> None:
    tags = Image.Exif()
    tags.endian = order
    tags[0x010F], tags[0x0132] = "maker", "2020:01:01 00:00:00"
    tags.get_ifd(0x8769).update({0xA431: "SERIAL-1", 0xA435: "SERIAL-2", 0xA430: "OWNERNAME", 0x927C: b"MAKERNOTE"})
    tags.get_ifd(0x8769)[0x9003] = "2020:01:01 00:00:00"
    tags.get_ifd(0x8825).update({1: "N", 2: (48.0, 8.0, 14.0), 29: "GPSDATE"})
    packet = (
        b'<x:xmpmeta><rdf:Description xmp:Rating="5" exif:GPSLatitude="48,8N" aux:SerialNumber="SERIAL-3">'
        b"<photoshop:City>CITYNAME</photoshop:City><dc:title>kept</dc:title></rdf:Description></x:xmpmeta>"
    )
    records = b"".join(b"\x1c\x02" + bytes([n]) + len(v).to_bytes(2) + v for n, v in ((5, b"title"), (90, b"CITYNAME")))
    about = Metadata(
        exif=tags.tobytes().removeprefix(b"Exif\0\0"),
        xmp=packet,
        photoshop=photoshop.from_iptc(records),
        text=(("Title", "kept"), ("exif:GPSLatitude", "48/1")),
    )
    path = tmp_path / f"a.{suffix}"
    write.write(path, np.zeros((4, 6, 3), np.uint8), about, SaveOptions(strip_location=True))
    found = read.read(path).metadata
    data = b"".join(each or b"" for each in (path.read_bytes(), found.exif, found.xmp, found.photoshop))
    for secret in (b"SERIAL", b"OWNERNAME", b"MAKERNOTE", b"GPSDATE", b"CITYNAME", b"GPSLatitude"):
        assert secret not in data, secret
    assert (
        b"maker" in data
        and b"2020:01:01 00:00:00" in data
        and b"kept" in data
        and b'xmp:Rating="5"' in (found.xmp or b"")
    )
    with Image.open(path) as image:
        exif = image.getexif()
        assert exif[0x010F] == "maker" and not exif.get_ifd(0x8825) and set(exif.get_ifd(0x8769)) & {0x9003}
    if suffix in ("jpg", "tif"):
        assert b"title" in (found.photoshop or b"")
    write.write(path, np.zeros((4, 6, 3), np.uint8), about, SaveOptions(overwrite=True))
    assert b"SERIAL-1" in (read.read(path).metadata.exif or b"")  # it was there to be dropped

"""Animations: frames, timing and loops, without traces of one frame in another; outputs are read by Pillow and libvips."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
from PIL import Image, ImageSequence

from liif_cli.cli.explanations import explained
from liif_cli.errors import InputError, UsageError
from liif_cli.images import read as images
from liif_cli.images.picture import Metadata, Timing
from liif_cli.images.write import SaveOptions, open_writer
from liif_cli.models.model import SRModel
from liif_cli.rendering.sizes import Scale
from liif_cli.upscaling.options import Options
from liif_cli.upscaling.upscaler import Upscaler

DURATIONS = [100, 250, 60]
COLOURS = [(255, 0, 0, 255), (0, 255, 0, 255), (0, 0, 255, 0)]


def frames(count: int = 3) -> list[Image.Image]:
    """A square that moves over a flat ground of another colour in each frame; the last ground is transparent, and so is a
    strip in all of them: after an opaque GIF frame readers disagree on what "restore to background" means."""
    made = []
    for index in range(count):
        frame = Image.new("RGBA", (24, 16), COLOURS[index])
        frame.paste((255, 255, 0, 255), (3 + 6 * index, 4, 9 + 6 * index, 12))
        frame.paste((0, 0, 0, 0), (22, 0, 24, 16))
        made.append(frame)
    return made


def animation(form: str, **options: Any) -> bytes:
    file, made = io.BytesIO(), frames()
    if form == "WEBP":
        options |= {"lossless": True, "exact": True}
    made[0].save(file, form, save_all=True, append_images=made[1:], duration=DURATIONS, loop=3, disposal=2, **options)
    return file.getvalue()


def seen(source: Path | bytes) -> tuple[list[np.ndarray], list[int], int]:
    """Frames as RGBA, durations in ms and plays, by Pillow."""
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
        pixels, durations = [], []
        for frame in ImageSequence.Iterator(image):
            pixels.append(np.asarray(frame.convert("RGBA")))
            durations.append(round(frame.info["duration"]))
        plays = image.info["loop"] + (1 if image.format == "GIF" else 0)  # GIF counts the repetitions
    return pixels, durations, plays


def upscaled(tiny: SRModel, folder: Path, data: bytes, name: str, **options: Any) -> tuple[Path, tuple[str, ...]]:
    (folder / "input").write_bytes(data)
    save = SaveOptions(lossless=name.endswith(".webp"), overwrite=True)
    upscaler = Upscaler(tiny, Options(precision="fp32", save=save, **options))
    [result] = upscaler.file(folder / "input", [(Scale.parse("2"), folder / name)])
    return folder / name, result.notes


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_every_frame_is_read_as_it_is_shown(form: str) -> None:
    data = animation(form)
    expected, durations, plays = seen(data)
    header, first = images.probe(data), images.read(data)
    assert header.frames == 3
    assert first.timing == Timing(tuple(durations), plays)
    read = [first, *images.later_frames(data, first.timing)]
    assert len(read) == 3
    for picture, frame in zip(read, expected, strict=True):
        shown = frame[..., 3] > 0
        np.testing.assert_array_equal(picture.pixels[shown], frame[shown])
        np.testing.assert_array_equal(picture.pixels[..., 3], frame[..., 3])


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
@pytest.mark.parametrize("name", ["out.gif", "out.webp", "out.png"])
def test_timing_loops_and_look_are_kept(tiny: SRModel, tmp_path: Path, form: str, name: str) -> None:
    data = animation(form)
    _, durations, plays = seen(data)
    path, notes = upscaled(tiny, tmp_path, data, name)
    pixels, kept_durations, kept_plays = seen(path)
    assert (kept_durations, kept_plays) == (durations, plays)
    assert [p.shape for p in pixels] == [(32, 48, 4)] * 3
    assert pixels[2][0, 0, 3] == 0 and pixels[2][16, 36, 3] == 255  # nothing of the second frame shines through
    assert bool(notes) == name.endswith(".gif")
    if not name.endswith(".png"):  # libvips reads only the first frame of an APNG
        whole = pyvips.Image.new_from_file(str(path), n=-1)
        assert (whole.get("n-pages"), whole.get("delay"), whole.get("loop")) == (3, durations, plays)


@pytest.mark.parametrize("name", ["out.webp", "out.png"])
def test_neighbours_do_not_bleed(tiny: SRModel, tmp_path: Path, name: str) -> None:
    """Each frame equals, bit for bit, that frame upscaled on its own."""
    path, _ = upscaled(tiny, tmp_path, animation("PNG"), name)
    together, _, _ = seen(path)
    for index, frame in enumerate(together):
        alone, _ = upscaled(tiny, tmp_path, animation("PNG"), "alone.png", frame=index + 1)
        with Image.open(alone) as image:
            np.testing.assert_array_equal(frame, np.asarray(image))


@pytest.mark.parametrize("name", ["out.jpg", "out.tif", "out.avif"])
def test_a_format_without_frames_is_refused_and_frame_named(tiny: SRModel, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="3 frames") as caught:
        upscaled(tiny, tmp_path, animation("GIF"), name)
    assert caught.value.hint == "PNG, WebP and GIF hold all of them"
    assert explained(caught.value)[1] == "--frame N picks one frame; PNG, WebP and GIF hold all of them"
    assert not (tmp_path / name).exists()
    path, _ = upscaled(tiny, tmp_path, animation("GIF"), name, frame=2)
    assert images.read(path).pixels[0, 0].shape[0] in (3, 4)


def test_a_frame_that_is_not_there() -> None:
    for form in ("GIF", "WEBP", "PNG"):
        with pytest.raises(InputError, match="no frame 4"):
            images.read(animation(form), frame=4)
    still = io.BytesIO()
    frames()[0].save(still, "PNG")
    with pytest.raises(InputError, match="no frame 2"):
        images.read(still.getvalue(), frame=2)
    assert images.read(still.getvalue(), frame=1).timing is None


def test_apng_stores_what_changed(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    ground = generator.integers(0, 256, (64, 64, 3), np.uint8)
    shown = [ground.copy() for _ in range(4)]
    for index, frame in enumerate(shown):
        frame[10:20, 5 + index : 12 + index] = 255
    timing = Timing((50,) * 4, 0)
    with open_writer(tmp_path / "a.png", 64, 64, 3, np.uint8, Metadata(dpi=(72, 72)), None, timing) as writer:
        for frame in shown:
            writer.write(frame[:30])
            writer.write(frame[30:])
    pixels, durations, plays = seen(tmp_path / "a.png")
    for frame, expected in zip(pixels, shown, strict=True):
        np.testing.assert_array_equal(frame[..., :3], expected)
    assert (durations, plays) == ([50] * 4, 0)
    assert (tmp_path / "a.png").stat().st_size < 1.3 * ground.nbytes


def test_apng_keeps_sixteen_bits_and_frames_that_do_not_change(tmp_path: Path) -> None:
    deep = np.random.default_rng(1).integers(0, 65536, (9, 8, 3), np.uint16)
    with open_writer(tmp_path / "a.png", 9, 8, 3, np.uint16, None, None, Timing((10, 20))) as writer:
        writer.write(deep)
        writer.write(deep)
    assert (tmp_path / "a.png").read_bytes()[24] == 16
    np.testing.assert_array_equal(pyvips.Image.new_from_file(str(tmp_path / "a.png")).numpy(), deep)
    with Image.open(tmp_path / "a.png") as image:
        assert image.n_frames == 2  # type: ignore[attr-defined]


def test_a_large_animation_goes_through_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("liif_cli.images.spool.IN_MEMORY", 0)
    shown = [np.full((5, 6, 3), value, np.uint8) for value in (10, 200, 90)]
    for name in ("a.png", "a.webp"):
        options = SaveOptions(lossless=name == "a.webp")
        with open_writer(tmp_path / name, 5, 6, 3, np.uint8, None, options, Timing((40, 40, 40))) as writer:
            for frame in shown:
                writer.write(frame)
        assert [int(p[0, 0, 0]) for p in seen(tmp_path / name)[0]] == [10, 200, 90]

"""What a terminal shows; and standard output of other kinds, in this process."""

import contextlib
import io
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from liif_cli.cli import app, progress
from liif_cli.cli.progress import Display
from liif_cli.errors import ExitCode, InputError
from liif_cli.rendering.timing import RenderStats
from liif_cli.upscaling.inputs import Source
from liif_cli.upscaling.jobs import Work

pty = pytest.importorskip("pty", reason="no POSIX terminals here", exc_type=ImportError)


@pytest.fixture(autouse=True)
def images(desk: Path) -> None:
    """a.png, b.png, c.png."""
    for name in "abc":
        Image.fromarray(np.random.default_rng(1).integers(0, 256, (8, 12, 3), np.uint8)).save(f"{name}.png")


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, tiny_file: Path) -> Callable[..., str]:
    """Runs `liif upscale` with a terminal as standard error; gives what the terminal got."""

    def call(*arguments: Any, both: bool = False, **variables: str) -> str:
        leader, follower = pty.openpty()
        got: list[bytes] = []
        reader = threading.Thread(target=_read_all, args=(leader, got))
        reader.start()
        for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"):
            monkeypatch.delenv(name, raising=False)
        for name, value in ({"TERM": "xterm"} | variables).items():
            monkeypatch.setenv(name, value)
        with monkeypatch.context() as patch, os.fdopen(follower, "w", encoding="utf-8") as terminal:
            patch.setattr(sys, "stderr", terminal)
            if both:
                patch.setattr(sys, "stdout", terminal)
            code = app.run(["upscale", "-m", str(tiny_file), *map(str, arguments)])
        reader.join()
        os.close(leader)
        assert code == ExitCode.OK
        return b"".join(got).decode()

    return call


def _read_all(leader: int, into: list[bytes]) -> None:
    with contextlib.suppress(OSError):  # what Linux says when the other end was closed
        while part := os.read(leader, 65536):
            into.append(part)


def test_progress_counts_files_tiles_and_pixels(shown: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    got = shown("a.png", "b.png", "c.png", "--size", "40x", "-o", "one/")
    for part in ("images", "3/3", "a.png", "c.png", "tile 1/1", "Mpx/s", "0:00:0", "\x1b[", "3 written"):
        assert part in got
    assert "one/" not in got  # results are for standard output
    assert [Path(line).as_posix() for line in capsys.readouterr().out.split()] == [f"one/{n}_40x27.png" for n in "abc"]


def test_results_and_progress_share_a_terminal(shown: Callable[..., str]) -> None:
    got = shown("a.png", "b.png", "-s", 3, both=True)
    for name in "ab":
        line = next(line for line in got.splitlines() if f"{name}_3x.png" in line)
        assert line.split("\x1b")[-1].endswith(f"{name}_3x.png")  # a line of its own, no bar in front


@pytest.mark.parametrize(("arguments", "variables"), [([], {"TERM": "dumb"}), (["-q"], {})])
def test_no_progress_on_dumb_terminals_or_when_quiet(
    shown: Callable[..., str], arguments: list[str], variables: dict[str, str]
) -> None:
    got = shown("a.png", "b.png", "-s", 3, "-v" if variables else "-q", **variables)
    assert "\x1b" not in got and "Mpx/s" not in got and ("2 written" in got) == bool(variables)


def test_no_colour_and_narrow_terminals(shown: Callable[..., str]) -> None:
    plain = shown("a.png", "-s", 3, NO_COLOR="1")
    assert "Mpx/s" in plain
    assert not any(f"\x1b[{colour}m" in plain for colour in (*range(30, 38), *range(90, 98))) and "[38;" not in plain
    narrow = shown("a.png", "-s", 2, COLUMNS="30")
    assert "a.png" in narrow and "━" not in narrow


def test_compare_shows_progress_too(
    monkeypatch: pytest.MonkeyPatch, tiny_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    assert app.run(["compare", "a.png", "-s", "3", "-m", str(tiny_file)]) == 0
    said = capsys.readouterr()
    assert said.out == "a_compared_3x.png\n" and "Mpx/s" in said.err
    assert app.run(["compare", "a.png", "-s", "3", "-m", str(tiny_file), "-q", "--overwrite"]) == 0
    assert capsys.readouterr().err == ""


def test_names_are_no_markup(shown: Callable[..., str]) -> None:
    Path("a.png").rename("[red]x[bold].png")
    assert "[red]x[bold].png" in shown("[red]x[bold].png", "-s", 2)


def piped(monkeypatch: pytest.MonkeyPatch, *arguments: Any, open_end: bool) -> tuple[int, bytes]:
    """Exit code of a call whose standard output is a pipe, and what came out of it; the reader may be gone."""
    reader, writer = os.pipe()
    if not open_end:
        os.close(reader)
    stream = os.fdopen(writer, "w", encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        code = app.run([str(argument) for argument in arguments])
    with contextlib.suppress(BrokenPipeError):
        stream.close()
    if not open_end:
        return code, b""
    with os.fdopen(reader, "rb") as file:
        return code, file.read()


def test_a_reader_that_goes_away_ends_the_work(
    monkeypatch: pytest.MonkeyPatch, tiny_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    up = ("upscale", "-m", tiny_file, "-s", 2)
    assert piped(monkeypatch, *up, "a.png", "b.png", "c.png", open_end=False)[0] == ExitCode.OUTPUT
    assert "Error" not in capsys.readouterr().err
    assert piped(monkeypatch, *up, "a.png", "-o", "-", open_end=False)[0] == ExitCode.OUTPUT
    assert "bug" not in capsys.readouterr().err
    assert not list(Path().glob(".liif-*"))
    code, out = piped(monkeypatch, *up, "a.png", "-o", "-", open_end=True)
    assert code == 0 and out.startswith(b"\x89PNG")


@pytest.mark.skipif(sys.platform != "linux", reason="file names that are no text")
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "gif"])
def test_names_that_are_no_text_leave_as_they_came(
    monkeypatch: pytest.MonkeyPatch, tiny_file: Path, suffix: str
) -> None:
    folder = Path(os.fsdecode(b"\xfd"))
    folder.mkdir()
    with Image.open("a.png") as image:
        image.save(folder / f"x.{suffix}")
    name = folder / os.fsdecode(b"\xff\xfe." + suffix.encode())
    (folder / f"x.{suffix}").rename(name)
    up = ("upscale", name, "-s", 2, "-m", tiny_file, "--overwrite", "--format", suffix, "-q")
    code, out = piped(monkeypatch, *up, open_end=True)
    assert (code, out) == (0, b"\xfd/\xff\xfe_2x.%s\n" % suffix.encode())
    code, out = piped(monkeypatch, *up, "--json", open_end=True)
    assert code == 0 and b"\\udcfd/\\udcff\\udcfe_2x" in out


def test_an_image_from_standard_input(
    liif: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tiny_file: Path
) -> None:
    for data, code in ((Path("a.png").read_bytes(), 0), (b"no image", 3), (b"", 3)):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        ran = liif("upscale", "-", "-s", 2, "-o", "{stem}_{width}.png", "-m", tiny_file, "--overwrite")
        assert ran.code == code and (ran.out == ["stdin_24.png"]) == (code == 0)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    ran = liif("upscale", "-", "-s", 2)
    assert ran.code == 2 and ran.err[1] == "Hint: -o - writes to standard output"


def test_the_bar_of_all_images_counts_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that its estimate is as right for a folder of mixed sizes as for equal ones; a failed image is behind it too."""
    bar = Progress(console=Console(file=io.StringIO(), force_terminal=True))
    monkeypatch.setattr(progress, "make_bar", lambda before: bar)
    tasks: Any = [
        SimpleNamespace(names=["out.png"], pixels=n, source=Source(Path(f"{n}.png"))) for n in (100, 700, 200)
    ]
    with Display(Work(tuple(tasks)), as_json=False, verbose=False, quiet=False) as display:
        shares = []
        for task, pieces in zip(tasks, ([60, 40], [300], [200]), strict=True):
            display.started(task, RenderStats())
            for pixels in pieces:
                display.advanced(pixels)
                shares.append(bar.tasks[0].percentage)
            if task is tasks[1]:
                display.failed(task, InputError("gone"))
    assert shares == pytest.approx([6, 10, 40, 100])


@dataclass
class Clock:
    """A clock that is set by hand."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clocked(monkeypatch: pytest.MonkeyPatch) -> tuple[Clock, Progress]:
    """A clock, and the bars of a display that go by it."""
    clock = Clock()
    console = Console(file=io.StringIO(), force_terminal=True)
    bar = Progress(console=console, get_time=clock, auto_refresh=False, speed_estimate_period=progress.SPEED_PERIOD)
    monkeypatch.setattr(progress, "make_bar", lambda before: bar)
    monkeypatch.setattr(progress.time, "perf_counter", clock)
    return clock, bar


def test_one_tile_moves_and_estimates_within_two_seconds(clocked: tuple[Clock, Progress]) -> None:
    """An image of one tile that takes 60 s to encode and 30 s to decode: the bar moves while it is encoded."""
    clock, bar = clocked
    tasks: Any = [SimpleNamespace(names=["out.png"], pixels=300, source=Source(Path("a.png")))]
    with Display(Work(tuple(tasks)), as_json=False, verbose=False, quiet=False) as display:
        display.expect([(60.0, 30.0)])
        stats = RenderStats()
        display.started(tasks[0], stats)
        image = bar.tasks[-1]
        with stats.encoding():
            for clock.now in np.arange(0.1, 2.01, 0.1):
                display._move()  # as a redrawn bar does
            assert image.completed == pytest.approx(2) and image.time_remaining == pytest.approx(88, rel=0.1)
            clock.now = 75.0
            display._move()
            assert image.completed == pytest.approx(57)  # it is not done as long as it is not
        for clock.now in (78.0, 81.0):
            display.advanced(30)
        assert image.completed == pytest.approx(66)


@pytest.mark.parametrize("known", [True, False])
def test_the_batchs_estimate_is_honest_from_the_third_image_on(clocked: tuple[Clock, Progress], known: bool) -> None:
    """Images of other sizes and costs than those before; all takes half as long again as expected."""
    clock, bar = clocked
    pixels = (100, 400, 50, 900, 250, 1200, 80, 700)
    costs = [(0.02 * n, 0.03 * n) for n in pixels]
    if known:  # and where the network works on few of the pixels, the encoder takes most of the time
        costs = [(0.1 * n if index % 2 else 0.005 * n, 0.01 * n) for index, n in enumerate(pixels)]
    total = 1.5 * sum(map(sum, costs))
    tasks: Any = [SimpleNamespace(names=["out.png"], pixels=n, source=Source(Path(f"{n}.png"))) for n in pixels]
    with Display(Work(tuple(tasks)), as_json=False, verbose=False, quiet=False) as display:
        if known:
            display.expect(costs)
        for index, (task, (encode, rest)) in enumerate(zip(tasks, costs, strict=True)):
            stats = RenderStats()
            display.started(task, stats)
            with stats.encoding():
                for _ in range(5):
                    clock.now += 0.3 * encode
                    display._move()
            for _ in range(5):
                clock.now += 0.3 * rest
                display.advanced(task.pixels // 5)
            if 2 <= index < len(pixels) - 1:
                assert bar.tasks[0].time_remaining == pytest.approx(total - clock.now, rel=0.2, abs=2)
    assert bar.tasks[0].completed == pytest.approx(sum(map(sum, costs)) if known else sum(pixels))

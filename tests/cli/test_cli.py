"""The frame of the command line: errors, exit codes, streams, settings, and the small commands."""

import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from liif_cli import __version__
from liif_cli.cli import streams
from liif_cli.cli.commands import PANELS
from liif_cli.errors import (
    CheckpointError,
    DeviceError,
    ExitCode,
    InputError,
    LiifError,
    LimitError,
    ModelNotFound,
    OutOfMemory,
    OutputError,
    UsageError,
)

Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def sample(desk: Path) -> None:
    """in.png, 12 x 8 pixels."""
    pixels = np.random.default_rng(3).integers(0, 256, (8, 12, 3), np.uint8)
    Image.fromarray(pixels).save("in.png")


# Errors and exit codes


def test_exit_codes_are_an_api() -> None:
    assert [(code.name, int(code)) for code in ExitCode] == [
        ("OK", 0),
        ("SOME_FAILED", 1),
        ("USAGE", 2),
        ("INPUT", 3),
        ("OUTPUT", 4),
        ("MODEL", 5),
        ("CHECKPOINT", 6),
        ("MEMORY", 7),
        ("DEVICE", 8),
        ("LIMIT", 9),
        ("INTERRUPTED", 130),
    ]


def test_each_exit_code_from_a_real_call(liif: Run, tiny_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    up = ("upscale", "in.png", "-m", tiny_file, "-s", 2)
    assert liif(*up).code == ExitCode.OK
    assert liif(*up, "gone.png", "--overwrite").code == ExitCode.SOME_FAILED
    assert liif("upscale", "in.png").code == ExitCode.USAGE
    assert liif("upscale", "gone.png", "-s", 2).code == ExitCode.INPUT
    assert liif(*up).code == ExitCode.OUTPUT
    assert liif("upscale", "in.png", "-s", 3, "-m", "no-such-model").code == ExitCode.MODEL
    Path("bad.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0nonsense")
    assert liif("upscale", "in.png", "-s", 3, "-m", "bad.safetensors").code == ExitCode.CHECKPOINT
    assert liif(*up, "--overwrite", "--memory", "1k").code == ExitCode.MEMORY
    assert liif(*up, "--overwrite", "--device", "cuda:99").code == ExitCode.DEVICE
    assert liif(*up, "--overwrite", "--max-pixels", 10).code == ExitCode.LIMIT
    monkeypatch.setattr(Image.Image, "close", lambda self: None)
    monkeypatch.setattr("liif_cli.upscaling.upscaler.Upscaler.render", _interrupted)
    ran = liif(*up, "--overwrite")
    assert ran.code == ExitCode.INTERRUPTED and "interrupted" in ran.err[-1]


def _interrupted(*_: Any) -> Any:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (LiifError("x"), 1),
        (UsageError("x"), 2),
        (InputError("x"), 3),
        (OutputError("x"), 4),
        (ModelNotFound("x"), 5),
        (CheckpointError("x"), 6),
        (OutOfMemory("x"), 7),
        (MemoryError(), 7),
        (DeviceError("x"), 8),
        (LimitError("x"), 9),
        (ZeroDivisionError("x"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_what_a_command_raises_becomes_its_code(
    liif: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    def entries() -> Any:
        raise error

    monkeypatch.setattr("liif_cli.models.store.entries", entries)
    ran = liif("models")
    assert (ran.code, ran.out) == (code, [])
    assert all(line.startswith(("Error: ", "Hint: ")) for line in ran.err) and len(ran.err) <= 2


def test_an_error_is_one_line_and_a_hint_another(liif: Run) -> None:
    ran = liif("upscale", "in.png", "-s", "two")
    assert ran.err == [
        "Error: --scale 'two' is not a scale",
        "Hint: use a positive number such as 7.5, or 2x3.5 (x by y)",
    ]
    ran = liif("upscale", "a\nb\x1b.png", "-s", 2)
    assert ran.err == ["Error: a b .png does not exist"]


def test_tracebacks_only_where_they_are_asked_for(liif: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def entries() -> Any:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("liif_cli.models.store.entries", entries)
    assert liif("models").err == [
        "Error: ZeroDivisionError: oh",
        "Hint: this is a bug: LIIF_DEBUG=1 shows where it happened",
    ]
    monkeypatch.setenv("LIIF_DEBUG", "1")
    ran = liif("models")
    assert ran.code == 1 and ran.err[0].startswith("Traceback") and ran.err[-2] == "Error: ZeroDivisionError: oh"
    ran = liif("upscale", "gone.png", "also-gone.png", "-s", 2)
    assert ran.code == 1 and ran.err[0].startswith("Traceback")


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (["upscale", "in.png", "--scal", "2"], "there is no option --scal", "did you mean --scale"),
        (["upscale", "in.png", "--zzz"], "there is no option --zzz", "liif upscale --help"),
        (["upscale", "in.png", "-s"], "requires an argument", "liif upscale --help"),
        (["upscale", "in.png", "-s", "2", "--tile", "x"], "'--tile'", "liif upscale --help"),
        (["upscale", "in.png", "-s", "2", "--tile", "0"], "'--tile'", "liif upscale --help"),
        (["upscale"], "Missing argument", "liif upscale --help"),
        (["upscale", "--no-config"], "there is no option --no-config", "liif --no-config upscale"),
        (["upscal"], "there is no command 'upscal'", "did you mean liif upscale?"),
        (["zzz"], "there is no command 'zzz'", "liif --help"),
        (["upscale", "in.png", "-s", "2", "--precision", "fp8"], "--precision 'fp8'", None),
        (["upscale", "in.png", "-s", "2", "-o", "-", "--json"], "--json and -o -", "use -o FILE"),
        (["upscale", "in.png", "-s", "2", "-s", "3", "-o", "-"], "-o - takes one output", "template"),
        (["upscale", "in.png", "-s", "2", "--overwrite", "--skip-existing"], "exclude each other", None),
        (["upscale", "in.png", "-s", "2", "-o", "x.xyz"], "'.xyz' is not the suffix of an output format", "--format"),
        (["upscale", "in.png", "-s", "2", "-o", "x.png", "--quality", "9"], "PNG has no quality", "JPEG"),
        (["compare", "in.png", "-s", "2", "--size", "9x"], "exclude each other", None),
        (["in.png", "-s", "4"], "there is no command 'in.png'", "liif upscale in.png -s 4"),
        (["a b.jpg"], "there is no command 'a b.jpg'", "liif upscale 'a b.jpg'"),
        (["https://x.org/a.png", "-s", "4"], "there is no command", "liif upscale https://x.org/a.png -s 4"),
        (["-s", "4", "in.png"], "there is no option -s", "liif upscale -s 4 in.png"),
        (["help"], "there is no command 'help'", "liif --help"),
        (["help", "upscale"], "there is no command 'help'", "liif upscale --help"),
        (["models", "help"], "there is no command 'help'", "liif models --help"),
        (["train", "--init", "a", "--fork", "b"], "--init and --fork exclude each other", None),
        (["config", "zzz"], "there is no command 'zzz'", "upscale"),
    ],
)
def test_usage_errors(liif: Run, arguments: list[str], error: str, hint: str | None) -> None:
    ran = liif(*arguments)
    assert (ran.code, ran.out) == (2, [])
    assert ran.err[0].startswith("Error: ") and error in ran.err[0]
    assert len(ran.err) == (1 if hint is None else 2)
    assert hint is None or (ran.err[1].startswith("Hint: ") and hint in ran.err[1])
    assert sorted(path.name for path in Path().iterdir()) == ["in.png"]


def test_what_people_name_that_is_not_there(liif: Run, tiny_file: Path) -> None:
    Path("photos").mkdir()
    up = ("upscale", "-s", 2, "-m", tiny_file)
    for wrong, meant in (("im.png", "in.png"), ("in.jpg", "in.png"), ("photo", "photos"), ("./in", "in.png")):
        assert liif(*up, wrong).err == [f"Error: {wrong} does not exist", f"Hint: did you mean {meant}?"]
    assert liif(*up, "there/x.png").err[1] == "Hint: there is no folder there"
    assert liif(*up, "zebra.png").err == ["Error: zebra.png does not exist"]
    for wrong, hint in (
        ("edsr", "did you mean edsr-baseline-liif?"),
        ("ligth", "did you mean light?"),
        ("rdn-liif", "did you mean authors-rdn-liif? liif models pull authors-rdn-liif fetches it"),
    ):
        ran = liif("upscale", "in.png", "-s", 2, "-m", wrong)
        assert (ran.code, ran.err[1]) == (ExitCode.MODEL, f"Hint: {hint}")


def test_a_memory_limit_below_the_program_says_what_it_takes(liif: Run, tiny_file: Path) -> None:
    for more in ([], ["--dry-run"]):
        ran = liif("upscale", "in.png", "-s", 2, "-m", tiny_file, "--memory", "1MiB", *more)
        assert ran.code == ExitCode.MEMORY
        assert re.fullmatch(
            r"Error: --memory 1\.0 MiB is too little: the program and the image alone take \d+\.\d [MG]iB", ran.err[-2]
        )


@pytest.mark.parametrize(
    ("name", "options", "size"),
    [("out.png", (), "up to"), ("out.jpg", (), "about"), ("out.webp", ("--lossless",), "up to")],
)
def test_a_dry_run_tells_bounds_of_file_sizes_from_estimates(
    liif: Run, tiny_file: Path, name: str, options: tuple[str, ...], size: str
) -> None:
    ran = liif("upscale", "in.png", "-s", 2, "-m", tiny_file, "-o", name, "--dry-run", *options)
    assert re.search(rf", file {size} \d", ran.out[0])


def test_options_without_effect_are_said(liif: Run, tiny_file: Path) -> None:
    up = ("upscale", "in.png", "-m", tiny_file, "--overwrite")
    assert liif(*up, "-s", 2, "--fit", "cover", "-r").err == [
        "Note: --fit has no effect without --size",
        "Note: --recursive has no effect: no IMAGE is a folder",
    ]
    assert liif(*up, "-s", 2, "--fit", "cover", "-q").err == []
    assert liif(*up, "--size", "24x16", "--fit", "cover").err == []


def test_prints(liif: Run, tiny_file: Path) -> None:
    up = ("upscale", "in.png", "-m", tiny_file)
    assert liif(*up, "--size", "2.54x2.54cm", "--dpi", 30, "--fit", "crop").out == ["in_30x30.png"]
    with Image.open("in_30x30.png") as image:
        assert image.size == (30, 30) and image.info["dpi"] == pytest.approx((30, 30), abs=0.1)
        right = np.asarray(image)[:, -1]
    assert liif(*up, "--size", "30x30", "--fit", "crop", "--gravity", "east", "-o", "east.png").code == 0
    with Image.open("east.png") as image:
        assert not np.array_equal(np.asarray(image)[:, -1], right)
    ran = liif(*up, "--size", "3x2cm")
    assert ran.err[0] == "Error: --size '3x2cm' is a size on paper, but the image has no resolution"
    assert ran.err[1] == "Hint: add --dpi 300, or give a size in pixels"
    Image.new("RGB", (12, 8)).save("own.png", dpi=(25.4, 25.4))
    assert liif("upscale", "own.png", "-m", tiny_file, "--size", "24xmm").out == ["own_24x16.png"]
    assert liif(*up, "-s", 2, "--gravity", "east").err == ["Note: --gravity has no effect without --fit crop"]
    said = liif(*up, "-s", 2, "--dpi", 300, "-o", "a.gif").err
    assert "Note: the resolution was not written: GIF cannot store it" in said


def test_a_second_run_over_a_folder_takes_the_same_images(liif: Run, tiny_file: Path) -> None:
    up = ("upscale", ".", "-m", tiny_file)
    assert liif(*up, "-s", "1.2x").out == ["in_1.2x.png"]
    ran = liif(*up, "-s", 2)
    assert ran.out == ["in_2x.png"]
    assert ran.err[0] == "Note: skipped outputs of an earlier run: in_1.2x.png; --all includes them"
    assert liif(*up, "-s", 3, "--all").out == ["in_3x.png", "in_1.2x_3x.png", "in_2x_3x.png"]


def test_an_outputs_folder_is_made(liif: Run, tiny_file: Path) -> None:
    up = ("upscale", "in.png", "-s", 2, "-m", tiny_file, "-o")
    assert liif(*up, "new/deep/out.png").out == [str(Path("new/deep/out.png"))]
    assert liif(*up, "other", "--format", "png").out == [str(Path("other/in_2x.png"))]


def test_help_is_in_groups_and_its_summaries_are_whole(liif: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for group in ([], ["models"]):
        out = liif(*group, "--help").out
        assert max(map(len, out)) <= 80 and "..." not in "\n".join(out[1:])
    listed = " ".join(" ".join(out).split())
    assert (
        "export Export a model as ONNX: encoder and decoder as two graphs with dynamic sizes (needs liif[onnx])."
        in listed
    )
    for name, groups in PANELS.items():
        out = liif(name, "--help").out
        headings = [line.removesuffix(":") for line in out if re.fullmatch(r"\w[\w ]*:", line)]
        assert [each for each in headings if each not in ("Arguments", "Examples")] == [*groups, "Options"]
        rest = out[out.index("Options:") :]
        assert len([line for line in rest if line.startswith("  -")]) <= 6  # the rest is no dumping ground


def test_help_and_version(liif: Run) -> None:
    assert liif("--version").out == liif("-V").out == [f"liif {__version__}"]
    ran = liif("upscale", "-h")
    assert ran.code == 0 and "liif upscale photos -r --scale 2 -o large" in [line.strip() for line in ran.out]
    assert liif().code == 2 and "Usage: liif" in liif().err[0]


def test_signal_handlers_are_put_back(liif: Run) -> None:
    before = signal.getsignal(signal.SIGTERM)
    liif("models")
    assert signal.getsignal(signal.SIGTERM) is before


# Streams


def test_characters_that_an_encoding_lacks_leave_as_escapes(capfd: pytest.CaptureFixture[str]) -> None:
    streams.prepare_streams()
    assert "ä→\udcff".encode("cp1252", errors="liif") == b"\xe4\\u2192\xff"
    assert "ä→\udcff".encode("ascii", errors="liif") == b"\\xe4\\u2192\xff"
    assert "ä→\udcff".encode(errors="liif") == "ä→".encode() + b"\xff"


def test_closed_streams_are_replaced(monkeypatch: pytest.MonkeyPatch, liif: Run) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert liif("models").code == 0
    sys.stdout.close()

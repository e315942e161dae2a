"""The frame of the command line: errors, exit codes, streams, settings, and the small commands."""

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
def picture(desk: Path) -> None:
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
    assert ran.err == ["Error: --scale 'two' is not a scale", "Hint: a positive number such as 7.5, or 2x3.5 (x by y)"]
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
        (["upscale", "in.png", "-s", "2", "-o", "-", "--json"], "--json and -o -", "-o a file"),
        (["upscale", "in.png", "-s", "2", "-s", "3", "-o", "-"], "-o - takes one output", "template"),
        (["upscale", "in.png", "-s", "2", "--overwrite", "--skip-existing"], "exclude each other", None),
        (["upscale", "in.png", "-s", "2", "-o", "x.xyz"], "'.xyz' stands for no output format", "--format"),
        (["upscale", "in.png", "-s", "2", "-o", "x.png", "--quality", "9"], "PNG has no quality", "JPEG"),
        (["compare", "in.png", "-s", "2", "--size", "9x"], "exclude each other", None),
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


def test_help_and_version(liif: Run) -> None:
    assert liif("--version").out == [f"liif {__version__}"]
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

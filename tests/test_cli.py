"""The frame of the command line: errors, exit codes, streams, settings, and the small commands."""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from liif_cli import __version__, cli, console, settings
from liif_cli.checkpoints import save_model
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
from liif_cli.model import SRModel

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
    monkeypatch.setattr("liif_cli.upscaler.Upscaler.render", _interrupted)
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

    monkeypatch.setattr("liif_cli.catalogue.entries", entries)
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

    monkeypatch.setattr("liif_cli.catalogue.entries", entries)
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
    console.prepare_streams()
    assert "ä→\udcff".encode("cp1252", errors="liif") == b"\xe4\\u2192\xff"
    assert "ä→\udcff".encode("ascii", errors="liif") == b"\\xe4\\u2192\xff"
    assert "ä→\udcff".encode(errors="liif") == "ä→".encode() + b"\xff"


def test_closed_streams_are_replaced(monkeypatch: pytest.MonkeyPatch, liif: Run) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert liif("models").code == 0
    sys.stdout.close()


# Settings


def test_options_from_variables(liif: Run, tiny_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIIF_MODEL", str(tiny_file))
    monkeypatch.setenv("LIIF_UPSCALE_SCALE", "2 3")
    monkeypatch.setenv("LIIF_FORMAT", "webp")
    monkeypatch.setenv("LIIF_QUIET", "1")
    ran = liif("upscale", "in.png")
    assert (ran.code, ran.out, ran.err) == (0, ["in_2x.webp", "in_3x.webp"], [])
    monkeypatch.setenv("LIIF_UPSCALE_FORMAT", "tiff")
    assert liif("upscale", "in.png").out == ["in_2x.tif", "in_3x.tif"]
    assert liif("upscale", "in.png", "-s", "1.5", "--format", "jpeg").out == ["in_1.5x.jpg"]
    assert liif("upscale", "in.png", "--size", "20x").out[0].startswith("in_20x13.")  # typed: the scale gives way


def test_options_from_files(liif: Run, desk: Path, tiny_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user, folder = settings.files()
    user.parent.mkdir(parents=True)
    user.write_text(f'format = "webp"\n[upscale]\nscale = 2\nmodel = {str(tiny_file)!r}\n')
    assert liif("upscale", "in.png", "-q").out == ["in_2x.webp"]
    folder.write_text('[upscale]\nscale = [3, "1.5"]\nskip_existing = true\n')
    assert liif("upscale", "in.png", "-q").out == ["in_3x.webp", "in_1.5x.webp"]
    assert liif("upscale", "in.png", "-q").out == []
    assert liif("upscale", "in.png", "-q", "--overwrite").out == ["in_3x.webp", "in_1.5x.webp"]
    monkeypatch.setenv("LIIF_FORMAT", "png")
    assert liif("upscale", "in.png", "-q").out == ["in_3x.png", "in_1.5x.png"]
    assert liif("--no-config", "upscale", "in.png", "-q").code == 2
    monkeypatch.setenv("LIIF_NO_CONFIG", "1")
    assert liif("upscale", "in.png", "-q").code == 2


def test_config_shows_each_value_and_its_origin(liif: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert liif("config").out == ["every option has its default"]
    user, folder = settings.files()
    user.parent.mkdir(parents=True)
    user.write_text('device = "cpu"\n')
    folder.write_text('[upscale]\nself-ensemble = true\nscale = ["2", "3"]\n')
    monkeypatch.setenv("LIIF_UPSCALE_CELL", "clip")
    found = {(e["command"], e["option"]): e for e in map(json.loads, liif("config", "--json").out)}
    assert found["upscale", "device"] == {"command": "upscale", "option": "device", "value": "cpu", "from": str(user)}
    assert found["compare", "device"]["from"] == str(user)
    assert (found["upscale", "self-ensemble"]["value"], found["upscale", "self-ensemble"]["from"]) == (
        True,
        "liif.toml",
    )
    assert list(found["upscale", "scale"]["value"]) == ["2", "3"]
    assert found["upscale", "cell"]["from"] == "LIIF_UPSCALE_CELL"
    assert ("upscale", "tile") not in found
    every = {e["option"]: e for e in map(json.loads, liif("config", "upscale", "--json").out)}
    assert every["tile"] == {"command": "upscale", "option": "tile", "value": None, "from": "default"}
    text = liif("config", "upscale")
    assert "upscale --cell = clip  (LIIF_UPSCALE_CELL)" in text.out
    assert text.err == [f"Note: {user}: read", "Note: liif.toml: read"]
    monkeypatch.delenv("LIIF_UPSCALE_CELL")
    without = liif("--no-config", "config")
    assert without.out == ["every option has its default"] and "not read: --no-config" in without.err[0]


@pytest.mark.parametrize(
    ("text", "error", "hint"),
    [
        ("devcie = 'cpu'", "liif.toml: devcie is not an option or a command", "did you mean device?"),
        ("[upscale]\nscael = 2", "liif.toml: upscale.scael is not an option of liif upscale", "did you mean scale?"),
        ("[upscal]\nscale = 2", "liif.toml: upscal is not an option or a command", "did you mean upscale?"),
        ("[models]\nscale = 2", "models.scale is not an option of liif models", None),
        ("overwrite = 'yes'", "overwrite is 'yes', and is to be true or false", None),
        ("device = true", "device is True, and is to be text or a number", None),
        ("device = ['cpu']", "and is to be text or a number", None),
        ("device = ", "liif.toml is not TOML", "--no-config"),
        ("[upscale]\ntile = 'x'", "Invalid value for '--tile'", "liif upscale --help"),
    ],
)
def test_files_that_make_no_sense(liif: Run, text: str, error: str, hint: str | None) -> None:
    Path("liif.toml").write_text(text)
    ran = liif("upscale", "in.png", "-s", 2)
    assert ran.code == 2 and error in ran.err[0]
    assert hint is None or hint in ran.err[1]


# Models, doctor, compare, completion


def test_models_lists_what_is_shipped_and_cached(
    liif: Run, desk: Path, tiny: SRModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = desk / "cache"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    for name in ("model.safetensors", "more/small.safetensors"):
        path = cache / "models--someone--nice" / "snapshots" / "0123" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        save_model(tiny, path, licence="CC0-1.0", provenance={})
    other = cache / "models--someone--other" / "snapshots" / "0123" / "model.safetensors"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    found = {entry["name"]: entry for entry in map(json.loads, liif("models", "--json").out)}
    cached = found["hf://someone/nice"]
    assert cached["where"] == "cached" and cached["licence"] == "CC0-1.0"
    assert cached["parameters"] == sum(p.numel() for p in tiny.parameters())
    assert cached["bytes"] == Path(cached["path"]).stat().st_size
    assert "hf://someone/nice/more/small.safetensors" in found and len(found) == 2 + len(_shipped())
    table = liif("models").out
    assert table[0].split() == ["NAME", "WHERE", "SIZE", "PARAMETERS", "LICENCE"] and len(table) == len(found) + 1


def _shipped() -> dict[str, Path]:
    from liif_cli.checkpoints import shipped

    return shipped()


def test_doctor_says_why_a_gpu_is_or_is_not_used(liif: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("LIIF_DEVICE", "cpu")
    found = json.loads(liif("doctor", "--json").out[0])
    assert not [section for section in found.values() if "broken" in section]
    assert found["liif"]["version"] == __version__ and found["libraries"]["torch"] == torch.__version__
    assert found["device"]["cuda"].startswith("used" if torch.cuda.is_available() else "not used: ")
    assert found["settings"]["HF_TOKEN"] == "set" and found["settings"]["LIIF_DEVICE"] == "cpu"
    text = "\n".join(liif("doctor").out)
    assert "secret" not in text and str(Path.home()) not in text


class _Torch:
    """As much of torch as the reason needs."""

    class version:
        cuda: str | None = None
        hip: str | None = None

    class cuda:
        @staticmethod
        def is_available() -> bool:
            return False

        @staticmethod
        def init() -> None:
            raise RuntimeError("Found no NVIDIA driver\n on your system")


def test_the_reasons_for_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    from liif_cli.diagnosis import cuda_reason

    assert "built without CUDA" in cuda_reason(_Torch)
    monkeypatch.setattr(_Torch.version, "cuda", "13.0")
    assert cuda_reason(_Torch) == "not used: PyTorch is built for CUDA 13.0, but Found no NVIDIA driver on your system"
    monkeypatch.setattr(_Torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(_Torch.cuda, "device_count", lambda: 1, raising=False)
    monkeypatch.setattr(_Torch.cuda, "get_device_name", lambda index: "H200", raising=False)
    assert cuda_reason(_Torch) == "used: CUDA 13.0, H200"


def test_doctor_survives_a_broken_installation(liif: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise OSError("libvips.so: cannot open")

    monkeypatch.setattr("liif_cli.diagnosis._libvips", broken)
    ran = liif("doctor")
    assert ran.code == 0 and "  broken: OSError: libvips.so: cannot open" in ran.out


def test_completion_knows_commands_options_models_and_words(liif: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("liif_cli.catalogue.names", lambda: ["edsr-a", "edsr-b", "rdn-c"])

    def offered(*words: str) -> list[str]:
        monkeypatch.setenv("_LIIF_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", " ".join(["liif", *words]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        return [line for line in liif().out if line]

    assert "upscale" in offered("up")
    assert offered("upscale", "-m", "edsr") == ["edsr-a", "edsr-b"]
    assert offered("upscale", "--device", "c") == ["cpu", "cuda"]
    assert "--skip-existing" in offered("upscale", "--sk")


def test_every_variable_stands_for_one_option() -> None:
    """No option's variable is one that means something else to liif."""
    from typer.main import get_command

    commands: Any = get_command(cli.app)
    names = {
        name
        for command, own in commands.commands.items()
        for option, _ in settings.options(own)
        for name in settings.variables(command, option)
    }
    assert not names & {"LIIF_DEBUG", "LIIF_NO_CONFIG", "LIIF_SHARED"}
    assert os.environ.get("LIIF_DEBUG") is None

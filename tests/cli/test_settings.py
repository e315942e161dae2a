"""Options from variables and files, and what `liif config` says of them."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from liif_cli.cli import app, settings

Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def image(desk: Path) -> None:
    """in.png, 12 x 8 pixels."""
    pixels = np.random.default_rng(3).integers(0, 256, (8, 12, 3), np.uint8)
    Image.fromarray(pixels).save("in.png")


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


def test_variables_that_set_nothing_are_said(liif: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIIF_DEVCE", "cpu")
    monkeypatch.setenv("LIIF_UPSCAL_SCALE", "2")
    monkeypatch.setenv("LIIF_NO_CONFIG", "1")
    assert liif("config").err[:2] == [
        "Warning: LIIF_DEVCE sets nothing: there is no such option; did you mean LIIF_DEVICE?",
        "Warning: LIIF_UPSCAL_SCALE sets nothing: there is no such option; did you mean LIIF_UPSCALE_SCALE?",
    ]
    monkeypatch.setenv("LIIF_DEVCE", "")
    monkeypatch.delenv("LIIF_UPSCAL_SCALE")
    monkeypatch.setenv("LIIF_ZZZ", "1")
    assert liif("config").err[1] == "Warning: LIIF_ZZZ sets nothing: there is no such option"


@pytest.mark.parametrize(
    ("variable", "value", "error"),
    [
        ("LIIF_SCALE", "two", "--scale (from LIIF_SCALE) 'two' is not a scale"),
        ("LIIF_UPSCALE_CELL", "big", "--cell (from LIIF_UPSCALE_CELL) 'big' is not a cell"),
        ("LIIF_TILE", "many", "unable to parse string as an integer (from LIIF_TILE)"),
        ("LIIF_PRECISION", "fp8", "--precision (from LIIF_PRECISION) 'fp8' is not one of auto, fp32, bf16, fp16"),
        ("LIIF_MODEL", "nothing-here", "there is no model or file 'nothing-here' (from LIIF_MODEL)"),
        ("LIIF_DEVICE", "cuda:99", "(from LIIF_DEVICE)"),
    ],
)
def test_a_bad_value_names_its_variable(
    liif: Run, tiny_file: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, error: str
) -> None:
    monkeypatch.setenv("LIIF_MODEL", str(tiny_file))
    monkeypatch.setenv("LIIF_SCALE", "2")
    monkeypatch.setenv(variable, value)
    ran = liif("upscale", "in.png")
    assert ran.code in (2, 5, 8) and error in ran.err[0]


def test_a_bad_value_names_its_file(liif: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.files()[1].write_text('[upscale]\nscale = "two"\n')
    assert liif("upscale", "in.png").err[1] == "Error: --scale (from liif.toml) 'two' is not a scale"
    assert liif("upscale", "in.png", "-s", "three").err[1] == "Error: --scale 'three' is not a scale"


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
    assert liif("config").out == ["all options have their default values"]
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
    assert without.out == ["all options have their default values"] and "not read: --no-config" in without.err[0]


@pytest.mark.parametrize(
    ("text", "error", "hint"),
    [
        ("devcie = 'cpu'", "liif.toml: devcie is not an option or a command", "did you mean device?"),
        ("[upscale]\nscael = 2", "liif.toml: upscale.scael is not an option of liif upscale", "did you mean scale?"),
        ("[upscal]\nscale = 2", "liif.toml: upscal is not an option or a command", "did you mean upscale?"),
        ("[models]\nscale = 2", "models.scale is not an option of liif models", None),
        ("overwrite = 'yes'", "overwrite must be true or false, not 'yes'", None),
        ("device = true", "device must be text or a number, not True", None),
        ("device = ['cpu']", "must be text or a number, not ['cpu']", None),
        ("device = ", "liif.toml is not TOML", "--no-config"),
        ("[upscale]\ntile = 'x'", "Invalid value for '--tile'", "liif upscale --help"),
    ],
)
def test_files_that_make_no_sense(liif: Run, text: str, error: str, hint: str | None) -> None:
    Path("liif.toml").write_text(text)
    ran = liif("upscale", "in.png", "-s", 2)
    said = [line for line in ran.err if not line.startswith("Note: ")]
    assert ran.code == 2 and error in said[0]
    assert hint is None or hint in said[1]


def test_every_variable_stands_for_one_option() -> None:
    """No option's variable is one that means something else to liif."""
    from typer.main import get_command

    commands: Any = get_command(app.app)
    names = {
        name
        for command, own in commands.commands.items()
        for option, _ in settings.options(own)
        for name in settings.variables(command, option)
    }
    assert not names & {"LIIF_DEBUG", "LIIF_NO_CONFIG", "LIIF_SHARED"}
    assert os.environ.get("LIIF_DEBUG") is None

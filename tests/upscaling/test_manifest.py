"""The manifest: a row for each output, and a second run that makes only what is missing or changed."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from liif_cli.errors import ExitCode
from liif_cli.images.write import SaveOptions, write
from liif_cli.models.store import find
from liif_cli.rendering.sizes import Scale
from liif_cli.upscaling.manifest import Manifest, settings
from liif_cli.upscaling.options import Options

Run = Callable[..., Any]


@pytest.fixture
def up(liif: Run, tiny_file: Path) -> Run:
    """Runs `liif upscale -s 2` over the folder `in`, which has three images."""
    Path("in").mkdir()
    for index, name in enumerate("abc"):
        image(name, index)
    return lambda *arguments: liif("upscale", "in", "-s", 2, "-m", tiny_file, "-o", "out", *arguments)


def image(name: str, seed: int) -> None:
    """An image of 12x10 pixels in `in`."""
    pixels = np.random.default_rng(seed).integers(0, 256, (10, 12, 3), np.uint8)
    write(Path("in", f"{name}.png"), pixels, options=SaveOptions(overwrite=True))


def rows(name: str = "m.jsonl") -> list[dict[str, Any]]:
    """The rows of a manifest."""
    if name.endswith(".parquet"):
        import pyarrow.parquet

        return list(pyarrow.parquet.read_table(name).to_pylist())
    return [json.loads(line) for line in Path(name).read_text().splitlines()]


def test_a_row_records_everything_about_an_output(up: Run, tiny_file: Path) -> None:
    Path("in", "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    assert up("--manifest", "m.jsonl").code == ExitCode.SOME_FAILED
    table = {row["input"]: row for row in rows()}
    row, size = table[str(Path("in", "a.png"))], Path("in", "a.png").stat().st_size
    assert row["seconds"] > 0 and len(row.pop("settings")) == 16 and row.pop("version").endswith("+00:00")
    del row["seconds"]
    assert row == {
        "input": str(Path("in", "a.png")),
        "size": size,
        "output": str(Path("out", "a_2x.png")),
        "width": 24,
        "height": 20,
        "scale": [2.0, 2.0],
        "model": "tiny",
        "revision": None,
        "notes": [],
        "error": None,
        "code": 0,
    }
    broken = table[str(Path("in", "broken.png"))]
    assert broken["code"] == ExitCode.INPUT and "broken.png" in broken["error"]
    assert len(table) == len(rows()) == 4
    assert sorted(path.name for path in Path().iterdir()) == ["in", "m.jsonl", "out"]  # no lock is left


@pytest.mark.parametrize("name", ["m.jsonl", "m.parquet"])
def test_a_second_run_makes_what_is_missing_or_changed(up: Run, name: str) -> None:
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    assert up("--manifest", name).code == 0
    first = rows(name)
    assert up("--manifest", name).out == [] and rows(name) == first
    image("b", 9)
    Path("out", "c_2x.png").unlink()
    image("d", 4)
    before = Path("out", "b_2x.png").read_bytes()
    ran = up("--manifest", name)
    assert ran.out == [str(Path("out", f"{each}_2x.png")) for each in "bcd"] and "1 skipped" in ran.err[-1]
    assert Path("out", "b_2x.png").read_bytes() != before
    again = rows(name)
    assert len(again) == 4 and again[0] == first[0]  # one row for each output, the last
    assert up("--manifest", name).out == []
    assert len(up("--manifest", name, "--restore", "0", "--cell", "clip").out) == 4  # other pixels


def test_what_is_touched_alone_is_made_again(up: Run) -> None:
    assert up("--manifest", "m.jsonl").code == 0
    os.utime(Path("in", "a.png"), (1, 1))
    assert up("--manifest", "m.jsonl").out == [str(Path("out", "a_2x.png"))]


def test_a_killed_run_goes_on(up: Run) -> None:
    assert up("--manifest", "m.jsonl").code == 0
    lines = Path("m.jsonl").read_text().splitlines(keepends=True)
    Path("m.jsonl").write_text(lines[0] + lines[1][:50])  # b was made and its row is cut; c is there and has none
    Path("out", "b_2x.png").unlink()
    ran = up("--manifest", "m.jsonl")
    assert ran.out == [str(Path("out", "b_2x.png"))] and "2 skipped" in ran.err[-1]
    assert [Path(row["output"]).name for row in rows()] == ["a_2x.png", "b_2x.png"]


def test_a_failed_image_is_tried_again(up: Run) -> None:
    Path("in", "b.png").write_bytes(b"no")
    assert up("--manifest", "m.jsonl").code == ExitCode.SOME_FAILED
    image("b", 1)
    assert up("--manifest", "m.jsonl").out == [str(Path("out", "b_2x.png"))]
    assert sorted(row["code"] for row in rows()) == [0, 0, 0]


def test_a_new_manifest_harms_no_existing_output(up: Run) -> None:
    Path("out").mkdir()
    Path("out", "a_2x.png").write_bytes(b"mine")
    ran = up("--manifest", "m.jsonl")
    assert (
        ran.code == ExitCode.OUTPUT and Path("out", "a_2x.png").read_bytes() == b"mine" and not Path("m.jsonl").exists()
    )
    assert up("--manifest", "m.jsonl", "--skip-existing").code == 0
    assert Path("out", "a_2x.png").read_bytes() == b"mine" and len(rows()) == 2


def test_a_file_that_is_not_a_manifest_is_left_unchanged(up: Run) -> None:
    for name, code in (("in/a.png", ExitCode.USAGE), ("notes.jsonl", ExitCode.OUTPUT)):
        Path("notes.jsonl").write_text("my notes\n")
        assert up("--manifest", name).code == code
        assert Path("notes.jsonl").read_text() == "my notes\n" and not Path("out").exists()


def test_one_run_at_a_time(up: Run, tiny_file: Path) -> None:
    with Manifest(Path("m.jsonl"), "", find(tiny_file)):
        ran = up("--manifest", "m.jsonl")
    assert ran.code == ExitCode.OUTPUT and "in use by another run" in ran.err[0]


def test_settings_are_what_decides_the_pixels(tiny_file: Path) -> None:
    model, two = find(tiny_file), [Scale.parse("2")]
    plain = settings(Options(), two, model)
    assert plain == settings(Options(device="cpu", memory=2**30, save=SaveOptions(overwrite=True)), two, model)
    others = [
        settings(Options(), [Scale.parse("3")], model),
        settings(Options(restore=0.5), two, model),
        settings(Options(save=SaveOptions(quality=80)), two, model),
    ]
    assert len({plain, *others}) == 4

"""docs/architecture.md is the map of the package: every file is on it, and the walks name what is there."""

import ast
import inspect
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
MAP, WALKS = TEXT.split("\n## Walks\n")


def mapped(text: str) -> list[str]:
    """The files that the tables under `### liif_cli/...` name, relative to the repository."""
    files = []
    for part in text.split("\n### ")[1:]:
        folder, _, table = part.partition("\n")
        if folder.startswith("liif_cli/"):
            files += [folder.strip() + name for name in re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)]
    return files


def existing() -> set[str]:
    """The package's modules and presets; empty `__init__.py` files say nothing and are left out."""
    package = ROOT / "liif_cli"
    files = [file for kind in ("*.py", "*.toml") for file in package.rglob(kind) if file.stat().st_size]
    return {file.relative_to(ROOT).as_posix() for file in files}


def test_every_file_is_on_the_map_once_and_nothing_else_is() -> None:
    files = mapped(MAP)
    assert len(files) == len(set(files)), "a file is on the map twice"
    assert existing() - set(files) == set(), "add these files to docs/architecture.md"
    assert set(files) - existing() == set(), "docs/architecture.md names files that are gone"


def test_a_missing_line_and_a_line_too_many_are_noticed() -> None:
    assert existing() - set(mapped(MAP.replace("| `renderer.py` |", "|"))) == {"liif_cli/rendering/renderer.py"}
    more = MAP.replace("| `renderer.py` |", "| `gone.py` | |\n| `renderer.py` |")
    assert set(mapped(more)) - existing() == {"liif_cli/rendering/gone.py"}


STEPS = re.findall(r"`([\w/]+\.py)(?:: ([\w, ]+))?`", WALKS)


@pytest.mark.parametrize(("file", "names"), sorted(set(STEPS)))
def test_the_walks_name_what_is_there(file: str, names: str) -> None:
    path = ROOT / ("" if file.startswith("tests/") else "liif_cli") / file
    assert path.is_file()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assert {name.strip() for name in names.split(",") if name} <= defined


EACH = WALKS.partition("\n## ")[0].split("\n### ")[1:]
ONLY_FOR_DOWNLOADS = {"models/hub.py", "evaluation/unpack.py"}


def test_there_are_three_walks_and_each_goes_through_its_rooms() -> None:
    assert [walk.split(":")[0] for walk in EACH] == ["An upscale", "A training step", "An evaluation"]
    for walk, room in zip(EACH, ("upscaling", "training", "evaluation"), strict=True):
        assert {"cli", room, "models"} <= {file.partition("/")[0] for file in files_of(walk)}


def files_of(walk: str) -> set[str]:
    return set(re.findall(r"`([\w/]+\.py)", walk))


@contextmanager
def run_through() -> Iterator[set[str]]:
    """The files of the package in which functions are called, in any thread that begins meanwhile."""
    found: set[str] = set()
    package = f"{ROOT / 'liif_cli'}/"

    def called(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_flags & inspect.CO_OPTIMIZED and code.co_filename.startswith(package):
            found.add(code.co_filename.removeprefix(package))

    sys.setprofile(called), threading.setprofile(called)
    try:
        yield found
    finally:
        sys.setprofile(None), threading.setprofile(None)


@pytest.mark.weights
@pytest.mark.parametrize(
    ("walk", "command"),
    [
        (EACH[0], "upscale in.png --scale 7.5 -o out.png"),
        (EACH[1], "train --data . --out run --iterations 1 --batch 1 --patch 12 --scale 2"),
        (EACH[2], "eval --dataset in.png --scale 2 --baseline bicubic"),
    ],
    ids=["upscale", "train", "eval"],
)
def test_the_commands_go_through_every_file_of_their_walk(liif: Callable[..., Any], walk: str, command: str) -> None:
    Image.radial_gradient("L").resize((40, 40)).convert("RGB").save("in.png")
    with run_through() as found:
        assert liif(*command.split()).code == 0
    assert files_of(walk) - found <= ONLY_FOR_DOWNLOADS

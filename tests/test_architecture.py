"""docs/architecture.md is the map of the package: every file is on it, and the walks name what is there."""

import ast
import re
from pathlib import Path

import pytest

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


def test_there_are_three_walks_and_each_goes_through_its_rooms() -> None:
    walks = WALKS.partition("\n## ")[0].split("\n### ")[1:]
    assert [walk.split(":")[0] for walk in walks] == ["An upscale", "A training step", "An evaluation"]
    for walk, room in zip(walks, ("upscaling", "training", "evaluation"), strict=True):
        rooms = {file.partition("/")[0] for file in re.findall(r"`([\w/]+\.py)", walk)}
        assert {"cli", room, "models"} <= rooms

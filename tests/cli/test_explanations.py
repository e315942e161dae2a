"""The library knows no flag: it gives values and reasons, and the command line adds its options to them."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer.main
from PIL import Image

from liif_cli.cli.app import app
from liif_cli.cli.explanations import OPTIONS, REMEDIES, explained, noted
from liif_cli.errors import Note, OutputError, UsageError

PACKAGE = Path(__file__).parents[2] / "liif_cli"
FLAG = re.compile(r"(?<![\w-])(?:--[a-z][a-z-]*|-[a-z])\b")
ABLATION = re.compile(r"(LIIF \()?-[cude]\)?")  # a row of the paper's table 3
PYTHON_ALONE = {"--unit"}  # arguments of functions that no command calls
COMMAND = re.compile(r"\bliif [a-z]+ ")
LIBRARY = [file for file in PACKAGE.rglob("*.py") if file.relative_to(PACKAGE).parts[0] != "cli"]


@cache
def nodes_of(file: Path) -> list[ast.AST]:
    """The syntax tree of a module, flat."""
    return list(ast.walk(ast.parse(file.read_text("utf-8"))))


def spoken(file: Path) -> Iterator[str]:
    """What a module says: its string literals that are no docstrings, a formatted one as a whole."""
    left_out = {id(node.value) for node in nodes_of(file) if isinstance(node, ast.Expr)}
    for node in nodes_of(file):
        if isinstance(node, ast.JoinedStr):
            parts = [part for part in node.values if isinstance(part, ast.Constant)]
            left_out |= {id(part) for part in parts}
            yield " ".join(str(part.value) for part in parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in left_out:
            yield node.value


def keywords(name: str) -> set[str]:
    """The literals that the library passes as the keyword `name` (or, of remedies, to `Note.on`)."""
    calls = [node for file in PACKAGE.rglob("*.py") for node in nodes_of(file) if isinstance(node, ast.Call)]
    given = [keyword.value for call in calls for keyword in call.keywords if keyword.arg == name]
    given = [value for value in given if not isinstance(value, ast.Subscript)]  # passed on, from another process
    if name == "remedy":
        given += [call.args[1] for call in calls if ast.unparse(call.func) == "Note.on"]
    literals = [part for value in given for part in ast.walk(value) if isinstance(part, ast.Constant)]
    return {str(part.value) for part in literals if part.value is not None}


def test_no_flag_is_in_the_library() -> None:
    """A whole command to type, as a model card has it, is no flag."""
    said = {(file.relative_to(PACKAGE).as_posix(), text) for file in LIBRARY for text in spoken(file)}
    named = {(file, text) for file, text in said if FLAG.search(text) and not ABLATION.fullmatch(text)}
    assert not {(file, text) for file, text in named if not COMMAND.search(text)}
    assert FLAG.search("use --scale") and FLAG.search("-o - writes") and not FLAG.search("x-ray, 4-bit - or so")


def test_every_remedy_is_known_and_used() -> None:
    assert keywords("remedy") == set(REMEDIES)


def test_every_argument_and_every_flag_in_a_remedy_is_an_option() -> None:
    options = {
        opt for command in typer.main.get_command(app).commands.values() for each in command.params for opt in each.opts
    }
    named = {OPTIONS.get(name, "--" + name.replace("_", "-")) for name in keywords("argument")}
    flags = {flag for text in REMEDIES.values() for flag in FLAG.findall(text)}
    assert named and flags and (named | flags) - PYTHON_ALONE <= options and not PYTHON_ALONE & options


def test_errors_and_notes_are_explained() -> None:
    refused = UsageError("'x' is not a scale", hint="a positive number", argument="scale")
    assert explained(refused) == ("--scale 'x' is not a scale", "a positive number")
    assert explained(OutputError("a.png exists", remedy="overwrite")) == ("a.png exists", "--overwrite replaces it")
    assert explained(ZeroDivisionError("no")) == ("ZeroDivisionError: no", None)
    assert (
        noted(Note.on("the first of 2 pages is read", "page"))
        == "the first of 2 pages is read; --page picks another page"
    )
    assert noted("plain") == "plain"


@pytest.mark.parametrize(("arguments", "said"), [
    (["--scale", "two"], "--scale 'two' is not a scale"),
    (["-s", "2", "--memory", "lots"], "--memory 'lots' is not an amount of memory"),
    (["-s", "2", "--cell", "2"], "--cell '2' is not a cell"),
    (["-s", "2", "--region", "x"], "--region 'x' is not a region"),
    (["-s", "2", "--background", "mud-coloured"], "--background 'mud-coloured' is not a colour"),
    (["-s", "2", "--format", "jxl"], "--format 'jxl' is not an output format"),
])  # fmt: skip
def test_what_was_refused_is_said_with_its_option(liif, arguments: list[str], said: str) -> None:  # type: ignore[no-untyped-def]
    Image.new("RGB", (4, 4)).save("a.png")
    ran = liif("upscale", "a.png", *arguments)
    assert ran.code == 2 and ran.err[0] == f"Error: {said}" and ran.err[1].startswith("Hint: ")

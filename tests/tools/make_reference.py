"""Writes the tables of commands and options in docs/options.md from the program itself: python tests/tools/make_reference.py

tests/cli/test_reference.py fails if they differ.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from liif_cli.cli import settings
from liif_cli.cli.app import app

OPTIONS = Path(__file__).parents[2] / "docs" / "options.md"
BEGIN, END = "<!-- commands -->", "<!-- end of commands -->"


def reference() -> str:
    """The Markdown between the markers."""
    root: Any = get_command(app)
    parts = [f"Before the command: {', '.join(f'`{name}`' for name in global_options(root))}.", ""]
    for name, command in settings.flat(root.commands).items():
        parts += [*section(name, command), ""]
    return "\n".join(parts)


def global_options(root: Any) -> list[str]:
    """Long names of the options that precede a command."""
    return [opt for parameter in root.params for opt in parameter.opts if opt.startswith("--")]


def section(name: str, command: Any) -> Iterator[str]:
    """One command: what it does, its arguments, its options."""
    yield f"## liif {name}"
    yield ""
    yield command.help.split("\n\n")[0].replace("\n", " ")
    yield ""
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    for argument in arguments:
        yield f"`{argument.metavar}{'...' * (argument.nargs == -1)}`: {argument.help}"
        yield ""
    yield "| option | meaning |"
    yield "|---|---|"
    for _, option in settings.options(command):
        yield f"| {spelling(option)} | {meaning(option)} |"


def spelling(option: Any) -> str:
    """`-s`, `--scale S|SXxSY`."""
    metavar = "" if option.is_flag else f" {option.metavar or option.type.name.upper()}"
    short = [f"`{opt}`" for opt in option.opts if not opt.startswith("--")]
    long = [f"`{opt}{metavar}`" for opt in option.opts if opt.startswith("--")]
    return ", ".join(short + long).replace("|", "\\|")


def meaning(option: Any) -> str:
    """The help text and the default."""
    text = option.help.replace("|", "\\|").replace("*", "\\*")
    if option.is_flag or option.default in (None, [], ()) or callable(option.default):
        return text + " Required." * bool(option.required)
    return f"{text} Default: `{option.default}`."


def placed(text: str) -> str:
    """The page `text` with the reference between its markers. Raises ValueError if a marker is missing."""
    pattern = re.compile(f"({re.escape(BEGIN)}\n).*?({re.escape(END)})", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"options.md has no {BEGIN} ... {END}")
    return pattern.sub(lambda match: match[1] + reference() + match[2], text)


if __name__ == "__main__":
    OPTIONS.write_text(placed(OPTIONS.read_text(encoding="utf-8")), encoding="utf-8")

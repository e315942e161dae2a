"""docs/options.md and the command line say the same; every command and option is documented."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from make_reference import OPTIONS, placed
from typer.main import get_command

from liif_cli.cli import settings
from liif_cli.cli.app import app
from liif_cli.errors import ExitCode, LiifError

TEXT = OPTIONS.read_text(encoding="utf-8")
DOCS = {file.name: file.read_text(encoding="utf-8") for file in OPTIONS.parent.glob("*.md")}
README = (OPTIONS.parents[1] / "README.md").read_text(encoding="utf-8")
ROOT: Any = get_command(app)
COMMANDS = sorted(settings.flat(ROOT.commands))


def test_the_tables_are_those_of_the_command_line() -> None:
    assert placed(TEXT) == TEXT, "run python tests/tools/make_reference.py"


def test_a_changed_option_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    stale = TEXT.replace("| `--dry-run` |", "| `--dry` |")
    assert placed(stale) == TEXT != stale
    with pytest.raises(ValueError, match="has no"):
        placed(TEXT.replace("<!-- commands -->", ""))


def test_the_exit_codes_are_those_of_the_code() -> None:
    text = DOCS["command-line.md"]
    table = text[text.index("## Exit codes") :]
    documented = [int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)]
    assert documented == [int(code) for code in ExitCode]
    kinds = {kind.exit_code for kind in LiifError.__subclasses__() if kind.__module__ == "liif_cli.errors"}
    assert kinds == set(ExitCode) - {ExitCode.OK, ExitCode.SOME_FAILED, ExitCode.INTERRUPTED}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples_that_parse(name: str) -> None:
    command = settings.flat(ROOT.commands)[name]
    assert command.help and all(option.help for _, option in settings.options(command))
    lines = [line.strip() for line in command.help.splitlines()]
    examples = [line for line in lines if re.search(rf"(^|\s)liif {name}\b", line) and "Examples" not in line]
    assert lines.count("Examples:") == 1 and examples
    for example in examples:
        parse(example)


def test_the_examples_of_the_program_parse() -> None:
    examples = [line.strip() for line in ROOT.help.splitlines() if line.strip().startswith("liif ")]
    assert len(examples) == 3
    for example in examples[:2]:
        parse(example)


def calls(text: str) -> list[str]:
    """The calls of liif in the shell blocks of a Markdown text."""
    blocks = "\n".join(re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    return re.findall(r"^(?:.*(?:\||&&|-m) )?(?:\.venv/bin/)?(liif(?:_cli)? .*)$", blocks, re.MULTILINE)


@pytest.mark.parametrize(
    ("name", "least"),
    [("README.md", 11), ("command-line.md", 5), ("evaluation.md", 4), ("training.md", 6), ("weights.md", 8)],
)
def test_the_examples_of_the_documents_parse(name: str, least: int) -> None:
    found = calls(README if name == "README.md" else DOCS[name])
    assert len(found) >= least
    for call in found:
        parse(call)


def parse(line: str) -> None:
    """Hand a documented call to the parser of its command; anything it refuses is raised."""
    words = shlex.split(line, comments=True)
    words = words[1 + next(i for i, word in enumerate(words) if word in ("liif", "liif_cli")) :]
    stops = [index for index, word in enumerate(words) if word in ("|", ">", ">>", "<", "&&")]
    arguments, command = words[: stops[0] if stops else None], ROOT
    while arguments and arguments[0] in getattr(command, "commands", {}):
        name, *arguments = arguments
        command = command.commands[name]
    assert command is not ROOT, line
    with command.make_context(name, arguments):
        pass


def test_the_documented_configuration_file_is_understood(desk: Path) -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", DOCS["command-line.md"], re.DOTALL)
    (desk / "liif.toml").write_text(block)
    found = settings.load(ROOT.commands)
    assert found["upscale"]["quality"].value == "90" and found["compare"]["device"].value == "cpu"

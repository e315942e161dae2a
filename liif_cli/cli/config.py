"""`liif config`: the options' values, and where each comes from."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from liif_cli.cli import settings
from liif_cli.cli.streams import result, say
from liif_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator


def config(
    context: typer.Context,
    command: Annotated[
        str | None,
        typer.Argument(
            metavar="[COMMAND]", help="Show all options of this command, including defaults, e.g. 'models push'."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per option.")] = False,
) -> None:
    """Show configured option values and where each one comes from.

    Precedence, highest first: command line, LIIF_COMMAND_OPTION, LIIF_OPTION, liif.toml in the current folder, liif.toml in
    the user's configuration folder. In liif.toml, options are under [COMMAND], or at the top for every command that has
    them: device = "cpu". The global option --no-config ignores both files.

    Examples:

      liif config

      liif config upscale

      LIIF_DEVICE=cpu liif config upscale --json
    """
    parent = context.find_root()
    commands = settings.flat(parent.command.commands)  # type: ignore[attr-defined]
    if command is not None and command not in commands:
        raise UsageError(f"there is no command {command!r}", hint=f"one of {', '.join(commands)}")
    found = [each for name in commands if command in (None, name) for each in _values(parent, name)]
    shown = [each for each in found if command is not None or each["from"] != "default"]
    for each in shown:
        result(json.dumps(each) if as_json else _line(each))
    if not shown and not as_json:
        result("all options have their default values")
    if not as_json:
        read = parent.obj is not None
        for file in settings.files():
            state = "does not exist" if not file.is_file() else "read" if read else "not read: --no-config"
            say(f"Note: {file}: {state}")


def _values(parent: Any, name: str) -> "Iterator[dict[str, Any]]":
    """Each option of a command, with the value that it has in a call without arguments."""
    command, context = parent.command, parent
    for word in name.split(" "):
        command = command.commands[word]
        context = command.make_context(word, [], parent=context, resilient_parsing=True)
    for long, parameter in settings.options(command):
        value = context.params.get(parameter.name)
        origin = settings.origin(context, parameter, (parent.obj or {}).get(name, {}))
        yield {"command": name, "option": long, "value": value, "from": origin}


def _line(each: dict[str, Any]) -> str:
    value = each["value"]
    text = "not set" if value in (None, [], ()) else str(value).lower() if isinstance(value, bool) else str(value)
    return f"{each['command']} --{each['option']} = {text}  ({each['from']})"

"""Options that are not typed: from `LIIF_*` variables, and from `liif.toml` in the current and the user's folder.

Precedence, highest first: command line; `LIIF_UPSCALE_DEVICE`; `LIIF_DEVICE`; `device` under `[upscale]` in the current
folder's `liif.toml`; `device` at its top, for every command that has it; the same in the user's `liif.toml`; the default. The
name of a command in a group includes the group, `models push`: `LIIF_MODELS_PUSH_PRIVATE`, and `private` under
`[models.push]`.
"""

import os
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import typer

from liif_cli.errors import UsageError

FILE = "liif.toml"
IGNORE = "--no-config ignores it"
LARGEST = 2**20
"""Maximum size of a settings file in bytes."""
OWN = {
    *("output", "overwrite", "skip-existing", "out", "save-images", "csv", "markdown", "figure", "plot", "onnx"),
    *("model", "data", "data-dir", "val", "config", "resume", "init", "fork", "private", "card", "licence"),
    *("memory", "max-pixels", "max-time", "budget", "hours", "workers", "threads", "host", "port", "allow-host"),
}
"""Options that the current folder's file cannot set: outputs and what they replace, what is downloaded or trusted, limits. The
file may have come with a downloaded folder; it may only set how images are made."""
OTHERS = {"LIIF_DEBUG", "LIIF_NO_CONFIG"}
"""Variables that do not set an option of a command."""


@dataclass(frozen=True)
class Setting:
    """A value from a file for one option of one command."""

    value: Any
    file: Path

    @property
    def by_folder(self) -> bool:
        """Whether the current folder's file set it."""
        return self.file == Path(FILE)


Settings = dict[str, dict[str, Setting]]


def files() -> list[Path]:
    """The settings files: the user's, then the current folder's, which takes precedence."""
    return [Path(typer.get_app_dir("liif")) / FILE, Path(FILE)]


def variables(command: str, option: str) -> list[str]:
    """The variables that set `option` (its long name without dashes) of `command`, in order of precedence."""
    name = option.replace("-", "_").upper()
    return [f"LIIF_{re.sub('[- ]', '_', command).upper()}_{name}", f"LIIF_{name}"]


def flat(commands: Mapping[str, Any]) -> dict[str, Any]:
    """`commands` and those of their groups, by full names: `models`, `models list`, ..."""
    every: dict[str, Any] = {}
    for name, command in commands.items():
        every[name] = command
        every |= {f"{name} {inner}": each for inner, each in getattr(command, "commands", {}).items()}
    return every


def load(commands: Mapping[str, Any]) -> Settings:
    """The files' settings for `commands` (name -> Typer's command). Raises `UsageError` for an unknown option."""
    every = flat(commands)
    settings: Settings = {name: {} for name in every}
    own = {
        name: {parameter.name for long, parameter in options(command) if long in OWN} for name, command in every.items()
    }
    for file in files():
        for name, parameter, value in _read(file, every):
            setting = Setting(value, file)
            if not setting.by_folder or parameter not in own[name]:
                settings[name][parameter] = setting
    return settings


def of_folder(commands: Mapping[str, Any], command: str) -> tuple[list[str], list[str]]:
    """The options of `command` that the current folder's file sets, and those that it names but cannot set."""
    every = flat(commands)
    if command not in every:
        return [], []
    names = {parameter.name: long for long, parameter in options(every[command])}
    found = dict.fromkeys(names[parameter] for name, parameter, _ in _read(Path(FILE), every) if name == command)
    return [long for long in found if long not in OWN], [long for long in found if long in OWN]


def bind_variables(commands: Mapping[str, Any]) -> None:
    """Make every option of `commands` read its variables."""
    for name, command in flat(commands).items():
        for long, parameter in options(command):
            parameter.envvar = variables(name, long)
            parameter.show_envvar = False


def unknown_variables(commands: Mapping[str, Any]) -> list[tuple[str, str]]:
    """`LIIF_*` variables that set no option of `commands`, each with the one that may have been meant."""
    if not (present := {name for name in os.environ if name.startswith("LIIF_")} - OTHERS):
        return []
    known = {
        name for command, own in flat(commands).items() for long, _ in options(own) for name in variables(command, long)
    }
    return [(name, _meant(name, known)) for name in sorted(present - known)]


def _meant(name: str, known: set[str]) -> str:
    close = get_close_matches(name, sorted(known | OTHERS, key=len), n=1, cutoff=0.75)
    return f"; did you mean {close[0]}?" if close else ""


def options(command: Any) -> Iterator[tuple[str, Any]]:
    """(long name without dashes, parameter) of each option of a command, except `--help`."""
    for parameter in command.params:
        long = next((opt.removeprefix("--") for opt in parameter.opts if opt.startswith("--")), None)
        if long is not None and long != "help":
            yield long, parameter


def _read(file: Path, commands: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """(command, parameter, value) of each setting in a file, those at its top first."""
    if not (data := _parse(file)):
        return
    known = {name: dict(options(command)) for name, command in commands.items()}
    everywhere = {long for names in known.values() for long in names}
    for key, value in data.items():
        long = key.replace("_", "-")
        if isinstance(value, dict) and key in known:
            continue
        if long not in everywhere or isinstance(value, dict):
            raise _unknown(file, key, everywhere | set(known), "an option or a command")
        for name, own in known.items():
            if long in own:
                yield name, own[long].name, _value(own[long], value, f"{file}: {key}")
    for name, table in data.items():
        if isinstance(table, dict):
            yield from _read_table(file, name, table, known)


def _read_table(
    file: Path, name: str, table: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, str, Any]]:
    """The settings under [name] and, in a group's table, under its commands."""
    for key, value in table.items():
        long, place = key.replace("_", "-"), f"{name.replace(' ', '.')}.{key}"
        if isinstance(value, dict) and f"{name} {key}" in known:
            yield from _read_table(file, f"{name} {key}", value, known)
            continue
        if long not in known[name]:
            raise _unknown(file, place, set(known[name]), f"an option of liif {name}")
        yield name, known[name][long].name, _value(known[name][long], value, f"{file}: {place}")


def _parse(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(_bytes(file).decode("utf-8-sig"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}", hint=IGNORE) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not TOML: it is not UTF-8", hint="save it as UTF-8") from error
    except ValueError as error:  # not TOML, or an integer of more digits than Python reads
        raise UsageError(f"{file} is not TOML: {error}", hint=IGNORE) from error
    except RecursionError:
        raise UsageError(f"{file} is not TOML: it is nested too deeply", hint=IGNORE) from None


def _bytes(file: Path) -> bytes:
    """The content of a regular file of limited size. Raises `UsageError`, and OSError as `open` does."""
    if not stat.S_ISREG(file.stat().st_mode):  # opening a pipe would wait for a writer
        raise UsageError(f"{file} is not a regular file", hint=IGNORE)
    with file.open("rb") as opened:
        data = opened.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise UsageError(f"{file} is larger than {LARGEST >> 20} MiB", hint=IGNORE)
    return data


def _unknown(file: Path, key: str, known: set[str], what: str) -> UsageError:
    key = key if len(key) <= 80 else f"{key[:40]}...{key[-40:]}"
    close = get_close_matches(key.rpartition(".")[2].replace("_", "-"), known, n=1)
    return UsageError(f"{file}: {key} is not {what}", hint=f"did you mean {close[0]}?" if close else "see liif config")


def _value(parameter: Any, value: Any, place: str) -> Any:
    """The value in the form that the parameter has on the command line: text, a list of texts, or a switch."""
    if parameter.is_flag:
        if isinstance(value, bool):
            return value
        raise UsageError(f"{place} must be true or false, not {value!r:.80}")
    if parameter.name == "strip" and isinstance(value, bool):  # its value may be omitted
        return str(value).lower()
    values = value if isinstance(value, list) and parameter.multiple else [value]
    if any(isinstance(each, bool | dict | list) or not isinstance(each, str | int | float) for each in values):
        raise UsageError(f"{place} must be text or a number, not {value!r:.80}")
    return [str(each) for each in values] if parameter.multiple else str(value)


def default_map(settings: Settings) -> dict[str, dict[str, Any]]:
    """The settings in the form of Typer's default map, in which a group's commands are within the group."""
    defaults: dict[str, dict[str, Any]] = {}
    for name, own in settings.items():
        group, _, inner = name.partition(" ")
        values = {key: each.value for key, each in own.items()}
        if inner:
            defaults[group][inner] = values
        else:
            defaults[name] = values
    return defaults


def origin(context: typer.Context, parameter: Any, settings: Mapping[str, Setting]) -> str:
    """Where the value of a parameter comes from: `typed`, a variable, a file, or `default`."""
    source = context.get_parameter_source(parameter.name)
    kind = source.name if source is not None else "DEFAULT"
    if kind == "ENVIRONMENT":
        return next((name for name in parameter.envvar if os.environ.get(name)), "a variable")
    if kind == "DEFAULT_MAP":
        return str(settings[parameter.name].file)
    return "typed" if kind == "COMMANDLINE" else "default"


def is_typed(context: typer.Context, name: str) -> bool:
    """Whether the user typed the option with this parameter name; it then wins over configured values."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"

"""The command line. Commands parse, call one function and print; `main` is the only catcher of errors.

Nothing heavy is imported here or at the top of a command: `liif --help` and `--version` load neither torch nor NumPy.
"""

import errno
import os
import re
import shlex
import sys
import warnings
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.main import get_command

from liif_cli import __version__
from liif_cli.cli import settings
from liif_cli.cli.commands import FOLDER_NOTE, Command, Group, configured
from liif_cli.cli.compare import compare
from liif_cli.cli.config import config
from liif_cli.cli.doctor import doctor
from liif_cli.cli.eval import eval_
from liif_cli.cli.explanations import explained
from liif_cli.cli.fit import fit
from liif_cli.cli.models import models
from liif_cli.cli.reproduce import reproduce
from liif_cli.cli.serve import serve
from liif_cli.cli.streams import (
    complain,
    finish_streams,
    hide_downloads,
    prepare_streams,
    say,
    show_traceback,
    show_warnings,
)
from liif_cli.cli.train import train
from liif_cli.cli.upscale import upscale
from liif_cli.cli.view import view
from liif_cli.errors import ClosedPipe, ExitCode, LiifError
from liif_cli.images.formats.table import SUFFIXES
from liif_cli.machine import signals

HELP = """Upscale any image to any size with a single model, a Local Implicit Image Function (LIIF).

Examples:

  liif upscale in.png --scale 4 -o out.png

  liif compare in.png --scale 8 --region 100,80,64,48

  liif upscale --help
"""

app = typer.Typer(
    name="liif",
    cls=Group,
    help=HELP,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(cls=Command)(upscale)
app.command(cls=Command)(compare)
app.command(cls=Command)(view)
app.command(cls=Command)(serve)
app.command(cls=Command)(train)
app.command(cls=Command)(fit)
app.command("eval", cls=Command)(eval_)
app.command(cls=Command)(reproduce)
app.add_typer(models)
app.command(cls=Command)(config)
app.command(cls=Command)(doctor)

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
"""Errors of a disk that cannot be written to: that of the redirected help text, or of a temporary folder."""
NO_ROOM = re.compile("failed to map segment|annot allocate memory|annot apply additional memory|can't start new thread")
"""Messages of the system if there is too little memory to load a library or to start a thread."""
STRAY = "this is a bug: LIIF_DEBUG=1 shows where it happened"


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"liif {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", "-V", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
    no_config: Annotated[
        bool, typer.Option("--no-config", help="Read no liif.toml; the same as LIIF_NO_CONFIG=1.")
    ] = False,
) -> None:
    commands = context.command.commands  # type: ignore[attr-defined]
    settings.bind_variables(commands)
    for name, hint in settings.unknown_variables(commands):
        say(f"Warning: {name} sets nothing: there is no such option{hint}")
    if not no_config and os.environ.get("LIIF_NO_CONFIG") != "1":
        context.obj = settings.load(commands)
        context.default_map = settings.default_map(context.obj)
        _tell_of_folder(context, commands, context.invoked_subcommand or "")


def _tell_of_folder(context: typer.Context, commands: Any, command: str) -> None:
    """Warn of options that the current folder's file cannot set, because it may have come with a downloaded folder.

    The note on options that it sets is stored in the context for the command, which knows whether to be quiet.
    """
    if command == "config":
        return
    taken, refused = settings.of_folder(commands, command)
    if refused:
        named = ", ".join(refused)
        say(
            f"Warning: {settings.FILE} in this folder cannot set {named}: only your own file, variables and options can"
        )
    if taken:
        context.meta[FOLDER_NOTE] = f"{settings.FILE} in this folder sets {', '.join(taken)}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with a code of `ExitCode`. Errors are two lines on stderr; see `errors`.

    For a process of its own: signals that come after the work end it at once, with the code of the work.
    """
    if os.environ.get("LIIF_DEBUG") != "1":  # libraries' warnings about one another are not for users
        os.environ.setdefault("VIPS_WARNING", "0")
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
    code = run(sys.argv[1:] if arguments is None else arguments)
    finish_streams()
    signals.end_with(code)
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code."""
    prepare_streams()
    show_warnings()
    if not sys.stderr.isatty():
        hide_downloads()
    try:
        with signals.interruptible():
            return _called(arguments)
    except KeyboardInterrupt:  # while an error was explained, or an earlier interrupt answered
        return ExitCode.INTERRUPTED


def _called(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code; a signal interrupts it."""
    try:
        code = command()(args=list(arguments), prog_name="liif", standalone_mode=False)
        return int(code or ExitCode.OK)
    except ClosedPipe as error:
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except SystemExit as error:  # from Typer, if standard output is closed while it prints the help
        return ExitCode.OUTPUT if error.code else ExitCode.OK
    except Exception as error:
        return ExitCode.INTERRUPTED if signals.was_interrupted() else _explain(error, arguments)


def command() -> Any:
    """The whole command line, built by Typer."""
    built: Any = get_command(app)
    help_option = built.get_help_option(typer.Context(built, **built.context_settings))
    for parameter in (*built.params, help_option):
        if parameter.default is None:  # otherwise Typer loads pydantic, which takes 0.1 s
            parameter.default = False
    return built


def _explain(error: Exception, arguments: Sequence[str]) -> int:
    """Print an error of a call with `arguments` as two lines, and return its exit code."""
    if os.environ.get("LIIF_DEBUG") == "1":
        show_traceback(error)
    if isinstance(error, LiifError):
        complain(*explained(error))
        return error.exit_code
    if isinstance(error, typer.TyperException):
        return _explain_usage(error, arguments)
    if isinstance(error, MemoryError) or (
        isinstance(error, (ImportError, RuntimeError)) and NO_ROOM.search(str(error))
    ):
        complain("out of memory", "close other programs, or set a lower limit: --memory")
        return ExitCode.MEMORY
    if isinstance(error, OSError) and error.errno in FULL:
        complain(f"cannot write {error.filename or 'the output'}: {error.strerror}")
        return ExitCode.OUTPUT
    complain(explained(error)[0], STRAY)
    return ExitCode.SOME_FAILED


def _explain_usage(error: typer.TyperException, arguments: Sequence[str]) -> int:
    """Print an error of Typer's as two lines, and return its exit code."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(error.format_message(), err=True)
        return ExitCode.USAGE
    message, hint = error.format_message(), None
    wrong = getattr(error, "option_name", None)
    if wrong is not None and hasattr(error, "possibilities"):
        message, hint = f"there is no option {wrong}", _near_option(wrong, context, arguments)
    elif message.startswith("No such command"):
        name = message.split("'")[1]
        message, hint = f"there is no command {name!r}", _near_command(name, context, arguments)
    parameter = getattr(error, "param", None)
    if context is not None and parameter is not None and (origin := configured(context, parameter)):
        message = f"{message.rstrip('.')} (from {origin})"
    known = get_command(app).commands  # type: ignore[attr-defined]
    path = context.command_path if context else " ".join(["liif", *[a for a in arguments if a in known][:1]])
    complain(message.rstrip("."), hint or f"{path} --help shows what there is")
    return ExitCode.USAGE


def _near_command(name: str, context: Any, arguments: Sequence[str]) -> str | None:
    """What the user may have meant by an unknown command: help, or an image to upscale."""
    if name == "help":
        after = list(arguments)[list(arguments).index(name) + 1 :]
        return " ".join(
            [context.command_path, *[each for each in after[:1] if each in context.command.commands], "--help"]
        )
    if context.parent is None and _is_image(name):
        return shlex.join(["liif", "upscale", *arguments])
    near = get_close_matches(name, context.command.commands, n=1) if context else ()
    return f"did you mean {context.command_path} {near[0]}?" if near else None


def _is_image(name: str) -> bool:
    """Whether an unknown command is a file, a folder, a pattern or a URL."""
    return Path(name).exists() or "://" in name or Path(name).suffix.lower() in SUFFIXES


def _near_option(wrong: str, context: Any, arguments: Sequence[str]) -> str | None:
    """What the user may have meant by an unknown option."""
    if context is None:
        return None
    if context.parent is None and any(wrong in p.opts for p in context.command.commands["upscale"].params):
        return shlex.join(["liif", "upscale", *arguments])
    own = [opt for parameter in context.command.params for opt in parameter.opts if opt.startswith("--")]
    near = get_close_matches(wrong, own, n=3)
    if near:
        return f"did you mean {' or '.join(near)}?"
    above = context.parent.command.params if context.parent else []
    if any(wrong in parameter.opts for parameter in above):
        return f"put it before the command: liif {wrong} {context.info_name}"
    return None

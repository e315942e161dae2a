"""The command line. Commands parse, call one function and print; `main` is the only catcher of errors.

Nothing heavy is imported here or at the top of a command: `liif --help` and `--version` load neither torch nor NumPy.
"""

import os
import signal
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from liif_cli import __version__
from liif_cli.commands.eval import eval_
from liif_cli.commands.upscale import upscale
from liif_cli.errors import ExitCode, LiifError

app = typer.Typer(
    name="liif",
    help="Show any image at any size, with a Local Implicit Image Function (LIIF).",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(upscale)
app.command("eval")(eval_)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"liif {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with a code of `ExitCode`. Errors are two lines on stderr; see `errors`."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = app(args=None if arguments is None else list(arguments), prog_name="liif", standalone_mode=False)
        return int(code or ExitCode.OK)
    except (LiifError, typer.TyperException) as error:
        if os.environ.get("LIIF_DEBUG") == "1":
            raise
        message = error.format_message() if isinstance(error, typer.TyperException) else str(error)
        _complain(message, getattr(error, "hint", None))
        return int(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except Exception as error:
        if os.environ.get("LIIF_DEBUG") == "1":
            raise
        _complain(f"{type(error).__name__}: {error}", "this is a bug: LIIF_DEBUG=1 shows where it happened")
        return ExitCode.SOME_FAILED


def _interrupt(*_: Any) -> None:
    """SIGTERM ends the work as Ctrl-C does: everything unfinished is cleaned up on the way out."""
    raise KeyboardInterrupt


def _complain(message: str, hint: str | None) -> None:
    lines = [f"Error: {' '.join(message.split())}"] + ([f"Hint: {hint}"] if hint else [])
    typer.echo("\n".join(lines), err=True)

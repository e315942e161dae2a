"""Extensions of Typer's commands: help under headings with whole summaries, and errors that name where a value was set."""

from collections.abc import Iterator
from typing import Any

from typer.core import TyperCommand, TyperGroup

from liif_cli.cli import settings
from liif_cli.cli.streams import say
from liif_cli.errors import CheckpointError, DeviceError, LiifError, ModelNotFound
from liif_cli.machine.memory import check_libraries

PANELS: dict[str, dict[str, tuple[str, ...]]] = {
    "upscale": {
        "Size": ("scale", "size", "fit", "gravity", "dpi", "region"),
        "Input and output": ("output", "recursive", "every", "page", "frame", "overwrite", "skip_existing", "manifest"),
        "Model": ("model", "restore", "cell", "self_ensemble"),
        "File format": ("format", "quality", "lossless", "strip", "background", "to_srgb"),
        "Device and memory": ("device", "precision", "memory", "max_pixels", "tile", "chunk"),
        "Cluster": ("ray", "actors", "gpus_per_actor"),
    },
    "compare": {
        "Size": ("scale", "size", "region"),
        "Sheet": ("output", "columns", "overwrite", "max_pixels"),
        "Model": ("model", "restore", "degrade", "cell", "self_ensemble"),
        "Device": ("device", "precision"),
    },
    "train": {
        "Data": ("data", "val", "degrade", "patch", "scale", "queries", "batch"),
        "Run": ("out", "resume", "init", "fork", "max_time", "iterations", "licence"),
        "Recipe": ("preset", "config", "model", "lr", "loss", "settings", "seed", "presets"),
        "Device": ("device", "precision", "workers", "threads"),
    },
    "eval": {
        "Data": ("dataset", "data_dir", "scale", "protocol", "lr", "degrade", "centre"),
        "Model": ("model", "baseline", "cell", "self_ensemble", "device", "precision"),
        "Tables": ("per_image", "as_json", "as_csv", "as_markdown"),
        "Files": ("save_images", "figure", "figure_image", "figure_scale", "crop", "plot", "overwrite"),
    },
}
"""The headings of long helps: command -> heading -> parameters. All other parameters are under "Options", at the end."""

WITHOUT_VALUE = {"--strip": "--strip=all"}
"""Options whose value may be omitted, and what they then stand for."""

LIGHT = ("liif config", "liif doctor", "liif models list")
"""The commands that work without large libraries, or say which of them cannot be loaded."""

FOLDER_NOTE = "liif.folder"
"""Where the context keeps the note on what the current folder's file sets, until the command begins."""

CULPRITS = {ModelNotFound: "model", CheckpointError: "model", DeviceError: "device"}
"""The parameter concerned by errors that name no argument."""


class Command(TyperCommand):
    """A command whose help has headings, and whose errors name the variable or file that set a value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Fill in omitted values, because Typer has no options with an optional value."""
        own = {opt for each in self.params for opt in each.opts}
        end = args.index("--") if "--" in args else len(args)
        filled = [WITHOUT_VALUE[each] if each in WITHOUT_VALUE and each in own else each for each in args[:end]]
        return super().parse_args(ctx, filled + args[end:])

    def get_short_help_str(self, limit: int = 45) -> str:
        """The first paragraph of the help, uncut."""
        return summary(self.help)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and the options under their headings."""
        for heading, parameters in panels(self, ctx):
            rows = [row for parameter in parameters if (row := parameter.get_help_record(ctx)) is not None]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)

    def invoke(self, ctx: Any) -> Any:
        """Run the command. A `LiifError` about a value that was not typed gets the origin of that value."""
        note = ctx.meta.pop(FOLDER_NOTE, None)
        if note is not None and not ctx.params.get("quiet"):
            say(f"Note: {note}")
        try:
            if ctx.command_path not in LIGHT:
                check_libraries()
            return super().invoke(ctx)
        except LiifError as error:
            error.origin = error.origin or origin_of(error, ctx)
            raise


class Group(TyperGroup):
    """A group of commands with uncut summaries."""

    def get_short_help_str(self, limit: int = 45) -> str:
        """The first paragraph of the help, uncut."""
        return summary(self.help)


def summary(help: str | None) -> str:
    """The first paragraph of a help text, on one line."""
    return " ".join((help or "").split("\n\n")[0].split())


def panels(command: Any, context: Any) -> Iterator[tuple[str, list[Any]]]:
    """(heading, parameters) of a command's help, each parameter once."""
    left = {parameter.name: parameter for parameter in command.get_params(context)}
    yield "Arguments", [left.pop(each.name) for each in command.params if each.param_type_name == "argument"]
    for heading, names in PANELS.get(context.info_name, {}).items():
        yield heading, [left.pop(name) for name in names]
    yield "Options", list(left.values())


def origin_of(error: LiifError, context: Any) -> str | None:
    """The variable or file that set the value concerned by an error; None if it was typed or is unknown."""
    name = error.argument or next((each for kind, each in CULPRITS.items() if isinstance(error, kind)), None)
    parameter = next((each for each in context.command.params if each.name == name), None)
    return None if parameter is None else configured(context, parameter)


def configured(context: Any, parameter: Any) -> str | None:
    """The variable or file that set a parameter; None if it was typed or is the default."""
    path = context.command_path.split(" ", 1)[-1]
    own = context.find_root().obj
    origin = settings.origin(context, parameter, (own if isinstance(own, dict) else {}).get(path, {}))
    return None if origin in ("typed", "default") else origin

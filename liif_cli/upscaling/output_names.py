"""The destinations of outputs: next to the input, a file, a folder or a template, on disk or in a store."""

import os
import string
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from liif_cli.coords import Grid
from liif_cli.errors import UsageError
from liif_cli.images.formats.table import OUTPUT_SUFFIXES, format_of
from liif_cli.rendering.sizes import Scale, Size, Target
from liif_cli.stores.addresses import Address, Place, is_address, place
from liif_cli.stores.objects import check_store, check_writable, is_folder
from liif_cli.upscaling.inputs import STDIN, Source

FIELDS = ("stem", "scale", "width", "height", "model", "ext")
STREAM = STDIN
Kind = Literal["next to input", "file", "folder", "template", "stream"]


@dataclass(frozen=True)
class Naming:
    """A rule for naming outputs. Created by `parse`.

    kind: how to interpret `output`. output: the user's argument; None: next to the input. format: the name of the requested
    format; None: by the suffix. model: returns the model's name; called only if a template needs it.
    """

    kind: Kind
    output: str | None
    format: str | None = None
    model: Callable[[], str] = lambda: "model"

    @classmethod
    def parse(
        cls, output: str | None, many: bool, format: str | None = None, model: Callable[[], str] = lambda: "model"
    ) -> "Naming":
        """Parse the user's argument for the output. many: whether there can be several outputs.

        Raises `UsageError` for a single file that several outputs would be written to, for invalid templates, and for stores
        that cannot be written to.
        """
        if output is not None and is_address(output):
            check_store(Address.parse(output))
        kind = _kind(output, many, format)
        if kind == "file" and format is None and not place(str(output)).suffix:
            raise UsageError(
                f"{output} is neither a folder nor a file with a suffix",
                hint=f"use {output}.png for a file, or {output}/ for a new folder",
                argument="output",
            )
        return cls(kind, output, format, model)

    @property
    def folder(self) -> Place | None:
        """The folder that the user named for the outputs, or None."""
        return place(self.output) if self.output is not None and self.kind == "folder" else None

    def path(self, source: Source, target: Target, grid: Callable[[], Grid], with_suffix: bool = False) -> Place:
        """The file or object for one output of `source`.

        grid: returns the output's grid; called only if the name contains its size. with_suffix: include the input's suffix in
        an automatic name, as in `a_jpg_4x.png`. Raises `UsageError` if the output of standard input, which has no name, would
        be written next to its input, and the exceptions of `grid`.
        """
        if self.output is not None and self.kind == "file":
            return place(self.output)
        if self.output is not None and self.kind == "template":
            return place(self._filled(self.output, source, target, grid))
        stem = f"{source.stem}_{source.suffix}" if with_suffix else source.stem
        name = f"{stem}_{_label(target, grid)}{self._suffix(None)}"
        if self.folder is not None:
            return self.folder / source.inside / name
        if source.path is None:
            raise UsageError("cannot name the output: standard input has no name", remedy="stream")
        if isinstance(source.path, Address):
            if source.path.web:  # into the current folder, like a download
                return Path(name)
            check_writable(source.path)
        return source.path.with_name(name)

    def _suffix(self, source: Source | None) -> str:
        """The suffix of the requested format; otherwise that of `source` if it can be written; otherwise PNG's."""
        if self.format is None and source is not None and source.path is not None:
            own = source.path.suffix.lower()
            if own in OUTPUT_SUFFIXES:
                return own
        return format_of(None, self.format or "png").suffixes[0]

    def _filled(self, template: str, source: Source, target: Target, grid: Callable[[], Grid]) -> str:
        wanted = _fields(template)
        values: dict[str, str | int] = {"stem": source.stem, "ext": self._suffix(source).removeprefix(".")}
        if "model" in wanted:
            values["model"] = self.model().replace("/", "-")
        if wanted & {"width", "height"} or ("scale" in wanted and not isinstance(target, Scale)):
            found = grid()
            values |= {"height": found.shape[0], "width": found.shape[1]}
            values["scale"] = f"{found.columns.count / found.columns.extent:.4g}"
        if isinstance(target, Scale):
            values["scale"] = target.text
        return template.format(**values)


def _kind(output: str | None, many: bool, format: str | None) -> Kind:
    if output is None:
        return "next to input"
    if output == STREAM:
        if many:
            raise UsageError("- takes one output", argument="output", remedy="output folder")
        return "stream"
    if "{" in output:
        _check_fields(output)
        return "template"
    path = place(output)
    if output.endswith(("/", os.sep)) or (is_folder(path) if isinstance(path, Address) else path.is_dir()):
        return "folder"
    if many and path.suffix.lower() in OUTPUT_SUFFIXES:
        raise UsageError(f"several outputs would all be written to {path}", remedy="output folder")
    nameless = format is not None and not path.suffix and not (isinstance(path, Path) and path.exists())
    return "folder" if many or nameless else "file"


def _label(target: Target, grid: Callable[[], Grid]) -> str:
    """The size in an automatic name: `7.5x`, or `1920x1080`. The grid is computed only if it is needed."""
    if isinstance(target, Scale):
        return target.label
    if isinstance(target, Size) and target.fit in ("exact", "crop") and target.width and target.height:
        return f"{target.width}x{target.height}"
    height, width = grid().shape
    return f"{width}x{height}"


def _fields(template: str) -> set[str]:
    try:
        return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    except ValueError as error:
        raise UsageError(
            f"{template!r} is not a template: {error}", hint="write {{ and }} for literal braces", argument="output"
        ) from None


def _check_fields(template: str) -> None:
    unknown = sorted(_fields(template) - set(FIELDS))
    if unknown:
        known = ", ".join(f"{{{name}}}" for name in FIELDS)
        raise UsageError(
            f"{template!r} has the unknown field {{{unknown[0]}}}", hint=f"the fields are {known}", argument="output"
        )

"""Where outputs go: next to the input, into a file, a folder or by a template; here or in a store."""

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
Kind = Literal["beside", "file", "folder", "template", "stream"]


@dataclass(frozen=True)
class Naming:
    """How outputs are called; made by `parse`.

    kind: what the user's word for the output means. output: that word, None for next to the input. format: the name of the
    format that was asked for, None to go by the suffix. model: gives the model's name, called only if a template wants it.
    """

    kind: Kind
    output: str | None
    format: str | None = None
    model: Callable[[], str] = lambda: "model"

    @classmethod
    def parse(
        cls, output: str | None, many: bool, format: str | None = None, model: Callable[[], str] = lambda: "model"
    ) -> "Naming":
        """Read what the user calls the output. many: whether it must hold more than one. Raises `UsageError` for a single
        file that several outputs would go to, and for templates that make no sense."""
        if output is not None and is_address(output):
            check_store(Address.parse(output))
        kind = _kind(output, many, format)
        if kind == "file" and format is None and not place(str(output)).suffix:
            raise UsageError(
                f"{output} is neither a folder nor a file with a suffix",
                hint=f"{output}.png, or {output}/ for a folder that is to be made",
                argument="output",
            )
        return cls(kind, output, format, model)

    @property
    def folder(self) -> Place | None:
        """The folder that outputs go to, if there is one."""
        return place(self.output) if self.output is not None and self.kind == "folder" else None

    def path(self, source: Source, target: Target, grid: Callable[[], Grid], with_suffix: bool = False) -> Place:
        """The file or object for one output of `source`. grid: gives the output's grid, called only if the name tells its size.
        with_suffix: let a name of our own tell the input's suffix too, `a_jpg_4x.png`.

        Raises what `grid` raises, and `UsageError` for standard input, which has no name, next to itself.
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
            raise UsageError("standard input has no name to call the output by", remedy="stream")
        if isinstance(source.path, Address):
            if source.path.web:  # as downloads do
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
        return "beside"
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
        raise UsageError(f"several outputs would all go to {path}", remedy="output folder")
    nameless = format is not None and not path.suffix and not (isinstance(path, Path) and path.exists())
    return "folder" if many or nameless else "file"


def _label(target: Target, grid: Callable[[], Grid]) -> str:
    """`7.5x`, or the output's size, for which the image is only looked at if it must be."""
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
            f"{template!r} is not a template: {error}", hint="{{ and }} stand for braces", argument="output"
        ) from None


def _check_fields(template: str) -> None:
    unknown = sorted(_fields(template) - set(FIELDS))
    if unknown:
        known = ", ".join(f"{{{name}}}" for name in FIELDS)
        raise UsageError(
            f"{template!r} has the unknown field {{{unknown[0]}}}", hint=f"there are {known}", argument="output"
        )

"""Where outputs go: beside the input, into a file, a folder or by a template; and that no two go to one place."""

import os
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Literal

from liif_cli.errors import UsageError
from liif_cli.images import read
from liif_cli.images.formats.table import OUTPUT_SUFFIXES, format_of
from liif_cli.rendering.sizes import Region, Scale, Target, make_grid
from liif_cli.upscaling.inputs import Source

FIELDS = ("stem", "scale", "width", "height", "model", "ext")
Kind = Literal["beside", "file", "folder", "template"]
Output = Path | BinaryIO


@dataclass(frozen=True)
class Job:
    """One picture and what is to be made of it, from one encoding."""

    source: Source
    outputs: tuple[tuple[Target, Output], ...]


@dataclass
class Naming:
    """How outputs are called.

    output: as `-o` has it, None for beside the input. many: whether it must hold more than one output. format: the name of
    the format that was asked for, None to go by the suffix. region: of the input, as `make_grid` has it. model: gives the
    model's name, called only where the template wants it. page and frame: of the input, as `read.probe` has them.
    """

    output: str | None
    many: bool
    format: str | None = None
    region: Region | None = None
    model: Callable[[], str] = field(default=lambda: "model")
    page: int | None = None
    frame: int | None = None

    @cached_property
    def kind(self) -> Kind:
        """What `-o` is. Raises `UsageError` for a single file that several outputs would go to, and for unknown fields."""
        if self.output is None:
            return "beside"
        if "{" in self.output:
            _check_fields(self.output)
            return "template"
        path = Path(self.output)
        if path.is_dir() or self.output.endswith(("/", os.sep)):
            return "folder"
        if self.many and path.suffix.lower() in OUTPUT_SUFFIXES:
            raise UsageError(f"several outputs would all go to {path}", remedy="output folder")
        return "folder" if self.many else "file"

    @property
    def folder(self) -> Path | None:
        """The folder that outputs go to, where there is one."""
        return Path(self.output) if self.output is not None and self.kind == "folder" else None

    def job(self, source: Source, targets: Sequence[Target]) -> Job:
        """The outputs of one picture. Raises `UsageError`, and `InputError` where its size is needed and cannot be read."""
        size: list[tuple[int, int]] = []

        def input_size() -> tuple[int, int]:
            if not size:
                header = read.probe(source.content, page=self.page, frame=self.frame)
                size.append((header.height, header.width))
            return size[0]

        return Job(source, tuple((target, self._path(source, target, input_size)) for target in targets))

    def _path(self, source: Source, target: Target, size: Callable[[], tuple[int, int]]) -> Path:
        if self.output is not None and self.kind == "file":
            if self.format is None and not Path(self.output).suffix:
                raise UsageError(
                    f"{self.output} is neither a folder nor a file with a suffix",
                    hint=f"{self.output}.png, or {self.output}/ for a folder that is to be made",
                    argument="output",
                )
            return Path(self.output)
        if self.output is not None and self.kind == "template":
            return Path(self._filled(self.output, source, target, size))
        name = f"{source.stem}_{self._label(target, size)}{self._suffix(None)}"
        if self.folder is not None:
            return self.folder / source.inside / name
        if source.path is None:
            raise UsageError("standard input has no name to call the output by", remedy="stream")
        return source.path.with_name(name)

    def _label(self, target: Target, size: Callable[[], tuple[int, int]]) -> str:
        """`7.5x`, or the output's size, for which the picture is only looked at where it must be."""
        if isinstance(target, Scale):
            return target.label
        if target.fit == "exact" and target.width and target.height:
            return f"{target.width}x{target.height}"
        height, width = make_grid(size(), target, self.region).shape
        return f"{width}x{height}"

    def _suffix(self, source: Source | None) -> str:
        """Of the format that was asked for; else of `source` where that can be written; else PNG's."""
        if self.format is None and source is not None and source.path is not None:
            own = source.path.suffix.lower()
            if own in OUTPUT_SUFFIXES:
                return own
        return format_of(None, self.format or "png").suffixes[0]

    def _filled(self, template: str, source: Source, target: Target, size: Callable[[], tuple[int, int]]) -> str:
        wanted = _fields(template)
        values: dict[str, str | int] = {"stem": source.stem, "ext": self._suffix(source).removeprefix(".")}
        if "model" in wanted:
            values["model"] = self.model().replace("/", "-")
        if wanted & {"width", "height"} or ("scale" in wanted and not isinstance(target, Scale)):
            grid = make_grid(size(), target, self.region)
            values |= {"height": grid.shape[0], "width": grid.shape[1]}
            values["scale"] = f"{grid.columns.count / grid.columns.extent:.4g}"
        if isinstance(target, Scale):
            values["scale"] = target.text
        return template.format(**values)


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

"""What a call of `liif upscale` is to do, found out before anything is done and before torch is loaded."""

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from liif_cli.errors import LiifError, OutputError, UsageError
from liif_cli.images import read
from liif_cli.images.formats.table import format_of
from liif_cli.images.write import SaveOptions, check_options
from liif_cli.machine.files import check_target
from liif_cli.rendering.sizes import Target
from liif_cli.upscaling.inputs import Source, expand
from liif_cli.upscaling.output_names import Job, Naming


class Work:
    """The jobs, and what cannot be done. Raises what concerns all of it.

    jobs: with an output at least each. failures: (input, error) of pictures that cannot be done. skipped: outputs that are
    there already. piped: whether the output is standard output, which `stream` gives.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        targets: Sequence[Target],
        naming: Naming,
        save: SaveOptions,
        *,
        stream: Callable[[], BinaryIO],
        recursive: bool = False,
        skip_existing: bool = False,
    ) -> None:
        self.naming, self.save = naming, save
        self.piped = naming.output == "-"
        self.skipped: list[Path] = []
        sources, unknown = expand(arguments, recursive, None if self.piped else naming.folder)
        self.failures: list[tuple[str, LiifError]] = [*unknown]
        if self.piped:
            self.jobs = self._piped(sources, targets, stream)
        else:
            self.jobs = self._named(sources, targets, skip_existing)
        if self.total == 1 and not self.skipped:
            self._look_at_the_only_one()

    @property
    def total(self) -> int:
        """Pictures, those included that cannot be done."""
        return len(self.jobs) + len(self.failures)

    @property
    def make_folders(self) -> bool:
        """Whether missing folders of outputs are to be created."""
        return not self.piped and self.naming.kind in ("folder", "template")

    def _piped(self, sources: Sequence[Source], targets: Sequence[Target], stream: Callable[[], BinaryIO]) -> list[Job]:
        if len(sources) + len(self.failures) > 1 or len(targets) > 1:
            raise UsageError("- takes one output", argument="output", remedy="output folder")
        check_options(format_of(None, self.save.format), self.save)
        return [Job(source, ((targets[0], stream()),)) for source in sources]

    def _named(self, sources: Sequence[Source], targets: Sequence[Target], skip_existing: bool) -> list[Job]:
        jobs, unplanned = plan(self.naming, sources, targets)
        self.failures += unplanned
        one_of_each = {path.suffix: path for job in jobs for _, path in job.outputs if isinstance(path, Path)}
        for path in one_of_each.values():  # what is wrong with a format is said once, not for every picture
            check_options(format_of(path, self.save.format), self.save)
        if skip_existing:
            jobs, self.skipped = without_existing(jobs)
        check_outputs(jobs, self.save.overwrite, make_folders=self.make_folders)
        return jobs

    def _look_at_the_only_one(self) -> None:
        """A lone picture's error is the command's own: say it at once."""
        for _, error in self.failures:
            raise error
        read.probe(self.jobs[0].source.content, page=self.naming.page, frame=self.naming.frame)


def plan(
    naming: Naming, sources: Iterable[Source], targets: Sequence[Target]
) -> tuple[list[Job], list[tuple[str, LiifError]]]:
    """A job for each picture, and which pictures could not be planned, with the reason.

    Pictures that were found, not named, and are outputs of this very run are left out. Raises `UsageError` when two outputs
    would be one file, or an output the input of another job.
    """
    jobs, failures = [], []
    for source in sources:
        try:
            jobs.append(naming.job(source, targets))
        except LiifError as error:
            if naming.output is None and source.path is None:
                raise
            failures.append((source.name, error))
    outputs = {_key(path) for job in jobs for _, path in job.outputs if isinstance(path, Path)}
    jobs = [job for job in jobs if not (job.source.found and job.source.path and _key(job.source.path) in outputs)]
    _check_distinct(jobs)
    return jobs, failures


def _check_distinct(jobs: Sequence[Job]) -> None:
    origin: dict[str, Source] = {}
    for job in jobs:
        for _, path in job.outputs:
            if isinstance(path, Path) and (other := origin.setdefault(_key(path), job.source)) is not job.source:
                raise UsageError(
                    f"{other.name} and {job.source.name} would both be written to {path}",
                    hint="name a folder, which keeps the tree, or a template that tells them apart",
                    remedy="output tree",
                )
        own = [_key(path) for _, path in job.outputs if isinstance(path, Path)]
        if len(set(own)) < len(own):
            raise UsageError(
                f"several sizes of {job.source.name} would be written to {job.outputs[0][1]}",
                hint="put {scale}, {width} or {height} into the name",
            )
    for job in jobs:
        writer = origin.get(_key(job.source.path)) if job.source.path else None
        if writer is not None and writer is not job.source:
            raise UsageError(f"the output of {writer.name} would replace {job.source.name}, which is an input")


def _key(path: Path) -> str:
    """The same for two names of one file, as the system's usual file systems compare them."""
    name = os.path.normcase(path.parent.resolve() / path.name)
    return name.casefold() if sys.platform == "darwin" else name


def check_outputs(jobs: Iterable[Job], overwrite: bool, *, make_folders: bool) -> None:
    """Before any work: `OutputError` when an output is there and may not be replaced, or its folder cannot be written."""
    paths = [path for job in jobs for _, path in job.outputs if isinstance(path, Path)]
    there = [path for path in paths if path.exists() and not overwrite]
    if len(there) > 1:
        raise OutputError(
            f"{there[0]} and {len(there) - 1} more outputs exist",
            remedy="overwrite or skip",
        )
    for path in paths:
        if make_folders and not path.parent.exists():
            _check_creatable(path.parent)
        else:
            check_target(path, overwrite)


def _check_creatable(folder: Path) -> None:
    above = next(parent for parent in folder.absolute().parents if parent.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise OutputError(f"the folder {folder} cannot be created: {above} cannot be written to")


def without_existing(jobs: Iterable[Job]) -> tuple[list[Job], list[Path]]:
    """The jobs less the outputs that are there already, and those outputs."""
    skipped: list[Path] = []
    left = []
    for job in jobs:
        missing = tuple(each for each in job.outputs if not (isinstance(each[1], Path) and each[1].exists()))
        skipped += [path for _, path in job.outputs if isinstance(path, Path) and path.exists()]
        if missing:
            left.append(Job(job.source, missing))
    return left, skipped

"""What a call of `liif upscale` is to do, found out before anything is done and before torch is loaded."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from liif_cli import images
from liif_cli.console import binary_output
from liif_cli.errors import ExitCode, LiifError, UsageError
from liif_cli.formats import format_of
from liif_cli.inputs import Source, expand
from liif_cli.naming import Job, Naming, check_outputs, plan, without_existing
from liif_cli.savers import SaveOptions, check_options
from liif_cli.sizes import Target

if TYPE_CHECKING:
    from liif_cli.upscaler import Upscaler


class Work:
    """The jobs, and what cannot be done. Raises what concerns all of it.

    jobs: with an output at least each. failures: (input, error) of pictures that cannot be done. skipped: outputs that are
    there already. piped: whether the output is standard output.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        targets: Sequence[Target],
        naming: Naming,
        save: SaveOptions,
        *,
        recursive: bool = False,
        skip_existing: bool = False,
    ) -> None:
        self.naming, self.save = naming, save
        self.piped = naming.output == "-"
        self.skipped: list[Path] = []
        sources, unknown = expand(arguments, recursive, None if self.piped else naming.folder)
        self.failures: list[tuple[str, LiifError]] = [*unknown]
        if self.piped:
            self.jobs = self._piped(sources, targets)
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

    def _piped(self, sources: Sequence[Source], targets: Sequence[Target]) -> list[Job]:
        if len(sources) + len(self.failures) > 1 or len(targets) > 1:
            raise UsageError("-o - takes one output", hint="-o a folder, or a template such as {stem}_{scale}x.png")
        check_options(format_of(None, self.save.format), self.save)
        return [Job(source, ((targets[0], binary_output()),)) for source in sources]

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
        images.probe(self.jobs[0].source.content, page=self.naming.page, frame=self.naming.frame)

    def show_plan(self, upscaler: "Upscaler", as_json: bool) -> int:
        """What `--dry-run` prints; the first failure is the command's."""
        from liif_cli.commands.plan import print_plan

        for _, error in self.failures:
            raise error
        for job in self.jobs:
            print_plan(upscaler, job.source, job.outputs, as_json)
        return ExitCode.OK

    def run(self, upscaler: "Upscaler", *, as_json: bool, verbose: bool, quiet: bool) -> int:
        """Do it, and return the exit code."""
        from liif_cli.batch import Batch
        from liif_cli.commands.display import Display

        display = Display(
            self.total,
            as_json=as_json,
            verbose=verbose,
            quiet=quiet,
            results=not self.piped,
            skipped=len(self.skipped),
        )
        with display:
            for name, error in self.failures:
                display.reject(name, error)
            if self.jobs:
                Batch(upscaler, display, make_folders=self.make_folders).run(self.jobs)
        return display.code()

"""The display of a run: results on standard output; notes, errors, a summary and, on a terminal, progress on standard error."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self

from liif_cli.cli.explanations import explained, noted
from liif_cli.cli.streams import complain, one_line, result, say, show_traceback
from liif_cli.errors import ExitCode

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from liif_cli.rendering.timing import RenderStats
    from liif_cli.training.events import Event, Trained
    from liif_cli.upscaling.batch import Timing
    from liif_cli.upscaling.jobs import Deferred, Task, Work
    from liif_cli.upscaling.manifest import Manifest
    from liif_cli.upscaling.results import Result


NARROW = 64
SPEED_PERIOD = 600.0  # seconds over which speed is estimated, because an image may take minutes


class Display:
    """A `batch.Watcher` that prints.

    results: whether to print paths (or JSON) on standard output. errors: the errors of all inputs that failed. manifest: also
    gets all outputs.
    """

    def __init__(
        self,
        work: "Work",
        *,
        as_json: bool,
        verbose: bool,
        quiet: bool,
        results: bool = True,
        manifest: "Manifest | None" = None,
    ) -> None:
        self.manifest = manifest
        self.total, self.skipped, self._lone = work.total, len(work.skipped), work.lone
        self._unknown, self._met = sum(not task.pixels for task in work.tasks), [0, 0]
        self.as_json, self.verbose, self.quiet, self.results = as_json, verbose, quiet, results
        self.written, self.errors, self._begun = 0, list[Exception](), time.perf_counter()
        self._tasks, self._expected = work.tasks, dict[int, tuple[float, float]]()
        self._encode = self._rest = self._behind = 0.0  # the current image's encoding and rest; the images before it
        self._total, self._pixels, self._done = sum(task.pixels for task in work.tasks), 1, 0
        self._files: TaskID | None = None
        self._current: TaskID | None = None
        self._since = 0.0
        self._stats: RenderStats | None = None
        self._bar: Progress | None = None
        if not quiet:
            self._bar = make_bar(self._move)

    def __enter__(self) -> Self:
        if self.manifest is not None:
            self.manifest.__enter__()
        if self._bar is not None:
            self._files = self._bar.add_task("images", total=self._total, detail="", visible=self.total > 1)
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        if self.manifest is not None:
            self.manifest.__exit__(None, None, None)
        if kind is None or issubclass(kind, KeyboardInterrupt):
            self._summary(interrupted=kind is not None)

    @property
    def watched(self) -> bool:
        """Whether progress bars are shown."""
        return self._bar is not None

    def expect(self, seconds: Sequence[tuple[float, float]]) -> None:
        """Make the bars count expected seconds instead of pixels. seconds: (encoding, everything else) of each image."""
        self._expected = {id(task): parts for task, parts in zip(self._tasks, seconds, strict=True)}
        if self._bar is not None and self._files is not None:
            self._bar.update(self._files, total=sum(map(sum, seconds)))

    def started(self, task: "Task", stats: "RenderStats") -> None:
        """Show a new image's bar."""
        if self._bar is None:
            return
        before, self._current = self._current, None
        if before is not None:
            self._bar.remove_task(before)
        name = "stdin" if task.source.path is None else task.source.path.name
        self._behind += self._encode + self._rest  # in full, even if the image failed
        self._encode, self._rest = self._expected.get(id(task), (0.0, task.pixels))
        self._pixels, self._done = max(1, task.pixels), 0
        self._guess_total(task.pixels)
        self._since, self._stats = time.perf_counter(), stats
        self._current = self._bar.add_task(one_line(name), total=self._encode + self._rest, detail="encoding")
        self._move()

    def advanced(self, pixels: int) -> None:
        """Move the bar."""
        if self._bar is None or self._current is None or self._stats is None:
            return
        self._done += pixels
        speed = self._done / max(1e-9, time.perf_counter() - self._since)
        tiles = f"tile {self._stats.tiles}/{max(self._stats.tiles, self._stats.planned)}, " if self._stats.tiles else ""
        self._bar.update(self._current, detail=f"{tiles}{speed / 1e6:.2f} Mpx/s")
        self._move()

    def _move(self) -> None:
        """Update the bars. While a tile is being encoded, they advance as expected."""
        bar, current, stats = self._bar, self._current, self._stats
        if bar is None or current is None or stats is None:
            return
        place = self._encode * encoded_share(stats, self._encode) + self._rest * self._done / self._pixels
        with suppress(KeyError):  # the drawing thread may call this after the bar has been removed
            bar.update(current, completed=place)
            if self._files is not None:
                bar.update(self._files, completed=self._behind + place)

    def counted(self, pixels: int) -> None:
        """Count an image that another machine rendered."""
        if self._bar is None or self._files is None:
            return
        self._behind += pixels
        self._guess_total(pixels)
        self._bar.update(self._files, completed=self._behind)

    def finished(self, done: "Result", timing: "Timing", stats: "RenderStats") -> None:
        """Print the result with its notes and, if verbose, how it was made."""
        self.written += 1
        self._count()
        if self.manifest is not None:
            self.manifest.finished(done)
        with self._aside():
            for note in () if self.quiet else done.notes:
                text = noted(note)
                say(f"Note: {one_line(f'{done.input}: {text}' if self.total > 1 else text)}")
            if self.verbose:
                say(_account(done, timing, stats))
            if self.results:
                result(json.dumps(done.as_dict()) if self.as_json else done.output)

    def failed(self, task: "Task | Deferred", error: Exception) -> None:
        """Report an image that failed."""
        self.reject(task.source.name, error, task.names)

    def reject(self, name: str, error: Exception, outputs: Sequence[str] = ()) -> None:
        """Report an input that failed. If it is the only one, the command raises its error instead."""
        self.errors.append(error)
        self._count()
        if self.manifest is not None:
            self.manifest.failed(name, outputs, explained(error)[0], code_of(error))
        with self._aside():
            if self.results and self.as_json:
                result(failure(name, error))
            if self._lone:
                return
            if os.environ.get("LIIF_DEBUG") == "1":
                show_traceback(error)
            message, hint = explained(error)
            complain(message if name in message else f"{name}: {message}", hint)

    def _count(self) -> None:
        if self._bar is not None and self._files is not None:
            done = min(self.total, self.written + len(self.errors))
            self._bar.update(self._files, detail=f"{done}/{self.total}")

    def _guess_total(self, pixels: int) -> None:
        """Update the total for images in stores, whose sizes are unknown until they are read: extrapolate from those so far."""
        if not self._unknown or self._bar is None or self._files is None:
            return
        self._met = [self._met[0] + 1, self._met[1] + pixels]
        self._bar.update(self._files, total=self._met[1] / self._met[0] * max(self.total, self._met[0]))

    def _summary(self, interrupted: bool) -> None:
        if self.quiet or not (self.total > 1 or self.skipped or interrupted):
            return
        parts = [f"{self.written} written"]
        parts += [f"{self.skipped} skipped because they exist"] * bool(self.skipped)
        parts += [f"{len(self.errors)} failed"] * bool(self.errors)
        parts += ["interrupted; the remaining images were not processed"] * interrupted
        say(f"{', '.join(parts)}; {time.perf_counter() - self._begun:.1f} s")

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """Hide the bar while printing, because both streams may share one screen."""
        if self._bar is not None:
            self._bar.stop()
        yield
        if self._bar is not None:
            self._bar.start()


def failure(name: str, error: Exception) -> str:
    """The JSON line of an input that failed: the message, and the exit code that it has on its own."""
    return json.dumps({"input": name, "error": explained(error)[0], "code": code_of(error)})


def code_of(error: Exception) -> int:
    """The exit code that an error has on its own."""
    return int(ExitCode.MEMORY if isinstance(error, MemoryError) else getattr(error, "exit_code", ExitCode.SOME_FAILED))


def encoded_share(stats: "RenderStats", seconds: float) -> float:
    """The fraction of an image that has been encoded, estimated while a tile is being encoded. seconds: for the whole image.

    A tile that takes longer than expected never counts as finished.
    """
    tiles = max(1, stats.planned, stats.tiles)
    running = 0.0 if stats.begun is None or not seconds else (time.perf_counter() - stats.begun) * tiles / seconds
    return min(1.0, (stats.tiles + min(0.95, running)) / tiles)


def make_bar(before: Callable[[], None] = lambda: None) -> "Progress | None":
    """Progress bars on standard error; None unless it is a terminal that can move its cursor. before: called before drawing."""
    if not sys.stderr.isatty() or os.environ.get("TERM") in ("dumb", "unknown"):
        return None
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    name, detail = TextColumn("{task.description}", markup=False), TextColumn("{task.fields[detail]}", markup=False)
    columns: list[Any] = [name, detail, TimeRemainingColumn()]
    if console.width >= NARROW:
        columns.insert(1, BarColumn(bar_width=None if console.width < 100 else 40))

    class Bars(Progress):
        def get_renderables(self) -> Iterable[Any]:
            before()
            return super().get_renderables()

    return Bars(
        *columns,
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        expand=False,
        speed_estimate_period=SPEED_PERIOD,
    )


@contextmanager
def pixel_bar(name: str, total: int, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A bar for one image of `total` pixels. Yields a function to call with the number of newly finished pixels."""
    since, done = time.perf_counter(), 0

    def advance(pixels: int) -> None:
        nonlocal done
        done += pixels
        speed = done / max(1e-9, time.perf_counter() - since)
        move(done, total, f"{speed / 1e6:.2f} Mpx/s")

    with one_bar(name, quiet) as move:
        yield advance


def _account(done: "Result", timing: "Timing", stats: "RenderStats") -> str:
    """One line for `-v`."""
    from liif_cli.machine.memory import format_bytes

    plans = list(
        dict.fromkeys(
            f"{plan.count} tile{'s' * (plan.count > 1)} of up to {plan.side} pixels, {format_bytes(plan.peak)}"
            for plan in stats.plans
        )
    )
    times = f"read {timing.read:.2f} s, encode {timing.encode:.2f} s, decode {timing.decode:.2f} s, file {timing.file:.2f} s"
    how = f"{done.model} on {done.device} in {done.precision}"
    return one_line(f"{done.output}: {how}; {' and '.join(plans) or 'no network'}; {times}")


QUIET_SECONDS = 30.0  # between lines of text if there is no terminal


class Live:
    """A `loop.Watcher` that prints."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self._bar: Progress | None = None if quiet else make_bar()
        self._task: Any = None
        self._detail = ""
        self._said = 0.0

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def hear(self, event: "Event") -> None:
        """Show one event of the run."""
        from liif_cli.training.events import Step, Trained

        if self.quiet:
            return
        if isinstance(event, Step):
            self._move(event.iteration, event.iterations)
        elif isinstance(event, Trained):
            self._detail = describe(event)
            if self._bar is None and time.monotonic() - self._said > QUIET_SECONDS:
                self._said = time.monotonic()
                say(f"iteration {event.iteration:,}: {self._detail}")
        elif (text := sentence(event)) is not None:
            self._print(text)

    def _move(self, iteration: int, iterations: int) -> None:
        if self._bar is None:
            return
        if self._task is None:
            self._task = self._bar.add_task("train", total=iterations, completed=iteration - 1, detail="")
        detail = f"{iteration:,}/{iterations:,} {self._detail}"
        self._bar.update(self._task, completed=iteration, detail=detail)

    def _print(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(one_line(text), markup=False, highlight=False)
        else:
            say(one_line(text))


def describe(event: "Trained") -> str:
    """The numbers of an event on one line."""
    waiting = f", {event.waiting:.0%} waiting for data" if event.waiting >= 0.01 else ""
    return f"loss {event.loss:.4f}, PSNR {event.psnr:.2f} dB, {event.samples_per_second:.1f} samples/s{waiting}"


def sentence(event: "Event") -> str | None:
    """An event as a sentence; None for events that are not reported."""
    from liif_cli.training.events import Noted, Skipped, Started, Validated

    if isinstance(event, Noted):
        return f"Note: {event.text}"
    if isinstance(event, Skipped):
        return "; ".join(f"skipped: {reason}" for reason in event.skipped)
    if isinstance(event, Started):
        where = "in memory" if event.in_memory else "read on demand"
        begun = f"from {event.source}, iteration {event.iteration:,}, on {event.pictures:,} images ({where})"
        return "; ".join([*(f"skipped: {reason}" for reason in event.skipped), begun])
    if isinstance(event, Validated):
        scores = ", ".join(f"x{scale} {value:.2f} dB" for scale, value in event.scores.items())
        return f"iteration {event.iteration:,}: validation {scores}"
    return None


@contextmanager
def images_bar(name: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar for the images of an evaluation. Yields a function to call with the number finished and the total."""
    with one_bar(name, quiet) as move:
        yield lambda done, total: move(done, total, f"{done}/{total} images")


@contextmanager
def download_bar(name: str) -> "Iterator[Callable[[int, int | None], None]]":
    """A bar for one download. Yields a function to call with the bytes so far and the total, if known."""
    with one_bar(name) as move:
        yield lambda done, total: move(done, total, f"{done / 2**20:.1f} MiB")


@contextmanager
def fit_bar(name: str, iterations: int, quiet: bool) -> Iterator[Callable[[int, float], None]]:
    """A bar for fitting one image. Yields a function to call with the iteration and its PSNR in dB."""
    with one_bar(name, quiet) as move:
        yield lambda iteration, psnr: move(iteration, iterations, f"{psnr:.2f} dB")


@contextmanager
def one_bar(name: str, quiet: bool = False) -> "Iterator[Callable[[int, int | None, str], None]]":
    """A single bar. Yields a function to call with the amount done, the total if known, and a detail to show."""
    bar = None if quiet else make_bar()
    if bar is None:
        yield lambda done, total, detail: None
        return
    task = bar.add_task(one_line(name), total=None, detail="")
    with bar:
        yield lambda done, total, detail: bar.update(task, completed=done, total=total, detail=detail)

"""Processes many images: while one is rendered, the next ones are read and the previous ones are written.

Only the main thread renders and reports progress. An image that fails does not affect the others.
"""

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

from liif_cli.errors import ClosedPipe, OutputError
from liif_cli.machine.memory import resident
from liif_cli.machine.signals import shielded
from liif_cli.rendering.timing import RenderStats
from liif_cli.upscaling.jobs import Deferred, Task
from liif_cli.upscaling.results import Draft, Original, Result
from liif_cli.upscaling.speeds import Measured, process_age
from liif_cli.upscaling.upscaler import Upscaler

T = TypeVar("T")
AHEAD = 4
"""Images that are read ahead."""
FAR_AHEAD = 8
"""The same for images in stores, which take longer to read."""
LARGE = 32 * 2**20
"""A larger image, in bytes, is not read ahead, so that memory holds only one such image."""
WAITING = 256 * 2**20
"""The maximum bytes of rendered outputs that wait to be written, not counting the last one."""


@dataclass(frozen=True)
class Timing:
    """Seconds that one output took.

    read: reading its image. encode, decode: for all outputs of that image. file: finishing the rows, compression and disk.
    """

    read: float
    encode: float
    decode: float
    file: float


class Watcher(Protocol):
    """Receives progress events on the main thread."""

    def started(self, task: Task, stats: RenderStats) -> None:
        """Called when an image has been read and is about to be rendered. `stats` is updated during rendering."""

    def advanced(self, pixels: int) -> None:
        """Called when `pixels` more output pixels have been rendered."""

    def finished(self, result: Result, timing: Timing, stats: RenderStats) -> None:
        """Called after an output file has been written."""

    def failed(self, task: Task | Deferred, error: Exception) -> None:
        """Called if an image, or one of its outputs, failed."""


@dataclass(frozen=True)
class _Saving:
    task: Task
    draft: Draft
    stats: RenderStats
    read: float
    render: float
    future: Future[tuple[Result, float]]


Ahead = tuple[Task, Original | None]
"""A task and its image, which is None if it is too large to be read ahead."""


class Batch:
    """One run over a list of tasks. make_folders: create missing output folders. measured: the time that the run spent."""

    def __init__(self, upscaler: Upscaler, watcher: Watcher, *, make_folders: bool = False) -> None:
        self.upscaler, self.watcher, self.make_folders = upscaler, watcher, make_folders
        self.measured = Measured()
        self._made: set[Path] = set()
        self._saving: deque[_Saving] = deque()
        self._savers = ThreadPoolExecutor(min(8, os.cpu_count() or 1), "liif-save")

    def run(self, tasks: Sequence[Task | Deferred]) -> None:
        """Process all tasks. An image's error goes to `watcher.failed`; an error in loading the model ends the run.

        On Ctrl-C (KeyboardInterrupt) no new image is started, unfinished outputs are removed, and it is raised again.
        """
        far = any(isinstance(task, Deferred) for task in tasks)
        readers = ThreadPoolExecutor(FAR_AHEAD if far else min(2, AHEAD), "liif-read")
        try:
            for task, ahead in self._in_turn(readers, tasks, FAR_AHEAD if far else AHEAD):
                self._one(task, ahead)
            self._report(wait_for_all=True)
        except BaseException:
            self._abandon()
            raise
        finally:
            readers.shutdown(cancel_futures=True)
            self._savers.shutdown()

    def _in_turn(
        self, readers: ThreadPoolExecutor, tasks: Sequence[Task | Deferred], most: int
    ) -> Iterator[tuple[Task | Deferred, Future[Ahead]]]:
        """Each task with the future of its image, while up to `most` images after it are read ahead. Loads the model first."""
        todo, ahead = iter(tasks), deque[tuple[Task | Deferred, Future[Ahead]]]()

        def fill() -> None:
            while len(ahead) < most and (task := next(todo, None)) is not None:
                ahead.append((task, readers.submit(self._read_small, task)))

        fill()
        self.upscaler.load()
        self.measured.loaded = process_age(), resident()
        while ahead:
            task, future = ahead.popleft()
            fill()
            yield task, future

    def _read_small(self, waiting: Task | Deferred) -> Ahead:
        """The task, made ready, and its image, or None if that is large."""
        task = waiting.ready()
        if self.make_folders:
            make_folders(task, self._made)
        header = task.header
        small = header.width * header.height * header.channels * header.bits <= 8 * self._limit(LARGE)
        return task, self.upscaler.read(task.source) if small else None

    def _limit(self, usual: int) -> int:
        """`usual` bytes, or less if the options limit memory."""
        memory = self.upscaler.options.memory
        return usual if memory is None else min(usual, memory // 16)

    def _one(self, waiting: Task | Deferred, ahead: Future[Ahead]) -> None:
        try:
            task, read = result_of(ahead)
            original, stats = read or self.upscaler.read(task.source), RenderStats()
            self.watcher.started(task, stats)
            started = time.perf_counter()
            drafts = self.upscaler.render(task, original, self._advanced, stats)
        except ClosedPipe:  # from the watcher, which also receives events of other outputs here
            raise
        except Exception as error:
            self.watcher.failed(waiting, error)
            return
        seconds = time.perf_counter() - started
        self.measured.add(stats)
        for draft in drafts:
            self._make_room(draft)
            with shielded():  # otherwise a signal could leave a file that is never reported
                future = self._savers.submit(_save, draft)
                self._saving.append(_Saving(task, draft, stats, original.seconds, seconds, future))
        self._report()

    def _advanced(self, pixels: int) -> None:
        self.watcher.advanced(pixels)
        self._report()

    def _make_room(self, draft: Draft) -> None:
        while self._saving and sum(each.draft.bytes for each in self._saving) + draft.bytes > self._limit(WAITING):
            wait_for(self._saving[0].future)
            self._report()

    def _report(self, *, wait_for_all: bool = False) -> None:
        """Report the outputs that are done, in the order of the tasks."""
        while self._saving and (wait_for_all or self._saving[0].future.done()):
            wait_for(self._saving[0].future)
            with shielded():
                self._report_one(self._saving.popleft())

    def _report_one(self, done: _Saving) -> None:
        error = done.future.exception()
        if isinstance(error, Exception):
            lost = tuple(each for each in done.task.outputs if each.name == done.draft.result.output)
            self.watcher.failed(replace(done.task, outputs=lost), error)
        elif error is None:
            result, seconds = done.future.result()
            rest = max(0.0, done.render - done.stats.encode - done.stats.decode)
            timing = Timing(done.read, done.stats.encode, done.stats.decode, rest + seconds)
            pixels = result.width * result.height * done.task.frames
            own = rest * pixels / done.task.pixels + seconds
            self.measured.add_file(done.draft.writer.format.name, own, pixels)
            self.watcher.finished(result, timing, done.stats)

    def _abandon(self) -> None:
        """Remove unfinished outputs, and report finished ones."""
        for each in self._saving:
            if each.future.cancel():
                each.draft.discard()
        self._saving = deque(each for each in self._saving if not each.future.cancelled())
        for each in self._saving:
            each.draft.cancel()
        while wait([each.future for each in self._saving], timeout=0.2).not_done:
            pass
        with shielded():  # a second Ctrl-C, too, must not leave a file that is never reported
            self._saving = deque(each for each in self._saving if each.future.exception() is None)
            self._report(wait_for_all=True)


def _save(draft: Draft) -> tuple[Result, float]:
    started = time.perf_counter()
    result = draft.save()
    return result, time.perf_counter() - started


def make_folders(task: Task, made: set[Path]) -> None:
    """Create the folders of a task's outputs, except those in `made`, to which they are added. Raises `OutputError`.

    A folder that is removed during the run is not created again, because it would lack the earlier outputs.
    """
    for folder in {output.place.parent for output in task.outputs if isinstance(output.place, Path)} - made:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot create the folder {folder}: {error.strerror}") from error
        made.add(folder)


def result_of(future: Future[T]) -> T:
    """The future's result, waited for by `wait_for`. Raises the future's exception."""
    wait_for(future)
    return future.result()


def wait_for(future: Future[T]) -> None:
    """Wait until the future is done. Signals are handled meanwhile, on Windows too."""
    while not wait([future], timeout=0.2).done:
        pass

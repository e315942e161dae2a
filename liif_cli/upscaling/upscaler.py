"""Upscales one image: reads it, renders its outputs, and prepares them for writing."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from liif_cli.coords import Grid
from liif_cli.errors import InputError
from liif_cli.images import read
from liif_cli.images.picture import Picture
from liif_cli.images.write import Writer
from liif_cli.machine.devices import choose_device
from liif_cli.machine.memory import resident
from liif_cli.models.checkpoints import Checkpoint
from liif_cli.models.model import SRModel
from liif_cli.models.restore import between, needed_counterpart
from liif_cli.models.store import DEFAULT, find
from liif_cli.rendering.renderer import Renderer, precision_for
from liif_cli.rendering.rows import Progress, Store, render_rows
from liif_cli.rendering.sizes import Target
from liif_cli.rendering.timing import RenderStats
from liif_cli.upscaling.inputs import Source
from liif_cli.upscaling.jobs import Output, Task, task_for
from liif_cli.upscaling.options import Options, room
from liif_cli.upscaling.restoration import Restoration, decide
from liif_cli.upscaling.results import Draft, Original, Result, grid_notes

Pixels = NDArray[Any]


class Upscaler:
    """A model with the options for all images. The model is found immediately and loaded on first use.

    model: a name, a file, a Hub reference, a checkpoint or a loaded model. checkpoint: None for a loaded model. name: for users
    and in file names. Raises the exceptions of `store.find`, and those of `restore.needed_counterpart` if the options set a
    strength.
    """

    def __init__(self, model: str | Path | Checkpoint | SRModel = DEFAULT, options: Options | None = None) -> None:
        self.options = options or Options()
        self._model, self._photo = model if isinstance(model, SRModel) else None, cast(SRModel | None, None)
        self.checkpoint = (
            find(model) if isinstance(model, str | Path) else None if isinstance(model, SRModel) else model
        )
        self.name = self.checkpoint.name if self.checkpoint else type(model).__name__
        if self.options.restore not in ("auto", 0):
            needed_counterpart(self.checkpoint)

    def load(self, strength: float = 0.0) -> SRModel:
        """The model on its device, interpolated by `strength` (0 to 1) towards its counterpart for degraded images.

        Raises `DeviceError` and `CheckpointError` on first use, and the exceptions of `restore.needed_counterpart`.
        """
        if self._model is None:
            assert self.checkpoint is not None
            self._model = self.checkpoint.load(choose_device(self.options.device))
        if not strength:
            return self._model
        if self._photo is None:
            self._photo = needed_counterpart(self.checkpoint).load(choose_device(self.options.device))
        return between(self._model, self._photo, strength)

    def renderer(self, bits: int, strength: float = 0.0) -> Renderer:
        """A renderer for outputs with `bits` bits per sample, with the model of `load(strength)`.

        Raises `UsageError` if the model does not support the precision.
        """
        model = self.load(strength)
        device = next(model.parameters()).device
        precision = precision_for(model, self.options.precision, device, bits)
        return Renderer(model, device, precision, self.options.self_ensemble, self.options.chunk)

    def file(
        self, source: Path, outputs: Sequence[tuple[Target, Path]], progress: Progress = lambda pixels: None
    ) -> list[Result]:
        """Upscale the image in `source` to each (target, path), all from one encoding. Returns a result for each file.

        progress: called with the number of output pixels that have been finished. Raises `InputError`, `OutputError`,
        `LimitError` and `UsageError` before any work, and the exceptions of rendering.
        """
        task = task_for(Source(source), outputs, self.options)
        drafts = self.render(task, self.read(task.source), progress)
        try:
            return [draft.save() for draft in drafts]
        finally:
            for draft in drafts:
                draft.discard()

    def read(self, source: Source) -> Original:
        """Decode an image with these options. Only the first frame of an animation is decoded; the others follow later.

        Raises `InputError`, `OutOfMemory`, and `UsageError` for standard input.
        """
        started, options = time.perf_counter(), self.options
        to_srgb = options.to_srgb or options.save.strip  # an image without a profile is read as sRGB
        content = source.read()
        picture = read.read(content, page=options.page, frame=options.frame, to_srgb=to_srgb)
        later = partial(read.later_frames, content, picture.timing, to_srgb=to_srgb)
        return Original(picture, time.perf_counter() - started, later)

    def render(
        self,
        task: Task,
        original: Original,
        progress: Progress = lambda pixels: None,
        stats: RenderStats | None = None,
    ) -> list[Draft]:
        """Render an image for each output of its task. Returns complete drafts; the caller saves or discards each.

        stats: receives the plan and the times. Raises `InputError` if the file has changed since the task was made, and the
        exceptions of rendering; nothing is left behind then.
        """
        started, picture = time.perf_counter(), original.picture
        _check_unchanged(task, picture)
        restored = decide(self.options.restore, self.checkpoint, picture.metadata.quality, picture.format)
        renderer = self.renderer(16 if picture.depth == np.uint16 else 8, restored.strength)
        renderer.stats = stats or renderer.stats
        writers: list[Writer] = []
        try:
            writers += (self._writer(output, picture) for output in task.outputs)
            self._write(task, original, renderer, writers, progress)
        except BaseException:
            for writer in writers:
                writer.abort()
            raise
        seconds = original.seconds + time.perf_counter() - started
        return [
            self._draft(task, original, output, writer, renderer, restored, seconds)
            for output, writer in zip(task.outputs, writers, strict=True)
        ]

    def _write(
        self, task: Task, original: Original, renderer: Renderer, writers: Sequence[Writer], progress: Progress
    ) -> None:
        """Send the rows of all frames to the writers."""
        grids, stores = [output.grid for output in task.outputs], [writer.finish for writer in writers]
        for frame in chain([original.picture], original.later()):
            for index, rows in self.rows(renderer, frame.pixels, grids, progress, stores):
                writers[index].append(rows)

    def _writer(self, output: Output, picture: Picture) -> Writer:
        shape, save = output.grid.shape, self.options.save
        save = replace(save, overwrite=True) if output.replaces else save
        return Writer(
            output.place, output.format, *shape, picture.channels, picture.depth, picture.metadata, save, picture.timing
        )

    def _draft(
        self,
        task: Task,
        original: Original,
        output: Output,
        writer: Writer,
        renderer: Renderer,
        restored: Restoration,
        seconds: float,
    ) -> Draft:
        picture, grid = original.picture, output.grid
        height, width = grid.shape
        result = Result(
            input=task.source.name,
            output=output.name,
            width=width,
            height=height,
            scale=(grid.columns.count / grid.columns.extent, grid.rows.count / grid.rows.extent),
            model=self.name,
            revision=self.checkpoint.revision if self.checkpoint else None,
            device=str(renderer.device),
            precision=renderer.precision,
            seconds=seconds,
            restore=restored.strength,
            restore_reason=restored.reason,
            notes=(*picture.notes, *restored.notes, *grid_notes(output.target, grid), *renderer.notes),
        )
        sample = picture.channels * np.dtype(picture.depth).itemsize
        return Draft(writer, result, task.frames * height * width * sample)

    def rows(
        self,
        renderer: Renderer,
        pixels: Pixels,
        grids: Sequence[Grid],
        progress: Progress = lambda pixels: None,
        stores: Sequence[Store] = (),
    ) -> Iterator[tuple[int, Pixels]]:
        """The finished rows of each grid, as `rows.render_rows`, within the memory of the options."""
        budget, side = self.budget(), self.options.tile
        return render_rows(renderer, pixels, grids, budget=budget, side=side, progress=progress, stores=stores)

    def budget(self, more: int = 0) -> int | None:
        """The bytes that rendering may take if the options limit memory, otherwise None.

        more: bytes that the process will hold besides. Raises `OutOfMemory` if none are left.
        """
        return room(self.options.memory, resident(), more)


def _check_unchanged(task: Task, picture: Picture) -> None:
    """Raises `InputError` if the decoded image does not have the size in the header, from which the grids were made."""
    header = task.header
    if (picture.height, picture.width) != (header.height, header.width):
        was, now = f"{header.width}x{header.height}", f"{picture.width}x{picture.height}"
        raise InputError(f"{task.source.name} has changed since it was probed: it had {was} pixels and has {now}")

"""One picture, file to file; and the same for a picture in memory."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from liif_cli.coords import Grid
from liif_cli.images import read
from liif_cli.images.picture import Header, Picture
from liif_cli.images.write import SaveOptions, Writer, check_output
from liif_cli.machine.devices import Precision, choose_device, choose_precision
from liif_cli.machine.memory import resident
from liif_cli.models.checkpoints import Checkpoint
from liif_cli.models.model import SRModel
from liif_cli.models.store import DEFAULT, find
from liif_cli.rendering.renderer import Renderer
from liif_cli.rendering.rows import Progress, Store, render_rows
from liif_cli.rendering.sizes import (
    MAX_PIXELS,
    RAW,
    Cell,
    Region,
    Target,
    check_pixels,
    make_grid,
)
from liif_cli.rendering.timing import Tally
from liif_cli.upscaling.results import Draft, Original, Result, grid_notes

Pixels = NDArray[Any]


@dataclass(frozen=True)
class Options:
    """How to render. memory: bytes that the process may hold (None: what is free). tile: side in input pixels (None:
    planned). chunk: output pixels that are worked on at once (None: what suits the processor). page and frame: which one of
    a TIFF's pages or an animation's frames, from 1. to_srgb: convert colours to sRGB for good."""

    cell: Cell = RAW
    region: Region | None = None
    self_ensemble: bool = False
    device: str = "auto"
    precision: Precision = "auto"
    max_pixels: int = MAX_PIXELS
    memory: int | None = None
    tile: int | None = None
    chunk: int | None = None
    page: int | None = None
    frame: int | None = None
    to_srgb: bool = False
    save: SaveOptions = field(default_factory=SaveOptions)


@dataclass
class Upscaler:
    """A model, found once and loaded when the first picture needs it, with the options for all pictures."""

    model: str | Path | SRModel = DEFAULT
    options: Options = field(default_factory=Options)

    @cached_property
    def checkpoint(self) -> Checkpoint | None:
        """Where the model comes from; None for a model that was given as such."""
        return None if isinstance(self.model, SRModel) else find(self.model)

    @cached_property
    def loaded(self) -> SRModel:
        """The model on its device."""
        if isinstance(self.model, SRModel):
            return self.model
        device = choose_device(self.options.device)
        assert self.checkpoint is not None
        return self.checkpoint.load(device)

    @property
    def name(self) -> str:
        """The model's name, for people and file names."""
        return self.checkpoint.name if self.checkpoint else type(self.model).__name__

    def renderer(self, bits: int) -> Renderer:
        """A renderer for outputs of so many bits a sample."""
        device = next(self.loaded.parameters()).device
        precision = choose_precision(self.options.precision, device, bits)
        return Renderer(self.loaded, device, precision, self.options.self_ensemble, self.options.chunk)

    def grids(self, size: tuple[int, int], targets: Sequence[Target]) -> list[Grid]:
        """The grids over a picture of `size` (height, width). Raises `UsageError`, `LimitError`."""
        grids = [make_grid(size, target, self.options.region, self.options.cell) for target in targets]
        for grid in grids:
            check_pixels(grid.shape, self.options.max_pixels)
        return grids

    def file(
        self, source: Path, outputs: Sequence[tuple[Target, Path]], progress: Progress = lambda pixels: None
    ) -> list[Result]:
        """Upscale the picture in `source` to each (target, path), all from one encoding; a result for each file.

        progress: is called with the number of output pixels that were finished. Raises `InputError`, `OutputError`,
        `LimitError`, `UsageError` before any work, and what finding the model and rendering may raise.
        """
        self.check(source, outputs)
        drafts = self.render(self.read(source), outputs, progress)
        with ExitStack() as unsaved:
            for draft in drafts:
                unsaved.callback(draft.discard)
            return [draft.save() for draft in drafts]

    def check(self, source: Path | bytes, outputs: Sequence[tuple[Target, Path | BinaryIO]]) -> Header:
        """The picture's header, where its outputs can be made as far as that tells. Raises as `file` before any work."""
        header = read.probe(source, page=self.options.page, frame=self.options.frame)
        grids = self.grids((header.height, header.width), [target for target, _ in outputs])
        for (_, path), grid in zip(outputs, grids, strict=True):
            check_output(path, grid.shape, self.options.save, header.frames if self.options.frame is None else 1)
        return header

    def read(self, source: Path | bytes, name: str | None = None) -> "Original":
        """Decode one picture, a file or a file's bytes, by these options; of an animation the first frame, the others when
        their turn comes. Raises `InputError`."""
        started, options = time.perf_counter(), self.options
        to_srgb = options.to_srgb or options.save.strip  # without its profile a picture is taken for sRGB
        picture = read.read(source, page=options.page, frame=options.frame, to_srgb=to_srgb)
        later = partial(read.later_frames, source, picture.timing, to_srgb=to_srgb)
        return Original(name or str(source), picture, time.perf_counter() - started, later)

    def render(
        self,
        original: "Original",
        outputs: Sequence[tuple[Target, Path | BinaryIO]],
        progress: Progress = lambda pixels: None,
        tally: Tally | None = None,
    ) -> list["Draft"]:
        """Render a picture for each (target, path or stream). The drafts are whole; the caller saves or discards each.

        tally: takes what was planned and how long it took. Raises as `file` does, and then leaves nothing behind.
        """
        started = time.perf_counter()
        picture, size = original.picture, (original.picture.height, original.picture.width)
        grids = self.grids(size, [target for target, _ in outputs])
        renderer = self.renderer(16 if picture.depth == np.uint16 else 8)
        renderer.tally = tally or renderer.tally
        with ExitStack() as files:
            writers = [
                files.enter_context(self._writer(path, grid, picture))
                for (_, path), grid in zip(outputs, grids, strict=True)
            ]
            stores = [writer.finish for writer in writers]
            for frame in chain([picture], original.later()):
                for index, rows in self.rows(renderer, frame.pixels, grids, progress, stores):
                    writers[index].append(rows)
            files.pop_all()  # from here on they are the caller's
        seconds = original.seconds + time.perf_counter() - started
        sample = picture.channels * np.dtype(picture.depth).itemsize
        return [
            Draft(
                writer,
                self._result(original, path, grid, renderer, seconds, list(grid_notes(size, target, grid))),
                grid.shape[0] * grid.shape[1] * sample * original.frames,
            )
            for (target, path), grid, writer in zip(outputs, grids, writers, strict=True)
        ]

    def _writer(self, path: Path | BinaryIO, grid: Grid, picture: Picture) -> Writer:
        save, timing = self.options.save, picture.timing
        return Writer(path, *grid.shape, picture.channels, picture.depth, picture.metadata, save, timing)

    def rows(
        self,
        renderer: Renderer,
        pixels: Pixels,
        grids: Sequence[Grid],
        progress: Progress = lambda pixels: None,
        stores: Sequence[Store] = (),
    ) -> Iterator[tuple[int, Pixels]]:
        """Finished rows of each grid, within the options' memory; see `rows.render_rows`."""
        budget, side = self.budget(), self.options.tile
        return render_rows(renderer, pixels, grids, budget=budget, side=side, progress=progress, stores=stores)

    def budget(self, more: int = 0) -> int | None:
        """Bytes that rendering may take where `--memory` limits the process, `more` being what else it will hold."""
        if self.options.memory is None:
            return None
        return max(0, self.options.memory - resident() - more)

    def _result(
        self,
        original: "Original",
        path: Path | BinaryIO,
        grid: Grid,
        renderer: Renderer,
        seconds: float,
        notes: Sequence[str],
    ) -> Result:
        height, width = grid.shape
        return Result(
            input=original.name,
            output=str(path) if isinstance(path, Path) else "-",
            width=width,
            height=height,
            scale=(grid.columns.count / grid.columns.extent, grid.rows.count / grid.rows.extent),
            model=self.name,
            revision=self.checkpoint.revision if self.checkpoint else None,
            device=str(renderer.device),
            precision=renderer.precision,
            seconds=seconds,
            notes=(*original.picture.notes, *notes, *renderer.notes),
        )

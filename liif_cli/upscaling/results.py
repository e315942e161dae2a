"""The stages of an image (read, rendered) and the result of each output."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from liif_cli.coords import Grid
from liif_cli.errors import Note
from liif_cli.images.picture import Picture
from liif_cli.images.write import Writer
from liif_cli.rendering.shrink import is_reduced
from liif_cli.rendering.sizes import (
    ASPECT_TOLERANCE,
    Scale,
    Target,
    aspect_change,
)


@dataclass(frozen=True)
class Result:
    """The result of one output.

    scale: the effective scale, (x, y). seconds: from reading the input to the finished file. restore: the strength with which
    the image was restored, 0 to 1; restore_reason: the reason for it. notes: messages for the user.
    """

    input: str
    output: str
    width: int
    height: int
    scale: tuple[float, float]
    model: str
    revision: str | None
    device: str
    precision: str
    seconds: float
    restore: float = 0.0
    restore_reason: str = ""
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The fields as a dictionary that can be serialised as JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Original:
    """A decoded input. seconds: the time that reading took. later: returns the other frames of an animation."""

    picture: Picture
    seconds: float
    later: Callable[[], Iterable[Picture]] = tuple


@dataclass(frozen=True)
class Draft:
    """A rendered output that has not been written yet. Call `save` or `discard`, on any thread.

    bytes: the size of its rows, in memory or on disk.
    """

    writer: Writer
    result: Result
    bytes: int

    def save(self) -> Result:
        """Write the file and move it into place. If it raises `OutputError`, nothing is left behind."""
        started = time.perf_counter()
        self.writer.commit()
        seconds = round(self.result.seconds + time.perf_counter() - started, 3)
        return replace(self.result, seconds=seconds, notes=(*self.result.notes, *self.writer.notes))

    def discard(self) -> None:
        """Discard the output. Does nothing after `save`."""
        self.writer.abort()

    def cancel(self) -> None:
        """Make a `save` that is running on another thread fail soon."""
        self.writer.cancel()


def grid_notes(target: Target, grid: Grid) -> Iterator[str]:
    """Notes on a grid that may surprise the user: a changed aspect ratio, and reduction without the network."""
    extent = (grid.rows.extent, grid.columns.extent)
    count = (grid.rows.count, grid.columns.count)  # before cropping
    if not isinstance(target, Scale) and aspect_change(extent, count) > ASPECT_TOLERANCE:
        height, width = grid.shape
        yield Note.on(f"{width}x{height} changes the aspect ratio of {extent[1]}x{extent[0]}", "fit")
    shrunk = [name for name, axis in (("width", grid.columns), ("height", grid.rows)) if is_reduced(axis)]
    if shrunk:
        axes = f"{' and '.join(shrunk)} {'are' if shrunk[1:] else 'is'}"
        yield f"the {axes} reduced: resized with an antialiased bicubic filter instead of the network"

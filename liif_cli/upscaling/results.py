"""What becomes of an image: read, rendered, written."""

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
    """What became of one output. scale: (x, y), effective. seconds: reading to finished file. restore, restore_reason: how
    strongly the image was restored, 0 to 1, and why. notes: sentences for the user."""

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
        """Serialisable as JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Original:
    """An image that was read. seconds: that reading took. later: gives an animation's other frames."""

    picture: Picture
    seconds: float
    later: Callable[[], Iterable[Picture]] = tuple


@dataclass(frozen=True)
class Draft:
    """An output that is rendered and not yet a file. `save` or `discard` is to be called, on any thread.

    bytes: of its rows, which wait in memory or on disk.
    """

    writer: Writer
    result: Result
    bytes: int

    def save(self) -> Result:
        """Put the file in its place. Raises `OutputError`; then nothing is left behind."""
        started = time.perf_counter()
        self.writer.commit()
        seconds = round(self.result.seconds + time.perf_counter() - started, 3)
        return replace(self.result, seconds=seconds, notes=(*self.result.notes, *self.writer.notes))

    def discard(self) -> None:
        """Discard the output. Does nothing after `save`."""
        self.writer.abort()

    def cancel(self) -> None:
        """Have a `save` that runs on another thread fail soon."""
        self.writer.cancel()


def grid_notes(target: Target, grid: Grid) -> Iterator[str]:
    """What a user may not expect of a grid."""
    extent = (grid.rows.extent, grid.columns.extent)
    count = (grid.rows.count, grid.columns.count)  # before a crop
    if not isinstance(target, Scale) and aspect_change(extent, count) > ASPECT_TOLERANCE:
        height, width = grid.shape
        yield Note.on(f"{width}x{height} changes the aspect of {extent[1]}x{extent[0]}", "fit")
    shrunk = [name for name, axis in (("width", grid.columns), ("height", grid.rows)) if is_reduced(axis)]
    if shrunk:
        axes = f"{' and '.join(shrunk)} {'are' if shrunk[1:] else 'is'}"
        yield f"the {axes} reduced: resized with an antialiased bicubic filter instead of the network"

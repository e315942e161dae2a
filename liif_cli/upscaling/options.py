"""The options for all images of a call. Does not load torch."""

from dataclasses import dataclass, field

from liif_cli.coords import Grid
from liif_cli.errors import OutOfMemory
from liif_cli.images.write import SaveOptions
from liif_cli.machine.memory import format_bytes
from liif_cli.machine.precision import Precision
from liif_cli.models.restore import Restore
from liif_cli.rendering.sizes import MAX_PIXELS, RAW, Cell, PrintSize, Region, Target, check_pixels, make_grid


@dataclass(frozen=True)
class Options:
    """Options for reading, rendering and writing.

    cell: the cell size passed to the decoder. region: the part of the input to render. self_ensemble: average over four
    rotations. max_pixels: the largest output allowed. memory: bytes that the process may use (None: the free memory). tile: the
    side of a tile in input pixels (None: planned). chunk: output pixels per chunk (None: depends on the device). page, frame:
    of a TIFF or an animation, counted from 1. to_srgb: convert colours to sRGB, and do not convert them back. restore: see
    `models.restore`. save: options for writing.
    """

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
    restore: Restore = 0.0
    save: SaveOptions = field(default_factory=SaveOptions)

    def grid(self, size: tuple[int, int], target: Target, dpi: tuple[float, float] | None = None) -> Grid:
        """The grid over an image. size: (height, width). dpi: dots per inch, (x, y). Raises `UsageError`, `LimitError`."""
        target = target.at(dpi) if isinstance(target, PrintSize) else target
        grid = make_grid(size, target, self.region, self.cell)
        check_pixels(grid.shape, self.max_pixels)
        return grid


def room(limit: int | None, program: int, more: int) -> int | None:
    """The bytes of `limit` left after `program` and `more`; None without a limit. Raises `OutOfMemory` if none are left."""
    if limit is None:
        return None
    held = program + more
    if held >= limit:
        raise OutOfMemory(
            f"{format_bytes(limit)} is too little: the program and the image alone take {format_bytes(held)}",
            argument="memory",
            hint="allow more memory, or render parts of the image",
            remedy="memory",
        )
    return limit - held

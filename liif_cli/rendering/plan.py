"""Chooses a tile size that fits into memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from liif_cli.coords import Grid
from liif_cli.errors import OutOfMemory, UsageError
from liif_cli.machine.memory import format_bytes
from liif_cli.rendering.tiles import Tile, needed

SMALLEST = 16  # LR pixels per side of the smallest tile
COMFORTABLE = 800 * 2**20  # bytes that a plan may use although smaller tiles would do
HALOS = 16  # the longest side of one of several tiles, in halos: at 16, the halo adds a quarter, (1 + 2 / 16)^2 - 1
MODERATE = 256  # the least that `HALOS` may limit a side to, in LR pixels
HEAP = 256 * 2**20  # the most bytes that the allocator wastes (bench_upscale_memory.py)
PIECE_PIXELS = 2**20
HEADROOM = 0.8  # the share of free memory that a plan may use; the rest is for memory that plans do not count


class Footprint(Protocol):
    """The properties of a model that a plan needs. `SRModel` has them, and so has a cached `Speed`, without loading torch."""

    @property
    def halo(self) -> int | None:
        """See `SRModel` for this and the other members."""

    @property
    def alignment(self) -> int: ...

    @property
    def bytes_per_pixel(self) -> int: ...

    @property
    def code_bytes(self) -> int: ...

    def supports(self, grid: Grid) -> str | None: ...

    def scratch_bytes(self, chunk: int | None = None) -> int: ...


@dataclass(frozen=True)
class Plan:
    """A tile size that fits into memory.

    whole: the latent codes that all tiles together cover. side: the longest side of a tile in LR pixels, without its halo.
    peak: an estimate of the most bytes that rendering needs in addition to those already in use. notes: messages for the user.
    """

    whole: Tile
    side: int
    peak: int
    notes: tuple[str, ...] = ()

    def tiles(self) -> Iterator[Tile]:
        """The tiles, row by row; their sides differ by at most one pixel."""
        for top, bottom in _cuts(self.whole.top, self.whole.bottom, self.side):
            for left, right in _cuts(self.whole.left, self.whole.right, self.side):
                yield Tile(top, bottom, left, right)

    @property
    def count(self) -> int:
        """The number of tiles."""
        return -(-self.whole.height // self.side) * -(-self.whole.width // self.side)


def _cuts(first: int, last: int, side: int) -> list[tuple[int, int]]:
    count = -(-(last - first) // side)
    edges = [first + (last - first) * i // count for i in range(count + 1)]
    return list(pairwise(edges))


def make_plan(
    model: Footprint,
    size: tuple[int, int],
    grids: Sequence[Grid],
    sample_bytes: int,
    budget: int,
    side: int | None = None,
    turns: int = 1,
    chunk: int | None = None,
) -> Plan:
    """Choose the side of the tiles for an image of `size` (height, width), from which all `grids` are rendered.

    sample_bytes: bytes per finished output pixel. budget: bytes available. side: the user's choice, which is kept. turns:
    encodings in memory at once. chunk: output pixels per chunk. A model that reads the whole image gets one tile. Raises
    `UsageError` if the model does not support a grid, `OutOfMemory` if not even the smallest tile fits.
    """
    check_supported(model, grids)
    whole = needed(grids)
    longest = max(whole.height, whole.width)

    def peak(side: int) -> int:
        return tile_bytes(model, size, whole, side, turns, chunk) + band_bytes(grids, whole, side, sample_bytes)

    if model.halo is None:
        notes = ("the tile size was ignored: the model reads the whole image",) if side and side < longest else ()
        return Plan(whole, longest, _fitting(peak(longest), budget, "the model reads the whole image, which"), notes)
    if side is not None:
        return Plan(whole, side, peak(side))
    # Tiles much smaller than their halo would encode every pixel many times: a large halo, such as RDN's, needs more memory.
    limit = min(budget, max(COMFORTABLE, peak(min(longest, 2 * model.halo))))
    side = longest if peak(longest) <= limit else min(longest, max(MODERATE, HALOS * model.halo))
    while side > SMALLEST and peak(side) > limit:
        side = max(SMALLEST, min(side - 1, side * 7 // 8))
    _fitting(peak(side), budget, f"not even a tile of {side} pixels fits into memory: it")
    side = -(-longest // -(-longest // side))  # the smallest side with the same number of tiles
    return Plan(whole, side, peak(side))


def check_supported(model: Footprint, grids: Sequence[Grid]) -> None:
    """Raises `UsageError` with the model's reason if it does not support one of the grids."""
    for grid in grids:
        reason = model.supports(grid)
        if reason is not None:
            height, width = grid.shape
            raise UsageError(f"the model cannot render {width}x{height} pixels: {reason}")


def _fitting(peak: int, budget: int, what: str) -> int:
    """`peak` if it is within `budget`, otherwise `OutOfMemory`."""
    if peak > budget:
        raise OutOfMemory(
            f"{what} needs {format_bytes(peak)}, but only {format_bytes(budget)} are available",
            hint="close other programs, allow more memory, or render parts of the image",
            remedy="memory",
        )
    return peak


def tile_bytes(
    model: Footprint, size: tuple[int, int], whole: Tile, side: int, turns: int = 1, chunk: int | None = None
) -> int:
    """The most bytes that one tile of `side` needs: the encoder's feature maps or the codes, whichever is more, the codes of
    the other turns, the memory that the allocator wastes, and the decoder's scratch."""
    around = max(size) if model.halo is None else 2 * (model.halo + model.alignment - 1)
    height, width = (
        min(full, min(part, side) + around) for full, part in zip(size, (whole.height, whole.width), strict=True)
    )
    alive = height * width * (model.bytes_per_pixel + (turns - 1) * model.code_bytes)
    return int(alive + min(alive, HEAP) + model.scratch_bytes(chunk))


def band_bytes(grids: Sequence[Grid], whole: Tile, side: int, sample_bytes: int) -> int:
    """Bytes of the finished rows that wait until their row of tiles is complete, and of one piece in float32."""
    total = 0
    for grid in grids:
        height, width = grid.shape
        waiting = 0 if side >= whole.width else -(-height * min(side, whole.height) // whole.height) * width
        piece = piece_rows(width) * width
        total += waiting * sample_bytes + piece * (3 * 4 * 3 + sample_bytes)
    return total


def piece_rows(width: int) -> int:
    """The number of rows of `width` pixels that are rendered at once."""
    return max(1, PIECE_PIXELS // max(1, width))

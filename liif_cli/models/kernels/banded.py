"""Separable functions on a regular grid as products of banded matrices, for the Fourier decoder.

Each pixel of an axis reads two neighbouring codes. Pixels are grouped into blocks that read the same few codes, so the band
becomes one small dense matrix per block: first down the columns of codes, then along the rows. No codes are gathered. Several
blocks per product outweigh the cost of a call; they are few enough for the intermediate result to stay in the caches.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from liif_cli.machine.threads import run

CELLS, OTHER_CELLS = 8, 32  # codes per block on the CPU, and on devices where the cost of calls dominates
PIXELS = 16  # the fewest per block and axis on the CPU
SCRATCH = 2**20  # the most values of codes that a job on the CPU reads, unless one block has more
COLOURS = 3
WHOLE = 1024  # output rows that are rendered at once on other devices


@dataclass(frozen=True)
class Taps:
    """One axis's pixels: the two codes that each reads, and their weights.

    lower: (..., n) int64, the code at or below each pixel, as an index in the tile, not clamped to the image. code: (...,
    n, 2) int64, that one and the next, clamped to the image. window: (..., n, 2), the weights of the two. function: (..., n, 2,
    functions), the functions at the pixel's offset from each code, times the window.
    """

    lower: Tensor
    code: Tensor
    window: Tensor
    function: Tensor


def banded(code: Tensor, values: Tensor, count: int) -> Tensor:
    """The weights of two codes, `values` (..., n, 2, functions) at `code` (..., n, 2), as (..., n, functions, count)."""
    index = code.unsqueeze(-1).expand(values.shape).transpose(-1, -2)
    matrix = values.new_zeros(*values.shape[:-2], values.shape[-1], count)
    return matrix.scatter_add(-1, index, values.transpose(-1, -2))


@dataclass(frozen=True)
class Blocks:
    """An axis's pixels in blocks of `cells` codes, padded to equal length with pixels of weight zero.

    first: the first code of each block. reach: the number of codes that each block reads. series: (blocks, pixels, functions *
    reach) float32. window: (blocks, pixels, reach) float32. at: the positions of the axis's pixels among all the blocks'
    pixels, ascending: a slice, or (n,) int64 if the scale is not a whole number.
    """

    first: list[int]
    cells: int
    reach: int
    series: Tensor
    window: Tensor
    at: slice | Tensor

    @classmethod
    def of(cls, taps: Taps, device: str, by_code: bool) -> "Blocks":
        """The blocks of an axis of at least one pixel. by_code: order the columns of `series` by (code, function) instead of
        (function, code)."""
        low, high = int(taps.code[0, 0]), int(taps.code[-1, 1])  # the codes that are read
        lowest, count = int(taps.lower[0]), int(taps.lower[-1] - taps.lower[0]) + 1
        cells = OTHER_CELLS
        if device == "cpu":
            cells = max(1, min(CELLS, round(PIXELS * count / len(taps.lower))))
        cells = min(cells, max(1, high - low))
        reach = min(cells, high - low) + 1
        block = (taps.lower - lowest).div(cells, rounding_mode="floor")
        count = int(block[-1]) + 1
        first = (lowest + cells * torch.arange(count)).clamp(low, max(low, high - cells)).tolist()
        begin = torch.searchsorted(block, torch.arange(count, device=block.device))
        place, longest = _places(block, begin)
        inside = taps.code - torch.tensor(first, device=block.device)[block].unsqueeze(1)

        def spread(values: Tensor) -> Tensor:
            matrix = banded(inside, values, reach)
            if by_code:
                matrix = matrix.transpose(1, 2)
            padded = matrix.new_zeros(count * longest, *matrix.shape[1:])
            padded[place] = matrix
            return padded.view(count, longest, -1)

        at: slice | Tensor = place
        if int(place[-1] - place[0]) == len(place) - 1:
            at = slice(int(place[0]), int(place[-1]) + 1)
        return cls(first, cells, reach, spread(taps.function), spread(taps.window.unsqueeze(-1)), at)

    def to(self, device: torch.device) -> "Blocks":
        """The blocks on a device."""
        at = self.at if isinstance(self.at, slice) else self.at.to(device)
        return replace(self, series=self.series.to(device), window=self.window.to(device), at=at)

    @property
    def count(self) -> int:
        """The number of pixels of the axis."""
        return self.at.stop - self.at.start if isinstance(self.at, slice) else len(self.at)

    @property
    def longest(self) -> int:
        """The number of pixels per block."""
        return self.series.shape[1]

    def runs(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """The blocks from `start` to `stop` as runs whose blocks begin exactly `cells` codes apart."""
        while start < stop:
            end = start + 1
            while end < stop and self.first[end] - self.first[end - 1] == self.cells:
                end += 1
            yield start, end
            start = end


def _places(block: Tensor, begin: Tensor) -> tuple[Tensor, int]:
    """Positions of the pixels if all blocks are padded to the same length, and this length.

    block: (n,) the block of each pixel, ascending. begin: (blocks,) the first pixel of each block. The first block is padded at
    its start and the others at their end, so that two blocks' pixels are contiguous.
    """
    sizes = torch.diff(begin, append=begin.new_tensor([len(block)]))
    longest = int(sizes.max())
    place = torch.arange(len(block), device=block.device) - begin[block] + longest * block
    place[: int(sizes[0])] += longest - sizes[0]
    return place, longest


@torch.no_grad()
def render_banded(codes: Tensor, image: Tensor | None, rows: Blocks, columns: Blocks) -> Tensor:
    """Colours of a regular grid, (B, rows, columns, 3) float32.

    codes: (B, h, n * 3 * n, w), coefficients by (function of y, colour, function of x), contiguous. image: (B, h, w, 3)
    float32, interpolated with the windows and added; None if the codes include it. Products are computed in the codes' dtype,
    but on the CPU in float32, because they are too narrow to be faster in 16 bits.
    """
    out = codes.new_empty(len(codes), rows.count, columns.count, COLOURS, dtype=torch.float32)
    codes, image, rows, columns = _narrowed(codes, image, rows, columns)
    planes = None if image is None else image.permute(0, 1, 3, 2).contiguous()
    on_cpu = codes.device.type == "cpu"
    render = _render_on_cpu if on_cpu else _render_blocks
    jobs: list[Callable[[], None]] = [
        partial(render, codes[i], None if planes is None else planes[i], rows, columns, begin, end, out[i])
        for i in range(len(codes))
        for begin, end in _shares(rows, codes[0, 0].numel(), on_cpu)
    ]
    if on_cpu:
        run(jobs)
    else:
        for job in jobs:
            job()
    return out


def _narrowed(
    codes: Tensor, image: Tensor | None, rows: Blocks, columns: Blocks
) -> tuple[Tensor, Tensor | None, Blocks, Blocks]:
    """Only the codes that are read, if these are few of the columns, as in a view of a small part of an image."""
    (top, bottom), (left, right) = ((axis.first[0], axis.first[-1] + axis.reach) for axis in (rows, columns))
    if 2 * (right - left) > codes.shape[3]:
        return codes, image, rows, columns
    part = None if image is None else image[:, top:bottom, left:right]
    rows = replace(rows, first=[code - top for code in rows.first])
    columns = replace(columns, first=[code - left for code in columns.first])
    return codes[:, top:bottom, :, left:right].contiguous(), part, rows, columns


def scratch(functions: int, width: int, device: str) -> int:
    """The most bytes that `render_banded` needs besides its result, in tiles of `width` codes, in float32."""
    line = functions * COLOURS * width
    if device != "cpu":
        return 4 * 3 * WHOLE * line
    return torch.get_num_threads() * 4 * 3 * max(SCRATCH, PIXELS * line)


def _shares(rows: Blocks, line: int, on_cpu: bool) -> list[tuple[int, int]]:
    """The blocks of an axis as jobs, (first, end). line: the number of values in one row of codes."""
    count, jobs = len(rows.first), 1
    if on_cpu:
        jobs = min(count, max(-(-count * rows.cells * line // SCRATCH), torch.get_num_threads()))
    return [(count * i // jobs, count * (i + 1) // jobs) for i in range(jobs)]


def _render_on_cpu(
    codes: Tensor, image: Tensor | None, rows: Blocks, columns: Blocks, begin: int, end: int, out: Tensor
) -> None:
    """`_render_blocks` in float32, with the image added to the codes."""
    if codes.dtype == torch.float32:
        _render_blocks(codes, None, rows, columns, begin, end, out)
        return
    low, high = rows.first[begin], rows.first[end - 1] + rows.reach
    part = codes[low:high].float()
    if image is not None:
        functions = columns.series.shape[2] // columns.reach
        part[:, : functions * COLOURS : functions] += image[low:high]
    _render_blocks(part, None, rows, columns, begin, end, out, low)


def _render_blocks(
    codes: Tensor,
    image: Tensor | None,
    rows: Blocks,
    columns: Blocks,
    begin: int,
    end: int,
    out: Tensor,
    low: int = 0,
) -> None:
    """Fill the rows of `out` (H, W, 3) that belong to the blocks from `begin` to `end`.

    codes: (h, n * 3 * n, w), from the tile's row `low` on. image: (h, 3, w) or None.
    """
    for start, stop in rows.runs(begin, end):
        here, taken = _rows_of(rows, start, stop)
        first = rows.first[start] - low
        colours = _product(codes, rows.series[start:stop], columns.series, rows, columns, first)
        _place(out[here], colours[taken], columns.at)
        if image is not None:
            under = _product(image, rows.window[start:stop], columns.window, rows, columns, first)
            _place(out[here], under[taken], columns.at, added=True)


def _product(lines: Tensor, down: Tensor, across: Tensor, rows: Blocks, columns: Blocks, first: int) -> Tensor:
    """Both products of a run of blocks, (rows, blocks of columns, pixels, 3).

    lines: (h, functions of y * 3 * functions of x, w). down: (blocks, pixels, reach * functions). across: (blocks of columns,
    pixels, functions * reach). first: the row of `lines` at which the run begins.
    """
    tall = _down(lines, down.to(lines.dtype), rows, first)
    done = torch.bmm(_windows(tall, columns), across.to(lines.dtype).transpose(1, 2))
    return done.view(len(across), -1, COLOURS, columns.longest).permute(1, 0, 3, 2)


def _rows_of(rows: Blocks, start: int, stop: int) -> tuple[slice, slice | Tensor]:
    """The output rows that belong to the blocks from `start` to `stop`, and their positions among these blocks' rows."""
    low, high = start * rows.longest, stop * rows.longest
    if isinstance(rows.at, slice):
        begin, end = max(low, rows.at.start), min(high, rows.at.stop)
        return slice(begin - rows.at.start, end - rows.at.start), slice(begin - low, end - low)
    inside = ((rows.at >= low) & (rows.at < high)).nonzero().flatten()
    here = slice(int(inside[0]), int(inside[-1]) + 1)
    return here, rows.at[here] - low


def _down(lines: Tensor, band: Tensor, rows: Blocks, first: int) -> Tensor:
    """The first product for a run of blocks, (blocks * pixels * 3, functions of x, w), from row `first` on. The rows of codes
    that two blocks share are read in place, through overlapping strides."""
    depth, width = lines.shape[1:]
    functions = band.shape[2] // rows.reach
    line = depth * width // functions  # the colours and functions of x of one function of y
    shape, strides = (len(band), band.shape[2], line), (rows.cells * depth * width, line, 1)
    read = lines.as_strided(shape, strides, lines.storage_offset() + first * depth * width)
    return torch.bmm(band, read).view(-1, line // COLOURS // width, width)


def _windows(tall: Tensor, columns: Blocks) -> Tensor:
    """The part of `tall` (n, functions of x, w) that each block of columns reads: (blocks, n, functions of x * reach)."""
    count, functions, width = tall.shape
    wide = tall.new_empty(len(columns.first), count, functions, columns.reach)
    for begin, end in columns.runs(0, len(columns.first)):
        shape, strides = (end - begin, *wide.shape[1:]), (columns.cells, functions * width, width, 1)
        wide[begin:end] = tall.as_strided(shape, strides, tall.storage_offset() + columns.first[begin])
    return wide.flatten(2)


def _place(out: Tensor, colours: Tensor, at: slice | Tensor, added: bool = False) -> None:
    """Copy `colours` (rows, blocks, pixels, 3) to their places in `out` (rows, W, 3), or add them."""
    pixels = colours.shape[2]
    put = Tensor.add_ if added else Tensor.copy_
    if isinstance(at, Tensor):
        put(out, colours.flatten(1, 2)[:, at])
        return
    first, last = at.start // pixels, (at.stop - 1) // pixels
    middle = slice(first, last)
    for edge in (first, last):
        low, high = max(at.start, edge * pixels), min(at.stop, (edge + 1) * pixels)
        if high - low < pixels or edge == last:
            put(out[:, low - at.start : high - at.start], colours[:, edge, low - edge * pixels : high - edge * pixels])
            middle = slice(edge + 1, last) if edge == first else middle
        if first == last:
            return
    if middle.start < middle.stop:
        begin = middle.start * pixels - at.start
        view = out[:, begin : begin + (middle.stop - middle.start) * pixels]
        put(view.view(len(out), -1, pixels, COLOURS), colours[:, middle])

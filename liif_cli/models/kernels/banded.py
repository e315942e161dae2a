"""Separable functions on a regular grid as products of banded matrices: what the Fourier decoder renders with.

Each pixel of an axis reads two neighbouring codes. Pixels are taken in blocks that read the same few codes, so that the band
becomes one small dense matrix per block: first down the columns of codes, then along the rows. No gathers of codes; several
blocks at once make a product worth its call, few enough for what lies between the two to stay in the caches.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from liif_cli.machine.threads import run

CELLS, OTHER_CELLS = 8, 32  # codes per block on the CPU, and where each call costs more than what it does
PIXELS = 16  # per block and axis on the CPU, at least
SCRATCH = 2**20  # values of codes that a job on the CPU reads at most, unless one block has more
COLOURS = 3
WHOLE = 1024  # output rows that are rendered at once elsewhere


@dataclass(frozen=True)
class Taps:
    """One axis's pixels: the two codes that each reads, and what they weigh.

    lower: (..., n) int64, the code at or below each pixel, as an index in the tile, beyond the image's edges too. code: (...,
    n, 2) int64, that one and the next, clamped to the image. window: (..., n, 2), the weights of the two. function: (..., n, 2,
    functions), the functions at the pixel's offset from each code, times the window.
    """

    lower: Tensor
    code: Tensor
    window: Tensor
    function: Tensor


def banded(code: Tensor, values: Tensor, count: int) -> Tensor:
    """Weights of two codes, `values` (..., n, 2, functions) at `code` (..., n, 2), as a matrix (..., n, functions, count)."""
    index = code.unsqueeze(-1).expand(values.shape).transpose(-1, -2)
    matrix = values.new_zeros(*values.shape[:-2], values.shape[-1], count)
    return matrix.scatter_add(-1, index, values.transpose(-1, -2))


@dataclass(frozen=True)
class Blocks:
    """An axis's pixels in blocks of `cells` codes, filled up with pixels of weight zero to equally many.

    first: of each block, its first code. reach: the number of codes that each reads. series: (blocks, pixels, functions *
    reach) float32. window: (blocks, pixels, reach) float32. at: where the axis's pixels stand among all the blocks' pixels,
    ascending: a slice, or (n,) int64 where the scale is no whole number.
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
        low, high = int(taps.code[0, 0]), int(taps.code[-1, 1])  # of the codes that are read
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
        """The same, on a device."""
        at = self.at if isinstance(self.at, slice) else self.at.to(device)
        return replace(self, series=self.series.to(device), window=self.window.to(device), at=at)

    @property
    def count(self) -> int:
        """Pixels of the axis."""
        return self.at.stop - self.at.start if isinstance(self.at, slice) else len(self.at)

    @property
    def longest(self) -> int:
        """Pixels per block."""
        return self.series.shape[1]

    def runs(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """The blocks from `start` to `stop` as runs that begin at every `cells`-th code."""
        while start < stop:
            end = start + 1
            while end < stop and self.first[end] - self.first[end - 1] == self.cells:
                end += 1
            yield start, end
            start = end


def _places(block: Tensor, begin: Tensor) -> tuple[Tensor, int]:
    """Where pixels of ascending `block` (n,), the first of each at `begin` (blocks,), stand if all blocks have equal room, and
    how much: at the room's end in the first block and at its start in the others, so that they follow one another."""
    sizes = torch.diff(begin, append=begin.new_tensor([len(block)]))
    longest = int(sizes.max())
    place = torch.arange(len(block), device=block.device) - begin[block] + longest * block
    place[: int(sizes[0])] += longest - sizes[0]
    return place, longest


@torch.no_grad()
def render_banded(codes: Tensor, image: Tensor | None, rows: Blocks, columns: Blocks) -> Tensor:
    """Colours of a regular grid, (B, rows, columns, 3) float32.

    codes: (B, h, n * 3 * n, w), coefficients by (function of y, colour, function of x), contiguous. image: (B, h, w, 3)
    float32, to which they are added under the windows alone; None if the codes hold it. Products are computed in the codes'
    dtype; on the CPU in float32, where they are too narrow to be faster in 16 bits.
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
    """The part of the codes that is read, where that is few of their columns, as of a small part of an image to look at."""
    (top, bottom), (left, right) = ((axis.first[0], axis.first[-1] + axis.reach) for axis in (rows, columns))
    if 2 * (right - left) > codes.shape[3]:
        return codes, image, rows, columns
    part = None if image is None else image[:, top:bottom, left:right]
    rows = replace(rows, first=[code - top for code in rows.first])
    columns = replace(columns, first=[code - left for code in columns.first])
    return codes[:, top:bottom, :, left:right].contiguous(), part, rows, columns


def scratch(functions: int, width: int, device: str) -> int:
    """Bytes that `render_banded` takes at most besides its result, in tiles of `width` codes, in float32."""
    line = functions * COLOURS * width
    if device != "cpu":
        return 4 * 3 * WHOLE * line
    return torch.get_num_threads() * 4 * 3 * max(SCRATCH, PIXELS * line)


def _shares(rows: Blocks, line: int, on_cpu: bool) -> list[tuple[int, int]]:
    """The blocks of an axis as jobs, (first, end); line: values of one row of codes."""
    count, jobs = len(rows.first), 1
    if on_cpu:
        jobs = min(count, max(-(-count * rows.cells * line // SCRATCH), torch.get_num_threads()))
    return [(count * i // jobs, count * (i + 1) // jobs) for i in range(jobs)]


def _render_on_cpu(
    codes: Tensor, image: Tensor | None, rows: Blocks, columns: Blocks, begin: int, end: int, out: Tensor
) -> None:
    """`_render_blocks` in float32, with the image among the codes."""
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
    pixels, functions * reach). first: the row of `lines` that the run begins with.
    """
    tall = _down(lines, down.to(lines.dtype), rows, first)
    done = torch.bmm(_windows(tall, columns), across.to(lines.dtype).transpose(1, 2))
    return done.view(len(across), -1, COLOURS, columns.longest).permute(1, 0, 3, 2)


def _rows_of(rows: Blocks, start: int, stop: int) -> tuple[slice, slice | Tensor]:
    """The output rows that belong to the blocks from `start` to `stop`, and where they stand among these blocks' rows."""
    low, high = start * rows.longest, stop * rows.longest
    if isinstance(rows.at, slice):
        begin, end = max(low, rows.at.start), min(high, rows.at.stop)
        return slice(begin - rows.at.start, end - rows.at.start), slice(begin - low, end - low)
    inside = ((rows.at >= low) & (rows.at < high)).nonzero().flatten()
    here = slice(int(inside[0]), int(inside[-1]) + 1)
    return here, rows.at[here] - low


def _down(lines: Tensor, band: Tensor, rows: Blocks, first: int) -> Tensor:
    """The first product for a run of blocks, (blocks * pixels * 3, functions of x, w): every block reads rows of codes that
    the next one reads too, as they lie in memory from row `first` on."""
    depth, width = lines.shape[1:]
    functions = band.shape[2] // rows.reach
    line = depth * width // functions  # colours and functions of x of one function of y
    shape, strides = (len(band), band.shape[2], line), (rows.cells * depth * width, line, 1)
    read = lines.as_strided(shape, strides, lines.storage_offset() + first * depth * width)
    return torch.bmm(band, read).view(-1, line // COLOURS // width, width)


def _windows(tall: Tensor, columns: Blocks) -> Tensor:
    """What each block of columns reads of `tall` (n, functions of x, w): (blocks, n, functions of x * reach)."""
    count, functions, width = tall.shape
    wide = tall.new_empty(len(columns.first), count, functions, columns.reach)
    for begin, end in columns.runs(0, len(columns.first)):
        shape, strides = (end - begin, *wide.shape[1:]), (columns.cells, functions * width, width, 1)
        wide[begin:end] = tall.as_strided(shape, strides, tall.storage_offset() + columns.first[begin])
    return wide.flatten(2)


def _place(out: Tensor, colours: Tensor, at: slice | Tensor, added: bool = False) -> None:
    """Put `colours` (rows, blocks, pixels, 3) to where they belong in `out` (rows, W, 3), or add them."""
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

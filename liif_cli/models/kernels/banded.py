"""Separable functions on a regular grid as products of banded matrices: what the Fourier decoder renders with.

Each pixel of an axis reads two neighbouring codes. Pixels are taken in blocks that read the same few codes, so that the band
becomes one small dense matrix per block: first down the columns of codes, then along the rows. No gathers; every product is
large enough to be worth its call, and what lies between the two stays in the caches.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from liif_cli.machine.threads import run

CELLS = {"cpu": 8}  # codes per block: more of them waste products on zeros, fewer make them too small
OTHER_CELLS = 32  # on devices where each call costs more than what it does
COLOURS = 3


@dataclass(frozen=True)
class Taps:
    """One axis's pixels: the two codes that each reads, and what they weigh.

    code: (..., n, 2) int64, indices in the tile. window: (..., n, 2), the weights of the two. function: (..., n, 2, functions),
    the functions at the pixel's offset from each code, times the window.
    """

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
    """An axis's pixels in blocks of up to `cells` codes, filled up with pixels of weight zero to equally many.

    first: of each block, its first code. stop: the pixels that came before its end. series: (blocks, pixels, functions * reach)
    float32, `reach` being the codes that a block reads. window: (blocks, pixels, reach). at: (n,), where each pixel of the axis
    stands among the blocks' pixels; None if they are all there is.
    """

    first: list[int]
    stop: list[int]
    cells: int
    reach: int
    series: Tensor
    window: Tensor
    at: Tensor | None

    @classmethod
    def of(cls, taps: Taps, cells: int, by_code: bool) -> "Blocks":
        """The blocks of an axis. by_code: order the columns of `series` by (code, function) instead of (function, code)."""
        low, last = int(taps.code.min()), int(taps.code.max())
        cells = min(cells, max(1, last - low))
        # A pixel belongs to the block of its lower code. The last block is moved so that it ends with the last code.
        block = (taps.code[:, 0] - low).div(cells, rounding_mode="floor").clamp(max=(max(last - low, 1) - 1) // cells)
        sizes = torch.bincount(block)
        first = (low + cells * torch.arange(len(sizes), device=block.device)).clamp(max=max(low, last - cells))
        reach = min(cells, last - low) + 1
        longest, stop = int(sizes.max()), sizes.cumsum(0)
        place = torch.arange(len(block), device=block.device) - (stop - sizes)[block] + longest * block
        inside = taps.code - first[block].unsqueeze(1)

        def spread(values: Tensor) -> Tensor:
            matrix = banded(inside, values, reach)
            if by_code:
                matrix = matrix.transpose(1, 2)
            padded = matrix.new_zeros(len(sizes) * longest, *matrix.shape[1:])
            padded[place] = matrix
            return padded.view(len(sizes), longest, -1)

        series, window = spread(taps.function), spread(taps.window.unsqueeze(-1))
        whole = len(block) == len(sizes) * longest
        return cls(first.tolist(), stop.tolist(), cells, reach, series, window, None if whole else place)


@torch.no_grad()
def render_banded(codes: Tensor, image: Tensor | None, y: Taps, x: Taps) -> Tensor:
    """Colours of a regular grid, (B, rows, columns, 3) float32.

    codes: (B, h, n * 3 * n, w), coefficients by (function of y, colour, function of x). image: (B, h, w, 3) float32, to which
    they are added under the windows alone; None if the codes hold it.
    """
    cells = CELLS.get(codes.device.type, OTHER_CELLS)
    rows, columns = Blocks.of(y, cells, by_code=True), Blocks.of(x, cells, by_code=False)
    out = codes.new_empty(len(codes), len(y.code), len(x.code), COLOURS, dtype=torch.float32)
    planes = None if image is None else image.permute(0, 1, 3, 2).contiguous()
    jobs: list[Callable[[], None]] = [
        partial(_render_block, codes[i], None if planes is None else planes[i], rows, columns, block, out[i])
        for i in range(len(codes))
        for block in range(len(rows.first))
    ]
    if codes.device.type == "cpu":
        run(jobs)
    else:
        for job in jobs:
            job()
    return out


def _render_block(codes: Tensor, image: Tensor | None, rows: Blocks, columns: Blocks, block: int, out: Tensor) -> None:
    """Fill a block's rows of `out` (H, W, 3). codes: (h, n * 3 * n, w). image: (h, 3, w) or None."""
    colours = _product(codes, rows.series[block], columns.series, rows.first[block], columns)
    if image is not None:
        colours += _product(image, rows.window[block], columns.window, rows.first[block], columns)
    start = rows.stop[block - 1] if block else 0
    out[start : rows.stop[block]] = colours[: rows.stop[block] - start]


def _product(lines: Tensor, down: Tensor, across: Tensor, first: int, columns: Blocks) -> Tensor:
    """One block of rows through both products, (pixels, W, 3) float32.

    lines: (h, functions of y * 3 * functions of x, w). down: (pixels, reach * functions). across: (blocks, pixels, functions *
    reach).
    """
    width = lines.shape[-1]
    own = across.shape[2] // columns.reach  # functions of x
    read = lines[first : first + down.shape[1] * COLOURS * own // lines.shape[1]]
    tall = (down.to(lines.dtype) @ read.reshape(down.shape[1], -1)).view(len(down) * COLOURS, own, width)
    wide = tall.new_empty(len(across), len(tall), own, columns.reach)
    regular, begin = len(across) - 1, columns.first[0]
    shape, strides = wide[:-1].shape, (columns.cells, own * width, width, 1)
    wide[:regular] = tall.as_strided(shape, strides, tall.storage_offset() + begin)  # overlapping, one after another
    wide[regular] = tall[:, :, columns.first[-1] : columns.first[-1] + columns.reach]
    done = torch.bmm(wide.flatten(2), across.to(lines.dtype).transpose(1, 2))
    colours = done.view(len(across), len(down), COLOURS, -1).permute(1, 0, 3, 2).reshape(len(down), -1, COLOURS).float()
    return colours if columns.at is None else colours[:, columns.at]

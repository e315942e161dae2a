# mypy: disable-error-code="no-untyped-call,no-untyped-def,untyped-decorator,misc"
"""The LIIF decoder on a regular grid as one CUDA kernel, which keeps the hidden layers in the chip's own memory.

Written in Triton, which is part of torch's CUDA builds. A layer's weights, 128 KiB, must fit into shared memory, as they do on
data-centre GPUs. Before the kernel is used, `works` compares it with the plain path on the same device. If it fails or differs,
the plain path is used.
"""

from functools import cache
from itertools import product
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from liif_cli.coords import Axis
from liif_cli.models.interfaces import Field
from liif_cli.models.kernels.neighbours import Neighbours
from liif_cli.models.kernels.plain import Decoding, Layers, render_plain

ROWS = 128  # per product: the corners of 32 pixels, or 128 pixels without an ensemble
OUTPUTS = 16  # the width of the narrowest product; three of its columns are colours


@triton.jit
def _decode(
    codes,  # (h, w, WIDTH)
    at_y,  # (rows,) int64, the pixels' positions in the output
    code_y,  # (HIGH, rows) int64, then its relative coords and the second neighbour's share (rows,), float32
    relative_y,
    share_y,
    at_x,  # the same for columns; code_x is (WIDE, columns)
    code_x,
    relative_x,
    share_x,
    first,  # (3, WIDTH) float32: the first layer's weights of relative y and relative x, and the constant
    weights,  # (LAYERS, WIDTH, WIDTH) inputs by outputs
    biases,  # (LAYERS, WIDTH) float32
    last,  # (WIDTH, OUTPUTS) inputs by outputs
    last_bias,  # (OUTPUTS,) float32
    out,  # (rows, columns, 3) float32
    rows,
    columns,
    codes_wide,
    out_stride,
    LAYERS: tl.constexpr,
    WIDTH: tl.constexpr,
    HIGH: tl.constexpr,
    WIDE: tl.constexpr,
    PIXELS: tl.constexpr,
    OUTPUTS: tl.constexpr,
):
    y = tl.program_id(1)
    CORNERS: tl.constexpr = HIGH * WIDE
    line = tl.arange(0, CORNERS * PIXELS)
    corner, x = line // PIXELS, tl.program_id(0) * PIXELS + line % PIXELS
    dy, dx, inside = corner // WIDE, corner % WIDE, x < columns
    feature, output = tl.arange(0, WIDTH), tl.arange(0, OUTPUTS)

    at = tl.load(code_y + dy * rows + y) * codes_wide + tl.load(code_x + dx * columns + x, mask=inside, other=0)
    values = tl.load(codes + at[:, None] * WIDTH + feature[None, :]).to(tl.float32)
    values += tl.load(relative_y + dy * rows + y)[:, None] * tl.load(first + feature)[None, :]
    values += (
        tl.load(relative_x + dx * columns + x, mask=inside, other=0.0)[:, None]
        * tl.load(first + WIDTH + feature)[None, :]
    )
    values += tl.load(first + 2 * WIDTH + feature)[None, :]
    for layer in tl.static_range(LAYERS):
        weight = tl.load(weights + layer * WIDTH * WIDTH + feature[:, None] * WIDTH + feature[None, :])
        values = tl.dot(tl.maximum(values, 0.0).to(weight.dtype), weight)
        values += tl.load(biases + layer * WIDTH + feature)[None, :]
    weight = tl.load(last + feature[:, None] * OUTPUTS + output[None, :])
    colours = tl.dot(tl.maximum(values, 0.0).to(weight.dtype), weight)
    colours += tl.load(last_bias + output)[None, :]

    if HIGH == 2:
        below = tl.load(share_y + y)
        colours *= tl.where(dy == 1, below, 1 - below)[:, None]
    if WIDE == 2:
        right = tl.load(share_x + x, mask=inside, other=0.0)
        colours *= tl.where(dx == 1, right, 1 - right)[:, None]
    colours = tl.sum(tl.reshape(colours, (CORNERS, PIXELS, OUTPUTS)), 0)
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    place = tl.load(at_x + pixel, mask=pixel < columns, other=0)
    where = out + tl.load(at_y + y) * out_stride + place[:, None] * 3 + output[None, :]
    tl.store(where, colours, mask=(pixel < columns)[:, None] & (output < 3)[None, :])


def fits(layers: Layers, codes: Tensor) -> bool:
    """Whether the kernel supports these layers: 16 bits, and hidden layers of one width, a power of two from 16 to 256."""
    widths = {len(layers.coord), *(layer.out_features for layer in layers.later[:-1])}
    width = widths.pop()
    return codes.dtype in (torch.float16, torch.bfloat16) and not widths and width in (16, 32, 64, 128, 256)


def render_fused(layers: Layers, field: Field, rows: Axis, columns: Axis) -> Tensor:
    """Colours of a regular grid, (B, len(rows), len(columns), 3) float32, normalised, not clamped, equal to `render_grid`.

    Products are in the codes' dtype, accumulated in float32; the last layer's result is not rounded. In addition to its result,
    it needs memory only for the weights in 16 bits and a few numbers per row and column.
    """
    codes = field.codes.contiguous()
    out = codes.new_empty(codes.shape[0], len(rows), len(columns), 3, dtype=torch.float32)
    y, x = (
        Neighbours.of(axis, origin, layers.ensemble, codes.device)
        for axis, origin in zip((rows, columns), field.origin, strict=True)
    )
    parameters = _parameters(layers, codes.dtype, (rows.cell, columns.cell))
    for image, result in zip(codes, out, strict=True):
        for rows_of, columns_of in product(y.by_need(), x.by_need()):
            for top in range(0, len(rows_of), 65535):  # CUDA's limit for the second axis of a launch
                _launch(image, rows_of.part(top, top + 65535), columns_of, parameters, result)
    return out


def _launch(codes: Tensor, rows: Neighbours, columns: Neighbours, layers: list[Tensor], out: Tensor) -> None:
    """Fill `out`, (H, W, 3), at these rows and columns."""
    high, wide = len(rows.code), len(columns.code)
    pixels = ROWS // (high * wide)
    arguments = [
        tensor.contiguous()
        for n in (rows, columns)
        for tensor in (n.at, torch.from_numpy(n.code).to(codes.device), n.relative, n.share)
    ]
    launch: Any = _decode[(triton.cdiv(len(columns), pixels), len(rows))]
    launch(
        codes, *arguments, *layers, out, len(rows), len(columns), codes.shape[1], 3 * out.shape[1],
        len(layers[1]), codes.shape[2], high, wide, pixels, OUTPUTS, num_warps=8,
    )  # fmt: skip


def _parameters(layers: Layers, dtype: torch.dtype, cell: tuple[float, float]) -> list[Tensor]:
    """The layers' parameters in the kernel's order and layouts."""
    decoding = Decoding(layers, torch.float32, cell)
    hidden, last = layers.later[:-1], layers.later[-1]
    width = last.in_features
    empty = last.weight.new_empty(0, width, width)
    weights = torch.stack([layer.weight.detach().T for layer in hidden]) if hidden else empty
    biases = torch.stack([layer.bias.detach() for layer in hidden]) if hidden else empty
    wide, bias = last.weight.new_zeros(width, OUTPUTS), last.weight.new_zeros(OUTPUTS)
    wide[:, : last.out_features], bias[: last.out_features] = last.weight.detach().T, last.bias.detach()
    first = torch.stack([decoding.coordinates.y, decoding.coordinates.x, decoding.coordinates.constant])
    return [
        first.contiguous(), weights.to(dtype).contiguous(), biases.float().contiguous(), wide.to(dtype), bias.float(),
    ]  # fmt: skip


@cache
def works(device: torch.device, dtype: torch.dtype, ensemble: bool, width: int) -> bool:
    """Whether the kernel compiles on this device and agrees with the plain path. Never raises."""
    with torch.random.fork_rng([]), torch.no_grad():
        torch.manual_seed(0)
        later = [nn.Linear(width, width), nn.Linear(width, 3)]
        coord, cell, codes = torch.randn(width, 2), torch.randn(width, 2), torch.randn(1, 6, 7, width)
    layers = Layers(coord.to(device), cell.to(device), [layer.to(device) for layer in later], ensemble)
    field = Field(codes.to(device, dtype), (0, 0), (6, 7))
    rows, columns = Axis.whole(6, 20), Axis.whole(7, 41)
    try:
        ours = render_fused(layers, field, rows, columns)
        plain = render_plain(layers, field, rows, columns)
    except Exception:  # Triton's compiler can raise anything; the plain path gives the same numbers
        return False
    error: Any = (ours - plain).abs().max()
    return bool(error <= 8 * torch.finfo(dtype).eps * plain.abs().max())

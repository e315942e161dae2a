"""The hidden layers as one product each: bias and ReLU inside oneDNN's packed linear, where this build of torch has it.

The operators are those that torch's own compiler emits. They are private: whether they are there, and right, is tried once
for each dtype, and without them the same layers run on torch's public functions.
"""

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Layer = Callable[[Tensor], Tensor]
PIECE = 2048  # rows that become float32 at once
# A row has to become the same however many are multiplied with it, but small products go to other kernels, which add up in
# another order: MKL has one for fewer than 4 rows of float32 and oneDNN one for a single row of bf16 (AVX-512 without bf16
# instructions); products of 16 bits with at most 16^3 multiplications never reach oneDNN, since torch does those itself.
LEAST_ROWS = 4
LEAST_MULTIPLICATIONS = 16**3 + 1
FLOAT32_SUMS = 1e-6  # how much the order of addition may change a sum of about 1 in float32


def pack(linears: Sequence[nn.Linear], dtype: torch.dtype) -> tuple[list[Layer], Layer]:
    """The linear layers ready for products in `dtype`: those with a ReLU behind them, and the last one.

    The hidden ones map (M, inputs) of `dtype` to (M, outputs) of `dtype`, accumulating in float32; the last one's result is
    float32, and rounded to fp16 on the way at most. No gradients pass. A row becomes the same whatever their number.
    """
    fused = linears[0].weight.device.type == "cpu" and works(dtype)
    make_hidden, make_last = (_fused_hidden, _fused_last) if fused else (_plain_hidden, _plain_last)
    parameters = [(linear.weight.detach().to(dtype), linear.bias.detach()) for linear in linears]
    hidden = [with_rows(make_hidden(w, b.to(dtype)), least_rows(w)) for w, b in parameters[:-1]]
    weight, bias = parameters[-1]
    return hidden, with_rows(make_last(weight, bias.float()), least_rows(weight))


def least_rows(weight: Tensor) -> int:
    """How many rows a product with `weight`, a matrix, needs for the kernel that large products go to."""
    if weight.dtype == torch.float32:
        return LEAST_ROWS
    return max(LEAST_ROWS, -(-LEAST_MULTIPLICATIONS // weight.numel()))


def with_rows(layer: Layer, least: int) -> Layer:
    """`layer`, called with at least `least` rows: fewer are followed by zeros, whose results are dropped."""

    def padded(x: Tensor) -> Tensor:
        missing = least - len(x)
        return layer(x) if missing <= 0 else layer(F.pad(x, (0, 0, 0, missing)))[: len(x)]

    return padded


def _plain_hidden(weight: Tensor, bias: Tensor) -> Layer:
    return lambda x: F.linear(x, weight, bias).relu_()


def _plain_last(weight: Tensor, bias: Tensor) -> Layer:
    weight = weight.float()
    product = with_rows(lambda rows: F.linear(rows.float(), weight, bias), LEAST_ROWS)

    def last(x: Tensor) -> Tensor:
        # On the CPU in pieces, since all of `x` in float32 would be as much again as two 16-bit layers.
        pieces = torch.split(x, PIECE) if x.device.type == "cpu" else (x,)
        return torch.cat([product(rows) for rows in pieces])

    return last


def _fused_hidden(weight: Tensor, bias: Tensor) -> Layer:
    operators = torch.ops.mkldnn
    packed = operators._reorder_linear_weight(weight, None)

    def hidden(x: Tensor) -> Tensor:
        result: Tensor = operators._linear_pointwise(x, packed, bias, "relu", [], "")
        return result

    return hidden


def _fused_last(weight: Tensor, bias: Tensor) -> Layer:
    operators = torch.ops.mkldnn
    packed = operators._reorder_linear_weight(weight, None)

    def product(x: Tensor) -> Tensor:
        result: Tensor = operators._linear_pointwise(x, packed, None, "none", [], "")
        return result

    def precise(x: Tensor) -> Tensor:
        # The product is accumulated in float32 but comes out in 16 bits. A second one, from which the first result is
        # taken before it is rounded, gives what rounding lost: cheaper than turning all of `x` into float32.
        coarse = product(x)
        rest = operators._linear_pointwise.binary(x, coarse, packed, None, "sub")
        return torch.add(bias, coarse).add_(rest)

    # fp16 rounds the result by a small part of what the hidden layers' rounding has done to it; bf16 by more.
    return precise if weight.dtype == torch.bfloat16 else lambda x: torch.add(bias, product(x))


@cache
def works(dtype: torch.dtype) -> bool:
    """Whether the fused operators exist on this machine and give what the public functions give. Never raises."""
    random = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(shape, generator=random).to(dtype) for shape in ((48, 64), (32, 64)))
    weight, bias = weight / 8, torch.randn(32, generator=random).to(dtype)  # results of about 1
    hidden = F.linear(x.double(), weight.double(), bias.double()).relu().float()
    last = F.linear(x.double(), weight.double()).float()
    step = max(torch.finfo(dtype).eps, FLOAT32_SUMS)
    fine = step if dtype == torch.float16 else max(step**2, FLOAT32_SUMS)
    try:
        close = torch.allclose(_fused_hidden(weight, bias)(x).float(), hidden, rtol=step, atol=step)
        return close and torch.allclose(_fused_last(weight, torch.zeros(32))(x), last, rtol=fine, atol=fine)
    except (AttributeError, RuntimeError, NotImplementedError, TypeError):
        return False

"""The hidden layers as one product each: oneDNN's packed linear fuses bias and ReLU, if this build of torch has it.

The operators are those that torch's own compiler emits. They are private, so `works` tests once per dtype whether they exist
and are correct; otherwise, the layers use torch's public functions.
"""

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Layer = Callable[[Tensor], Tensor]
PIECE = 2048  # rows that are converted to float32 at once
# A row's result must not depend on the number of rows, but small products use other kernels, which sum in another order: MKL
# has one for fewer than 4 rows of float32, oneDNN has one for a single row of bf16 (AVX-512 without bf16 instructions), and
# torch itself computes 16-bit products of at most 16^3 multiplications.
LEAST_ROWS = 4
LEAST_MULTIPLICATIONS = 16**3 + 1
FLOAT32_SUMS = 1e-6  # the error that the order of summation may cause in float32 sums of about 1


def pack(linears: Sequence[nn.Linear], dtype: torch.dtype) -> tuple[list[Layer], Layer]:
    """The linear layers prepared for products in `dtype`: those followed by a ReLU, and the last one.

    The hidden ones map (M, inputs) of `dtype` to (M, outputs) of `dtype`, accumulating in float32. The last one's result is
    float32; with fp16 it may be rounded to fp16 first. No gradients. A row's result does not depend on the number of rows.
    """
    fused = linears[0].weight.device.type == "cpu" and works(dtype)
    make_hidden, make_last = (_fused_hidden, _fused_last) if fused else (_plain_hidden, _plain_last)
    parameters = [(linear.weight.detach().to(dtype), linear.bias.detach()) for linear in linears]
    hidden = [with_rows(make_hidden(w, b.to(dtype)), least_rows(w)) for w, b in parameters[:-1]]
    weight, bias = parameters[-1]
    return hidden, with_rows(make_last(weight, bias.float()), least_rows(weight))


def least_rows(weight: Tensor) -> int:
    """The fewest rows with which a product with the matrix `weight` uses the kernel of large products."""
    if weight.dtype == torch.float32:
        return LEAST_ROWS
    return max(LEAST_ROWS, -(-LEAST_MULTIPLICATIONS // weight.numel()))


def with_rows(layer: Layer, least: int) -> Layer:
    """`layer`, called with at least `least` rows: fewer are padded with zeros, whose results are dropped."""

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
        # On the CPU in pieces, because all of `x` in float32 would need as much memory as two 16-bit layers.
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
        # The product is accumulated in float32 but returned in 16 bits. A second product, minus the first result before it is
        # rounded, gives the rounding error: cheaper than converting all of `x` to float32.
        coarse = product(x)
        rest = operators._linear_pointwise.binary(x, coarse, packed, None, "sub")
        return torch.add(bias, coarse).add_(rest)

    # In fp16, rounding the result adds little to the error of the hidden layers; in bf16 it adds more.
    return precise if weight.dtype == torch.bfloat16 else lambda x: torch.add(bias, product(x))


@cache
def works(dtype: torch.dtype) -> bool:
    """Whether the fused operators exist on this machine and agree with the public functions. Never raises."""
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

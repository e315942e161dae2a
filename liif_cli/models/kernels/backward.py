"""The local ensemble through the MLP, forward and backward, in pieces that stay in the processor's cache.

Replaces autograd on whole batches: each piece of the queries goes through all layers before the next one, ReLU works in place,
and the gradient of the gathered codes is a sum over sorted segments in a fixed order (the gradient of indexing is neither fast
nor deterministic on the CPU). One hidden layer of a batch of 16 x 2,304 queries with 4 corners each is 75 MB in bf16; a piece
of it is 2 MB.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from liif_cli.models.kernels import hidden_layers

BYTES_AT_ONCE = 2**21  # of one hidden layer on the CPU: about the size of a core's second-level cache


@dataclass(frozen=True)
class Corners:
    """The latent codes around each query, with the other inputs of the first layer.

    index: (B, C, Q) int64, the code of each of C corners, as an index into the flattened (B * h * w) codes. relative: (B, C, Q,
    2) float64, the relative coord. share: (B, C, Q) float64, each corner's weight in the blend; they sum to 1.
    """

    index: Tensor
    relative: Tensor
    share: Tensor


def decode(
    codes: Tensor, corners: Corners, inputs: Tensor, first: Tensor, layers: Sequence[tuple[Tensor, Tensor]]
) -> Tensor:
    """Blend the MLP's colours of each query's corners.

    codes: (B, h, w, D), the latent codes' part of the first layer. inputs: (B, C, Q, K), its other inputs, and first: (D, K),
    their weight. layers: weight and bias of the layers after the first, with ReLU before each.
    Returns (B, Q, outputs) float32. Products are in the dtype of `codes`; inputs are split in two to double its precision.
    """
    flat = [tensor for layer in layers for tensor in layer]
    needed = torch.is_grad_enabled() and any(t.requires_grad for t in (codes, first, *flat))
    if codes.dtype != torch.float32:
        high = inputs.to(codes.dtype)
        inputs, first = torch.cat([high, (inputs - high).to(codes.dtype)], -1), torch.cat([first, first], 1)
    inputs, share = inputs.to(codes.dtype), corners.share.float()
    colours: Tensor = _Ensemble.apply(needed, codes, corners.index, inputs, share, first, *flat)  # type: ignore[no-untyped-call]
    return colours


def _pieces(shape: torch.Size, like: Tensor) -> Iterator[tuple[slice, list[slice]]]:
    """The images, and the ranges of queries in each, that go through the layers together. shape: (B, C, Q) of the index."""
    batch, corners, queries = shape
    if like.device.type != "cpu":
        yield slice(0, batch), [slice(0, queries)]
        return
    step = max(1, BYTES_AT_ONCE // (corners * like.shape[-1] * like.element_size()))
    for image in range(batch):
        yield slice(image, image + 1), [slice(start, min(start + step, queries)) for start in range(0, queries, step)]


class _Ensemble(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, keep: bool, codes: Tensor, index: Tensor, inputs: Tensor, share: Tensor, first: Tensor, *flat: Tensor
    ) -> Tensor:
        dtype, rows = codes.dtype, codes.flatten(0, -2)
        weights, biases = [w.to(dtype) for w in flat[::2]], [b.to(dtype) for b in flat[1::2]]
        lift = first.to(dtype).t()
        colours = share.new_empty(index.shape[0], index.shape[2], weights[-1].shape[0])
        kept: list[list[Tensor]] = []
        for images, queries in _pieces(index.shape, codes):
            for piece in queries:
                hidden = rows.index_select(0, index[images, :, piece].reshape(-1))
                hidden.addmm_(inputs[images, :, piece].reshape(-1, inputs.shape[-1]), lift).relu_()
                hiddens = [hidden]
                for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
                    hiddens.append(_linear_relu(hiddens[-1], weight, bias))
                out = F.linear(hiddens[-1], weights[-1], biases[-1]).to(share.dtype)
                shares = share[images, :, piece].unsqueeze(-1)
                colours[images, piece] = (out.view(*shares.shape[:3], -1) * shares).sum(1)
                kept.append(hiddens if keep else [])
        if keep:
            ctx.kept = kept
            ctx.save_for_backward(codes, index, inputs, share, first, *weights)
        return colours

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        codes, index, inputs, share, first, *weights = ctx.saved_tensors
        grad_codes = torch.empty_like(codes)
        grad_first = torch.zeros_like(first)
        grads = [torch.zeros_like(w, dtype=torch.float32) for w in weights]
        grad_biases = [w.new_zeros(w.shape[0], dtype=torch.float32) for w in weights]
        kept = iter(ctx.kept)
        for images, queries in _pieces(index.shape, codes):
            own = index[images]
            rows = codes.new_empty(*own.shape, codes.shape[-1])
            for piece in queries:
                hiddens = next(kept)
                shares = share[images, :, piece].unsqueeze(-1)
                g = (grad[images, None, piece] * shares).flatten(0, 2).to(codes.dtype)
                for i in range(len(weights) - 1, -1, -1):
                    grads[i] += g.t() @ hiddens[i]
                    grad_biases[i] += g.sum(0)
                    g = g @ weights[i]
                    torch.ops.aten.threshold_backward.grad_input(g, hiddens[i], 0, grad_input=g)
                hiddens.clear()
                grad_first += g.t() @ inputs[images, :, piece].reshape(-1, inputs.shape[-1])
                rows[:, :, piece] = g.view(*shares.shape[:3], -1)
            target = grad_codes[images].flatten(0, -2)
            first_code = (images.start or 0) * (target.shape[0] // own.shape[0])
            target.copy_(sum_segments(rows.flatten(0, 2), own.flatten() - first_code, target.shape[0]))
        return (
            None,
            grad_codes,
            None,
            None,
            None,
            grad_first,
            *(t for p in zip(grads, grad_biases, strict=True) for t in p),
        )


def _linear_relu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """relu(x @ weight.T + bias), fused if this build of torch can."""
    if x.device.type == "cpu" and hidden_layers.works(x.dtype):
        result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "relu", [], "")
        return result
    return F.linear(x, weight, bias).relu_()


def sum_segments(rows: Tensor, index: Tensor, count: int) -> Tensor:
    """(count, D): the sum of the rows (R, D) of each index (R,). The transpose of a gather, in a fixed order."""
    if rows.device.type not in ("cpu", "cuda"):
        return rows.new_zeros(count, rows.shape[1]).index_add_(0, index, rows)
    order = index.argsort(stable=True)
    offsets = F.pad(torch.bincount(index, minlength=count).cumsum(0), (1, 0))
    return F.embedding_bag(order, rows, offsets, mode="sum", include_last_offset=True)

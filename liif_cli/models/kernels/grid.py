"""The LIIF decoder on a regular grid of pixels (paper, eq. 2 to 4), without a gather or a coordinate for each query.

In the first layer, the coordinates contribute the sum of one vector for the pixel's row and one for its column. So the
features' part and the column's are added once per row of *codes*, and each row of pixels adds one vector to two such sums.
Corners whose weight is exactly 0, which occur at odd scales, are not evaluated. Positions are computed in exact integers and
float64, sums in float32 and rounded once, the hidden layers in the codes' dtype, and the ensemble in float32.
"""

from importlib.util import find_spec

import torch
from torch import Tensor

from liif_cli.coords import Axis
from liif_cli.models.interfaces import Field
from liif_cli.models.kernels.plain import Layers, render_plain


@torch.no_grad()
def render_grid(layers: Layers, field: Field, rows: Axis, columns: Axis, queries: int | None = None) -> Tensor:
    """Colours of a regular grid, (B, len(rows), len(columns), 3) float32, normalised, not clamped, equal to `query`.

    queries: pixels per thread at once; colours do not depend on it. Needs `plain.scratch_bytes` in addition to its result. On a
    CUDA device, one kernel computes all of it in 16 bits, if the device supports it.
    """
    if field.codes.is_cuda and len(rows) and len(columns) and _kernel_runs(layers, field.codes):
        from liif_cli.models.kernels.triton_grid import render_fused

        return render_fused(layers, field, rows, columns)
    return render_plain(layers, field, rows, columns, queries)


def _kernel_runs(layers: Layers, codes: Tensor) -> bool:
    if find_spec("triton") is None:
        return False
    from liif_cli.models.kernels.triton_grid import fits, works

    return fits(layers, codes) and works(codes.device, codes.dtype, layers.ensemble, codes.shape[3])

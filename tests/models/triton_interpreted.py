"""Compare the CUDA kernel, run by Triton's interpreter on the CPU, with the plain path. Started by test_triton_grid.py.

In fp16 only: the interpreter keeps bf16 as integers and multiplies those.
"""

import torch
from tiny_models import golden_model, tiny_config

from liif_cli.coords import Axis
from liif_cli.models.kernels.plain import render_plain
from liif_cli.models.kernels.triton_grid import fits, render_fused, works


@torch.no_grad()
def main() -> None:
    part = Axis.whole(20, 51).part(12, 19), Axis.whole(14, 61).part(30, 61)
    thrice = Axis.whole(20, 60).part(12, 19), Axis.whole(14, 42).part(21, 39)  # corners without weight, left out
    for grid, options in (
        (part, {}),
        (thrice, {}),
        (part, {"local_ensemble": False}),
        (part, {"cell_decoding": False}),
        (part, {"hidden": (32,)}),
        (part, {"hidden": (16, 16, 16)}),
    ):
        model = golden_model(tiny_config(**options))
        image = torch.rand(2, 3, 7, 9, generator=torch.Generator().manual_seed(0))
        field = model.decoder.prepare(model.encoder(image), None, (3, 5), (20, 14), torch.float16)
        assert fits(model.decoder.layers(), field.codes)
        ours = render_fused(model.decoder.layers(), field, *grid)
        plain = render_plain(model.decoder.layers(), field, *grid)
        assert ours.shape == plain.shape == (2, *map(len, grid), 3)
        error = float((ours - plain).abs().max() / plain.abs().max())
        print(options, f"{error:.1e}")
        assert error <= 4 * torch.finfo(torch.float16).eps
        assert not fits(model.decoder.layers(), field.codes.float())
    assert works(torch.device("cpu"), torch.float16, True, 32)


if __name__ == "__main__":
    main()

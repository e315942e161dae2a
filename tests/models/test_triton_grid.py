"""The CUDA kernel: right in Triton's interpreter, chosen on a GPU only, and never needed."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from tiny_models import golden_model, tiny_config

from liif_cli.coords import Axis
from liif_cli.models.kernels import grid
from liif_cli.models.kernels.plain import render_plain
from liif_cli.models.registry import PRESETS

needs_triton = pytest.mark.skipif(
    find_spec("triton") is None, reason="Triton is not installed (torch's CUDA builds bring it)"
)


@needs_triton
def test_right_in_the_interpreter() -> None:
    """In a process of its own: Triton reads TRITON_INTERPRET when it is imported."""
    script = Path(__file__).parent / "triton_interpreted.py"
    path = os.pathsep.join([str(script.parents[2]), str(script.parents[1]), *filter(None, sys.path)])
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": path}
    ran = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stderr
    assert len(ran.stdout.splitlines()) == 6


def test_the_cpu_never_asks_for_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "liif_cli.models.kernels.triton_grid", None)  # importing it would raise
    model = golden_model(tiny_config())
    field = model.encode(torch.rand(1, 3, 5, 5), dtype=torch.float16)
    assert model.render(field, Axis.whole(5, 9), Axis.whole(5, 9)).isfinite().all()


def test_without_triton_the_plain_path_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "find_spec", lambda name: None)
    model = golden_model(tiny_config())
    assert not grid._kernel_runs(
        model.decoder.layers(), model.encode(torch.rand(1, 3, 5, 5), dtype=torch.float16).codes
    )


@needs_triton
def test_a_kernel_that_does_not_compile_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    from liif_cli.models.kernels import triton_grid

    # Without a GPU Triton has no driver, and launching the kernel raises.
    if torch.cuda.is_available():
        monkeypatch.setattr(triton_grid, "_decode", None)
    assert not triton_grid.works.__wrapped__(torch.device("cpu"), torch.float16, True, 32)


@pytest.mark.slow
@needs_triton
@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")  # Triton 3.9 on a default that will change
@pytest.mark.parametrize("capability", [80, 90])
def test_compiles_without_a_gpu(capability: int) -> None:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    from liif_cli.models.kernels.triton_grid import OUTPUTS, ROWS, _decode

    kinds = {
        "codes": "*fp16",
        "weights": "*fp16",
        "last": "*fp16",
        **dict.fromkeys(("at_y", "code_y", "at_x", "code_x"), "*i64"),
    }
    kinds |= dict.fromkeys(("rows", "columns", "codes_wide", "out_stride"), "i32")
    constants = {"LAYERS": 3, "WIDTH": 256, "HIGH": 2, "WIDE": 2, "PIXELS": ROWS // 4, "OUTPUTS": OUTPUTS}
    signature = {n: "constexpr" if n in constants else kinds.get(n, "*fp32") for n in _decode.arg_names}
    source = ASTSource(_decode, signature, {(_decode.arg_names.index(n),): v for n, v in constants.items()})
    kernel = compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": 8})
    assert kernel.metadata.shared <= 163 * 1024
    assert ("wgmma" if capability == 90 else "mma.sync") in kernel.asm["ptx"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["edsr-baseline-liif", "edsr-baseline-liif-e"])
def test_kernel_on_a_gpu(dtype: torch.dtype, name: str) -> None:
    model = golden_model(PRESETS[name]).cuda()
    image = torch.rand(1, 3, 24, 31, generator=torch.Generator().manual_seed(0)).cuda()
    rows, columns = Axis.whole(24, 97), Axis.whole(31, 201)
    with torch.no_grad():
        field = model.encode(image, dtype=dtype)
        assert grid._kernel_runs(model.decoder.layers(), field.codes)
        ours = model.decoder.render(field, rows, columns)
        plain = render_plain(model.decoder.layers(), field, rows, columns)
        exact = model.decoder.render(model.encode(image), rows, columns)
    assert (ours - plain).abs().max() <= 8 * torch.finfo(dtype).eps * plain.abs().max()
    assert (ours - exact).square().mean().sqrt() <= 8 * torch.finfo(dtype).eps * exact.std()

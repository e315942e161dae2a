"""Which 16-bit types this processor multiplies natively.

Without matrix instructions, 16-bit products are emulated and many times slower than fp32, so they are used only if they are
certain to be fast. fp16 is eight times finer than bf16 and preferred if AMX multiplies both equally fast.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

Precision = Literal["auto", "fp32", "bf16", "fp16"]
"""The precisions that users can choose; `devices.choose_precision` resolves "auto"."""
NATIVE_BF16 = ("amx_bf16", "avx512_bf16")
NATIVE_FP16 = ("amx_fp16",)  # AVX512-FP16 is left out: where there is no AMX-FP16, AMX-BF16 is eight times faster
CPU_FLAGS = Path("/proc/cpuinfo")
# Environment variables that limit the instructions of oneDNN, and those of their values at which it emulates the above types.
LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
WITHOUT_BF16 = {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"}
WITHOUT_FP16 = WITHOUT_BF16 | {"AVX512_CORE_BF16", "AVX512_CORE_FP16", "AVX512_CORE_AMX"}


def fast_bf16_cpu() -> bool:
    """Whether bf16 products on this CPU run on AMX-BF16 or AVX512-BF16, through oneDNN. Never raises."""
    return _native(NATIVE_BF16, WITHOUT_BF16)


def fast_fp16_cpu() -> bool:
    """Whether fp16 products on this CPU run on AMX-FP16, through oneDNN. Never raises."""
    return _native(NATIVE_FP16, WITHOUT_FP16)


def _native(names: tuple[str, ...], too_low: set[str]) -> bool:
    from torch.backends import mkldnn

    if any(os.environ.get(limit, "").upper() in too_low for limit in LIMITS):
        return False
    onednn = bool(mkldnn.is_available()) and bool(mkldnn.enabled)  # type: ignore[no-untyped-call]
    return onednn and any(map(_capabilities().get, names))


def _capabilities() -> Mapping[str, Any]:
    """What the CPU can do, by name: from torch, or from Linux if this version of torch lacks them."""
    import torch

    try:
        return dict(torch.cpu.get_capabilities())
    except (AttributeError, RuntimeError):
        return _linux_flags(CPU_FLAGS)


def _linux_flags(cpuinfo: Path) -> dict[str, bool]:
    try:
        text = cpuinfo.read_text(errors="replace")
    except OSError:
        return {}
    flags = (line.partition(":")[2] for line in text.splitlines() if line.startswith("flags"))
    return dict.fromkeys(next(flags, "").split(), True)

"""Which reduced precision this processor multiplies natively.

bf16 without matrix instructions is emulated and many times slower than fp32, so it is chosen only where it is certain to be
fast: AMX or AVX512-BF16.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

NATIVE_BF16 = ("amx_bf16", "avx512_bf16")
CPU_FLAGS = Path("/proc/cpuinfo")


def fast_bf16_cpu() -> bool:
    """Whether bf16 products on this CPU run on AMX-BF16 or AVX512-BF16, through oneDNN. Never raises."""
    from torch.backends import mkldnn

    onednn = bool(mkldnn.is_available()) and bool(mkldnn.enabled)  # type: ignore[no-untyped-call]
    return onednn and any(map(_capabilities().get, NATIVE_BF16))


def _capabilities() -> Mapping[str, Any]:
    """What the CPU can do, by name: from torch where it tells (not every version does), else from Linux; else nothing."""
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

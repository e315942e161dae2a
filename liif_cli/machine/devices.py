"""Devices: choice, precisions, free memory, exact float32, and out-of-memory errors."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, TypeVar

import torch
from torch.overrides import TorchFunctionMode

from liif_cli.errors import DeviceError
from liif_cli.machine.memory import available
from liif_cli.machine.precision import Precision, fast_bf16_cpu, fast_fp16_cpu

T = TypeVar("T")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str = "auto") -> torch.device:
    """`auto` (CUDA, otherwise Apple's MPS, otherwise the CPU), `cpu`, `cuda[:n]` or `mps`. Raises `DeviceError`."""
    if name == "auto":
        return torch.device(
            "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        )
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DeviceError(
            f"{name!r} is not a device", hint="use auto, cpu, cuda, cuda:1 or mps", argument="device"
        ) from None
    available_types = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available_types.get(device.type, False):
        raise DeviceError(f"no {device.type} device is available", hint="use the CPU", remedy="device")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(f"device {name} is not available: CUDA devices on this machine: {torch.cuda.device_count()}")
    return device


def choose_precision(precision: Precision, device: torch.device, bits: int) -> str:
    """The precision of the decoder. `auto`: 16 bits if they are fast and the output has 8 `bits`, otherwise fp32.

    fp16 is more precise than bf16, and tensor cores (from compute capability 7.0) and AMX-FP16 multiply both equally fast. If
    fp16 overflows, `Encoding` renders again in fp32.
    """
    if precision != "auto":
        return precision
    if bits > 8 or device.type not in ("cuda", "cpu"):
        return "fp32"
    if device.type == "cuda":
        return "fp16" if torch.cuda.get_device_capability(device) >= (7, 0) else "fp32"
    return "fp16" if fast_fp16_cpu() else "bf16" if fast_bf16_cpu() else "fp32"


def free_memory(device: torch.device) -> int:
    """Bytes that this process may still use, on the machine or on the CUDA device, whichever is less."""
    if device.type == "cuda":
        return min(available(), int(torch.cuda.mem_get_info(device)[0]))
    return available()


def exact_float32(device: torch.device) -> AbstractContextManager[Any]:
    """Context manager: no fp32 convolution on `device` uses TF32. It affects only this thread and changes no global flag.

    On CUDA, torch lets cuDNN use TF32 by default; here each call forbids it. Matrix products use TF32 only if the process
    enabled it (`torch.set_float32_matmul_precision`). On other devices, it does nothing.
    """
    return ExactConvolutions() if device.type == "cuda" and _takes_argument(device) else nullcontext()


class ExactConvolutions(TorchFunctionMode):
    """Computes float32 2D convolutions on a CUDA device without TF32, unless autocast is enabled."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call `func`, or its replacement."""
        return (_convolution if func is torch.conv2d else func)(*args, **(kwargs or {}))


def _convolution(
    image: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> torch.Tensor:
    """`torch.conv2d`, without TF32 if torch might use it."""
    if not _uses_tf32(image) or isinstance(padding, str):
        return torch.conv2d(image, weight, bias, stride, padding, dilation, groups)
    return _exact_convolution(image, weight, bias, stride, padding, dilation, groups)


def _uses_tf32(image: torch.Tensor) -> bool:
    return image.is_cuda and image.dtype == torch.float32 and not torch.is_autocast_enabled("cuda")


def _exact_convolution(
    image: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *geometry: Any
) -> torch.Tensor:
    *pairs, groups = geometry
    stride, padding, dilation = ((value, value) if isinstance(value, int) else value for value in pairs)
    out = torch.cudnn_convolution(image, weight, padding, stride, dilation, groups, False, False, False)
    return out if bias is None else out.add_(bias.view(-1, 1, 1))


@cache
def _takes_argument(device: torch.device) -> bool:
    """Whether this build of torch has cuDNN's convolution as an operator of its own."""
    try:
        one = torch.ones(1, 1, 1, 1, device=device)
        return bool(_exact_convolution(one, one, None, 1, 0, 1, 1) == 1)
    except (AttributeError, RuntimeError):
        return False


def or_none_without_memory(make: Callable[[], T], device: torch.device) -> T | None:
    """The result of `make`, or None if memory ran out. By then, the exception, which keeps tensors alive, is released."""
    try:
        return make()
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` is one of the exceptions by which torch reports that memory ran out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error)
    signs = (
        "can't allocate memory",
        "not enough memory",
        "out of memory",
        "bad_alloc",
        "could not create a memory object",
    )
    return isinstance(error, RuntimeError) and any(sign in text for sign in signs)

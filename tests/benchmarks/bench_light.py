"""Measures the encoder and decoder of `light`: `python tests/benchmarks/bench_light.py [--model light] [--side 316]`.

Encoder: microseconds per LR pixel, and its rate of multiply-adds as a share of the rate of its widest convolution alone, on the
same tile with the same memory format and dtype. Decoder: nanoseconds per output pixel and thread. Each number is the best of
`--repeats` runs, because other programs can slow down any run. 316 is the side of a tile of a large image.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from liif_cli.coords import Axis
from liif_cli.machine.devices import DTYPES, choose_precision
from liif_cli.models.model import SRModel
from liif_cli.models.store import load_model

ROWS = 2**20  # the most output pixels per call, as in the renderer


def seconds(work: Callable[[], Any], repeats: int) -> float:
    """The best time of `repeats` runs after a warm-up."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def encoder_macs(model: SRModel) -> int:
    """Multiply-adds of the encoder's convolutions per LR pixel."""
    return sum(m.weight.numel() for m in model.encoder.modules() if isinstance(m, torch.nn.Conv2d))


def convolution_rate(model: SRModel, side: int, dtype: torch.dtype, repeats: int) -> float:
    """Multiply-adds per second of the encoder's widest convolution alone, on a tile."""
    layers = [m for m in model.encoder.modules() if isinstance(m, torch.nn.Conv2d)]
    layer = max(layers, key=lambda m: m.weight.numel())
    features = torch.rand(1, layer.in_channels, side, side).to(dtype, memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        return layer.weight.numel() * side**2 / seconds(lambda: layer(features), repeats)


def encoder_row(model: SRModel, image: Tensor, dtype: torch.dtype, repeats: int) -> str:
    """A row of the first table."""
    side = image.shape[-1]
    taken = seconds(lambda: model.encode(image, dtype=dtype), repeats)
    reached = encoder_macs(model) * side**2 / taken
    alone = convolution_rate(model, side, dtype, repeats)
    kind = next(name for name, value in DTYPES.items() if value == dtype)
    return f"| {side} | {kind} | {taken / side**2 * 1e6:.2f} | {alone / 1e9:.0f} | {reached / alone:.0%} |"


def decoder_row(model: SRModel, image: Tensor, dtype: torch.dtype, scales: list[int], repeats: int) -> str:
    """A row of the second table."""
    side, field, cells = image.shape[-1], model.encode(image, dtype=dtype), []
    for scale in scales:
        columns = Axis.whole(side, side * scale)
        rows = columns.part(0, min(len(columns), ROWS // len(columns)))
        taken = seconds(lambda: model.render(model.bind(field, rows, columns), rows, columns), 3 * repeats)  # noqa: B023
        cells.append(f"{taken * torch.get_num_threads() / (len(rows) * len(columns)) * 1e9:.0f}")
    kind = next(name for name, value in DTYPES.items() if value == dtype)
    return f"| {side} | {kind} | {' | '.join(cells)} |"


@torch.inference_mode()
def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="light")
    parser.add_argument("--side", type=int, action="append", help="of the input, in pixels; default: 96 and 316")
    parser.add_argument("--scale", type=int, action="append", help="default: 2, 4 and 8")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, help="default: as many as there are cores")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads or torch.get_num_threads())
    model, sides, scales = load_model(chosen.model), chosen.side or [96, 316], chosen.scale or [2, 4, 8]
    auto = DTYPES[choose_precision("auto", torch.device("cpu"), 8)]
    cases = [(torch.rand(1, 3, side, side), dtype) for side in sides for dtype in dict.fromkeys((auto, torch.float32))]
    print(
        "| tile | encoder in | us per LR pixel | one convolution, GMAC/s | encoder's share of it |\n|--:|---|--:|--:|--:|"
    )
    for image, dtype in cases:
        print(encoder_row(model, image, dtype, chosen.repeats), flush=True)
    print(
        f"\n| tile | decoder in | {' | '.join(f'x{scale}, ns' for scale in scales)} |\n|--:|---|{'--:|' * len(scales)}"
    )
    for image, dtype in cases:
        print(decoder_row(model, image, dtype, scales, chosen.repeats), flush=True)


if __name__ == "__main__":
    main()

"""Measures training on a CUDA device: steps per second of several configurations, and a profile of a step.

    python tests/benchmarks/bench_gpu.py --data FOLDER [--seconds 8] [--batch 64 128] [--model light ...] [--profile]

Data are drawn, cropped and downsampled on the device, as in `liif train`. A row measures eager steps, or replays of a captured
step. The share is that of the device's specified bf16 peak, with the network's multiply-adds counted three times (forward and
backward). A configuration that fails does not stop the others. It also runs on the CPU (`--device cpu`), for a trial without a
GPU.
"""

import argparse
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from liif_cli.models.model import SRModel
from liif_cli.models.registry import PRESETS
from liif_cli.training.device_pairs import DevicePairs, to_device
from liif_cli.training.pairs import Pairs
from liif_cli.training.recipe import TrainConfig, read
from liif_cli.training.sources import ImageFolders
from liif_cli.training.trainer import Trainer

PEAK = 989e12  # of an H100 or H200, dense bf16


def macs(model: SRModel) -> int:
    """Multiply-adds of a model's convolutions per LR pixel."""
    return sum(p.numel() for p in model.parameters() if p.ndim == 4)


def config_of(name: str, batch: int, graph: bool, compiled: bool, precision: str) -> TrainConfig:
    """The preset with a batch size and options for running it."""
    preset = "light" if name.startswith("light") else "edsr-baseline-liif"
    config = replace(read(preset), batch=batch, cuda_graph=graph, compile=compiled, precision=precision)
    return replace(config, model=PRESETS[name])  # type: ignore[no-any-return]


def measure(config: TrainConfig, pairs: DevicePairs, device: torch.device, seconds: float, profile: bool) -> str:
    """One row of the table."""
    torch.manual_seed(0)
    trainer = Trainer(config, SRModel(config.model), device)
    trainer.make = pairs.made
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    number = 0

    def step() -> tuple[torch.Tensor, torch.Tensor]:
        nonlocal number
        number += 1
        return trainer.step(to_device(pairs.rows(range(number * config.batch, (number + 1) * config.batch)), device))

    began = time.perf_counter()
    for _ in range(6):
        loss, _ = step()
    wait()
    ready = time.perf_counter() - began
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        for _ in range(20 if device.type == "cuda" else 1):
            loss, error = step()
            count += 1
        wait()
    rate = count / (time.perf_counter() - began)
    if profile:
        show_profile(step)
    done = rate * config.batch * pairs.pairs.patch**2 * macs(trainer.model) * 6
    return (
        f"{rate:8.1f} steps/s  {rate * config.batch / 16:8.1f} of batch 16  {done / 1e12:6.1f} TFLOP/s "
        f"({done / PEAK:.1%})  ready {ready:.1f} s  loss {loss.item():.4f} mse {error.item():.5f}"
    )


def show_profile(step: Any) -> None:
    """Print the kernels that take the most time."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        for _ in range(5):
            step()
        torch.cuda.synchronize()
    print(profile.key_averages().table(sort_by="cuda_time_total", row_limit=45, max_name_column_width=90))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, nargs="+", default=[64])
    parser.add_argument("--model", nargs="+", default=["light"])
    parser.add_argument("--ways", nargs="+", default=["eager", "graph", "compile"])
    parser.add_argument("--patch", type=int, default=48)
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--photo", action="store_true")
    parser.add_argument("--profile", action="store_true")
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    began = time.perf_counter()
    images = ImageFolders([chosen.data], 192)
    loaded = time.perf_counter()
    print(f"{len(images)} images in {loaded - began:.1f} s", flush=True)
    for name in chosen.model:
        data = config_of(name, 16, False, False, chosen.precision).data
        pairs = Pairs(images, chosen.patch, data.scale, data.queries, candidates=data.candidates)
        source = DevicePairs(pairs, device, chosen.photo)
        print(f"on the device after {time.perf_counter() - loaded:.1f} s", flush=True)
        for batch in chosen.batch:
            for way in chosen.ways:
                config = config_of(name, batch, way != "eager", way == "compile", chosen.precision)
                try:
                    row = measure(config, source, device, chosen.seconds, chosen.profile and way != "compile")
                except Exception:
                    row = "FAILED\n" + traceback.format_exc(limit=-6)
                print(f"{name:22} batch {batch:4} {way:8} {row}", flush=True)


if __name__ == "__main__":
    main()

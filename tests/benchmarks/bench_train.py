"""Compares the speed of liif's training step with a plain implementation of the paper's, in one process.

    python tests/benchmarks/bench_train.py [--queries 512 2304] [--seconds 20] [--threads N] [--cpu-time] [--compile]

EDSR-baseline-LIIF, batch 16, LR patches of 48 pixels; forward, backward and Adam on prepared batches. The plain step is
`plain_step.py` in float32: unfolded features, four look-ups, the whole MLP for every corner. The steps alternate, and the
median of each is reported, so that a busy machine slows down all of them alike.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from plain_step import plain_loss

from liif_cli.models.model import SRModel
from liif_cli.models.registry import PRESETS
from liif_cli.training.pairs import Batch, locate
from liif_cli.training.recipe import OptimiserConfig, TrainConfig
from liif_cli.training.trainer import Trainer

BATCH, PATCH = 16, 48
MULTIPLY_ADDS_PER_PIXEL = 1_218_624 + 3 * 64 * 9  # of the encoder
MATRIX_PEAK = {"H200": 989e12, "H100": 989e12, "A100": 312e12}  # dense bf16, as NVIDIA states it


def make_batch(queries: int, seed: int = 0) -> Batch:
    """A batch of random bytes at random scales: the time of a step does not depend on the images' content."""
    rng = np.random.default_rng(seed)
    sides = rng.integers(PATCH, 4 * PATCH + 1, BATCH)
    index = torch.from_numpy(np.stack([rng.choice(side**2, queries, replace=False) for side in sides]))
    position, cell = locate(index, torch.from_numpy(sides), PATCH)
    lr = torch.from_numpy(rng.integers(0, 256, (BATCH, 3, PATCH, PATCH), dtype=np.uint8))
    return Batch(lr, torch.from_numpy(rng.integers(0, 256, (BATCH, queries, 3), dtype=np.uint8)), position, cell)


def plain(batch: Batch, device: torch.device) -> Callable[[], None]:
    """The plain step: float32, coords in float32 like the authors, and torch's default Adam."""
    torch.manual_seed(0)
    model = SRModel(PRESETS["edsr-baseline-liif"]).to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)

    def step() -> None:
        loss, _ = plain_loss(model, batch, torch.float32)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def ours(batch: Batch, device: torch.device, precision: str, compiled: bool) -> Callable[[], None]:
    """The step of `liif train`."""
    torch.manual_seed(0)
    config = TrainConfig(optimiser=OptimiserConfig(lr=1e-4), precision=precision, compile=compiled)
    trainer = Trainer(config, SRModel(PRESETS["edsr-baseline-liif"]), device)
    return lambda: (trainer.step(batch), None)[1]


def flops(queries: int) -> float:
    """Operations of liif's step: three times those of the forward pass (encoder, the first layer's convolution, MLP)."""
    pixels = BATCH * PATCH**2
    forward = pixels * (MULTIPLY_ADDS_PER_PIXEL + 576 * 256) + BATCH * queries * 4 * (197_376 + 4 * 256)
    return 3 * 2 * float(forward)


def measure(
    steps: dict[str, Callable[[], None]], seconds: float, device: torch.device, clock: Callable[[], float]
) -> dict[str, float]:
    """Median seconds of each step by `clock`; the steps alternate."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, step in steps.items():
            began = clock()
            step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            times[name].append(clock() - began)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Print a table for each number of queries."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, nargs="+", default=[2304, 512])
    parser.add_argument("--seconds", type=float, default=20, help="for each number of queries")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    parser.add_argument(
        "--cpu-time", action="store_true", help="count processor time: for a busy machine, with --threads 1"
    )
    parser.add_argument("--compile", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {arguments.threads} threads"
    print(f"torch {torch.__version__}, {name}")
    for queries in arguments.queries:
        batch = make_batch(queries).to(device)
        steps = {"plain, fp32": plain(batch, device)}
        steps |= {f"ours, {p}": ours(batch, device, p, arguments.compile) for p in arguments.precisions}
        times = measure(
            steps, arguments.seconds, device, time.process_time if arguments.cpu_time else time.perf_counter
        )
        print(f"\nbatch {BATCH}, {queries:,} queries per patch")
        for step, seconds in times.items():
            rate = flops(queries) / seconds
            peak = next((value for key, value in MATRIX_PEAK.items() if key in name), None)
            share = f", {rate / peak:.0%} of the matrix peak" if peak and step == "ours, bf16" else ""
            speed, ratio = BATCH / seconds, times["plain, fp32"] / seconds
            print(f"  {step:12} {speed:8.1f} samples/s {1 / seconds:7.2f} iterations/s  {ratio:5.2f}x{share}")


if __name__ == "__main__":
    main()

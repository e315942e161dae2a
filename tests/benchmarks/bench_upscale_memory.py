"""Compares the peak resident memory of whole `liif upscale` processes with the estimate of `--dry-run`.

    python tests/benchmarks/bench_upscale_memory.py              the shipped model (many minutes on a CPU)
    python tests/benchmarks/bench_upscale_memory.py --shallow    the same encoder and codes, one hidden layer: a few minutes
    python tests/benchmarks/bench_upscale_memory.py --case photo only some of the cases

The images are generated: smooth structure with noise, so that files are about as large as those of photographs. Unix only.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CASES = {
    # name: (width, height of the input, options)
    "small": (512, 512, ["--size", "16384x16384"]),
    "photo": (6000, 4000, ["--scale", "2"]),
    "low": (1500, 1600, ["--scale", "4"]),  # tiles of the same size as those of "tall"
    "tall": (1500, 4000, ["--scale", "4"]),
    "huge": (20000, 15000, ["--scale", "1.5"]),
}
DEFAULT = ["small", "photo", "low", "tall"]


def make_image(path: Path, width: int, height: int) -> None:
    """Write a TIFF of waves and noise, in bands of rows."""
    import numpy as np

    from liif_cli.images.write import open_writer

    generator = np.random.default_rng(0)
    noise = generator.normal(0, 0.02, (64, width, 3)).astype(np.float32)
    columns = np.sin(np.arange(width, dtype=np.float32) / 37)[None, :, None] * [0.3, 0.2, 0.1]
    with open_writer(path, height, width, 3, np.uint8) as writer:
        for top in range(0, height, 64):
            rows = np.cos(np.arange(top, min(top + 64, height), dtype=np.float32) / 53)[:, None, None]
            writer.write((0.5 + columns * rows + noise[: len(rows)]).astype(np.float32))


def shallow_model(path: Path) -> None:
    """Save a model with the shipped encoder and codes of 256 values, but one hidden layer: the same memory, a tenth of the
    time."""
    import torch

    from liif_cli.models.checkpoints import save_model
    from liif_cli.models.decoders.liif import LIIFConfig
    from liif_cli.models.model import SRModel
    from liif_cli.models.registry import ModelConfig

    torch.manual_seed(0)
    save_model(SRModel(ModelConfig(decoder=LIIFConfig(hidden=(256,)))), path, licence="none", provenance={})


def run(arguments: list[str]) -> tuple[float, float, str]:
    """Run `liif` in a separate process. Returns its peak resident memory in MiB, seconds, and its standard output."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "liif_cli", *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"liif {' '.join(arguments)} failed")
    unit = 1 if sys.platform == "darwin" else 1024
    return usage.ru_maxrss * unit / 2**20, time.perf_counter() - started, printed


def main() -> None:
    """Run the cases and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--shallow", action="store_true")
    parser.add_argument("--case", nargs="+", choices=CASES, default=DEFAULT)
    chosen = parser.parse_args()
    print("case    input        output         tiles  planned MiB  peak MiB  seconds")
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as name:
        folder = Path(name)
        model = []
        if chosen.shallow:
            shallow_model(folder / "shallow.safetensors")
            model = ["--model", str(folder / "shallow.safetensors")]
        for case in chosen.case:
            width, height, options = CASES[case]
            image, output = folder / f"{case}.tif", folder / "out.png"
            make_image(image, width, height)
            call = ["upscale", str(image), *options, *model, "-o", str(output), "--json"]
            plan = json.loads(run([*call, "--dry-run"])[2])
            peak, seconds, printed = run(call)
            result = json.loads(printed)
            print(
                f"{case:7} {f'{width}x{height}':12} {'{width}x{height}'.format(**result):14} {plan['tiles']:5}  "
                f"{plan['peak_memory'] / 2**20:11.0f}  {peak:8.0f}  {seconds:7.0f}",
                flush=True,
            )
            output.unlink()


if __name__ == "__main__":
    main()

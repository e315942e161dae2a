"""Measures the start of `liif`: processor and wall seconds, the minimum of five runs: `python tests/benchmarks/bench_start.py`.

Compares `liif --help` and `--version` with a bare interpreter, and an image of 64x64 pixels at x4 with `import torch`.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 5


def cost(arguments: list[str]) -> tuple[float, float]:
    """The least processor time and the least wall time of running Python with `arguments`. Unix only."""
    import resource

    processor, wall = [], []
    for _ in range(ROUNDS):
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        wall.append(time.perf_counter() - started)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(processor), min(wall)


def main() -> None:
    """Measure and print a table."""
    import numpy as np
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "in.png"
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(image)
        liif = ["-m", "liif_cli"]
        cases = {
            "python -c pass": ["-c", "pass"],
            "liif --version": [*liif, "--version"],
            "liif --help": [*liif, "--help"],
            "liif upscale --help": [*liif, "upscale", "--help"],
            "import torch": ["-c", "import torch"],
            "64x64 -> x4": [*liif, "upscale", str(image), "-s", "4", "-o", f"{folder}/out.png", "--overwrite"],
        }
        print(f"{'':22} processor s    wall s")
        for name, arguments in cases.items():
            processor, wall = cost(arguments)
            print(f"{name:22} {processor:11.2f} {wall:9.2f}", flush=True)


if __name__ == "__main__":
    main()

"""Peak resident memory and speed of the streaming writer: `python tests/benchmarks/bench_memory.py [WIDTH HEIGHT ...]`.

Each case runs in a separate process, which writes the image row by row and then reads its own VmHWM. Linux only.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROWS = 64


def write_one(path: Path, width: int, height: int) -> dict[str, float]:
    """Write a noisy image to `path`. Returns memory in MiB before and at the peak, seconds, and the file's size in MiB."""
    import numpy as np

    from liif_cli.images.write import SaveOptions, open_writer

    before = peak()
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 8, (ROWS, width, 3), dtype=np.uint8)
    started = time.perf_counter()
    with open_writer(path, height, width, 3, np.uint8, None, SaveOptions()) as writer:
        for top in range(0, height, ROWS):
            rows = noise[: min(ROWS, height - top)] + np.uint8(top // ROWS % 200)
            writer.write(rows)
        wrote = time.perf_counter() - started
    seconds = time.perf_counter() - started
    return {
        "before": before, "peak": peak(), "rows_s": round(wrote, 1), "seconds": round(seconds, 1),
        "file_MiB": path.stat().st_size / 2**20,
    }  # fmt: skip


def peak() -> float:
    """VmHWM of this process in MiB."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def main(arguments: list[str]) -> None:
    """Run the cases and print a table."""
    sizes = [int(a) for a in arguments] or [8192, 4096, 16384, 8192, 16384, 16384]
    print("format  size         image MiB  peak MiB  above start MiB  file MiB  seconds")
    for name in ("png", "jpg", "tif"):
        for width, height in zip(sizes[::2], sizes[1::2], strict=True):
            with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
                call = [sys.executable, __file__, "--one", str(Path(folder) / f"x.{name}"), str(width), str(height)]
                done = json.loads(subprocess.run(call, check=True, capture_output=True, text=True).stdout)
            raw = width * height * 3 / 2**20
            print(
                f"{name:7} {f'{width}x{height}':12} {raw:11.0f}  {done['peak']:8.0f}  "
                f"{done['peak'] - done['before']:15.0f}  {done['file_MiB']:8.0f}  {done['seconds']:7.1f}",
                flush=True,
            )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(write_one(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))))
    else:
        main(sys.argv[1:])

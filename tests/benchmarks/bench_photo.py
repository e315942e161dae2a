"""Upscales a photograph, from file to file, with several models: `python tests/benchmarks/bench_photo.py [--megapixels 3]`.

Runs `liif upscale` from JPEG to PNG as whole processes. Prints wall and processor time, peak memory, and the time of each phase
as reported by `-v`. The photograph consists of copies of the sample image. The last column compares wall times with that of the
first model.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

EXAMPLE = Path(__file__).parents[2] / "docs" / "chelsea.png"
PHASES = ("read", "encode", "decode", "file")


def photograph(path: Path, megapixels: float) -> None:
    """Write a JPEG with the aspect ratio 3:2 and about `megapixels` megapixels."""
    with Image.open(EXAMPLE) as example:
        part = example.convert("RGB")
    height = round((megapixels * 1e6 / 1.5) ** 0.5)
    image = Image.new("RGB", (height * 3 // 2, height))
    for top in range(0, image.height, part.height):
        for left in range(0, image.width, part.width):
            image.paste(part, (left, top))
    image.save(path, quality=92)


def run(arguments: list[str]) -> tuple[float, float, float, str]:
    """Wall seconds, processor seconds and peak MiB of a process of `liif`, and its standard error."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "liif_cli", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(said)
    peak = usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime, peak, said


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megapixels", type=float, default=3)
    parser.add_argument("--scale", default="2")
    parser.add_argument("--model", action="append", help="default: edsr-baseline-liif, light and light-large")
    chosen = parser.parse_args()
    print(f"| model | wall s | CPU s | peak MiB | {' | '.join(f'{phase} s' for phase in PHASES)} | ratio |")
    print(f"|---|{'--:|' * (len(PHASES) + 4)}")
    first = 0.0
    with TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.jpg", Path(folder) / "out.png"
        photograph(source, chosen.megapixels)
        for model in chosen.model or ["edsr-baseline-liif", "light", "light-large"]:
            target.unlink(missing_ok=True)
            wall, cpu, peak, said = run(
                ["upscale", str(source), "-s", chosen.scale, "-m", model, "-o", str(target), "-v"]
            )
            first = first or wall
            parts = [match[1] if (match := re.search(rf"{phase} ([\d.]+) s", said)) else "" for phase in PHASES]
            print(
                f"| {model} | {wall:.1f} | {cpu:.1f} | {peak:.0f} | {' | '.join(parts)} | {first / wall:.1f}x |",
                flush=True,
            )


if __name__ == "__main__":
    main()

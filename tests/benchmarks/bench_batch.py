"""Measures the overhead of a batch over its rendering: python tests/benchmarks/bench_batch.py --images 50 --size 256

One process, which has loaded the model, alternates between rendering some images from memory to memory and upscaling the same
images from files to files, like `liif upscale`. The minimum of a few rounds counts, because other programs can only add time.
The start of the process is not included. The limit is 1.15 times the rendering time. `cpu` is processor time, in which nothing
overlaps.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from liif_cli.images.write import SaveOptions
from liif_cli.rendering.sizes import Scale
from liif_cli.upscaling.batch import Batch
from liif_cli.upscaling.inputs import Source
from liif_cli.upscaling.jobs import Task, task_for
from liif_cli.upscaling.options import Options
from liif_cli.upscaling.results import Original
from liif_cli.upscaling.upscaler import Upscaler

LIMIT = 1.15


def main() -> None:
    """Measure, and print one JSON object. Exits with code 1 if the overhead exceeds the limit."""
    options = _options()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [_image(folder / f"{index:03}.png", options.size, index) for index in range(options.images)]
        upscaler = Upscaler(options.model, Options(device=options.device, save=SaveOptions(overwrite=True)))
        originals, target = [upscaler.read(Source(path)) for path in paths], Scale.parse(options.scale)
        _render(upscaler, originals[:1], target)  # warms up
        rounds = [
            (_timed(lambda: _render(upscaler, originals, target)), _timed(lambda: _batch(upscaler, paths, target)))
            for _ in range(options.rounds)
        ]
    found: dict[str, Any] = {"images": options.images, "size": options.size, "scale": options.scale}
    for index, clock in enumerate(("wall", "cpu")):
        render, batch = (min(each[kind][index] for each in rounds) for kind in (0, 1))
        found[clock] = {"render": round(render, 3), "batch": round(batch, 3), "ratio": round(batch / render, 3)}
    print(json.dumps(found | {"rounds": [[round(part[0], 2) for part in each] for each in rounds]}))
    sys.exit(found["wall"]["ratio"] > LIMIT)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--scale", default="4")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="edsr-baseline-liif")
    parser.add_argument("--device", default="auto")
    return parser.parse_args()


def _image(path: Path, size: int, seed: int) -> Path:
    """An image that compresses about as well as a photograph: blurred noise at two scales."""
    noise = np.random.default_rng(seed).integers(0, 256, (2, size, size, 3), np.uint8)
    coarse, fine = (Image.fromarray(n).filter(ImageFilter.GaussianBlur(r)) for n, r in zip(noise, (6, 1), strict=True))
    Image.blend(coarse, fine, 0.3).save(path)
    return path


def _timed(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds of wall time and of the processor time of all threads."""
    before = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - before[0], time.process_time() - before[1]


def _render(upscaler: Upscaler, originals: list[Original], target: Scale) -> None:
    """Render pixels in memory to finished rows in memory."""
    for original in originals:
        pixels = original.picture.pixels
        grid = upscaler.options.grid((pixels.shape[0], pixels.shape[1]), target)
        for _ in upscaler.rows(upscaler.renderer(8), pixels, [grid]):
            pass


def _batch(upscaler: Upscaler, paths: list[Path], target: Scale) -> None:
    """Upscale files to files."""
    outputs = [[(target, path.with_name(f"{path.stem}_out.png"))] for path in paths]
    tasks = [task_for(Source(path), made, upscaler.options) for path, made in zip(paths, outputs, strict=True)]
    Batch(upscaler, _Silent()).run(tasks)


class _Silent:
    """A watcher that prints nothing and stops at the first error."""

    def started(self, *_: Any) -> None:
        """Does nothing."""

    def advanced(self, pixels: int) -> None:
        """Does nothing."""

    def finished(self, *_: Any) -> None:
        """Does nothing."""

    def failed(self, task: Task, error: Exception) -> None:
        """End the benchmark."""
        raise SystemExit(f"{task.source.name}: {error}")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))
    main()

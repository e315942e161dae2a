"""Compares a Ray cluster on this machine with the plain batch: images per second, CPU seconds per image, memory over time.

    python tests/benchmarks/bench_fleet.py --images 100 --side 256 --actors 1 2
    python tests/benchmarks/bench_fleet.py --images 2000 --side 24 --actors 2 --memory   # does memory grow?

Each configuration runs twice in separate processes, on a fifth of the images and on all of them. The difference is the time of
the images; the rest is the time of the start. CPU seconds include all processes that a run started, also Ray's own, so they are
valid on a busy machine; images per second are not. Needs the extra `ray`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from liif_cli.images.write import write


def main() -> None:
    """Measure each configuration and print one line of JSON for it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--actors", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--scale", default="2")
    parser.add_argument("--memory", action="store_true", help="print the memory of the largest process over time, too")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--skip-plain", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_images(Path(folder), arguments.images, arguments.side)
        ways: list[int | None] = [*([] if arguments.skip_plain else [None]), *arguments.actors]
        for number in range(arguments.rounds):
            for actors in ways:
                few = max(1, arguments.images // 5)
                less = measured(Path(folder), actors, arguments.scale, f"{number}-{actors}-few", few)
                more = measured(Path(folder), actors, arguments.scale, f"{number}-{actors}", arguments.images)
                print(
                    json.dumps(compared(less, more) | ({"memory_mib": more["memory_mib"]} if arguments.memory else {}))
                )
                sys.stdout.flush()


def compared(less: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """The time per image, from the difference between two runs, and the remaining time, which is that of the start."""
    images = more["images"] - less["images"]
    seconds, cpu = ((more[name] - less[name]) / images for name in ("seconds", "cpu_seconds"))
    return {
        "way": more["way"],
        "images": more["images"],
        "images_per_second": round(1 / seconds, 2),
        "cpu_seconds_per_image": round(cpu, 4),
        "start_seconds": round(less["seconds"] - less["images"] * seconds, 1),
        "start_cpu_seconds": round(less["cpu_seconds"] - less["images"] * cpu, 1),
    }


def make_images(folder: Path, count: int, side: int) -> None:
    """Write smooth images with noise, which compress about as well as photographs."""
    (folder / "in").mkdir()
    rows = np.linspace(0, 6, side)
    for index in range(count):
        generator = np.random.default_rng(index)
        waves = np.sin(
            rows[:, None, None] * generator.uniform(1, 5, 3) + rows[None, :, None] * generator.uniform(1, 5, 3)
        )
        pixels = 127 + 90 * waves + generator.normal(0, 6, (side, side, 3))
        write(folder / "in" / f"{index:05}.png", pixels.clip(0, 255).astype(np.uint8))


def measured(folder: Path, actors: int | None, scale: str, name: str, count: int) -> dict[str, Any]:
    """One run over the first `count` images, with the plain batch (None) or with a number of actors."""
    inputs = sorted(path.relative_to(folder).as_posix() for path in (folder / "in").iterdir())[:count]
    command = [sys.executable, "-m", "liif_cli", "upscale", *inputs, "-s", scale, "-o", f"{name}/", "-q"]
    command += ["--ray", "local", "--actors", str(actors)] if actors else []
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    watch = Watch(process.pid)
    assert process.stdout is not None
    for _ in process.stdout:
        watch.made += 1
    whole, cpu = time.perf_counter() - started, watch.cpu()
    if process.wait():
        raise SystemExit(f"{command} failed with {process.returncode}")
    watch.over.set()
    return {
        "way": f"{actors} actors" if actors else "plain batch",
        "images": watch.made,
        "seconds": whole,
        "cpu_seconds": cpu,
        "memory_mib": watch.memory,
    }


class Watch(threading.Thread):
    """Records the CPU time of a process and all its descendants, including ended ones, and the memory of the largest."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.root, self.over, self.made = psutil.Process(pid), threading.Event(), 0
        self.seen: dict[tuple[int, float], float] = {}
        self.memory: list[tuple[int, int]] = []
        self.start()

    def run(self) -> None:
        """Sample every half second."""
        while not self.over.wait(0.5):
            largest = self.look()
            self.memory.append((self.made, largest >> 20))

    def look(self) -> int:
        """Record the CPU time of every process. Returns the memory of the largest, in bytes."""
        largest = 0
        try:
            processes = [self.root, *self.root.children(recursive=True)]
        except psutil.Error:
            return 0
        for each in processes:
            try:
                times = each.cpu_times()
                self.seen[each.pid, each.create_time()] = times.user + times.system
                largest = max(largest, each.memory_info().rss)
            except psutil.Error:
                continue
        return largest

    def cpu(self) -> float:
        """CPU seconds of all processes so far."""
        self.look()
        return sum(self.seen.values())


if __name__ == "__main__":
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    main()

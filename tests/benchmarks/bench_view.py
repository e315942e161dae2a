"""Measures the response times and the memory of `liif serve`: python tests/benchmarks/bench_view.py [MODEL...]

Starts a server with the sample image for each model. The clients run in this process, so they share the cores with the server.
"""

import argparse
import http.client
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

IMAGE = Path(__file__).parents[2] / "docs" / "chelsea.png"
WIDTH, HEIGHT, FACTOR, TILE = 451, 300, 64, 256


class Client:
    """A persistent connection."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def tile(self, scale: int, column: int, row: int) -> float:
        """Seconds until a tile of the image at `scale` is received. Raises RuntimeError if the server refuses it."""
        step = FACTOR // scale
        x, y = column * TILE * step, row * TILE * step
        w, h = min(TILE * step, WIDTH * FACTOR - x), min(TILE * step, HEIGHT * FACTOR - y)
        started = time.perf_counter()
        path = f"/iiif/x{FACTOR}/chelsea.png/{x},{y},{w},{h}/{w // step},{h // step}/0/default.png"
        self.connection.request("GET", path)
        answer = self.connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status} for {path}")
        return time.perf_counter() - started


def tiles(scale: int) -> tuple[int, int]:
    """The number of tiles at `scale`: (columns, rows)."""
    return -(-WIDTH * scale // TILE), -(-HEIGHT * scale // TILE)


def view(port: int, scale: int, left: int, top: int, columns: int, rows: int) -> float:
    """Seconds until all tiles of a view are received, over six connections like a browser's."""
    jobs = [(scale, left + i, top + j) for j in range(rows) for i in range(columns)]
    clients, started = [Client(port) for _ in range(6)], time.perf_counter()
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda number: [clients[number].tile(*job) for job in jobs[number::6]], range(6)))
    return time.perf_counter() - started


def pan(port: int, seed: int, until: float) -> list[float]:
    """One client that pans at changing scales. Returns the seconds of each tile."""
    client, chosen, times = Client(port), random.Random(seed), []
    while time.perf_counter() < until:
        scale = chosen.choice([2, 4, 8, 16, 32])
        columns, rows = tiles(scale)
        column, row = chosen.randrange(columns), chosen.randrange(rows)
        for _ in range(6):
            column, row = (column + 1) % columns, (row + chosen.choice([-1, 0, 1])) % rows
            times.append(client.tile(scale, column, row))
    return times


def load(port: int, seconds: float, process: psutil.Process) -> tuple[list[float], list[int]]:
    """Run eight clients at once. Returns the seconds of each tile, and the server's resident bytes twice a second."""
    until, held = time.perf_counter() + seconds, []
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(pan, port, seed, until) for seed in range(8)]
        while any(not future.done() for future in futures):
            held.append(process.memory_info().rss)
            time.sleep(0.5)
    return [each for future in futures for each in future.result()], held


def percentile(times: list[float], part: float) -> float:
    """The time that the share `part` of all times does not exceed."""
    return sorted(times)[min(len(times) - 1, int(part * len(times)))]


def measure(model: str, seconds: float) -> str:
    """One row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(IMAGE, folder)
        call = [sys.executable, "-m", "liif_cli", "serve", folder, "-m", model, "--port", "0", "--memory", "512MiB"]
        process = subprocess.Popen(call, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline().rstrip("/\n").rpartition(":")[2])
            first = view(port, 2, 0, 0, *tiles(2))
            full = view(port, 8, 2, 2, 8, 5)  # 1920x1080 pixels at x8
            client, chosen = Client(port), random.Random(0)
            places = [(i, j) for i in range(tiles(8)[0] - 1) for j in range(tiles(8)[1] - 1)]
            places = [(i, j) for i, j in places if not (2 <= i < 10 and 2 <= j < 7)]  # none that is cached
            server, loaded = psutil.Process(process.pid), psutil.getloadavg()[0]
            before = server.cpu_times()
            one = [client.tile(8, *place) for place in chosen.sample(places, 60)]
            after = server.cpu_times()
            spent = (after.user + after.system - before.user - before.system) / len(one)
            times, held = load(port, seconds, server)
        finally:
            process.terminate()
            process.wait(10)
    cells = [
        model,
        f"{first:.2f} s",
        f"{1000 * percentile(one, 0.5):.0f} / {1000 * percentile(one, 0.95):.0f} ms",
        f"{1000 * spent:.0f} ms",
        f"{full:.2f} s",
        f"{len(times) / seconds:.0f} per s, {1000 * percentile(times, 0.5):.0f} / {1000 * percentile(times, 0.95):.0f} ms",
        f"{held[len(held) // 2] / 2**20:.0f} → {held[-1] / 2**20:.0f} MiB",
        f"{loaded:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=["light", "edsr-baseline-liif"])
    parser.add_argument("--seconds", type=float, default=30)
    given = parser.parse_args()
    load_average = psutil.getloadavg()[0]
    print(f"{psutil.cpu_count()} processors, load {load_average:.1f} before, {threading.active_count()} thread here\n")
    heads = ["model", "first view", "tile, p50 / p95", "processor time per tile", "1920x1080 at ×8"]
    heads += ["8 clients, p50 / p95", "memory, half-way → end", "load"]
    print(f"| {' | '.join(heads)} |")
    print("|---" * len(heads) + "|")
    for model in given.models or ["light", "edsr-baseline-liif"]:
        print(measure(model, given.seconds), flush=True)


if __name__ == "__main__":
    main()

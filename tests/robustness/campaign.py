"""A campaign over mutated files: many in one process, which another watches, so that none can stop it."""

import multiprocessing
import multiprocessing.connection
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

SLOW = 20.0
"""Seconds of processor time that no file may take."""
STUCK = 180.0
"""Seconds in which a file that waits for something has to be done, however slow the machine."""


@dataclass(frozen=True)
class Kind:
    """What is mutated. files: the healthy ones. mutated: seed and these -> (what was done, file). judged: file -> `made`
    or `refused: ` and liif's error; raises what is none of liif's errors. memory: MiB that one file may add, at most."""

    files: Callable[[], list[tuple[str, bytes]]]
    mutated: Callable[[int, list[tuple[str, bytes]]], tuple[str, bytes]]
    judged: Callable[[bytes], str]
    memory: int


@cache
def scratch(kind: str) -> Path:
    """Where files of one kind lie while they are judged, until this process ends: in memory if the system has such a place."""
    memory = Path("/dev/shm")
    folder = tempfile.TemporaryDirectory(prefix="liif-robustness-", dir=memory if memory.is_dir() else None)
    _kept[kind] = folder
    return Path(folder.name)


_kept: dict[str, Any] = {}


@dataclass
class Outcome:
    """What a campaign found: verdicts with their counts, and seeds that strayed with a sentence each; slowest in seconds and
    largest in MiB, each with its seed."""

    verdicts: Counter[str] = field(default_factory=Counter)
    strays: dict[int, str] = field(default_factory=dict)
    slowest: tuple[float, int] = (0.0, -1)
    largest: tuple[int, int] = (0, -1)


def campaign(kind: Kind, count: int, first: int = 0, tell: Callable[[str], Any] = print) -> Outcome:
    """Judge the mutations `first` to `first + count` in a process of its own, which is started anew behind a file that ended
    it, took more than `SLOW` seconds or waited `STUCK` seconds."""
    outcome, seed, end = Outcome(), first, first + count
    while seed < end:
        here, there = multiprocessing.Pipe(duplex=False)
        worker = multiprocessing.get_context("spawn").Process(target=_work, args=(kind, seed, end, there), daemon=True)
        worker.start()
        there.close()
        seed = _follow(worker, here, seed, outcome, kind.memory, tell)
    return outcome


def _follow(
    worker: Any, pipe: "multiprocessing.connection.Connection", seed: int, outcome: Outcome, memory: int, tell: Any
) -> int:
    """Note what the worker reports, and return the seed that a next one is to begin with."""
    since, spent = time.monotonic(), _seconds(worker.pid)
    while True:
        try:
            if pipe.poll(1.0):
                verdict, seconds, mib = pipe.recv()
                _note(outcome, seed, verdict, seconds, mib, memory, tell)
                seed, since, spent = seed + 1, time.monotonic(), _seconds(worker.pid)
                continue
        except EOFError:
            worker.join()
            if worker.exitcode:
                _note(outcome, seed, f"stray: the process ended with {worker.exitcode}", 0.0, 0, memory, tell)
            return seed + 1 if worker.exitcode else seed
        if _seconds(worker.pid) - spent > 2 * SLOW or time.monotonic() - since > STUCK:
            worker.kill()
            _note(outcome, seed, "stray: it does not end", 2 * SLOW, 0, memory, tell)
            return seed + 1


def _note(outcome: Outcome, seed: int, verdict: str, seconds: float, mib: int, memory: int, tell: Any) -> None:
    if seconds > SLOW and not verdict.startswith("stray"):
        verdict = f"stray: {seconds:.0f} s"
    elif mib > memory and not verdict.startswith("stray"):
        verdict = f"stray: {mib} MiB"
    label, _, sentence = verdict.partition("\n")
    outcome.verdicts[label] += 1
    outcome.slowest = max(outcome.slowest, (seconds, seed))
    outcome.largest = max(outcome.largest, (mib, seed))
    if label.startswith("stray"):
        outcome.strays[seed] = f"{label.removeprefix('stray: ')} {sentence}".strip()
        tell(f"seed {seed}: {outcome.strays[seed]}")


def _work(kind: Kind, first: int, end: int, pipe: "multiprocessing.connection.Connection") -> None:
    files = kind.files()
    judge(kind, kind.mutated(-1, files)[1])  # what is loaded once counts for no file
    for seed in range(first, end):
        what, data = kind.mutated(seed, files)
        verdict, seconds, mib = measured(kind, data)
        pipe.send((f"{verdict} ({what})" if verdict.startswith("stray") else verdict, seconds, mib))
    pipe.close()


def judge(kind: Kind, data: bytes) -> str:
    """The verdict on a file: `made`, `refused: ...` or `stray: ...`."""
    try:
        return kind.judged(data)
    except Exception as error:
        return f"stray: {type(error).__name__}\n{' '.join(str(error).split())[:200]}"


def measured(kind: Kind, data: bytes) -> tuple[str, float, int]:
    """The verdict on a file, the seconds of processor time that it took, and the MiB that it added at its peak."""
    before, start = _reset_peak(), time.process_time()
    verdict = judge(kind, data)
    return verdict, time.process_time() - start, (_status("VmHWM") - before) // 1024


def _reset_peak() -> int:
    """Let the peak be counted anew, and return what is held now, in kB; 0 where the system is not Linux."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return _status("VmHWM")
    return _status("VmRSS")


def _status(key: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{key}:")), 0)


def _seconds(pid: int) -> float:
    """Processor time of another process; 0.0 where the system is not Linux."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):
        return 0.0


def minimised(kind: Kind, data: bytes) -> bytes:
    """The shortest start of the file that still strays in the same way, by halving."""
    wanted = judge(kind, data).partition("\n")[0]
    low, high = 0, len(data)
    while low + 1 < high:
        middle = (low + high) // 2
        if judge(kind, data[:middle]).partition("\n")[0] == wanted:
            high = middle
        else:
            low = middle
    return data[:high]

"""`python -m tests.robustness.anywhere COUNT SEED LAST ARGUMENTS`: one call of liif, forked at COUNT moments at random.

In each fork a signal comes. A moment is a call of a function, of Python's or C's, from the entry point to the LASTth, as long
as there is one thread, since a fork loses the others: all that is loaded, and all that is decided before the work. Prints a
line of JSON for each fork.
"""

import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

STUCK = 60
"""Seconds after which a fork that does not end is killed."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def threads() -> int:
    """Threads of this process, those of C libraries too. Linux."""
    return sum(1 for _ in Path("/proc/self/task").iterdir())


class Forker:
    """A profiler (see `sys.setprofile`) that counts moments, and forks at some. number: the moments so far. told: of each fork
    where it was, its signal, its exit code (negative: the number of the signal that ended it), and its standard error."""

    def __init__(self, chosen: set[int], dice: random.Random) -> None:
        self.chosen, self.dice = chosen, dice
        self.number, self.told = 0, list[dict[str, Any]]()

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """One event of the interpreter."""
        if event not in ("call", "c_call") or threading.active_count() > 1:
            return
        self.number += 1
        if self.number in self.chosen and threads() == 1:
            self._fork(f"{frame.f_code.co_filename}:{frame.f_lineno}", self.dice.choice(SIGNALS))

    def _fork(self, where: str, number: signal.Signals) -> None:
        with tempfile.TemporaryFile() as err:
            pid = os.fork()
            if pid == 0:
                sys.setprofile(None)
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                os.dup2(err.fileno(), 2)
                signal.raise_signal(number)
                return
            code = ended(pid)
            err.seek(0)
            said = err.read().decode(errors="replace")
        self.told.append({"where": where, "signal": number.name, "code": code, "said": said})


def ended(pid: int) -> int:
    """Wait for a fork, and return its exit code."""
    start = time.monotonic()
    while not (status := os.waitpid(pid, os.WNOHANG))[0]:
        time.sleep(0.01)
        if time.monotonic() - start > STUCK:
            os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(status[1])


def main(count: int, seed: int, last: int, arguments: list[str]) -> None:
    """Call liif, and print what became of the forks."""
    from liif_cli.__main__ import main

    dice, own = random.Random(seed), os.getpid()
    forker = Forker({dice.randint(1, last) for _ in range(count)}, dice)
    sys.argv = ["liif", *arguments]
    sys.setprofile(forker)
    try:
        main()
    finally:
        sys.setprofile(None)
        if os.getpid() == own:
            for each in forker.told:
                print(json.dumps(each))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])

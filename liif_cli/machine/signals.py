"""What ends the work from outside (Ctrl-C, SIGTERM, a closed terminal): KeyboardInterrupt in the main thread."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_holds = 0
_waiting = False


@contextmanager
def heard() -> Iterator[None]:
    """While it lasts, the three signals raise KeyboardInterrupt, so that all is cleaned up on the way out.

    One that the caller has the process ignore (`nohup`) stays ignored. Does nothing outside the main thread, which alone may.
    """
    numbers = [number for name in NAMES if (number := getattr(signal, name, None)) is not None]
    try:
        before = {
            number: signal.signal(number, _interrupt)
            for number in numbers
            if signal.getsignal(number) is not signal.SIG_IGN
        }
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def held() -> Iterator[None]:
    """Put off what `heard` raises until the outermost of such blocks ends: a step in the main thread is done whole or not."""
    global _holds, _waiting
    _holds += 1
    try:
        yield
    finally:
        _holds -= 1
        if not _holds and _waiting:
            _waiting = False
            raise KeyboardInterrupt


def _interrupt(*_: Any) -> None:
    global _waiting
    if not _holds:
        raise KeyboardInterrupt
    _waiting = True


AGAIN = 1.0  # seconds after which a second signal is meant; torchrun passes on what the terminal already sent


@dataclass
class Stop:
    """Set by a signal: finish the step, write the state, leave."""

    signal: str | None = None
    since: float = 0.0


@contextmanager
def listening() -> Iterator[Stop]:
    """SIGTERM and SIGINT end the run after the current step; a second one, later, ends it at once."""
    stop = Stop()

    def handle(number: int, _: FrameType | None) -> None:
        if stop.signal is not None and time.monotonic() - stop.since > AGAIN:
            raise KeyboardInterrupt
        stop.signal, stop.since = stop.signal or signal.Signals(number).name, stop.since or time.monotonic()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    former = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)

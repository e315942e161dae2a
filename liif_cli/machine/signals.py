"""Signals that end a run (Ctrl-C, SIGTERM, a closed terminal)."""

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
    """In its block, the three signals raise KeyboardInterrupt in the main thread, so that everything is cleaned up.

    A signal that the process was started to ignore (`nohup`) stays ignored. Does nothing outside the main thread.
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
    """Delays the KeyboardInterrupt of `heard` until the outermost of these blocks ends, so that a step is not cut in half."""
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


AGAIN = 1.0  # seconds; a repeated signal before that is torchrun forwarding what the terminal already sent


@dataclass
class Stop:
    """Set by a signal: finish the step, save the state, stop. signal: its name. since: when the first one came, monotonic."""

    signal: str | None = None
    since: float = 0.0


@contextmanager
def listening() -> Iterator[Stop]:
    """In its block, SIGTERM and SIGINT ask to stop after the current step; a later second one raises KeyboardInterrupt."""
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

"""What ends the work from outside (Ctrl-C, SIGTERM, a closed terminal): KeyboardInterrupt in the main thread."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
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

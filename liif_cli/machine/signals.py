"""Signals that end a run (Ctrl-C, SIGTERM, a closed terminal).

The program answers signals before it loads anything else, so what is imported here is little, and quick to load.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
import weakref
from contextlib import contextmanager

TYPE_CHECKING = False  # `typing` takes as long to load as all of the above
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType
    from typing import Any

NUMBERS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
PATIENCE = 0.2  # seconds until a lost interrupt is raised again
_holds = 0
_waiting = False
_raised: weakref.ref[Interrupted] | None = None  # the last one since `heard` began


class Interrupted(KeyboardInterrupt):
    """What a signal raises.

    Not KeyboardInterrupt itself: CPython remembers one of those that leaves an `exec`, by which dataclasses are made, even if
    it is caught later, and ends the process by SIGINT instead of its exit code.
    """


def end_with(code: int) -> None:
    """From here on, the three signals end the process at once with exit code `code`.

    For the moments in which nothing has been written yet, and in which everything has been. A signal that the process was
    started to ignore (`nohup`) stays ignored. Call it on the main thread.
    """

    def end(*_: Any) -> None:
        os._exit(code)

    _watch(False)
    _handle(end)


def ignore_at_the_end() -> None:
    """Ignore the three signals once the exit functions that are registered later have run: what is left is the interpreter's
    own end, in which it would give every signal its usual effect back, and so lose the exit code."""
    atexit.register(_handle, signal.SIG_IGN)


def _handle(handler: Any) -> dict[int, Any]:
    """Set the handler of the three signals, except for those that are ignored; returns what they had."""
    return {each: signal.signal(each, handler) for each in NUMBERS if signal.getsignal(each) is not signal.SIG_IGN}


@contextmanager
def heard() -> Iterator[None]:
    """In its block, the three signals raise KeyboardInterrupt in the main thread, so that everything is cleaned up.

    One that gets lost on its way, in a `__del__` or in a library that lets no exception pass, is raised again. A signal that
    the process was started to ignore (`nohup`) stays ignored. Does nothing outside the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    global _raised
    _raised, before, hook = None, _handle(_interrupt), sys.unraisablehook
    sys.unraisablehook = _without_interrupts(hook)
    try:
        yield
    finally:
        with held():
            _watch(False)
            sys.unraisablehook = hook
            for number, handler in before.items():
                signal.signal(number, handler)


def came() -> bool:
    """Whether KeyboardInterrupt was raised since `heard` began, so that another error may be a consequence of it: libraries
    turn it into exceptions of theirs."""
    return _raised is not None


def _without_interrupts(hook: Any) -> Any:
    """`hook` for exceptions that Python cannot raise, e.g. of `__del__`, but silent on interrupts."""

    def quiet(unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            hook(unraisable)

    return quiet


@contextmanager
def held() -> Iterator[None]:
    """Delays the KeyboardInterrupt of `heard` until the outermost of these blocks ends, so that a step is not cut in half.

    Does nothing outside the main thread, which no signal interrupts.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    global _holds, _waiting
    _holds += 1
    try:
        yield
    finally:
        _holds -= 1
        if not _holds and _waiting:
            _waiting = False
            _raise()


def _interrupt(*_: Any) -> None:
    global _waiting
    if _holds:
        _waiting = True
    else:
        _watch(True)
        _raise()


def _raise() -> None:
    global _raised
    error = Interrupted()
    _raised = weakref.ref(error)
    try:
        raise error
    finally:
        del error  # with which this frame, and so the error itself, would keep it alive


def _watch(on: bool) -> None:
    """Look every now and then whether the interrupt got lost. Does nothing on Windows, and if SIGALRM is another's."""
    if hasattr(signal, "setitimer") and signal.getsignal(signal.SIGALRM) in (signal.SIG_DFL, _raise_if_lost):
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, _raise_if_lost if on else signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE * on, PATIENCE)


def _raise_if_lost(*_: Any) -> None:
    if _raised is not None and _raised() is None:  # as long as it is on its way, or answered, it is there
        _interrupt()


AGAIN = 1.0  # seconds; a repeated signal before that is torchrun forwarding what the terminal already sent


class Stop:
    """Set by a signal: finish the step, save the state, stop. signal: its name. since: when the first one came, monotonic."""

    def __init__(self) -> None:
        self.signal: str | None = None
        self.since = 0.0


@contextmanager
def listening() -> Iterator[Stop]:
    """In its block, SIGTERM and SIGINT ask to stop after the current step; a later second one raises KeyboardInterrupt."""
    stop = Stop()

    def handle(number: int, _: FrameType | None) -> None:
        if stop.signal is not None and time.monotonic() - stop.since > AGAIN:
            _interrupt()
            return
        stop.signal, stop.since = stop.signal or signal.Signals(number).name, stop.since or time.monotonic()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    former = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        with held():
            for number, handler in former.items():
                signal.signal(number, handler)

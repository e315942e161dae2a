"""Signals that end a run (Ctrl-C, SIGTERM, a closed terminal).

The program handles signals before it loads anything else, so this module imports only few, small modules.
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
PATIENCE = 0.2  # seconds after which a lost interrupt is raised again
_shields = 0  # the number of `shielded` blocks that are active
_waiting = False  # whether an interrupt is delayed until they end
_raised: weakref.ref[Interrupted] | None = None  # the last interrupt since `interruptible` began


class Interrupted(KeyboardInterrupt):
    """The exception that a signal raises.

    It is not KeyboardInterrupt itself: if one of those leaves an `exec`, which dataclasses use, CPython ends the process by
    SIGINT instead of with its exit code, even if the exception is caught.
    """


def end_with(code: int) -> None:
    """From now on, the three signals end the process immediately with exit code `code`.

    For the time before anything is written, and for the time after everything has been written. A signal that the process was
    started to ignore (`nohup`) stays ignored. Call it on the main thread.
    """

    def end(*_: Any) -> None:
        os._exit(code)

    _watch(False)
    _handle(end)


def ignore_at_the_end() -> None:
    """Ignore the three signals after the exit functions that are registered later have run.

    When the interpreter then shuts down, it restores the default handler of every signal, so a signal would change the exit
    code.
    """
    atexit.register(_handle, signal.SIG_IGN)


def _handle(handler: Any) -> dict[int, Any]:
    """Set the handler of the three signals, except of those that are ignored. Returns the previous handlers by signal."""
    return {each: signal.signal(each, handler) for each in NUMBERS if signal.getsignal(each) is not signal.SIG_IGN}


@contextmanager
def interruptible() -> Iterator[None]:
    """Context manager: the three signals raise KeyboardInterrupt in the main thread, so that everything is cleaned up.

    An interrupt that is lost in a `__del__`, or in a library that suppresses exceptions, is raised again. A signal that the
    process was started to ignore (`nohup`) stays ignored. Does nothing outside the main thread.
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
        with shielded():
            _watch(False)
            sys.unraisablehook = hook
            for number, handler in before.items():
                signal.signal(number, handler)


def was_interrupted() -> bool:
    """Whether KeyboardInterrupt was raised since `interruptible` began.

    If so, another error may be its consequence, because libraries convert it to their own exceptions.
    """
    return _raised is not None


def _without_interrupts(hook: Any) -> Any:
    """`hook` (for exceptions that Python cannot raise, for example in `__del__`), but without a message for interrupts."""

    def quiet(unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            hook(unraisable)

    return quiet


@contextmanager
def shielded() -> Iterator[None]:
    """Context manager: delays the KeyboardInterrupt of `interruptible` until the outermost of these blocks ends.

    A step in such a block is done completely or not at all. Does nothing outside the main thread, because signals interrupt
    only that.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    global _shields, _waiting
    _shields += 1
    try:
        yield
    finally:
        _shields -= 1
        if not _shields and _waiting:
            _waiting = False
            _raise()


def _interrupt(*_: Any) -> None:
    global _waiting
    if _shields:
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
        del error  # otherwise its traceback, with this frame, would keep it alive


def _watch(on: bool) -> None:
    """Check regularly whether the interrupt was lost. Does nothing on Windows, and if other code uses SIGALRM."""
    if hasattr(signal, "setitimer") and signal.getsignal(signal.SIGALRM) in (signal.SIG_DFL, _raise_if_lost):
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, _raise_if_lost if on else signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE * on, PATIENCE)


def _raise_if_lost(*_: Any) -> None:
    if _raised is not None and _raised() is None:  # while the exception propagates or is handled, it exists
        _interrupt()


AGAIN = 1.0  # seconds; a signal that is repeated sooner is the one that torchrun forwards in addition to the terminal's


class Stop:
    """A request to finish the step, save the state and stop.

    signal: the name of the first signal; None if there was none. since: its time (`time.monotonic`).
    """

    def __init__(self) -> None:
        self.signal: str | None = None
        self.since = 0.0


@contextmanager
def listening() -> Iterator[Stop]:
    """Context manager: SIGTERM and SIGINT request a stop after the current step. A second signal raises KeyboardInterrupt."""
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
        with shielded():
            for number, handler in former.items():
                signal.signal(number, handler)

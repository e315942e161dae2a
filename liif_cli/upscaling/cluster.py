"""The connection to a Ray cluster, and what Ray would do to this process's streams and signals. Loads Ray on first use."""

import io
import logging
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any

from liif_cli.errors import DeviceError, UsageError
from liif_cli.stores.addresses import clean

PATIENCE = 10.0
"""Seconds in which a cluster's port must answer."""


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Ray, connected to a cluster or started here, until the end of the block. Raises `UsageError`, `DeviceError`."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers
    try:
        import ray
        import ray.data
    except ImportError:
        raise UsageError("cannot use Ray: it is not installed", hint="pip install 'liif[ray]'") from None
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    with own_streams():
        try:
            with heard_again():
                _connect(ray, address, quiet)
            yield ray
        finally:
            with redirect_stdout(io.StringIO()):  # it prints what its nodes have said and nobody has heard
                ray.shutdown()


def _connect(ray: Any, address: str, quiet: dict[str, Any]) -> None:
    if address == "auto":
        with suppress(ConnectionError):
            ray.init(address="auto", **quiet)
            return
    local = address in ("auto", "local")
    try:
        _knock(address)
        ray.init(address="local" if local else address, **quiet, **({"include_dashboard": False} if local else {}))
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = "start Ray here" if local else f"reach a Ray cluster at {clean(address)}"
        raise DeviceError(f"cannot {where}: {first_line(error)}") from None


def _knock(address: str) -> None:
    """Raises `OSError` if nobody listens at `HOST:PORT`: Ray itself would go on trying for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE).close()


@contextmanager
def own_streams() -> Iterator[None]:
    """Keep what Ray's threads print off standard output, and what its core writes off standard error: those are for results
    and for messages. With LIIF_DEBUG=1 all of it is shown, on standard error."""
    if os.environ.get("LIIF_DEBUG") == "1":
        yield
        return
    before, messages, number = sys.stdout, sys.stderr, os.dup(2)
    own = os.fdopen(os.dup(2), "w", encoding=messages.encoding, errors=messages.errors, buffering=1)
    sys.stdout, sys.stderr = _MainThread(before), own
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before, messages
        os.dup2(number, 2)
        for each in (number, nowhere):
            os.close(each)
        own.close()


class _MainThread:
    """A stream that takes what the main thread writes."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write it, or let it go."""
        main = threading.current_thread() is threading.main_thread()
        return int(self._stream.write(text)) if main else len(text)


@contextmanager
def heard_again() -> Iterator[None]:
    """Ray takes SIGTERM for itself when it starts: put back what there was."""
    import signal

    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM) if main else None
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)


def first_line(error: Exception) -> str:
    """What an error of Ray says, on one line and without secrets."""
    lines = [line.strip() for line in clean(str(error)).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__

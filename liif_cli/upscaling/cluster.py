"""The connection to a Ray cluster; protects this process's streams and signals from Ray. Loads Ray on first use."""

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
    """Yields Ray, connected to a cluster or started on this machine, until the end of the block.

    address: `auto`, `local` or that of a cluster. Raises `UsageError` if Ray is not installed, and `DeviceError` if the cluster
    cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # by default Ray sends statistics to its makers
    try:
        import ray
        import ray.data
    except ImportError:
        raise UsageError("cannot use Ray: it is not installed", hint="pip install 'liif[ray]'") from None
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    with own_streams():
        try:
            with keeping_sigterm():
                _connect(ray, address, quiet)
            yield ray
        finally:
            with redirect_stdout(io.StringIO()):  # it prints pending messages of its nodes
                ray.shutdown()


def _connect(ray: Any, address: str, quiet: dict[str, Any]) -> None:
    if address == "auto":
        with suppress(ConnectionError):
            ray.init(address="auto", **quiet)
            return
    local = address in ("auto", "local")
    try:
        _check_port(address)
        ray.init(address="local" if local else address, **quiet, **({"include_dashboard": False} if local else {}))
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = "start Ray on this machine" if local else f"reach a Ray cluster at {clean(address)}"
        raise DeviceError(f"cannot {where}: {first_line(error)}") from None


def _check_port(address: str) -> None:
    """Raises `OSError` if nothing listens at `HOST:PORT`. Ray itself would retry for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE).close()


@contextmanager
def own_streams() -> Iterator[None]:
    """Keep the output of Ray's threads off standard output, which is for results, and that of its core off standard error.

    With LIIF_DEBUG=1, all of it is shown.
    """
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
    """A stream that discards the output of all threads except the main thread."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write the text if called on the main thread. Returns the number of characters."""
        main = threading.current_thread() is threading.main_thread()
        return int(self._stream.write(text)) if main else len(text)


@contextmanager
def keeping_sigterm() -> Iterator[None]:
    """Restore the handler of SIGTERM at the end of the block, because Ray replaces it when it starts."""
    import signal

    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM) if main else None
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)


def first_line(error: Exception) -> str:
    """The first line of an error's message, without secrets."""
    lines = [line.strip() for line in clean(str(error)).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__

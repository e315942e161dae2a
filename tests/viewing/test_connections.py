"""Clients that are slow, or have disappeared, occupy no resources."""

import contextlib
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from liif_cli.viewing.connections import Connection
from liif_cli.viewing.run import Address

GET = b"GET /iiif/3/rgb.png/info.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
LARGE = b"GET /iiif/3/rgb.png/full/^700,467/0/default.png?method=bicubic HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "request_seconds", 0.4)
    monkeypatch.setattr(Connection, "stalled_seconds", 0.4)


@contextlib.contextmanager
def connected(served: Any) -> Iterator[socket.socket]:
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", served.port))
        client.settimeout(20)
        yield client


def test_answers_are_sent_at_once() -> None:
    """asyncio turns Nagle's algorithm off for sockets that name their protocol: with it, a tile of 7 ms takes 48."""
    listener = Address().listen()
    try:
        with socket.create_connection(listener.getsockname()):
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.proto == socket.IPPROTO_TCP
    finally:
        listener.close()


def ended(client: socket.socket) -> float:
    """Seconds until the server ends the connection."""
    began = time.monotonic()
    with contextlib.suppress(ConnectionError):
        while client.recv(65536):
            pass
    return time.monotonic() - began


def drip(client: socket.socket, data: bytes) -> float:
    """Send a byte at a time, as slowloris does; seconds until the server ends that."""
    began = time.monotonic()
    with contextlib.suppress(ConnectionError):
        for index in range(len(data)):
            client.sendall(data[index : index + 1])
            time.sleep(0.05)
        return float("inf")
    return time.monotonic() - began


def answer(client: socket.socket) -> bytes:
    """The status line of a small answer, read whole."""
    got = b""
    while b"\r\n\r\n" not in got:
        got += client.recv(65536)
    head, _, body = got.partition(b"\r\n\r\n")
    length = int(
        next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")).split(b":")[1]
    )
    while len(body) < length:
        body += client.recv(65536)
    return head.partition(b"\r\n")[0]


def test_a_client_that_says_nothing_is_let_go(served: Any) -> None:
    with connected(served) as client:
        assert 0.2 < ended(client) < 10


@pytest.mark.parametrize("before", [b"", GET])
def test_headers_that_come_byte_by_byte_are_not_waited_for(served: Any, before: bytes) -> None:
    """The first request of a connection, or one after another."""
    with connected(served) as client:
        if before:
            client.sendall(before)
            assert answer(client) == b"HTTP/1.1 200 OK"
        assert drip(client, GET * 5) < 10
        assert served.get("/iiif/3/rgb.png/info.json").status == 200


def test_a_body_that_never_comes_is_not_waited_for(served: Any) -> None:
    with connected(served) as client:
        client.sendall(GET[:-2] + b"Content-Length: 1000\r\n\r\n")
        assert ended(client) < 10


def test_an_answer_that_is_not_read_is_dropped(served: Any) -> None:
    with connected(served) as client:
        client.sendall(LARGE * 8)  # more than the sockets' buffers hold
        time.sleep(0.5)
        began = time.monotonic()
        while held(served) and time.monotonic() - began < 20:
            time.sleep(0.05)
        assert not held(served)


def held(served: Any) -> int:
    """Connections that the server holds."""
    return len(served.server.server_state.connections)


def test_a_reader_that_is_only_slow_gets_all(served: Any) -> None:
    with connected(served) as client:
        client.sendall(LARGE)
        got, length = b"", None
        while length is None or len(got) < length:
            time.sleep(0.02)
            part = client.recv(16384)
            assert part, "the server gave up"
            got += part
            if length is None and b"\r\n\r\n" in got:
                head = got.partition(b"\r\n\r\n")[0].lower().split(b"\r\n")
                size = next(int(line.split(b":")[1]) for line in head if line.startswith(b"content-length"))
                length = size + got.index(b"\r\n\r\n") + 4
        assert got.startswith(b"HTTP/1.1 200 OK")


def test_between_requests_a_connection_is_kept(served: Any) -> None:
    with connected(served) as client:
        for _ in range(2):
            client.sendall(GET)
            assert answer(client) == b"HTTP/1.1 200 OK"
            time.sleep(0.8)


def test_three_hundred_slow_clients_do_not_keep_others_out(served: Any) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(connected(served)).sendall(b"GET /")
        assert served.get("/iiif/3/rgb.png/info.json").status == 200
        began = time.monotonic()
        while held(served) > 1 and time.monotonic() - began < 20:
            time.sleep(0.05)
        assert held(served) <= 1

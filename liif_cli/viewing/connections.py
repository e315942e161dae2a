"""HTTP connections with deadlines. uvicorn alone would wait forever for a request to arrive or for a response to be read."""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class Connection(H11Protocol):
    """An HTTP connection with two deadlines, in addition to uvicorn's `timeout_keep_alive` between requests.

    request_seconds: for a request to arrive completely, from its first byte or from the start of the connection.
    stalled_seconds: for the client to read at least some of a response.
    """

    request_seconds = 10.0
    stalled_seconds = 20.0
    _request: asyncio.TimerHandle | None = None
    _answer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`, also for the other callbacks."""
        super().connection_made(transport)
        self._await_request(True)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._await_request(self.conn.their_state in (h11.IDLE, h11.SEND_BODY))

    def on_response_complete(self) -> None:
        """Called when a response has been passed to the transport."""
        super().on_response_complete()
        begun = self.conn.their_state is h11.SEND_BODY or bool(self.conn.trailing_data[0])
        self._await_request(begun)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_reader(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._answer is not None:
            self._answer.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for timer in (self._request, self._answer):
            if timer is not None:
                timer.cancel()

    def _await_request(self, waiting: bool) -> None:
        """Start the deadline for a request, unless it is running, or cancel it."""
        if waiting and self._request is None:
            self._request = self.loop.call_later(self.request_seconds, self.transport.abort)
        elif not waiting and self._request is not None:
            self._request.cancel()
            self._request = None

    def _await_reader(self, left: int) -> None:
        """Abort the connection if, after `stalled_seconds`, none of the `left` bytes has been read."""

        def check() -> None:
            now = self.transport.get_write_buffer_size()
            if now >= left:
                self.transport.abort()
            else:
                self._await_reader(now)

        self._answer = self.loop.call_later(self.stalled_seconds, check)


def settings() -> dict[str, Any]:
    """The arguments of `uvicorn.Config` for connections."""
    return {"http": Connection, "ws": "none", "timeout_keep_alive": 30, "h11_max_incomplete_event_size": 16384}

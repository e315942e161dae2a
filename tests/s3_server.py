"""An S3 server on loopback, moto's, that notes what it is asked and misbehaves when it is told to."""

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any


class Server:
    """The server as a WSGI application. log: method and path of every request. failing: how many of the next requests that
    `matches` get the status 500. slow: seconds before each answer. hold: requests that `matches` wait for it, None for none.
    """

    def __init__(self) -> None:
        from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        self._app = DomainDispatcherApplication(create_backend_app)
        self.log: list[str] = []
        self.failing, self.slow = 0, 0.0
        self.hold: threading.Event | None = None
        self.matches: Callable[[str], bool] = lambda request: True
        self._lock = threading.Lock()
        self._server = make_server("127.0.0.1", 0, self, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}?{environ.get('QUERY_STRING', '')}".rstrip("?")
        with self._lock:
            self.log.append(request)
            wanted = self.matches(request)
            broken = wanted and self.failing > 0
            self.failing -= broken
        time.sleep(self.slow)
        if wanted and self.hold is not None:
            self.hold.wait(60)
        if broken:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response("500 Internal Server Error", [("Content-Type", "application/xml")])
            return [b"<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>"]
        return self._app(environ, start_response)  # type: ignore[no-any-return]

    def count(self, method: str, part: str = "") -> int:
        """How many requests of this method had `part` in their path."""
        return sum(each.startswith(f"{method} ") and part in each for each in self.log)

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

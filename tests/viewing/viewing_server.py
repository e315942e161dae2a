"""A real server on loopback, in a thread."""

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from liif_cli.viewing import run
from liif_cli.viewing.collection import Folder
from liif_cli.viewing.connections import settings
from liif_cli.viewing.iiif import Limits
from liif_cli.viewing.images import Models
from liif_cli.viewing.server import Service, application


@dataclass
class Answer:
    """status, headers with small names, body."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Served:
    """A server that runs: its service, folder and port."""

    service: Service
    folder: Path
    port: int
    server: Any = None

    def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """One request, its path as it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection._validate_path = lambda url: None  # type: ignore[attr-defined]
        try:
            connection.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()


@contextmanager
def serving(folder: Path, model: Path, limits: Limits, memory: int = 2**27) -> Iterator[Served]:
    """A server over a folder while the block runs."""
    service = run.service_for(Folder(folder), Models([str(model)], "cpu"), limits, memory)
    listener = run.Address().listen()
    server = uvicorn.Server(uvicorn.Config(application(service), log_level="critical", lifespan="off", **settings()))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield Served(service, folder, listener.getsockname()[1], server)
    server.should_exit = True
    thread.join(10)
    service.queue.close()
    listener.close()

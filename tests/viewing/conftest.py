"""A real server on loopback, in a thread, over a folder of small images."""

import http.client
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette", reason="the server is an extra: pip install 'liif[view]'")
uvicorn = pytest.importorskip("uvicorn", reason="the server is an extra: pip install 'liif[view]'")

from liif_cli.viewing import run  # noqa: E402
from liif_cli.viewing.collection import Folder  # noqa: E402
from liif_cli.viewing.connections import settings  # noqa: E402
from liif_cli.viewing.iiif import Limits  # noqa: E402
from liif_cli.viewing.images import Models  # noqa: E402
from liif_cli.viewing.server import Service, application  # noqa: E402


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


def noise(height: int, width: int, channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def make_folder(top: Path) -> Path:
    """A folder of images, with a secret beside it and links that lead to it."""
    folder = top / "scans"
    (folder / "a b").mkdir(parents=True)
    Image.fromarray(noise(20, 30, 3)).save(folder / "rgb.png")
    Image.fromarray(noise(12, 10, 4)).save(folder / "a b" / "ü 100%.png")
    Image.fromarray(noise(9, 8, 1)[..., 0]).save(folder / "gray.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    (folder / "notes.txt").write_text("no image")
    Image.fromarray(noise(6, 6, 3)).save(folder / ".hidden.png")
    Image.fromarray(noise(5, 5, 3)).save(top / "secret.png")
    (folder / "link.png").symlink_to(top / "secret.png")
    (folder / "out").symlink_to(top)
    return folder


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory, tiny_file: Path) -> Iterator[Served]:
    folder = make_folder(tmp_path_factory.mktemp("served"))
    service = run.service_for(Folder(folder), Models([str(tiny_file)], "cpu"), Limits(2000, 400_000), 2**27)
    listener = run.Address().listen()
    server = uvicorn.Server(uvicorn.Config(application(service), log_level="critical", lifespan="off", **settings()))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield Served(service, folder, listener.getsockname()[1], server)
    server.should_exit = True
    thread.join(10)
    service.workshop.close()
    listener.close()

"""Runs the server until it is interrupted."""

import ipaddress
import socket
import threading
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass

import torch
import uvicorn

from liif_cli.errors import UsageError
from liif_cli.machine.memory import available
from liif_cli.viewing.collection import Collection
from liif_cli.viewing.connections import settings
from liif_cli.viewing.iiif import Limits
from liif_cli.viewing.images import Images, Look, Models
from liif_cli.viewing.render_queue import RenderQueue
from liif_cli.viewing.server import Service, application

MEMORY_SHARE = 0.5  # of the free memory
QUEUE = 256  # tiles that may wait or be rendered at a time
CONNECTIONS = 512
FILES_SHARE = 0.1  # of the server's memory, for finished tiles


@dataclass(frozen=True)
class Address:
    """The address to listen on. port: 0 picks a free port. names: host names that clients may use besides localhost."""

    host: str = "127.0.0.1"
    port: int = 0
    names: tuple[str, ...] = ()

    @property
    def local(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def listen(self) -> socket.socket:
        """A listening socket. Raises `UsageError`."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        # asyncio sets TCP_NODELAY only if the protocol is given; without it, small responses are delayed by 40 ms.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self.host, self.port))
            listener.listen(128)
        except (OSError, OverflowError) as error:
            listener.close()
            reason = getattr(error, "strerror", None) or error
            raise UsageError(
                f"cannot listen on {self.host}:{self.port}: {reason}", hint="use port 0 to pick a free one"
            ) from None
        return listener

    def url(self, listener: socket.socket) -> str:
        """The URL of the page."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}/"


def service_for(collection: Collection, models: Models, limits: Limits, memory: int | None = None) -> Service:
    """A service with `memory` bytes for images and tiles (None: half of the free memory)."""
    given = int(available() * MEMORY_SHARE) if memory is None else memory
    images = Images(models, int(given * (1 - FILES_SHARE)))
    workers = max(2, torch.get_num_threads())
    return Service(collection, images, limits, RenderQueue(workers, QUEUE, int(given * FILES_SHARE)))


def serve(service: Service, address: Address, ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM. ready: called with the URL of the page once connections are accepted.

    Raises `UsageError` if it cannot listen on the address, and the exceptions of loading the model.
    """
    listener = address.listen()
    models = service.images.models
    models.load(models.names[0])
    names = frozenset({"localhost", address.host.lower(), *(name.lower() for name in address.names)})
    config = uvicorn.Config(
        application(service, names, address.local),
        log_level="critical",
        access_log=False,
        lifespan="off",
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=1,
        **settings(),
    )
    warming = threading.Thread(target=_warm, args=(service,))
    warming.start()
    ready(address.url(listener))
    try:
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        service.queue.close()
        listener.close()
        warming.join()  # the interpreter would abort if it exited while a thread is running torch


def open_browser(url: str) -> None:
    """Open a URL in the user's browser, without waiting for it."""
    threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()


def _warm(service: Service) -> None:
    """Open and encode the first image, unless it is large, so that its first view is fast."""
    from liif_cli.viewing.iiif import Canvas, Refused, parse

    for identifier in service.collection.identifiers()[:1]:
        path = service.collection.find(identifier)
        try:
            if path is not None:
                header = service.images.header(path)
                if header.width * header.height <= 2**22:
                    wanted = parse(
                        Canvas(header.width, header.height), "0,0,8,8", "^8,8", "0", "default.png", service.limits
                    )
                    service.images.render(path, wanted.grid, Look(service.images.models.names[0]))
        except Refused:
            return

"""The server that `liif serve` and `liif view` start."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from liif_cli.cli.streams import say
from liif_cli.errors import UsageError

if TYPE_CHECKING:
    from liif_cli.viewing.collection import Collection
    from liif_cli.viewing.images import Models
    from liif_cli.viewing.run import Address


def needs_view() -> None:
    """Raises `UsageError` unless the extra `view` is installed."""
    from importlib.util import find_spec

    if find_spec("starlette") is None or find_spec("uvicorn") is None:
        raise UsageError("cannot serve: Starlette and uvicorn are not installed", hint="pip install 'liif[view]'")


def serve_images(
    collection: "Collection",
    models: "Models",
    address: "Address",
    max_pixels: int,
    memory: str | None,
    ready: Callable[[str], None],
) -> None:
    """Serve until Ctrl-C. memory: the text of `--memory`. ready: called with the URL.

    Raises `UsageError` and the exceptions of `run.serve`.
    """
    from liif_cli.machine.memory import parse_bytes
    from liif_cli.viewing import run
    from liif_cli.viewing.iiif import Limits

    if not address.local:
        say(f"Note: other machines can reach this server: it listens on {address.host}")
    budget = parse_bytes(memory) if memory else None
    run.serve(run.service_for(collection, models, Limits(area=max_pixels), budget), address, ready)

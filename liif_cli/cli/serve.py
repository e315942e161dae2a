"""`liif serve`: a folder's images through the IIIF Image API."""

from pathlib import Path
from typing import Annotated

import typer

from liif_cli.cli.options import (
    DEFAULT_MODEL,
    CacheMemoryOption,
    DeviceOption,
    HostOption,
    PortOption,
    models,
    needs_view,
)
from liif_cli.cli.streams import result, say


def serve(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder of the images to serve, including its subfolders.")
    ],
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="A shipped name, a file, or hf://owner/repo. Repeatable; clients may choose one. Default: light.",
            autocompletion=models,
        ),
    ] = None,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8080,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Host name that clients may use, besides IP addresses. Repeatable."),
    ] = None,
    max_pixels: Annotated[
        int, typer.Option(metavar="N", min=65536, help="Maximum number of pixels of an output (maxArea).")
    ] = 2**24,
    memory: CacheMemoryOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Serve a folder's images at any scale through the IIIF Image API 3.0.

    The first line of the output is the address. Needs the extra: pip install 'liif[view]'.

    Examples:

      liif serve scans

      liif serve scans --host 0.0.0.0 --allow-host images.example.org --memory 4GiB
    """
    needs_view()
    from liif_cli.machine.memory import parse_bytes
    from liif_cli.viewing import run
    from liif_cli.viewing.collection import Folder
    from liif_cli.viewing.iiif import Limits
    from liif_cli.viewing.images import Models

    collection = Folder(folder)
    address = run.Address(host, port, tuple(allow_host or ()))
    if not address.local:
        say(f"Note: other machines can reach this server: it listens on {host}")
    limits = Limits(area=max_pixels)
    budget = parse_bytes(memory) if memory else None
    service = run.service_for(collection, Models(model or [DEFAULT_MODEL], device), limits, budget)
    run.serve(service, address, result)

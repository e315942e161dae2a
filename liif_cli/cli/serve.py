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
    most_pixels,
    several_models,
)
from liif_cli.cli.service import needs_view, serve_images
from liif_cli.cli.streams import result


def serve(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder of the images to serve, including its subfolders.")
    ],
    model: Annotated[
        list[str] | None,
        several_models("; clients may choose one. Default: light."),
    ] = None,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8080,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Host name that clients may use, besides IP addresses. Repeatable."),
    ] = None,
    max_pixels: Annotated[int, most_pixels("an output (maxArea)")] = 2**24,
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
    from liif_cli.viewing.collection import Folder
    from liif_cli.viewing.images import Models
    from liif_cli.viewing.run import Address

    address = Address(host, port, tuple(allow_host or ()))
    serve_images(Folder(folder), Models(model or [DEFAULT_MODEL], device), address, max_pixels, memory, result)

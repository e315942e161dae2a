"""`liif view`: images in the browser, at any zoom."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from liif_cli.errors import UsageError

if TYPE_CHECKING:
    from liif_cli.viewing.collection import Collection


def view(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Images, or one folder of them.")],
    model: Annotated[
        list[str] | None,
        several_models(". Default: light and the other shipped models."),
    ] = None,
    port: PortOption = 0,
    host: HostOption = "127.0.0.1",
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open a browser.")] = False,
    max_pixels: Annotated[int, most_pixels("a saved view")] = 2**24,
    memory: CacheMemoryOption = None,
    device: DeviceOption = "auto",
) -> None:
    """View images in the browser at up to x64, with the network, bicubic and Lanczos.

    The first line of the output is the address. Ctrl-C stops the server. Needs the extra: pip install 'liif[view]'.

    Examples:

      liif view in.png

      liif view a.png b.jpg -m light -m runs/mine.safetensors --no-open --port 8080
    """
    needs_view()
    from liif_cli.models.store import shipped
    from liif_cli.viewing.images import Models
    from liif_cli.viewing.run import Address, open_browser

    collection = collection_of(images)
    known = model or [DEFAULT_MODEL, *(name for name in shipped() if name != DEFAULT_MODEL)]

    def ready(url: str) -> None:
        result(url)
        if not no_open:
            open_browser(url)

    serve_images(collection, Models(known, device), Address(host, port), max_pixels, memory, ready)


def collection_of(images: list[Path]) -> "Collection":
    """The images of one folder, or a list of files. Raises `UsageError` if both are given, and the exceptions of `probe`."""
    from liif_cli.images.read import probe
    from liif_cli.viewing.collection import Files, Folder

    if any(path.is_dir() for path in images):
        if len(images) > 1:
            raise UsageError("cannot combine a folder with other arguments", hint="give one folder, or only files")
        return Folder(images[0])
    for path in images:
        probe(path)
    return Files(images)

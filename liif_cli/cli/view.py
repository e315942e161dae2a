"""`liif view`: images in the browser, enlarged beyond their pixels."""

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


def view(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Images, or one folder of them.")],
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="A shipped name, a file, or hf://owner/repo. Repeatable. Default: light and the other shipped models.",
            autocompletion=models,
        ),
    ] = None,
    port: PortOption = 0,
    host: HostOption = "127.0.0.1",
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open a browser.")] = False,
    max_pixels: Annotated[
        int, typer.Option(metavar="N", min=65536, help="Maximum number of pixels of a saved view.")
    ] = 2**24,
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
    from liif_cli.errors import UsageError
    from liif_cli.images.read import probe
    from liif_cli.machine.memory import parse_bytes
    from liif_cli.models.store import shipped
    from liif_cli.viewing import run
    from liif_cli.viewing.collection import Collection, Files, Folder
    from liif_cli.viewing.iiif import Limits
    from liif_cli.viewing.images import Models

    collection: Collection
    if any(path.is_dir() for path in images):
        if len(images) > 1:
            raise UsageError("cannot combine a folder with other arguments", hint="liif view FOLDER, or only files")
        collection = Folder(images[0])
    else:
        for path in images:
            probe(path)
        collection = Files(images)
    address = run.Address(host, port)
    if not address.local:
        say(f"Note: other machines can reach this server: it listens on {host}")
    known = model or [DEFAULT_MODEL, *(name for name in shipped() if name != DEFAULT_MODEL)]
    limits = Limits(area=max_pixels)
    budget = parse_bytes(memory) if memory else None
    service = run.service_for(collection, Models(known, device), limits, budget)

    def ready(url: str) -> None:
        result(url)
        if not no_open:
            run.open_browser(url)

    run.serve(service, address, ready)

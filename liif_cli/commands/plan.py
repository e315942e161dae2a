"""What `liif upscale --dry-run` prints."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from liif_cli.sizes import Target
    from liif_cli.upscale import Upscaler


def print_plan(
    upscaler: "Upscaler", source: Path, outputs: "Sequence[tuple[Target, Path]]", as_json: bool = False
) -> None:
    """Print what each of `outputs`, (target, path), would take; as a line of text or of JSON."""
    from liif_cli.estimate import estimate
    from liif_cli.memory import format_bytes

    for found in estimate(upscaler, source, outputs):
        if as_json:
            typer.echo(json.dumps(found.as_dict()))
            continue
        tiles = f"{found.tiles} tiles of up to {found.tile} pixels" if found.tiles else "no network"
        amounts = (
            f"memory up to {format_bytes(found.peak_memory)}, "
            f"scratch {format_bytes(found.scratch)}, file up to {format_bytes(found.file)}"
        )
        typer.echo(f"{found.output}: {found.width}x{found.height}, {tiles}, {amounts}")

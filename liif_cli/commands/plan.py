"""What `liif upscale --dry-run` prints."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from liif_cli.console import result

if TYPE_CHECKING:
    from liif_cli.inputs import Source
    from liif_cli.naming import Output
    from liif_cli.sizes import Target
    from liif_cli.upscaler import Upscaler


def print_plan(
    upscaler: "Upscaler", source: "Source", outputs: "Sequence[tuple[Target, Output]]", as_json: bool = False
) -> None:
    """Print what each of `outputs`, (target, path), would take; as a line of text or of JSON."""
    from liif_cli.estimate import estimate
    from liif_cli.memory import format_bytes

    for found in estimate(upscaler, source.content, outputs, source.name):
        if as_json:
            result(json.dumps(found.as_dict()))
            continue
        tiles = f"{found.tiles} tiles of up to {found.tile} pixels" if found.tiles else "no network"
        amounts = (
            f"memory up to {format_bytes(found.peak_memory)}, "
            f"scratch {format_bytes(found.scratch)}, file up to {format_bytes(found.file)}"
        )
        result(f"{found.output}: {found.width}x{found.height}, {tiles}, {amounts}")

"""`liif models`: what is on this machine."""

import json
from typing import Annotated

import typer

from liif_cli.cli.streams import result


def models(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per model.")] = False,
) -> None:
    """List the models that come with liif and those in the Hugging Face cache.

    Any other is taken from the Hub at its first use: --model hf://owner/repo.

    Examples:

      liif models

      liif models --json
    """
    from liif_cli.machine.memory import format_bytes
    from liif_cli.models.store import entries

    found = entries()
    if as_json:
        for entry in found:
            result(json.dumps(entry.as_dict()))
        return
    rows = [("NAME", "WHERE", "SIZE", "PARAMETERS", "LICENCE")]
    rows += [(e.name, e.where, format_bytes(e.bytes), f"{e.parameters:,}", e.licence) for e in found]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        name, where, size, parameters, licence = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        result(
            f"{name}  {where}  {size.strip().rjust(widths[2])}  {parameters.strip().rjust(widths[3])}  {licence}".rstrip()
        )

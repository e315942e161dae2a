"""`liif doctor`: what a bug report needs."""

import json
from typing import Annotated

import typer

from liif_cli.console import result


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print what a bug report needs, and why a GPU is or isn't used.

    It asks no network and prints no token; the home folder is written as ~.

    Examples:

      liif doctor

      liif doctor --json
    """
    from liif_cli.diagnosis import examine

    found = examine()
    if as_json:
        result(json.dumps(found))
        return
    for section, facts in found.items():
        result(f"{section}:")
        for name, fact in facts.items():
            result(f"  {name}: {fact}")

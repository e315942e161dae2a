"""`liif reproduce`: a table or a figure of the paper, from end to end."""

from pathlib import Path
from typing import Annotated

import typer

from liif_cli.cli.options import DeviceOption, one_of, parse_scales, words
from liif_cli.cli.streams import result, say

NAMES = ("table1", "table2", "table3", "table4", "table5", "figure5", "figure7")


def reproduce(
    table: Annotated[str, typer.Argument(metavar="TABLE", help=", ".join(NAMES) + ".", autocompletion=words(*NAMES))],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of runs, scores and the table.")],
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", metavar="FOLDER", help="Folder of training images, searched recursively. Repeatable."),
    ] = None,
    budget: Annotated[
        float, typer.Option(metavar="SHARE", help="Fraction of the paper's iterations for every row, e.g. 0.001.")
    ] = 0.0,
    hours: Annotated[
        float, typer.Option(metavar="H", help="Hours of training for all rows together, instead of --budget.")
    ] = 0.0,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROW=FILE", help="Checkpoint of a row, named by its preset. Nothing is trained then. Repeatable."
        ),
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option("--dataset", "-d", metavar="SET|DIR", help="Score on these. Default: the paper's. Repeatable."),
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the sets, as for liif eval.")] = None,
    scale: Annotated[str | None, typer.Option("--scale", "-s", metavar="S,S...", help="Default: the table's.")] = None,
    image: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The input image of a figure, e.g. of 48x48 pixels.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A value for every recipe, e.g. batch=4. Repeatable."),
    ] = None,
    device: DeviceOption = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notes.")] = False,
) -> None:
    """Reproduce a table or a figure of the LIIF paper: train its rows with equal budgets, and compare scores.

    Examples:

      liif reproduce table3 --data DIV2K_train_HR --budget 0.001 --out table3

      liif reproduce table1 --model edsr-baseline-liif-paper=edsr-baseline-liif.safetensors --out table1

      liif reproduce table5 --data faces/train --dataset faces/test --hours 2 --out table5
    """
    chosen = one_of("TABLE", table, NAMES)
    from liif_cli.reproduction.reproduce import Wanted, parse_models
    from liif_cli.reproduction.reproduce import reproduce as reproduced
    from liif_cli.reproduction.tables import TABLES
    from liif_cli.training.recipe import parse_settings

    wanted = Wanted(
        TABLES[chosen],
        tuple(data or ()),
        tuple(dataset or ()),
        parse_scales([scale]) if scale else (),
        budget,
        hours,
        parse_models(model or []),
        parse_settings(settings or []),
        device,
        image,
        data_dir,
    )
    text = reproduced(wanted, out, lambda note: None if quiet else say(f"Note: {note}"))
    result(text.rstrip("\n"))

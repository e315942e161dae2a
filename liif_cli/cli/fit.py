"""`liif fit`: one sinusoidal network for one image (1-SIREN)."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from liif_cli.cli.options import one_side, parse_target, words
from liif_cli.cli.streams import one_line, result, say

REASONS = {"psnr": "the PSNR that was asked for", "no gain": "no more gain", "iterations": "all iterations"}


def fit(
    context: typer.Context,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The image to fit and to enlarge.")],
    scale: Annotated[str | None, typer.Option("--scale", "-s", metavar="S|SXxSY", help="Scale factor: 30.")] = None,
    size: Annotated[str | None, typer.Option(metavar="WxH", help="Exact size, instead of --scale.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Default: {stem}_siren_{scale}x.png next to it."),
    ] = None,
    iterations: Annotated[int, typer.Option(metavar="N", min=1, help="Iterations at most.")] = 3000,
    psnr: Annotated[
        float,
        typer.Option(metavar="DB", help="Stop at this PSNR on the image's own pixels, or when it no longer rises."),
    ] = 45.0,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the network's first weights.")] = 0,
    device: Annotated[
        str,
        typer.Option(
            metavar="DEVICE",
            help="auto, cpu, cuda, cuda:N or mps.",
            autocompletion=words("auto", "cpu", "cuda", "mps"),
        ),
    ] = "auto",
    max_pixels: Annotated[int, typer.Option(metavar="N", help="Refuse an output with more pixels.")] = 2**31,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notes and no progress.")] = False,
) -> None:
    """Fit one sinusoidal network to one image and show it at any size: the 1-SIREN of the LIIF paper.

    Examples:

      liif fit in.png --scale 30 -o out.png

      liif fit in.png --scale 4 --iterations 500 --json
    """
    from liif_cli.images.write import SaveOptions, open_writer
    from liif_cli.machine.devices import choose_device
    from liif_cli.machine.files import check_target
    from liif_cli.rendering.sizes import check_pixels, make_grid
    from liif_cli.training import siren
    from liif_cli.training.sources import read_image

    scale, size = one_side(context, "scale", scale, "size", size)
    target = parse_target(scale, size)
    path = output or image.with_name(f"{image.stem}_siren_{target.label}.png")
    check_target(path, overwrite)
    pixels = read_image(image)
    grid = make_grid((pixels.shape[0], pixels.shape[1]), target)
    check_pixels(grid.shape, max_pixels)
    with fit_bar(image.stem, iterations, quiet) as progress:
        fitted = siren.fit(
            pixels, iterations=iterations, target=psnr, seed=seed, device=choose_device(device), progress=progress
        )
    with open_writer(path, *grid.shape, 3, pixels.dtype, None, SaveOptions(overwrite=overwrite)) as writer:
        for rows in siren.render(fitted, grid):
            writer.write(rows)
    if not quiet:
        after = f"after {fitted.iterations:,} iterations ({REASONS[fitted.reason]})"
        say(f"Note: {fitted.psnr:.2f} dB on the image's own pixels {after}")
    about = {"output": str(path), "width": grid.shape[1], "height": grid.shape[0]}
    about |= {"psnr": fitted.psnr, "iterations": fitted.iterations, "stopped": fitted.reason}
    result(json.dumps(about) if as_json else str(path))


@contextmanager
def fit_bar(name: str, iterations: int, quiet: bool) -> Iterator[Callable[[int, float], None]]:
    """A bar on a terminal; yields what is to be told the iteration and its PSNR."""
    from liif_cli.cli.progress import make_bar

    bar = None if quiet else make_bar()
    if bar is None:
        yield lambda iteration, psnr: None
        return
    task = bar.add_task(one_line(name), total=iterations, detail="")
    with bar:
        yield lambda iteration, psnr: bar.update(task, completed=iteration, detail=f"{psnr:.2f} dB")

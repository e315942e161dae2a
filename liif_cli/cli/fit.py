"""`liif fit`: one sinusoidal network for one image (1-SIREN)."""

import json
from pathlib import Path
from typing import Annotated

import typer

from liif_cli.cli.options import DeviceOption, OneJsonOption, one_side, parse_target
from liif_cli.cli.progress import fit_bar
from liif_cli.cli.streams import result, say

REASONS = {"psnr": "target PSNR reached", "no gain": "no further gain", "iterations": "all iterations done"}


def fit(
    context: typer.Context,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The image to fit and to enlarge.")],
    scale: Annotated[str | None, typer.Option("--scale", "-s", metavar="S|SXxSY", help="Scale factor: 30.")] = None,
    size: Annotated[str | None, typer.Option(metavar="WxH", help="Exact size, instead of --scale.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Default: {stem}_siren_{scale}x.png next to it."),
    ] = None,
    iterations: Annotated[int, typer.Option(metavar="N", min=1, help="Maximum number of iterations.")] = 3000,
    psnr: Annotated[
        float,
        typer.Option(metavar="DB", help="Stop at this PSNR over the image's own pixels, or when it no longer rises."),
    ] = 45.0,
    seed: Annotated[int, typer.Option(metavar="N", help="Random seed for the initial weights.")] = 0,
    device: DeviceOption = "auto",
    max_pixels: Annotated[int, typer.Option(metavar="N", help="Refuse an output with more pixels.")] = 2**31,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False,
    as_json: OneJsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notes and no progress.")] = False,
) -> None:
    """Fit one sinusoidal network to one image and render it at any size: the 1-SIREN of the LIIF paper.

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
        say(f"Note: {fitted.psnr:.2f} dB over the image's own pixels {after}")
    about = {"output": str(path), "width": grid.shape[1], "height": grid.shape[0]}
    about |= {"psnr": fitted.psnr, "iterations": fitted.iterations, "stopped": fitted.reason}
    result(json.dumps(about) if as_json else str(path))

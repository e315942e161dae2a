"""`liif compare`: ways to enlarge a picture, side by side."""

import json
from pathlib import Path
from typing import Annotated

import typer

from liif_cli.cli.explanations import noted
from liif_cli.cli.options import DEFAULT_MODEL, models, one_of, one_side, parse_targets, words
from liif_cli.cli.progress import pixel_bar
from liif_cli.cli.streams import result, say
from liif_cli.errors import UsageError


def compare(
    context: typer.Context,
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="The picture, or - for standard input.")],
    scale: Annotated[
        str | None, typer.Option("--scale", "-s", metavar="S|SXxSY", help="Times as large. Default: 4.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Exactly this size, instead of --scale: 1920x1080, 1920x, x1080.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="The sheet. Default: {stem}_compared_{scale}x.png beside IMAGE."
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="A shipped name, a file, or hf://owner/repo. May be repeated. Default: the shipped one.",
            autocompletion=models,
        ),
    ] = None,
    region: Annotated[
        str | None, typer.Option(metavar="X,Y,W,H", help="Only this part, in pixels of the upright input.")
    ] = None,
    columns: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Panels in a row. Default: all in one.")
    ] = None,
    cell: Annotated[str, typer.Option(metavar="CELL", help="Shape of a pixel: raw, clip, or 1/k.")] = "raw",
    self_ensemble: Annotated[bool, typer.Option("--self-ensemble", help="Average four rotations.")] = False,
    device: Annotated[
        str,
        typer.Option(
            metavar="DEVICE",
            help="auto, cpu, cuda, cuda:N or mps.",
            autocompletion=words("auto", "cpu", "cuda", "mps"),
        ),
    ] = "auto",
    precision: Annotated[str, typer.Option(metavar="PRECISION", help="auto, fp32, bf16 or fp16.")] = "auto",
    max_pixels: Annotated[int, typer.Option(metavar="N", help="Refuse a sheet with more pixels.")] = 2**28,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing sheet.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notes.")] = False,
) -> None:
    """Show a picture by bicubic, Lanczos and each model, side by side, to look at.

    Examples:

      liif compare in.png --scale 4 -o compared.png

      liif compare in.png -s 12 --region 100,80,64,48 -m edsr-baseline-liif -m runs/mine.safetensors
    """
    from liif_cli.images.panels import draw_sheet, sheet_shape
    from liif_cli.images.write import SaveOptions, write
    from liif_cli.machine.files import check_target
    from liif_cli.rendering.sizes import Cell, Region, check_pixels
    from liif_cli.upscaling.comparison import panels
    from liif_cli.upscaling.inputs import Source
    from liif_cli.upscaling.options import Options
    from liif_cli.upscaling.upscaler import Upscaler

    scale, size = one_side(context, "scale", scale, "size", size)
    if scale is not None and size is not None:
        raise UsageError("--scale and --size exclude each other")
    target = parse_targets([] if size else [scale or "4"], [size] if size else [], "exact")[0]
    source = Source(None if image == "-" else Path(image))
    if output is None and source.path is None:
        raise UsageError("standard input has no name to call the sheet by", hint="give it one with -o")
    path = output or Path(image).with_name(f"{source.stem}_compared_{target.label}.png")
    check_target(path, overwrite)
    options = Options(
        cell=Cell.parse(cell),
        region=Region.parse(region) if region else None,
        self_ensemble=self_ensemble,
        device=device,
        precision=one_of("--precision", precision, ("auto", "fp32", "bf16", "fp16")),
        max_pixels=max_pixels,
        to_srgb=True,
    )
    upscalers = [Upscaler(name, options) for name in model or [DEFAULT_MODEL]]
    original = upscalers[0].read(source)
    grid = options.grid((original.picture.height, original.picture.width), target)
    check_pixels(sheet_shape(grid, len(upscalers) + 2, columns), max_pixels)
    for note in () if quiet else original.picture.notes:
        say(f"Note: {noted(note)}")
    with pixel_bar(source.stem, grid.shape[0] * grid.shape[1] * len(upscalers), quiet) as progress:
        shown = list(panels(original.picture.pixels, grid, upscalers, progress))
    sheet = draw_sheet(shown, columns)
    notes = write(path, sheet, options=SaveOptions(overwrite=overwrite))
    for note in () if quiet else notes:
        say(f"Note: {note}")
    about = {"output": str(path), "width": sheet.shape[1], "height": sheet.shape[0], "panels": [p.label for p in shown]}
    result(json.dumps(about) if as_json else str(path))

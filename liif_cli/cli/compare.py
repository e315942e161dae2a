"""`liif compare`: several ways to enlarge an image, side by side."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from liif_cli.cli.explanations import noted
from liif_cli.cli.options import (
    DEFAULT_MODEL,
    DeviceOption,
    OneJsonOption,
    RegionOption,
    SelfEnsembleOption,
    models,
    one_of,
    one_side,
    parse_target,
)
from liif_cli.cli.progress import pixel_bar
from liif_cli.cli.streams import result, say
from liif_cli.errors import UsageError

if TYPE_CHECKING:
    from liif_cli.upscaling.inputs import Source


def compare(
    context: typer.Context,
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE", help="Images, folders, patterns, or - for standard input. One row per image."),
    ],
    scale: Annotated[
        str | None, typer.Option("--scale", "-s", metavar="S|SXxSY", help="Scale factor. Default: 4.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Exact size, instead of --scale: 1920x1080, 1920x, x1080.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The sheet. Default, for one image: {stem}_compared_{scale}x.png next to it.",
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="A shipped name, a file, or hf://owner/repo. Repeatable. Default: the shipped one.",
            autocompletion=models,
        ),
    ] = None,
    restore: Annotated[
        list[str] | None,
        typer.Option(
            metavar="auto|0..1",
            help="How strongly each model restores, as in liif upscale. Repeatable: one panel for each.",
        ),
    ] = None,
    degrade: Annotated[
        str,
        typer.Option(
            metavar="KIND",
            help="Degrade the images first, to show the effect: jpeg:Q, webp:Q, avif:Q, noise:S, blur:S, joined by +.",
        ),
    ] = "clean",
    region: RegionOption = None,
    columns: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Panels per row. Default: all panels of an image.")
    ] = None,
    cell: Annotated[
        str,
        typer.Option(
            metavar="CELL,...", help="Cell sizes passed to the decoder, one panel for each: raw, clip, or 1/k."
        ),
    ] = "raw",
    self_ensemble: SelfEnsembleOption = False,
    device: DeviceOption = "auto",
    precision: Annotated[str, typer.Option(metavar="PRECISION", help="auto, fp32, bf16 or fp16.")] = "auto",
    max_pixels: Annotated[int, typer.Option(metavar="N", help="Refuse a sheet with more pixels.")] = 2**28,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing sheet.")] = False,
    as_json: OneJsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notes.")] = False,
) -> None:
    """Compare the input, bicubic, Lanczos and models side by side.

    Examples:

      liif compare in.png --scale 4 -o compared.png

      liif compare in.png -s 12 --region 100,80,64,48 -m edsr-baseline-liif -m runs/mine.safetensors

      liif compare in.png -s 30 -m edsr-baseline-liif --cell raw,1/1,1/2,1/30 -o cells.png

      liif compare a.png b.png --degrade jpeg:50 -m light --restore 0 --restore 1 -o sheet.png
    """
    from liif_cli.images.degrade import Degradation
    from liif_cli.images.panels import draw_sheet, sheet_shape, stacked
    from liif_cli.images.write import SaveOptions, write
    from liif_cli.machine.files import check_target
    from liif_cli.models.restore import parse_restore
    from liif_cli.rendering.sizes import Cell, Region, check_pixels
    from liif_cli.upscaling.comparison import FILTERS, check_wanted, degraded, panels, variants_for
    from liif_cli.upscaling.inputs import expand
    from liif_cli.upscaling.options import Options
    from liif_cli.upscaling.upscaler import Upscaler

    scale, size = one_side(context, "scale", scale, "size", size)
    target = parse_target(scale or (None if size else "4"), size)
    how, wanted = Degradation.parse(degrade), [parse_restore(each) for each in restore or ["0" if model else "auto"]]
    cells = [Cell.parse(each.strip()) for each in cell.split(",")]
    sources, failures = expand(images)
    for _, error in failures:
        raise error
    path = output or _beside(sources, target.label)
    check_target(path, overwrite)
    options = Options(
        region=Region.parse(region) if region else None,
        self_ensemble=self_ensemble,
        device=device,
        precision=one_of("--precision", precision, ("auto", "fp32", "bf16", "fp16")),
        max_pixels=max_pixels,
        to_srgb=True,
    )
    upscalers = [Upscaler(name, options) for name in model or [DEFAULT_MODEL]]
    check_wanted(upscalers, wanted)
    sheets, labels, size_so_far = list[Any](), list[str](), (0, 0)
    for source in sources:
        picture = upscalers[0].read(source).picture
        variants, said = variants_for(upscalers, wanted, picture, how, cells)
        grid = options.grid((picture.height, picture.width), target)
        height, width = sheet_shape(grid, len(variants) + len(FILTERS), columns)
        size_so_far = size_so_far[0] + height, max(size_so_far[1], width)
        check_pixels(size_so_far, max_pixels)
        for note in () if quiet else (*picture.notes, *said):
            say(f"Note: {noted(note)}")
        with pixel_bar(source.stem, grid.shape[0] * grid.shape[1] * len(variants), quiet) as progress:
            shown = list(panels(degraded(picture.pixels, how, source.name), grid, variants, progress))
        if len(sources) > 1:
            shown[0] = replace(shown[0], label=source.stem)
        sheets.append(draw_sheet(shown, columns))
        labels += [panel.label for panel in shown]
    sheet = stacked(sheets)
    notes = write(path, sheet, options=SaveOptions(overwrite=overwrite))
    for note in () if quiet else notes:
        say(f"Note: {note}")
    about = {"output": str(path), "width": sheet.shape[1], "height": sheet.shape[0], "panels": labels}
    result(json.dumps(about) if as_json else str(path))


def _beside(sources: "Sequence[Source]", label: str) -> Path:
    """The default path of the sheet of a single image. Raises `UsageError` for several images, and for standard input."""
    source = sources[0]
    if len(sources) > 1:
        raise UsageError("a sheet of several images needs a name", hint="name it with -o")
    if not isinstance(source.path, Path):
        kind = "standard input" if source.path is None else "an image in a store"
        raise UsageError(f"cannot name the sheet of {kind}", hint="name it with -o")
    return source.path.with_name(f"{source.stem}_compared_{label}.png")

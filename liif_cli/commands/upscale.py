"""`liif upscale`: show a picture at another size."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from liif_cli.errors import UsageError

if TYPE_CHECKING:
    from liif_cli.sizes import Target

DEFAULT_MODEL = "edsr-baseline-liif"


def upscale(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The picture to show at another size.")],
    scale: Annotated[
        list[str] | None,
        typer.Option(
            "--scale", "-s", metavar="S|SXxSY", help="Times as large: 7.5, or 2x3.5 (x by y). May be repeated."
        ),
    ] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(metavar="WxH", help="Exactly this size: 1920x1080, or 1920x, or x1080. May be repeated."),
    ] = None,
    fit: Annotated[
        str, typer.Option(metavar="FIT", help="How --size is met: exact, or keeping the aspect: contain, cover.")
    ] = "exact",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="The file to write. Default: {stem}_{scale}x.png beside IMAGE."
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", metavar="MODEL", help="A shipped name, a file, or hf://owner/repo[@revision][/path]."
        ),
    ] = DEFAULT_MODEL,
    region: Annotated[
        str | None, typer.Option(metavar="X,Y,W,H", help="Only this part, in pixels of the upright input.")
    ] = None,
    cell: Annotated[
        str,
        typer.Option(
            metavar="CELL", help="Shape of a pixel: raw, clip (never below that of x4), or 1/k of an input pixel."
        ),
    ] = "raw",
    self_ensemble: Annotated[
        bool, typer.Option("--self-ensemble", help="Average four rotations: better, four times as slow.")
    ] = False,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    precision: Annotated[
        str,
        typer.Option(
            metavar="PRECISION", help="auto, fp32, bf16 or fp16; auto is bf16 only where it is fast and safe."
        ),
    ] = "auto",
    max_pixels: Annotated[int, typer.Option(metavar="N", help="Refuse an output with more pixels.")] = 2**31,
    memory: Annotated[
        str | None, typer.Option(metavar="AMOUNT", help="Memory to plan with, such as 2GiB. Default: what is free.")
    ] = None,
    tile: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Side of a tile in input pixels. Default: planned.")
    ] = None,
    format: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="png, jpeg, webp, tiff, avif or gif. Default: by the suffix.")
    ] = None,
    quality: Annotated[
        int | None, typer.Option(metavar="Q", min=1, max=100, help="For JPEG (default 95), WebP (95) and AVIF (90).")
    ] = None,
    lossless: Annotated[bool, typer.Option("--lossless", help="WebP and AVIF without loss.")] = False,
    strip: Annotated[bool, typer.Option("--strip", help="Drop all metadata; colours are converted to sRGB.")] = False,
    background: Annotated[
        str,
        typer.Option(
            metavar="COLOUR", help="What transparency is flattened on where the format has none: #rrggbb, or a name."
        ),
    ] = "white",
    to_srgb: Annotated[bool, typer.Option("--to-srgb", help="Convert the colours to sRGB for good.")] = False,
    page: Annotated[int | None, typer.Option(metavar="N", min=1, help="Page of a TIFF, from 1.")] = None,
    frame: Annotated[int | None, typer.Option(metavar="N", min=1, help="Frame of an animation, from 1.")] = None,
    chunk: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Output pixels worked on at once. Default: what suits the device.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan (sizes, tiles, memory, disk) and do nothing.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per output.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say what is done, and how.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notes and no progress.")] = False,
) -> None:
    """Show a picture at another size.

    Examples:

      liif upscale in.png --scale 7.5 -o out.png

      liif upscale in.png --size 1920x1080 -o out.png
    """
    from liif_cli import images
    from liif_cli.memory import parse_bytes
    from liif_cli.savers import SaveOptions, parse_colour
    from liif_cli.sizes import Region
    from liif_cli.upscale import Options, Upscaler, default_output

    targets = parse_targets(scale or [], size or [], fit)
    if output is not None and len(targets) > 1:
        raise UsageError(
            "several --scale or --size would all write to one -o", hint="leave -o out: each gets a name of its own"
        )
    options = Options(
        cell=cell,
        region=Region.parse(region) if region else None,
        self_ensemble=self_ensemble,
        device=device,
        precision=one_of("--precision", precision, ("auto", "fp32", "bf16", "fp16")),
        max_pixels=max_pixels,
        memory=parse_bytes(memory) if memory else None,
        tile=tile,
        chunk=chunk,
        page=page,
        frame=frame,
        to_srgb=to_srgb,
        save=SaveOptions(format, quality, lossless, strip, parse_colour(background), overwrite),
    )
    upscaler = Upscaler(model, options)
    header = images.probe(image, page=page, frame=frame)
    size_in = (header.height, header.width)
    outputs = [(target, output or default_output(image, target, size_in, format)) for target in targets]
    if dry_run:
        from liif_cli.commands.plan import print_plan

        print_plan(upscaler, image, outputs, as_json)
        return
    for result in upscaler.file(image, outputs):
        for note in () if quiet else result.notes:
            typer.echo(f"Note: {note}", err=True)
        if verbose:
            typer.echo(f"{result.model} on {result.device} in {result.precision}: {result.seconds} s", err=True)
        typer.echo(json.dumps(result.as_dict()) if as_json else result.output)


def parse_targets(scales: list[str], sizes: list[str], fit: str) -> "list[Target]":
    """What `--scale` and `--size` ask for, in this order. Raises `UsageError`."""
    from liif_cli.sizes import Scale, Size

    kept = one_of("--fit", fit, ("exact", "contain", "cover"))
    targets: list[Target] = [Scale.parse(text) for text in scales]
    targets += [Size.parse(text, kept) for text in sizes]
    if not targets:
        raise UsageError("how large? Neither --scale nor --size was given", hint="--scale 4, or --size 1920x1080")
    return targets


def one_of(option: str, value: str, choices: tuple[str, ...]) -> Any:
    """`value` where it is among `choices`. Raises `UsageError`."""
    if value not in choices:
        raise UsageError(f"{option} {value!r} is none of {', '.join(choices)}")
    return value

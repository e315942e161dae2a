"""`liif upscale`: show pictures at another size."""

import json
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Annotated

import typer

from liif_cli.cli.options import DEFAULT_MODEL, exclusive, models, one_of, one_side, parse_targets, words
from liif_cli.cli.streams import binary_output, hide_downloads, result
from liif_cli.errors import ExitCode, UsageError
from liif_cli.images.formats.table import FORMATS, listed, on_request, qualities

if TYPE_CHECKING:
    from liif_cli.rendering.sizes import Target
    from liif_cli.upscaling.inputs import Source
    from liif_cli.upscaling.jobs import Work
    from liif_cli.upscaling.output_names import Output
    from liif_cli.upscaling.upscaler import Upscaler


def upscale(
    context: typer.Context,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE",
            help="Pictures, folders of them, patterns such as 'scans/*.png', or - for standard input.",
        ),
    ],
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
        str,
        typer.Option(
            metavar="FIT",
            help="How --size is met: exact, or keeping the aspect: contain, cover.",
            autocompletion=words("exact", "contain", "cover"),
        ),
    ] = "exact",
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE|DIR|TEMPLATE|-",
            help="A file; a folder; a template of {stem}, {scale}, {width}, {height}, {model}, {ext}; or - for standard"
            " output. Default: {stem}_{scale}x.png beside each IMAGE.",
        ),
    ] = None,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Folders with their folders; -o DIR keeps the tree.")
    ] = False,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="A shipped name, a file, or hf://owner/repo[@revision][/path].",
            autocompletion=models,
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
    device: Annotated[
        str,
        typer.Option(
            metavar="DEVICE",
            help="auto, cpu, cuda, cuda:N or mps.",
            autocompletion=words("auto", "cpu", "cuda", "mps"),
        ),
    ] = "auto",
    precision: Annotated[
        str,
        typer.Option(
            metavar="PRECISION",
            help="auto, fp32, bf16 or fp16; auto takes 16 bits only where that is fast and safe.",
            autocompletion=words("auto", "fp32", "bf16", "fp16"),
        ),
    ] = "auto",
    max_pixels: Annotated[int, typer.Option(metavar="N", help="Refuse an output with more pixels.")] = 2**31,
    memory: Annotated[
        str | None, typer.Option(metavar="AMOUNT", help="Memory to plan with, such as 2GiB. Default: what is free.")
    ] = None,
    tile: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Side of a tile in input pixels. Default: planned.")
    ] = None,
    chunk: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Output pixels worked on at once. Default: what suits the device."),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            help=f"{listed(list(FORMATS), 'or')}. Default: by the suffix.",
            autocompletion=words(*FORMATS),
        ),
    ] = None,
    quality: Annotated[
        int | None, typer.Option(metavar="Q", min=1, max=100, help=f"Quality of lossy coding. Default: {qualities()}.")
    ] = None,
    lossless: Annotated[bool, typer.Option("--lossless", help=f"{on_request()} without loss.")] = False,
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
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan (sizes, tiles, memory, disk) and do nothing.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing outputs.")] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave existing outputs as they are, and make the others.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per output.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say on what device, in which tiles and how long, step by step.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notes, no progress, no summary.")] = False,
) -> int:
    """Show pictures at another size.

    Examples:

      liif upscale in.png --scale 7.5 -o out.png

      liif upscale in.png --size 1920x1080 -o out.png

      liif upscale photos -r --scale 2 -o large

      liif upscale *.jpg --size 3840x --fit contain -o "{stem}_{width}x{height}.webp"

      curl -s https://example.org/in.png | liif upscale - -s 4 -o - > out.png
    """
    from liif_cli.images.write import SaveOptions, parse_colour
    from liif_cli.machine.memory import parse_bytes
    from liif_cli.models.store import find
    from liif_cli.rendering.sizes import Cell, Region
    from liif_cli.upscaling.inputs import is_many
    from liif_cli.upscaling.jobs import Work
    from liif_cli.upscaling.output_names import Naming

    scale, size = one_side(context, "scale", scale, "size", size)
    overwrite, skip_existing = exclusive(context, "overwrite", overwrite, "skip_existing", skip_existing)
    quiet, verbose = exclusive(context, "quiet", quiet, "verbose", verbose)
    if quiet:
        hide_downloads()
    if as_json and output == "-":
        raise UsageError("--json and -o - would both write to standard output", hint="-o a file")
    targets = parse_targets(scale or [], size or [], fit)
    part = Region.parse(region) if region else None
    shape = Cell.parse(cell)
    arithmetic = one_of("--precision", precision, ("auto", "fp32", "bf16", "fp16"))
    planned_memory = parse_bytes(memory) if memory else None
    form = "png" if output == "-" and format is None else format
    save = SaveOptions(form, quality, lossless, strip, parse_colour(background), overwrite)
    many = len(images) > 1 or len(targets) > 1 or any(is_many(each) for each in images)
    naming = Naming(output, many, form, part, cache(lambda: find(model).name), page, frame)
    work = Work(images, targets, naming, save, stream=binary_output, recursive=recursive, skip_existing=skip_existing)

    from liif_cli.upscaling.upscaler import Options, Upscaler

    options = Options(
        cell=shape,
        region=part,
        self_ensemble=self_ensemble,
        device=device,
        precision=arithmetic,
        max_pixels=max_pixels,
        memory=planned_memory,
        tile=tile,
        chunk=chunk,
        page=page,
        frame=frame,
        to_srgb=to_srgb,
        save=save,
    )
    upscaler = Upscaler(model, options)
    if dry_run:
        return show_plan(work, upscaler, as_json)
    return run(work, upscaler, as_json=as_json, verbose=verbose, quiet=quiet)


def show_plan(work: "Work", upscaler: "Upscaler", as_json: bool) -> int:
    """What `--dry-run` prints; the first failure is the command's."""
    for _, error in work.failures:
        raise error
    for job in work.jobs:
        print_plan(upscaler, job.source, job.outputs, as_json)
    return ExitCode.OK


def run(work: "Work", upscaler: "Upscaler", *, as_json: bool, verbose: bool, quiet: bool) -> int:
    """Do it, and return the exit code."""
    from liif_cli.cli.progress import Display
    from liif_cli.upscaling.batch import Batch

    display = Display(
        work.total,
        as_json=as_json,
        verbose=verbose,
        quiet=quiet,
        results=not work.piped,
        skipped=len(work.skipped),
    )
    with display:
        for name, error in work.failures:
            display.reject(name, error)
        if work.jobs:
            Batch(upscaler, display, make_folders=work.make_folders).run(work.jobs)
    return display.code()


def print_plan(
    upscaler: "Upscaler", source: "Source", outputs: "Sequence[tuple[Target, Output]]", as_json: bool = False
) -> None:
    """Print what each of `outputs`, (target, path), would take; as a line of text or of JSON."""
    from liif_cli.machine.memory import format_bytes
    from liif_cli.upscaling.estimate import estimate

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

"""`liif upscale`: image files at another size."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Annotated

import typer

from liif_cli.cli.dry_run import show_plan
from liif_cli.cli.fixed_scale import check_scales, own_scale
from liif_cli.cli.options import (
    DEFAULT_MODEL,
    CellOption,
    DeviceOption,
    RegionOption,
    SelfEnsembleOption,
    exclusive,
    models,
    one_of,
    one_side,
    parse_strip,
    parse_targets,
    without_effect,
    words,
)
from liif_cli.cli.progress import Display
from liif_cli.cli.run import on_cluster, on_this_machine, run
from liif_cli.cli.settings import is_typed
from liif_cli.cli.streams import binary_output, hide_downloads, say_unless
from liif_cli.errors import UsageError
from liif_cli.images.formats.table import FORMATS, listed, on_request, qualities

if TYPE_CHECKING:
    from liif_cli.models.checkpoints import Checkpoint
    from liif_cli.models.restore import Restore
    from liif_cli.rendering.sizes import Target
    from liif_cli.upscaling.inputs import Source
    from liif_cli.upscaling.manifest import Manifest
    from liif_cli.upscaling.options import Options
    from liif_cli.upscaling.output_names import Naming


def upscale(
    context: typer.Context,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE",
            help="Images, folders of them, patterns such as 'scans/*.png', addresses of these (s3://, https://), or - for"
            " standard input.",
        ),
    ],
    scale: Annotated[
        list[str] | None,
        typer.Option("--scale", "-s", metavar="S|SXxSY", help="Scale factor: 7.5, or 2x3.5 for x and y. Repeatable."),
    ] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WxH",
            help="Exact size: 1920x1080, or 30x20cm on paper; 1920x or x1080 keep the aspect ratio. Repeatable.",
        ),
    ] = None,
    fit: Annotated[
        str,
        typer.Option(
            metavar="FIT",
            help="exact gives exactly --size; contain, cover and crop keep the aspect ratio. crop cuts off the excess.",
            autocompletion=words("exact", "contain", "cover", "crop"),
        ),
    ] = "exact",
    gravity: Annotated[
        str,
        typer.Option(
            metavar="WHERE",
            help="Which part --fit crop keeps: center, north, northeast, east, ...",
            autocompletion=words("center", "north", "south", "east", "west"),
        ),
    ] = "center",
    dpi: Annotated[
        float | None,
        typer.Option(
            "--dpi",
            metavar="N",
            min=1,
            max=65535,
            help="Resolution to write, also used for sizes on paper. Default: the input's.",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE|DIR|TEMPLATE|-",
            help="A file; a folder; a template of {stem}, {scale}, {width}, {height}, {model}, {ext}; or - for standard"
            " output. Default: {stem}_{scale}x.png next to each IMAGE.",
        ),
    ] = None,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Include subfolders; with -o DIR their structure is kept.")
    ] = False,
    every: Annotated[
        bool, typer.Option("--all", help="Include images of a folder that are named like outputs of others.")
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
    restore: Annotated[
        str | None,
        typer.Option(
            metavar="auto|0..1",
            help="How strongly compression artefacts and noise are removed; auto depends on the file's quality."
            " Default: auto, but 0 with --model.",
            autocompletion=words("auto", "0", "0.5", "1"),
        ),
    ] = None,
    region: RegionOption = None,
    cell: CellOption = "raw",
    self_ensemble: SelfEnsembleOption = False,
    device: DeviceOption = "auto",
    precision: Annotated[
        str,
        typer.Option(
            metavar="PRECISION",
            help="auto, fp32, bf16 or fp16; auto uses 16 bits only if that is fast and safe.",
            autocompletion=words("auto", "fp32", "bf16", "fp16"),
        ),
    ] = "auto",
    max_pixels: Annotated[int, typer.Option(metavar="N", help="Refuse outputs with more pixels.")] = 2**31,
    memory: Annotated[
        str | None, typer.Option(metavar="AMOUNT", help="Memory limit, e.g. 2GiB. Default: free memory.")
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Side of a tile in input pixels. Default: depends on the memory limit."),
    ] = None,
    chunk: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Output pixels per chunk. Default: depends on the device."),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            help=f"{listed(list(FORMATS), 'or')}. Default: from the suffix.",
            autocompletion=words(*FORMATS),
        ),
    ] = None,
    quality: Annotated[
        int | None, typer.Option(metavar="Q", min=1, max=100, help=f"Quality, 1 to 100. Default: {qualities()}.")
    ] = None,
    lossless: Annotated[bool, typer.Option("--lossless", help=f"Lossless {on_request()}.")] = False,
    strip: Annotated[
        str | None,
        typer.Option(
            "--strip",
            metavar="[=location]",
            help="Remove all metadata (colours are converted to sRGB), or only location, serial numbers and the owner.",
            autocompletion=words("all", "location"),
        ),
    ] = None,
    background: Annotated[
        str,
        typer.Option(metavar="COLOUR", help="Background for formats without transparency: #rrggbb or a name."),
    ] = "white",
    to_srgb: Annotated[bool, typer.Option("--to-srgb", help="Convert the output to sRGB.")] = False,
    page: Annotated[int | None, typer.Option(metavar="N", min=1, help="Page of a TIFF, from 1.")] = None,
    frame: Annotated[int | None, typer.Option(metavar="N", min=1, help="Frame of an animation, from 1.")] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print sizes, tiles, memory, disk space and time without writing anything."),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing outputs.")] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Keep existing outputs, and write only the others.")
    ] = False,
    manifest: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Record every output in a table, .jsonl or .parquet. If it exists, make only what is missing or changed.",
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="auto|local|ADDRESS",
            help="Run on a Ray cluster: auto uses a running one, otherwise this machine.",
            autocompletion=words("auto", "local"),
        ),
    ] = None,
    actors: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Actors on the cluster, each with a model. Default: as many as fit."),
    ] = None,
    gpus_per_actor: Annotated[
        float | None, typer.Option(metavar="N", min=0, help="GPUs per actor. Default: 1 if the cluster has any.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per output and per failed input.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Report the device, the tiles and the time of each step.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notes, no progress, no summary.")] = False,
) -> int:
    """Upscale images to any scale or size.

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
    from liif_cli.upscaling.inputs import expand, is_many, without_outputs
    from liif_cli.upscaling.jobs import resolve
    from liif_cli.upscaling.options import Options
    from liif_cli.upscaling.output_names import Naming

    scale, size = one_side(context, "scale", scale, "size", size)
    overwrite, skip_existing = exclusive(context, "overwrite", overwrite, "skip_existing", skip_existing)
    quiet, verbose = exclusive(context, "quiet", quiet, "verbose", verbose)
    if quiet:
        hide_downloads()
    if as_json and output == "-":
        raise UsageError("cannot combine --json and -o -: both write to standard output", hint="use -o FILE")
    found = cache(lambda: find(model))
    targets = parse_targets(scale or ([] if size else own_scale(found)), size or [], fit, gravity, dpi)
    say_unless(quiet, *idle(context, images))
    form = "png" if output == "-" and format is None else format
    stripped = parse_strip(strip)
    options = Options(
        cell=Cell.parse(cell),
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
        restore=restoration(context, restore),
        save=SaveOptions(
            form,
            quality,
            lossless,
            stripped == "all",
            parse_colour(background),
            overwrite,
            dpi,
            stripped == "location",
        ),
    )
    many = len(images) > 1 or len(targets) > 1 or any(is_many(each) for each in images)
    naming = Naming.parse(output, many, form, lambda: found().name)
    sources, unknown = expand(images, recursive, naming.folder)
    sources, earlier = (sources, []) if every else without_outputs(sources)
    if ray is not None:
        check_no_streams(naming, sources)
    stream = binary_output() if naming.kind == "stream" else None
    table = manifest_of(manifest, options, targets, found) if manifest else None
    work = resolve(
        sources,
        targets,
        naming,
        options,
        stream=stream,
        skip_existing=skip_existing,
        manifest=table,
        defer=ray is not None and not dry_run,
        failures=unknown,
    )
    say_unless(quiet, *skipped(earlier), *work.notes)
    if dry_run:
        return show_plan(work, found, options, scale or [], as_json, quiet)
    if scale and work.tasks:
        check_scales(found(), scale)
    display = Display(work, as_json=as_json, verbose=verbose, quiet=quiet, results=stream is None, manifest=table)
    if ray is not None:
        asked = (ray, actors, gpus_per_actor)
        return run(work, display, lambda: on_cluster(work, targets, found, options, asked, display))
    return run(work, display, lambda: on_this_machine(work, found, options, display))


def check_no_streams(naming: "Naming", sources: "Sequence[Source]") -> None:
    """Raises `UsageError` if a cluster would have to read standard input or write standard output."""
    if naming.kind == "stream" or any(source.path is None for source in sources):
        raise UsageError("a cluster cannot read standard input or write standard output", hint="name files or objects")


def skipped(earlier: "Sequence[Source]") -> list[str]:
    """A list with a note on inputs that are outputs of an earlier run; empty if there are none."""
    if not earlier:
        return []
    named = f"{earlier[0].name}{f' and {len(earlier) - 1} more' if len(earlier) > 1 else ''}"
    return [f"skipped outputs of an earlier run: {named}; --all includes them"]


def idle(context: typer.Context, images: list[str]) -> list[str]:
    """A sentence for each typed option that has no effect in this call."""
    from liif_cli.upscaling.inputs import is_many

    found = without_effect(context, {"fit": "size", "actors": "ray", "gpus_per_actor": "ray"})
    if is_typed(context, "gravity") and context.params.get("fit") != "crop":
        found.append("--gravity has no effect without --fit crop")
    if is_typed(context, "recursive") and not any(is_many(each) for each in images):
        found.append("--recursive has no effect: no IMAGE is a folder")
    return found


def restoration(context: typer.Context, text: str | None) -> "Restore":
    """The value of `--restore`. Default: "auto" for the default model, 0 for a model that was chosen."""
    from liif_cli.models.restore import parse_restore

    source = context.get_parameter_source("model")
    return parse_restore(text or ("auto" if source is not None and source.name == "DEFAULT" else "0"))


def manifest_of(
    file: str, options: "Options", targets: "list[Target]", found: "Callable[[], Checkpoint]"
) -> "Manifest":
    """The manifest of an earlier run, or a new one. Raises the exceptions of `Manifest`."""
    from pathlib import Path

    from liif_cli.upscaling.manifest import Manifest, settings

    return Manifest(Path(file), settings(options, targets, found()), found())

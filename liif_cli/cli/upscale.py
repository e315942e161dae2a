"""`liif upscale`: image files at another size."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Annotated

import typer

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
from liif_cli.cli.progress import Display, failure
from liif_cli.cli.settings import is_typed
from liif_cli.cli.streams import binary_output, hide_downloads, one_line, result, say
from liif_cli.errors import ExitCode, LiifError, UsageError
from liif_cli.images.formats.table import FORMATS, listed, on_request, qualities

if TYPE_CHECKING:
    from liif_cli.images.formats.base import Format
    from liif_cli.models.checkpoints import Checkpoint
    from liif_cli.models.restore import Restore
    from liif_cli.rendering.sizes import Target
    from liif_cli.upscaling.estimate import Estimate
    from liif_cli.upscaling.jobs import Task, Work
    from liif_cli.upscaling.manifest import Manifest
    from liif_cli.upscaling.options import Options
    from liif_cli.upscaling.speeds import Speed
    from liif_cli.upscaling.upscaler import Upscaler


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
            help="Exact size: 1920x1080, or on paper 30x20cm; 1920x or x1080 keep the aspect. Repeatable.",
        ),
    ] = None,
    fit: Annotated[
        str,
        typer.Option(
            metavar="FIT",
            help="How --size is met: exact, or keeping the aspect: contain, cover, or crop, which cuts off the excess.",
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
            help="Resolution to write, and for sizes on paper. Default: the input's.",
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
        int | None, typer.Option(metavar="Q", min=1, max=100, help=f"Quality of lossy coding. Default: {qualities()}.")
    ] = None,
    lossless: Annotated[bool, typer.Option("--lossless", help=f"{on_request()} without loss.")] = False,
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
        typer.Option(metavar="COLOUR", help="Background for formats without transparency: #rrggbb, or a name."),
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
            help="Work on a Ray cluster: auto takes a running one, otherwise this machine.",
            autocompletion=words("auto", "local"),
        ),
    ] = None,
    actors: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Actors on the cluster, a model each. Default: as many as fit."),
    ] = None,
    gpus_per_actor: Annotated[
        float | None, typer.Option(metavar="N", min=0, help="GPUs of each actor. Default: 1 if the cluster has any.")
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
    if ray is not None and (naming.kind == "stream" or any(source.path is None for source in sources)):
        raise UsageError(
            "a cluster reads no standard input and writes no standard output", hint="name files or objects"
        )
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
    if earlier:
        named = f"{earlier[0].name}{f' and {len(earlier) - 1} more' if len(earlier) > 1 else ''}"
        say_unless(quiet, f"skipped outputs of an earlier run: {named}; --all includes them")
    say_unless(quiet, *work.notes)
    if dry_run:
        return show_plan(work, found, options, scale or [], as_json, quiet)
    if scale and work.tasks:
        check_scales(found(), scale)
    display = Display(work, as_json=as_json, verbose=verbose, quiet=quiet, results=stream is None, manifest=table)
    if ray is not None:
        from liif_cli.upscaling.fleet import Fleet
        from liif_cli.upscaling.fleet import run as run_fleet

        fleet = Fleet(ray, actors, gpus_per_actor)
        return run(work, display, lambda: run_fleet(work, targets, found(), options, fleet, display))
    return run(work, display, lambda: batch(work, found, options, display))


def say_unless(quiet: bool, *sentences: str) -> None:
    """Print notes for the user, one per line."""
    for sentence in () if quiet else sentences:
        say(f"Note: {one_line(sentence)}")


def own_scale(found: "Callable[[], Checkpoint]") -> list[str]:
    """The scale of a model for one scale, as for `--scale`; empty for other models."""
    only = found().only_scale
    return [] if only is None else [f"{only:g}"]


def check_scales(checkpoint: "Checkpoint", scales: list[str]) -> None:
    """Raises `UsageError` once, not for every image, if a model for one scale is asked for another."""
    from liif_cli.rendering.sizes import Scale

    only = checkpoint.only_scale
    for each in map(Scale.parse, scales):
        if only is not None and {float(each.x), float(each.y)} != {only}:
            raise UsageError(
                f"{checkpoint.name} renders only ×{only:g}, not ×{each.text}",
                hint=f"--scale {only:g}, or another model",
            )


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


def show_plan(
    work: "Work", found: "Callable[[], Checkpoint]", options: "Options", scales: list[str], as_json: bool, quiet: bool
) -> int:
    """Print the plan for `--dry-run`. Raises the first failure. Loads torch only if a speed is unknown."""
    for name, error in work.failures:
        if as_json:
            result(failure(name, error))
    for _, error in work.failures:
        raise error
    if work.tasks:
        from liif_cli.upscaling.estimate import estimate

        speeds = Speeds(found(), options, lazily(found, options), quiet)
        tasks = [replace(each.ready(), source=each.source) for each in work.tasks]  # what was fetched for it is let go
        if any(speeds.known(task) is None for task in tasks):
            check_scales(found(), scales)
        plans = [
            plan
            for task in tasks
            for speed in [speeds.of(task)]
            for plan in estimate(task, speed, options, speeds.free(speed))
        ]
        for each in plans:
            result(json.dumps(each.as_dict()) if as_json else describe(each))
        start = max(speeds.of(task).start for task in tasks)
        total = start + sum(each.seconds for each in plans)
        say_unless(quiet, f"in all about {duration(total)}, of which the start takes {duration(start)}")
    return ExitCode.OK


class Speeds:
    """The speeds of a call's tasks: those that are known, otherwise measured once. upscaler: makes one; it loads torch."""

    def __init__(
        self, checkpoint: "Checkpoint", options: "Options", upscaler: "Callable[[], Upscaler]", quiet: bool
    ) -> None:
        self._checkpoint, self._options, self._upscaler, self._quiet = checkpoint, options, upscaler, quiet
        self._known: dict[int, Speed | None] = {}

    def known(self, task: "Task") -> "Speed | None":
        """A task's speed, if it is known."""
        from liif_cli.upscaling.speeds import recall

        bits = output_bits(task)
        if bits not in self._known:
            self._known[bits] = recall(self._checkpoint, self._options, bits)
        speed, formats = self._known[bits], {output.format.name for output in task.outputs}
        return speed if speed and formats <= set(speed.file) else None

    def of(self, task: "Task") -> "Speed":
        """A task's speed. Raises what loading the model raises."""
        speed = self.known(task)
        for form in () if speed else {output.format.name: output.format for output in task.outputs}.values():
            speed = self._known[output_bits(task)] = self._measure(task, form)
        assert speed is not None
        return speed

    def free(self, speed: "Speed") -> int | None:
        """Bytes that are free on a speed's device, which torch must be asked for; None: what is free on this machine."""
        if speed.device == "cpu":
            return None
        import torch

        from liif_cli.machine.devices import free_memory

        return free_memory(torch.device(speed.device))

    def _measure(self, task: "Task", form: "Format") -> "Speed":
        from liif_cli.upscaling.calibration import measured_speed

        say_unless(self._quiet, f"measuring once how fast {self._checkpoint.name} is on this machine")
        return measured_speed(self._upscaler(), output_bits(task), form)


def lazily(found: "Callable[[], Checkpoint]", options: "Options") -> "Callable[[], Upscaler]":
    """Makes an upscaler when it is called, and loads torch only then."""

    @cache
    def make() -> "Upscaler":
        from liif_cli.upscaling.upscaler import Upscaler

        return Upscaler(found(), options)

    return make


def expectations(tasks: "Sequence[Task]", upscaler: "Upscaler") -> list[tuple[float, float]]:
    """Seconds to encode each image and for the rest; nothing if that cannot be told, which the run will say better."""
    from liif_cli.upscaling.estimate import seconds_of

    assert upscaler.checkpoint is not None
    speeds = Speeds(upscaler.checkpoint, upscaler.options, lambda: upscaler, quiet=True)
    try:
        return [seconds_of(task, speeds.of(task), upscaler.options) for task in tasks]
    except LiifError:
        return []


def output_bits(task: "Task") -> int:
    """Bits per sample of a task's outputs as they are rendered."""
    return 16 if task.header.bits > 8 else 8


def manifest_of(
    file: str, options: "Options", targets: "list[Target]", found: "Callable[[], Checkpoint]"
) -> "Manifest":
    """The manifest of an earlier run, or a new one. Raises what `Manifest` raises."""
    from pathlib import Path

    from liif_cli.upscaling.manifest import Manifest, settings

    return Manifest(Path(file), settings(options, targets, found()), found())


def run(work: "Work", display: Display, do: "Callable[[], None]") -> int:
    """Process all tasks, by `do`, and return the exit code. If there is only one image, its error is raised."""
    with display:
        for name, error in work.failures:
            display.reject(name, error)
        if work.tasks:
            do()
    if work.lone and display.errors:
        raise display.errors[0]
    return ExitCode.SOME_FAILED if display.errors else ExitCode.OK


def batch(work: "Work", found: "Callable[[], Checkpoint]", options: "Options", display: Display) -> None:
    """Process all tasks on this machine."""
    from liif_cli.upscaling.batch import Batch
    from liif_cli.upscaling.calibration import learn
    from liif_cli.upscaling.jobs import Task
    from liif_cli.upscaling.upscaler import Upscaler

    upscaler = Upscaler(found(), options)
    known = [task for task in work.tasks if isinstance(task, Task)]
    near = len(known) == len(work.tasks)  # of images in stores nothing is known yet
    if display.watched and near and (seconds := expectations(known, upscaler)):
        display.expect(seconds)
    doing = Batch(upscaler, display, make_folders=work.make_folders)
    doing.run(work.tasks)
    if near and len(depths := {output_bits(task) for task in known}) == 1:
        learn(upscaler, depths.pop(), doing.measured)


def describe(plan: "Estimate") -> str:
    """The tiles, memory, disk space and time of an output, on one line."""
    from liif_cli.machine.memory import format_bytes

    tiles = f"{plan.tiles} tile{'s' * (plan.tiles > 1)} of up to {plan.tile} pixels" if plan.tiles else "no network"
    amounts = (
        f"memory up to {format_bytes(plan.peak_memory)}, "
        f"scratch {format_bytes(plan.scratch)}, file up to {format_bytes(plan.file)}"
    )
    return f"{plan.output}: {plan.width}x{plan.height}, {tiles}, {amounts}, about {duration(plan.seconds)}"


def duration(seconds: float) -> str:
    """For people: `0.4 s`, `12 s`, `3 min`, `1 h 20 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"

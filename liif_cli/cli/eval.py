"""`liif eval`: score models on the benchmark sets."""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from liif_cli.cli.options import (
    DEFAULT_MODEL,
    CellOption,
    DeviceOption,
    OneJsonOption,
    SelfEnsembleOption,
    one_of,
    parse_scales,
    without_effect,
)
from liif_cli.cli.progress import images_bar
from liif_cli.cli.streams import say
from liif_cli.errors import UsageError

if TYPE_CHECKING:
    from liif_cli.evaluation.benchmarks import Benchmark
    from liif_cli.evaluation.methods import Method
    from liif_cli.evaluation.scores import Row


FOR_FIGURES = ("figure_image", "figure_scale", "crop")


def eval_(
    context: typer.Context,
    dataset: Annotated[
        list[str],
        typer.Option(
            "--dataset",
            "-d",
            metavar="SET|DIR|FILE",
            help="set5, set14, b100, urban100, div2k, celebahq, a folder or an image. Repeatable.",
        ),
    ],
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", metavar="MODEL", help="A shipped name, a file, or hf://owner/repo. Repeatable."),
    ] = None,
    scale: Annotated[
        list[str] | None,
        typer.Option(
            "--scale", "-s", metavar="S[,S...]", help="Scales to score. Default: 2,3,4,6,8,12,18,24,30. Repeatable."
        ),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="benchmark, div2k, mmediting or celebahq. Default: the set's protocol."),
    ] = None,
    lr: Annotated[
        str | None,
        typer.Option(metavar="HOW", help="Override how low-resolution images are made: files, matlab or pillow."),
    ] = None,
    degrade: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND[,KIND...]",
            help="Degrade low-resolution images: jpeg:Q, webp:Q, avif:Q, noise:S, blur:S, joined by + as in"
            " noise:4+jpeg:65, or clean. Not a standard protocol. Repeatable.",
        ),
    ] = None,
    centre: Annotated[
        int | None,
        typer.Option("--centre", metavar="N", min=11, help="Score only the central N x N pixels of each image."),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder of the sets: DIR/Set14/HR/*.png. Default: downloaded from the Hub once."
        ),
    ] = None,
    cell: CellOption = "raw",
    self_ensemble: SelfEnsembleOption = False,
    precision: Annotated[
        str, typer.Option(metavar="PRECISION", help="fp32 (for comparable scores), auto, bf16 or fp16.")
    ] = "fp32",
    device: DeviceOption = "auto",
    baseline: Annotated[
        str, typer.Option(metavar="NAME[,NAME]", help="Baselines: bicubic, lanczos, x4-lanczos, or none.")
    ] = "bicubic,x4-lanczos",
    per_image: Annotated[bool, typer.Option("--per-image", help="Include the scores of every image.")] = False,
    as_json: OneJsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print tables in Markdown.")] = False,
    save_images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Save every result, low-resolution image and ground truth there.")
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw one image's crop by every method, side by side.")
    ] = None,
    figure_image: Annotated[
        str | None, typer.Option(metavar="NAME", help="The image in --figure. Default: the first of the first set.")
    ] = None,
    figure_scale: Annotated[
        float | None, typer.Option(metavar="S", help="The scale in --figure. Default: 4, or the first scale scored.")
    ] = None,
    crop: Annotated[
        str | None,
        typer.Option(
            metavar="X,Y,W,H",
            help="The crop in --figure, in pixels of the ground truth. Default: where methods differ most.",
        ),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw PSNR against scale (needs liif[plot]).")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing outputs.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notes and no progress.")] = False,
) -> None:
    """Score models next to bicubic, and next to x4 with the same network followed by Lanczos.

    Examples:

      liif eval --dataset set14

      liif eval --dataset set5 --dataset set14 --scale 2,3,4 --data-dir benchmarks --json

      liif eval --dataset photo.png --scale 8 --figure comparison.png
    """
    form = _format(as_json, as_csv, as_markdown)
    for sentence in () if quiet else without_effect(context, dict.fromkeys(FOR_FIGURES, "figure")):
        say(f"Note: {sentence}")
    scales = parse_scales(scale or [])
    source = None if lr is None else one_of("--lr", lr, ("files", "matlab", "pillow"))
    baselines = [
        one_of("--baseline", name, ("bicubic", "lanczos", "x4-lanczos", "none")) for name in baseline.split(",")
    ]
    arithmetic = one_of("--precision", precision, ("auto", "fp32", "bf16", "fp16"))
    from liif_cli.rendering.sizes import Cell

    shape = Cell.parse(cell)
    import torch

    from liif_cli.cli import streams
    from liif_cli.evaluation.artifacts import Artifacts
    from liif_cli.evaluation.evaluate import evaluate
    from liif_cli.evaluation.methods import compared, networks
    from liif_cli.evaluation.protocols import protocol_named
    from liif_cli.images.degrade import CLEAN, parse_degradations
    from liif_cli.machine.processes import joined
    from liif_cli.models import hub

    chosen = None if protocol is None else protocol_named(protocol)
    degradations = parse_degradations(degrade) if degrade else (CLEAN,)
    artifacts = Artifacts(save_images, figure, figure_image, figure_scale, crop, plot, overwrite)
    with joined(torch.device("cpu")) as world:
        if quiet:
            hub.hide_progress()
        sets = [_centred(each, centre, source) for each in _find_sets(dataset, data_dir, source == "files", scales)]
        artifacts.prepare(sets[0])
        world.wait()  # otherwise one process could take another's new output for an existing one
        models = networks(
            model or [DEFAULT_MODEL],
            device if world.size == 1 else _local(device, world.local),
            cell=shape,
            self_ensemble=self_ensemble,
            precision=arithmetic,
        )
        rows: list[Row] = []
        for found, degradation in product(sets, degradations):
            measured = chosen or protocol_named(found.protocol)
            with images_bar(f"{found.name} {degradation.label}".strip(), quiet or not world.first) as progress:
                rows += evaluate(
                    compared(models, measured, baselines),
                    found,
                    protocol=measured,
                    low_from=source,
                    degradation=degradation,
                    on_result=artifacts.add if artifacts.wanted else None,
                    progress=progress,
                )
        artifacts.write(rows if world.first else [], alone=world.size == 1)
        if world.first:
            for note in () if quiet else [note for found in sets for note in found.notes]:
                streams.say(f"Note: {note}")
            _print(rows, form, per_image, _caption(models, rows, cell, self_ensemble, precision))


def _format(as_json: bool, as_csv: bool, as_markdown: bool) -> str:
    chosen = [name for name, on in (("json", as_json), ("csv", as_csv), ("markdown", as_markdown)) if on]
    if len(chosen) > 1:
        raise UsageError(f"--{chosen[0]} and --{chosen[1]} exclude each other")
    return chosen[0] if chosen else "table"


def _find_sets(
    names: list[str], data_dir: Path | None, with_files: bool, scales: tuple[float, ...]
) -> "list[Benchmark]":
    """The sets, each with the scales to score it at. Raises `UsageError` if none is left."""
    from liif_cli.evaluation.benchmarks import find

    low_scales = (scales or (2.0, 3.0, 4.0)) if with_files else ()
    found = [each for name in names for each in find(name, data_dir, low_scales=low_scales)]
    if with_files and not scales:
        found = [replace(each, scales=each.low_scales()) for each in found]
    elif scales:
        kept = [(each, tuple(s for s in scales if each.sides is None or s in each.scales)) for each in found]
        found = [replace(each, scales=some) for each, some in kept]
    found = [each for each in found if each.scales]
    if not found:
        raise UsageError("no set has images for these scales", hint="omit --scale, or choose other scales")
    return found


def _centred(found: "Benchmark", side: int | None, source: str | None) -> "Benchmark":
    """The set with only the central square of each image. Raises `UsageError` if its LR files show whole images."""
    if side is None:
        return found
    if source == "files" or found.sides:
        raise UsageError("cannot use --centre: the set's own low-resolution files show whole images")
    return replace(found, name=f"{found.name} (central {side})", centre=side)


def _local(device: str, number: int) -> str:
    """The device for process `number` on this machine: `auto` and `cuda` are spread over its GPUs."""
    from torch import cuda

    return f"cuda:{number % cuda.device_count()}" if device in ("auto", "cuda") and cuda.is_available() else device


def _caption(models: "list[Method]", rows: "list[Row]", cell: str, self_ensemble: bool, precision: str) -> str:
    parts = [] if cell == "raw" else [f"cell {cell}"]
    parts += ["self-ensemble", precision] if self_ensemble else [precision]
    if len(models) > 1 and any(row.method == "x4-lanczos" for row in rows):
        parts.append(f"x4-lanczos by {next(model.name for model in models if model.takes(4))}")
    return ", ".join(parts)


def _print(rows: "list[Row]", form: str, per_image: bool, caption: str) -> None:
    from liif_cli.cli import streams
    from liif_cli.evaluation import scores

    if form == "table":
        streams.result(scores.render(rows, per_image, caption))
        return
    write = {"json": scores.to_json, "csv": scores.to_csv, "markdown": scores.to_markdown}[form]
    streams.result(write(rows, per_image).rstrip("\n"))

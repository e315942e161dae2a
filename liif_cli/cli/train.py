"""`liif train`: train a model from scratch or from a checkpoint, or continue a run."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from liif_cli.errors import UsageError
from liif_cli.training.defaults import PRESET

if TYPE_CHECKING:
    from liif_cli.training.recipe import TrainConfig
    from liif_cli.training.run_folder import Run


def train(
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", metavar="FOLDER", help="Folder of training images, searched recursively. Repeatable."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="RUN", help="Folder of the new run.")] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help=f"Recipe: a preset, see --presets. Default: the one for --model, or {PRESET}."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Recipe: a TOML file, instead of a preset.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Continue a run exactly from its last checkpoint.")
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(metavar="CHECKPOINT", help="Start from these weights: a shipped name, a file, or hf://..."),
    ] = None,
    fork: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", help="Start a new run from another run's weights, EMA and optimiser, e.g. for a decay."
        ),
    ] = None,
    val: Annotated[
        list[Path] | None, typer.Option("--val", metavar="FOLDER", help="Folder of validation images. Repeatable.")
    ] = None,
    max_time: Annotated[
        str | None, typer.Option(metavar="TIME", help="Stop cleanly after this time: 90s, 45m, 8h, 1h30m.")
    ] = None,
    iterations: Annotated[int | None, typer.Option(metavar="N", help="Total optimiser steps.")] = None,
    batch: Annotated[int | None, typer.Option(metavar="N", help="Patches per step, over all processes.")] = None,
    patch: Annotated[int | None, typer.Option(metavar="N", help="Side of the LR patch in pixels.")] = None,
    scale: Annotated[str | None, typer.Option(metavar="A,B|K", help="Range of scales, e.g. 1,4, or one scale.")] = None,
    queries: Annotated[int | None, typer.Option(metavar="N", help="HR pixels per patch in the loss.")] = None,
    degrade: Annotated[
        str | None, typer.Option(metavar="HOW", help="How LR is made: clean (bicubic) or photo (like web images).")
    ] = None,
    lr: Annotated[float | None, typer.Option("--lr", metavar="RATE", help="Peak learning rate.")] = None,
    loss: Annotated[str | None, typer.Option(metavar="LOSS", help="l1, l2 or charbonnier.")] = None,
    precision: Annotated[
        str | None,
        typer.Option(metavar="PRECISION", help="auto (bf16 if fast), fp32, bf16, or fp16 (with loss scaling)."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Architecture: light, light-large, edsr-baseline-liif, rdn-liif, and more."),
    ] = None,
    device: Annotated[str | None, typer.Option(metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps.")] = None,
    workers: Annotated[int | None, typer.Option(metavar="N", help="Threads that prepare batches.")] = None,
    threads: Annotated[
        int | None, typer.Option(metavar="N", help="Threads for computing on the CPU; 0: torch's default.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Random seed for weights, data order, crops and queries.")
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Licence of the weights, written to the checkpoint and the model card."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Any other value of the recipe, e.g. ema.decay=0.9995. Repeatable."
        ),
    ] = None,
    presets: Annotated[bool, typer.Option("--presets", help="List the presets and exit.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes.")] = False,
) -> None:
    """Train a model and print the path of its checkpoint.

    Examples:

      liif train --data photos/ --val kodak/ --out run

      liif train --resume run

      torchrun --nproc-per-node 4 -m liif_cli train --data photos/ --out run
    """
    flags = {
        "data.folders": [str(p.resolve()) for p in data] if data else None,
        "data.val": [str(p.resolve()) for p in val] if val else None,
        "data.patch": patch,
        "data.scale": parse_scale(scale) if scale else None,
        "data.queries": queries,
        "data.degrade": degrade,
        "optimiser.lr": lr,
        "iterations": iterations,
        "batch": batch,
        "loss": loss,
        "precision": precision,
        "device": device,
        "workers": workers,
        "threads": threads,
        "seed": seed,
        "licence": licence,
    }
    if presets:
        list_presets()
        return
    overrides = overridden({key: value for key, value in flags.items() if value is not None}, settings or [], model)
    seconds = parse_time(max_time) if max_time else 0
    if resume is not None:
        refuse(out=out, preset=preset, config=config, init=init, fork=fork)
    if init is not None and fork is not None:
        raise UsageError("--init and --fork exclude each other")
    run, recipe = open_run(resume, overrides) if resume else new_run(out, preset, config, fork, model, overrides)
    go(run, recipe, init, fork, seconds, quiet)


def go(run: "Run", recipe: "TrainConfig", init: str | None, fork: Path | None, max_time: float, quiet: bool) -> None:
    """Train, and report how it ended."""
    from liif_cli.cli.progress import Live
    from liif_cli.cli.streams import result, say
    from liif_cli.training.run_folder import Run
    from liif_cli.training.train import train

    first = os.environ.get("RANK", "0") == "0"
    with Live(quiet=quiet or not first) as live:
        reason = train(
            run, recipe, init=init, fork=Run.open(fork) if fork else None, max_time=max_time, watch=live.hear
        )
    if first:
        if reason != "done" and not quiet:
            say(f"stopped ({reason}); resume with: liif train --resume {run.folder}")
        if reason in ("done", "time"):
            result(str(run.model_path(recipe.name)))
    if reason not in ("done", "time"):
        raise KeyboardInterrupt


def list_presets() -> None:
    """Print the names of the presets, one per line."""
    from liif_cli.cli.streams import result
    from liif_cli.training.recipe import presets

    for name in presets():
        result(name)


def refuse(**options: Any) -> None:
    """Raises `UsageError` for the first option that was given; a resumed run has these already."""
    for name, value in options.items():
        if value is not None:
            raise UsageError(f"cannot combine --{name} with --resume: a resumed run keeps its own")


def open_run(folder: Path, overrides: dict[str, Any]) -> "tuple[Run, TrainConfig]":
    """An existing run and its recipe with `overrides`, which are saved in the run."""
    import json

    from liif_cli.machine.files import write_bytes
    from liif_cli.models.schema import to_dict
    from liif_cli.training.recipe import merge
    from liif_cli.training.run_folder import Run

    run = Run.open(folder)
    recipe = run.parsed_config(merge(run.config(), overrides))
    if overrides and os.environ.get("RANK", "0") == "0":
        write_bytes(run.config_path, json.dumps(to_dict(recipe), indent=2).encode())
    return run, recipe


def new_run(
    out: Path | None,
    preset: str | None,
    config: Path | None,
    fork: Path | None,
    model: str | None,
    overrides: dict[str, Any],
) -> "tuple[Run, TrainConfig]":
    """A new run in `out`, by a preset or a file. A fork's default recipe is that of the run it comes from."""
    from liif_cli.training.recipe import merge, preset_of, read
    from liif_cli.training.run_folder import Run
    from liif_cli.training.train import check

    if out is None:
        raise UsageError("a new run needs a folder", hint="--out RUN; or continue a run: --resume RUN")
    if preset is not None and config is not None:
        raise UsageError("--preset and --config exclude each other")
    if fork is not None and preset is None and config is None:
        parent = Run.open(fork)
        recipe = parent.parsed_config(merge(parent.config(), overrides))
    else:
        recipe = read(str(config) if config else preset or preset_of(model), overrides, file=config is not None)
    check(recipe)
    return (Run.create(out, recipe) if os.environ.get("RANK", "0") == "0" else Run(out)), recipe


def parse_scale(text: str) -> tuple[float, float]:
    """`1,4` -> (1, 4); `3` -> (3, 3). Raises `UsageError`."""
    try:
        numbers = [float(part) for part in re.split(r"[,-]", text)]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2):
        raise UsageError(f"{text!r} is not a scale or a range of scales", hint="--scale 1,4 or --scale 2")
    return numbers[0], numbers[-1]


def parse_time(text: str) -> float:
    """`90`, `90s`, `45m`, `1h30m` -> seconds. Raises `UsageError`."""
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip())
    if not text.strip() or match is None:
        raise UsageError(f"{text!r} is not a duration", hint="90s, 45m, 8h or 1h30m")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return 3600 * hours + 60 * minutes + seconds


def overridden(flags: dict[str, Any], settings: list[str], model: str | None) -> dict[str, Any]:
    """What the command line sets in the recipe: by its own options, by `--set` and by `--model`. Raises `UsageError`."""
    from liif_cli.training.recipe import architecture, merge, nested, parse_settings

    overrides = merge(nested(flags), parse_settings(settings))
    return merge(overrides, {"model": architecture(model)}) if model else overrides

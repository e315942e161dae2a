"""`liif train`: train a model from scratch, from a checkpoint, or on from where a run stopped."""

import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from liif_cli.errors import UsageError

if TYPE_CHECKING:
    from liif_cli.training.recipe import TrainConfig
    from liif_cli.training.run_folder import Run


DEFAULT_PRESET = "light"


def train(
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", metavar="FOLDER", help="Pictures to train on, recursively. May be repeated."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="RUN", help="Folder of the new run.")] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help=f"Recipe: a preset, see --presets. Default: that of --model, or {DEFAULT_PRESET}."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Recipe: a TOML file, instead of a preset.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Go on with a run exactly where its last checkpoint left it.")
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(metavar="CHECKPOINT", help="Start from these weights: a shipped name, a file, or hf://..."),
    ] = None,
    fork: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", help="Start a new run from another's weights, EMA and optimiser (a cool-down, say)."
        ),
    ] = None,
    val: Annotated[
        list[Path] | None, typer.Option("--val", metavar="FOLDER", help="Pictures to validate on. May be repeated.")
    ] = None,
    max_time: Annotated[
        str | None, typer.Option(metavar="TIME", help="Stop cleanly after this long: 90s, 45m, 8h, 1h30m.")
    ] = None,
    iterations: Annotated[int | None, typer.Option(metavar="N", help="Optimiser steps in all.")] = None,
    batch: Annotated[int | None, typer.Option(metavar="N", help="Patches per step, over all processes.")] = None,
    patch: Annotated[int | None, typer.Option(metavar="N", help="Side of the LR patch in pixels.")] = None,
    scale: Annotated[str | None, typer.Option(metavar="A,B|K", help="Range of the scales, 1,4, or one scale.")] = None,
    queries: Annotated[int | None, typer.Option(metavar="N", help="HR pixels per patch that the loss sees.")] = None,
    degrade: Annotated[
        str | None, typer.Option(metavar="HOW", help="How LR is made: clean (bicubic), or photo (as on the web).")
    ] = None,
    lr: Annotated[float | None, typer.Option("--lr", metavar="RATE", help="Peak learning rate.")] = None,
    loss: Annotated[str | None, typer.Option(metavar="LOSS", help="l1, l2 or charbonnier.")] = None,
    precision: Annotated[
        str | None,
        typer.Option(metavar="PRECISION", help="auto (bf16 where fast), fp32, bf16, or fp16 (with a scaler)."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Architecture: light, light-large, edsr-baseline-liif, rdn-liif, and more."),
    ] = None,
    device: Annotated[str | None, typer.Option(metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps.")] = None,
    workers: Annotated[int | None, typer.Option(metavar="N", help="Threads that prepare batches.")] = None,
    threads: Annotated[
        int | None, typer.Option(metavar="N", help="Threads that compute on the CPU; 0 for torch's choice.")
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Of weights, data order, crops and queries.")] = None,
    licence: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Of the weights, for the header and the card.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Any other value of the recipe: ema.decay=0.9995. May be repeated."
        ),
    ] = None,
    presets: Annotated[bool, typer.Option("--presets", help="List the presets and exit.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes.")] = False,
) -> None:
    """Train a model; prints the path of the checkpoint, which any other command takes.

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
    overrides = nested({key: value for key, value in flags.items() if value is not None})
    overrides = laid_over(overrides, settings or [], model)
    seconds = parse_time(max_time) if max_time else 0
    if resume is not None:
        refuse(out=out, preset=preset, config=config, init=init, fork=fork)
    if init is not None and fork is not None:
        raise UsageError("--init and --fork are two beginnings for one run")
    preset = preset or (preset_of(model) if model and config is None and fork is None else None)
    run, recipe = open_run(resume, overrides) if resume else new_run(out, preset, config, fork, overrides)
    go(run, recipe, init, fork, seconds, quiet)


def go(run: "Run", recipe: "TrainConfig", init: str | None, fork: Path | None, max_time: float, quiet: bool) -> None:
    """Train, and say how it ended."""
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
    """The presets' names, one a line."""
    from liif_cli.cli.streams import result
    from liif_cli.training.recipe import presets

    for name in presets():
        result(name)


def preset_of(model: str) -> str:
    """The recipe for an architecture: of its own name, or else the one for decoders that are asked for queries."""
    from liif_cli.training.recipe import presets

    return model if model in presets() else "edsr-baseline-liif"


def refuse(**options: Any) -> None:
    """`UsageError` for the first option that was given; a resumed run has them already."""
    for name, value in options.items():
        if value is not None:
            raise UsageError(f"--{name} makes no sense with --resume", hint="a resumed run keeps its own")


def open_run(folder: Path, overrides: dict[str, Any]) -> "tuple[Run, TrainConfig]":
    """An existing run and its recipe, with `overrides` laid over it for good."""
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
    out: Path | None, preset: str | None, config: Path | None, fork: Path | None, overrides: dict[str, Any]
) -> "tuple[Run, TrainConfig]":
    """A new run in `out`, by a preset or a file; a fork's default is the recipe of the run it comes from."""
    from liif_cli.training.recipe import merge, read
    from liif_cli.training.run_folder import Run
    from liif_cli.training.train import check

    if out is None:
        raise UsageError("a new run needs a folder", hint="--out RUN; or go on with one: --resume RUN")
    if preset is not None and config is not None:
        raise UsageError("--preset and --config are two recipes for one run")
    if fork is not None and preset is None and config is None:
        parent = Run.open(fork)
        recipe = parent.parsed_config(merge(parent.config(), overrides))
    else:
        recipe = read(str(config) if config else preset or DEFAULT_PRESET, overrides, file=config is not None)
    check(recipe)
    return (Run.create(out, recipe) if os.environ.get("RANK", "0") == "0" else Run(out)), recipe


def parse_scale(text: str) -> tuple[float, float]:
    """`1,4` -> (1, 4); `3` -> (3, 3). Raises `UsageError`."""
    try:
        numbers = [float(part) for part in re.split(r"[,-]", text)]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2):
        raise UsageError(f"{text!r} is no scale and no range of scales", hint="--scale 1,4 or --scale 2")
    return numbers[0], numbers[-1]


def parse_time(text: str) -> float:
    """`90`, `90s`, `45m`, `1h30m` -> seconds. Raises `UsageError`."""
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip())
    if not text.strip() or match is None:
        raise UsageError(f"{text!r} is no length of time", hint="90s, 45m, 8h or 1h30m")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return 3600 * hours + 60 * minutes + seconds


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    """{"a.b": 1} -> {"a": {"b": 1}}."""
    result: dict[str, Any] = {}
    for key, value in flat.items():
        *tables, last = key.split(".")
        place = result
        for table in tables:
            place = place.setdefault(table, {})
        place[last] = value
    return result


def laid_over(overrides: dict[str, Any], settings: list[str], model: str | None) -> dict[str, Any]:
    """`overrides` with those of `--set` and `--model`. A value of --set is TOML; what is no TOML is text."""
    from liif_cli.training.recipe import merge

    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise UsageError(f"{setting!r} sets nothing", hint="--set KEY=VALUE, such as --set ema.decay=0.9995")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        overrides = merge(overrides, nested({key.strip(): value}))
    return merge(overrides, {"model": architecture(model)}) if model else overrides


def architecture(name: str) -> dict[str, Any]:
    """The config of a known architecture, as a dictionary. Raises `UsageError`."""
    from liif_cli.models.registry import PRESETS
    from liif_cli.models.schema import to_dict

    if name not in PRESETS:
        raise UsageError(f"there is no architecture {name}", hint=f"one of {', '.join(PRESETS)}")
    return to_dict(PRESETS[name])

"""A table of the paper from end to end: train each of its rows equally, score them by its protocol, write that beside the
published numbers. What is done is kept in a folder, and not done again.

OUT/plan.json      the request, and the budget
OUT/runs/PRESET    a run of `liif train` for each model
OUT/scores.json    PSNR by model, data set and scale
OUT/TABLE.md, .csv, .png
"""

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from liif_cli.coords import Grid
from liif_cli.errors import UsageError
from liif_cli.evaluation.benchmarks import Benchmark, find
from liif_cli.evaluation.evaluate import evaluate
from liif_cli.evaluation.methods import Method, bicubic, network
from liif_cli.evaluation.protocols import protocol_named
from liif_cli.images.levels import quantize
from liif_cli.images.panels import Panel, draw_sheet
from liif_cli.images.resize import resample
from liif_cli.images.write import SaveOptions, write
from liif_cli.machine.devices import choose_device
from liif_cli.machine.files import write_bytes
from liif_cli.models.model import SRModel
from liif_cli.models.store import load_model
from liif_cli.rendering.renderer import render_image
from liif_cli.rendering.sizes import Cell
from liif_cli.reproduction import report
from liif_cli.reproduction.tables import Line, Table
from liif_cli.training import siren
from liif_cli.training.events import Event, Step
from liif_cli.training.recipe import TrainConfig, merge, read
from liif_cli.training.run_folder import Run
from liif_cli.training.sources import find_images, read_image
from liif_cli.training.train import check, train

PROBE = 5  # iterations by which the time of one is measured
Say = Callable[[str], None]


@dataclass(frozen=True)
class Wanted:
    """What to reproduce.

    data: folders to train on. datasets: sets or folders to score on (default: the paper's). budget: share of the paper's
    iterations; or hours, for all rows together. models: given checkpoints by preset, and then nothing is trained. settings:
    values of every recipe. image: the input of a figure. data_dir: where the sets are.
    """

    table: Table
    data: tuple[Path, ...] = ()
    datasets: tuple[str, ...] = ()
    scales: tuple[float, ...] = ()
    budget: float = 0.0
    hours: float = 0.0
    models: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"
    image: Path | None = None
    data_dir: Path | None = None


def reproduce(wanted: Wanted, out: Path, say: Say = lambda text: None) -> str:
    """Reproduce a table, or continue where it was stopped. Returns the Markdown written to `out`.

    Raises `UsageError` for what makes no sense or is not what the folder was begun with, and what training and evaluating
    raise.
    A KeyboardInterrupt leaves everything to be continued.
    """
    _check(wanted)
    plan = _plan(wanted, out, say)
    files = {preset: _trained(preset, wanted, plan, out, say) for preset in _presets(wanted)}
    models = {preset: load_model(file).to(choose_device(wanted.device)) for preset, file in files.items()}
    if not wanted.table.datasets:
        return _figure(wanted, models, out, plan)
    scores = _scores(wanted, models, out, say)
    text = report.markdown(wanted.table, scores, _differences(wanted, plan, scores))
    write_bytes(out / f"{wanted.table.name}.md", text.encode())
    write_bytes(out / f"{wanted.table.name}.csv", report.as_csv(wanted.table, scores).encode())
    report.plot(wanted.table, scores, out / f"{wanted.table.name}.png", say)
    return text


def _check(wanted: Wanted) -> None:
    unknown = set(wanted.models) - set(wanted.table.presets)
    if unknown:
        raise UsageError(f"{min(unknown)} is no row of {wanted.table.name}", hint=", ".join(wanted.table.presets))
    if wanted.models:
        return
    if bool(wanted.budget) == bool(wanted.hours):
        raise UsageError(
            "either a budget or hours are needed", hint="a budget of 0.001, say, or 2 hours; or a model for each row"
        )
    if min(wanted.budget, wanted.hours) < 0 or wanted.budget > 1:
        raise UsageError("a budget is a share of the paper's, up to 1; hours are positive")
    if not wanted.data:
        raise UsageError("no training data given", hint="name a folder of images", remedy="data")


def _presets(wanted: Wanted) -> list[str]:
    """Of the models that take part."""
    return [preset for preset in wanted.table.presets if not wanted.models or preset in wanted.models]


def _recipe(preset: str, wanted: Wanted) -> TrainConfig:
    overrides = merge(dict(wanted.settings), {"data": {"folders": [str(each.resolve()) for each in wanted.data]}})
    if wanted.device != "auto":
        overrides = merge(overrides, {"device": wanted.device})
    recipe = read(preset, overrides)
    check(recipe)
    return recipe


def _plan(wanted: Wanted, out: Path, say: Say) -> dict[str, Any]:
    """The request that the folder was started with, or is started with now."""
    asked: dict[str, Any] = {
        "table": wanted.table.name,
        "data": [str(each.resolve()) for each in wanted.data],
        "datasets": list(wanted.datasets),
        "scales": list(wanted.scales),
        "budget": wanted.budget,
        "hours": wanted.hours,
        "models": dict(wanted.models),
        "settings": dict(wanted.settings),
    }
    path = out / "plan.json"
    if path.is_file():
        plan: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if {key: plan.get(key) for key in asked} != asked:
            raise UsageError(f"{out} holds another reproduction", hint="name another folder, or ask for the same")
        return plan
    plan = asked | {"iterations": {} if wanted.models else _iterations(wanted, say)}
    out.mkdir(parents=True, exist_ok=True)
    write_bytes(path, json.dumps(plan, indent=2).encode())
    return plan


def _iterations(wanted: Wanted, say: Say) -> dict[str, int]:
    """Of each preset: the same share of its own; for hours the share that fits, by the measured time of an iteration."""
    recipes = {preset: _recipe(preset, wanted) for preset in _presets(wanted)}
    share = wanted.budget
    if wanted.hours:
        seconds = sum(_probe(recipe, say) * recipe.iterations for recipe in recipes.values())
        share = min(1.0, wanted.hours * 3600 / seconds)
    return {preset: max(1, round(share * recipe.iterations)) for preset, recipe in recipes.items()}


def _probe(recipe: TrainConfig, say: Say) -> float:
    """Seconds of an iteration, without the start."""
    say(f"measuring the speed of {recipe.name}")
    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        config = _with_iterations(recipe, PROBE)

        def watch(event: Event) -> None:
            if isinstance(event, Step):
                times.append(time.perf_counter())

        train(Run.create(Path(folder) / "run", config), config, watch=watch)
    return (times[-1] - times[0]) / (PROBE - 1)


def _with_iterations(recipe: TrainConfig, iterations: int) -> TrainConfig:
    """A recipe whose schedule is scaled to fewer iterations, each milestone at its own share."""
    share = iterations / recipe.iterations
    milestones = tuple(max(1, round(share * each)) for each in recipe.schedule.milestones)
    return replace(recipe, iterations=iterations, schedule=replace(recipe.schedule, milestones=milestones))


def _trained(preset: str, wanted: Wanted, plan: Mapping[str, Any], out: Path, say: Say) -> str:
    """The checkpoint of a preset: the given one, or that of its run, which is started, continued, or already finished."""
    if preset in wanted.models:
        return wanted.models[preset]
    recipe, folder = _with_iterations(_recipe(preset, wanted), plan["iterations"][preset]), out / "runs" / preset
    run = Run.open(folder) if (folder / "config.json").is_file() else Run.create(folder, recipe)
    if not any(entry.get("event") == "end" and entry.get("reason") == "done" for entry in run.entries()):
        say(f"training {preset}: {recipe.iterations:,} iterations")
        if train(run, recipe) != "done":
            raise KeyboardInterrupt
    return str(run.model_path(recipe.name))


def _scores(wanted: Wanted, models: Mapping[str, SRModel], out: Path, say: Say) -> report.Scores:
    """PSNR by (row, data set, scale). Rows of which a model is missing have what is there."""
    path, table = out / "scores.json", wanted.table
    kept: dict[str, dict[str, dict[str, float]]] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    protocol = protocol_named(table.protocol)
    sets = [each for name in wanted.datasets or table.datasets for each in _sets(name, wanted)]
    for line in table.lines:
        methods = _methods(line, models, bicubic(protocol))
        for dataset in sets if methods else []:
            if dataset.name in kept.get(line.name, {}) or not _belongs(line, dataset):
                continue
            say(f"scoring {line.name} on {dataset.name}")
            scales = dataset.scales if dataset.sides else wanted.scales or table.scales
            rows = evaluate(methods, dataset, scales=scales, protocol=protocol)
            found = {f"{row.scale:g}": row.psnr for row in rows if row.psnr is not None}
            kept.setdefault(line.name, {})[dataset.name] = found
            write_bytes(path, json.dumps(kept, indent=2).encode())
    return kept


def _sets(name: str, wanted: Wanted) -> list[Benchmark]:
    if wanted.table.protocol == "celebahq" and Path(name).is_dir():
        return find("celebahq", Path(name))
    return find(name, wanted.data_dir)


def _belongs(line: Line, dataset: Benchmark) -> bool:
    """Whether a row is about a data set: those of faces are about one pair of sizes each."""
    return dataset.sides is None or dataset.name in line.published


def _methods(line: Line, models: Mapping[str, SRModel], baseline: Method) -> list[Method]:
    """The models of a row, under its name; each takes part at the scales that it renders."""
    if not line.presets:
        return [Method(line.name, baseline.upscale)]
    return [network(models[preset], line.name) for preset in line.presets if preset in models]


def _differences(wanted: Wanted, plan: Mapping[str, Any], scores: report.Scores) -> list[str]:
    """What is not as in the paper, in sentences."""
    said = []
    if wanted.models:
        said.append("Models: given checkpoints, " + ", ".join(f"{row} = {file}" for row, file in wanted.models.items()))
    else:
        images = len(find_images(wanted.data))
        share = [f"{preset} {count:,}" for preset, count in plan["iterations"].items()]
        own = read(next(iter(plan["iterations"]))).iterations
        part = next(iter(plan["iterations"].values())) / own
        said.append(f"Data: trained on {images:,} images of the user's, not on the paper's set")
        said.append(f"Budget: {part:.3%} of the paper's iterations, every row equally ({', '.join(share)})")
        said.append("Training reduces by Pillow's bicubic")
    if wanted.settings:
        said.append(f"Settings: {json.dumps(wanted.settings)}")
    measured = list(dict.fromkeys(name for sets in scores.values() for name in sets))
    if missing := [name for name in measured if not any(name in line.published for line in wanted.table.lines)]:
        said.append(f"Scored on {', '.join(missing)}, for which the paper has no numbers; its own are of another set")
    return said


def _figure(wanted: Wanted, models: Mapping[str, SRModel], out: Path, plan: Mapping[str, Any]) -> str:
    """A sheet of the image at x30 by each row."""
    if wanted.image is None:
        raise UsageError(f"{wanted.table.name} needs an image", hint="give an image, of 48x48 pixels, say")
    low, scale = read_image(wanted.image), round(wanted.table.scales[0])
    height, width = low.shape[0] * scale, low.shape[1] * scale
    grid = Grid.whole((low.shape[0], low.shape[1]), (height, width))
    panels = [Panel("input", np.asarray(low.repeat(scale, 0).repeat(scale, 1)))]
    for line in wanted.table.lines:
        if line.name == "1-SIREN":
            shown = np.concatenate(list(siren.render(siren.fit(low), grid)))
            panels.append(Panel(line.name, quantize(shown, np.uint8)))
        elif not line.presets:
            panels.append(Panel(line.name, resample(low, height, width)))
        for preset, cell in [(p, c) for p in line.presets if p in models for c in line.cells]:
            shown = render_image(models[preset], low, Cell.parse(cell).over(grid))
            panels.append(Panel(line.name if cell == "raw" else f"cell {cell}", quantize(shown, np.uint8)))
    path = out / f"{wanted.table.name}.png"
    write(path, draw_sheet(panels, None), options=SaveOptions(overwrite=True))
    text = report.figure(wanted.table, path.name, [panel.label for panel in panels], _differences(wanted, plan, {}))
    write_bytes(out / f"{wanted.table.name}.md", text.encode())
    return text


def parse_models(texts: Sequence[str]) -> dict[str, str]:
    """`row=FILE`, ... as a dictionary. Raises `UsageError`."""
    pairs = [text.partition("=") for text in texts]
    if wrong := [name for name, equals, file in pairs if not (name and equals and file)]:
        raise UsageError(f"{wrong[0]!r} names no model of a row", hint="ROW=FILE, a row by its preset's name")
    return {name: file for name, _, file in pairs}

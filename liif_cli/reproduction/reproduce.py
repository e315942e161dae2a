"""Reproduces a table of the LIIF paper: trains the models of its rows with equal budgets, scores them with its protocol, and
reports the scores next to the published numbers. The folder OUT keeps finished steps, which are not repeated.

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

PROBE = 5  # iterations for measuring the speed of training
Say = Callable[[str], None]


@dataclass(frozen=True)
class Wanted:
    """What to reproduce.

    data: folders with training images. datasets: sets or folders to score on (default: the paper's). budget: the fraction of
    the paper's iterations to train for; or hours: the time for all rows together. models: checkpoints by preset; if there are
    any, nothing is trained. settings: overrides for every recipe. image: the input of a figure. data_dir: the folder of the
    sets.
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
    """Reproduce a table, or continue an interrupted reproduction. Returns the Markdown that was written to `out`.

    say: called with progress messages. Raises `UsageError` for invalid requests and for a folder that was started with another
    request, and the exceptions of training and evaluation. After a KeyboardInterrupt it can be continued.
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
        known = ", ".join(wanted.table.presets)
        raise UsageError(f"{min(unknown)} is not a row of {wanted.table.name}", hint=f"the rows are {known}")
    if wanted.models:
        return
    if bool(wanted.budget) == bool(wanted.hours):
        raise UsageError(
            "give either a budget or hours", hint="such as a budget of 0.001, or 2 hours; or give a model for each row"
        )
    if min(wanted.budget, wanted.hours) < 0 or wanted.budget > 1:
        raise UsageError("the budget must be at most 1 (the paper's iterations), and hours must be positive")
    if not wanted.data:
        raise UsageError("no training data given", hint="name a folder of images", remedy="data")


def _presets(wanted: Wanted) -> list[str]:
    """The presets whose models are trained or given."""
    return [preset for preset in wanted.table.presets if not wanted.models or preset in wanted.models]


def _recipe(preset: str, wanted: Wanted) -> TrainConfig:
    overrides = merge(dict(wanted.settings), {"data": {"folders": [str(each.resolve()) for each in wanted.data]}})
    if wanted.device != "auto":
        overrides = merge(overrides, {"device": wanted.device})
    recipe = read(preset, overrides)
    check(recipe)
    return recipe


def _plan(wanted: Wanted, out: Path, say: Say) -> dict[str, Any]:
    """The folder's request with its iterations, which is written on the first call.

    Raises `UsageError` if the folder was started with another request.
    """
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
            raise UsageError(
                f"{out} contains a reproduction with other settings",
                hint="name another folder, or use the same settings",
            )
        return plan
    plan = asked | {"iterations": {} if wanted.models else _iterations(wanted, say)}
    out.mkdir(parents=True, exist_ok=True)
    write_bytes(path, json.dumps(plan, indent=2).encode())
    return plan


def _iterations(wanted: Wanted, say: Say) -> dict[str, int]:
    """The iterations of each preset: the same fraction of its full number.

    For a budget in hours, the fraction follows from the measured time per iteration.
    """
    recipes = {preset: _recipe(preset, wanted) for preset in _presets(wanted)}
    share = wanted.budget
    if wanted.hours:
        seconds = sum(_probe(recipe, say) * recipe.iterations for recipe in recipes.values())
        share = min(1.0, wanted.hours * 3600 / seconds)
    return {preset: max(1, round(share * recipe.iterations)) for preset, recipe in recipes.items()}


def _probe(recipe: TrainConfig, say: Say) -> float:
    """The seconds per iteration, without the start-up time."""
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
    """The recipe for another number of iterations. The schedule's milestones are scaled in proportion."""
    share = iterations / recipe.iterations
    milestones = tuple(max(1, round(share * each)) for each in recipe.schedule.milestones)
    return replace(recipe, iterations=iterations, schedule=replace(recipe.schedule, milestones=milestones))


def _trained(preset: str, wanted: Wanted, plan: Mapping[str, Any], out: Path, say: Say) -> str:
    """The checkpoint of a preset: the given one, or that of its run, which is started or continued unless it is finished."""
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
    """The PSNR of each row, data set and scale. If a row lacks models, only the scales of the others are scored."""
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
    """Whether a row has scores on a data set. Each row of the face table belongs to one pair of sizes."""
    return dataset.sides is None or dataset.name in line.published


def _methods(line: Line, models: Mapping[str, SRModel], baseline: Method) -> list[Method]:
    """The models of a row as methods with the row's name. Each is scored at the scales that it supports."""
    if not line.presets:
        return [Method(line.name, baseline.upscale)]
    return [network(models[preset], line.name) for preset in line.presets if preset in models]


def _differences(wanted: Wanted, plan: Mapping[str, Any], scores: report.Scores) -> list[str]:
    """The differences from the paper, as sentences without a full stop."""
    said = []
    if wanted.models:
        said.append("Models: given checkpoints, " + ", ".join(f"{row} = {file}" for row, file in wanted.models.items()))
    else:
        images = len(find_images(wanted.data))
        share = [f"{preset} {count:,}" for preset, count in plan["iterations"].items()]
        own = read(next(iter(plan["iterations"]))).iterations
        part = next(iter(plan["iterations"].values())) / own
        said.append(f"Data: trained on {images:,} images of the user, not on the paper's set")
        said.append(f"Budget: {part:.3%} of the paper's iterations, the same for every row ({', '.join(share)})")
        said.append("LR images for training are made with Pillow's bicubic")
    if wanted.settings:
        said.append(f"Settings: {json.dumps(wanted.settings)}")
    measured = list(dict.fromkeys(name for sets in scores.values() for name in sets))
    if missing := [name for name in measured if not any(name in line.published for line in wanted.table.lines)]:
        said.append(f"Scored on {', '.join(missing)}, for which the paper has no numbers")
    return said


def _figure(wanted: Wanted, models: Mapping[str, SRModel], out: Path, plan: Mapping[str, Any]) -> str:
    """Draw a sheet of the image at the figure's scale by each row. Returns the Markdown that was written."""
    if wanted.image is None:
        raise UsageError(f"{wanted.table.name} needs an image", hint="give a small image, such as one of 48x48 pixels")
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
    """Parse `ROW=FILE` arguments, which name rows by their presets, to a dictionary. Raises `UsageError`."""
    pairs = [text.partition("=") for text in texts]
    if wrong := [name for name, equals, file in pairs if not (name and equals and file)]:
        raise UsageError(f"{wrong[0]!r} is not a model of a row", hint="use ROW=FILE, where ROW is the row's preset")
    return {name: file for name, _, file in pairs}

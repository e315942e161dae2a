"""The public function `train`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from liif_cli.training import train as training
from liif_cli.training.recipe import TrainConfig, architecture, merge, nested, preset_of, read
from liif_cli.training.run_folder import Run


def train(
    out: str | Path,
    data: str | Path | Sequence[str | Path] | None = None,
    *,
    val: Sequence[str | Path] = (),
    preset: str | None = None,
    model: str | None = None,
    settings: Mapping[str, Any] | None = None,
    init: str | Path | None = None,
    max_time: float = 0,
    watch: Callable[[Any], None] | None = None,
) -> Path:
    """Train a model and return the path of its checkpoint, which `load_model` takes.

    out: the run's folder. data: folders of images for a new run; None continues the run in `out`. val: folders of validation
    images. preset: the recipe; default: the one with the name of `model`, or "light" without `model`. model: an architecture
    that replaces the preset's. settings: recipe values by name, such as {"iterations": 1000, "optimiser.lr": 1e-4}. init: a
    checkpoint from whose weights the run starts. max_time: seconds after which the run is saved and stops, so that it can be
    continued later; 0: no limit. watch: called with each event of `training.events`.

    Raises `UsageError` for invalid values, `InputError`, `OutputError`, `CheckpointError`, `ModelNotFound` and `DeviceError`.
    After Ctrl-C or SIGTERM, the run is saved and KeyboardInterrupt is raised.
    """
    overrides = nested(settings or {})
    if model is not None:
        overrides = merge(overrides, {"model": architecture(model)})
    if data is None:
        run = Run.open(Path(out))
        recipe = run.parsed_config(merge(run.config(), overrides))
    else:
        recipe = _recipe(preset or preset_of(model), [data] if isinstance(data, str | Path) else data, val, overrides)
        run = Run.create(Path(out), recipe)
    reason = training.train(run, recipe, init=init, max_time=max_time, watch=watch)
    if reason not in ("done", "time"):
        raise KeyboardInterrupt
    return run.model_path(recipe.name)


def _recipe(
    preset: str, data: Sequence[str | Path], val: Sequence[str | Path], overrides: dict[str, Any]
) -> TrainConfig:
    folders = {
        "folders": [str(Path(each).resolve()) for each in data],
        "val": [str(Path(each).resolve()) for each in val],
    }
    recipe = read(preset, merge(overrides, {"data": folders}))
    training.check(recipe)
    return recipe

"""The public `train`: a run of training, from Python."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from liif_cli.errors import UsageError
from liif_cli.models.registry import PRESETS
from liif_cli.models.schema import to_dict
from liif_cli.training import train as training
from liif_cli.training.recipe import TrainConfig, merge, read
from liif_cli.training.run_folder import Run

DEFAULT_PRESET = "edsr-baseline-liif"


def train(
    out: str | Path,
    data: str | Path | Sequence[str | Path] | None = None,
    *,
    val: Sequence[str | Path] = (),
    preset: str = DEFAULT_PRESET,
    model: str | None = None,
    settings: Mapping[str, Any] | None = None,
    init: str | Path | None = None,
    max_time: float = 0,
    watch: Callable[[Any], None] | None = None,
) -> Path:
    """Train a model and return its checkpoint's path, which `load_model` takes.

    out: the run's folder. data: folders of images for a new run; None goes on with the run that is in `out`. val: folders for
    validation. preset: the recipe. model: another architecture than the preset's. settings: values of the recipe by their
    names: {"iterations": 1000, "optimiser.lr": 1e-4}. init: a checkpoint whose weights to start from. max_time: seconds after
    which it stops, to be continued; 0: none. watch: called with each event of `training.events`.

    Raises `UsageError` for values that make no sense, `InputError`, `OutputError`, and KeyboardInterrupt after Ctrl-C, when
    the run is saved.
    """
    overrides = nested(settings or {})
    if model is not None:
        if model not in PRESETS:
            raise UsageError(f"{model!r} is not an architecture", hint=f"one of {', '.join(PRESETS)}", argument="model")
        overrides = merge(overrides, {"model": to_dict(PRESETS[model])})
    if data is None:
        run = Run.open(Path(out))
        recipe = run.parsed_config(merge(run.config(), overrides))
    else:
        recipe = _recipe(preset, [data] if isinstance(data, str | Path) else data, val, overrides)
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


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """{"a.b": 1} -> {"a": {"b": 1}}."""
    result: dict[str, Any] = {}
    for key, value in flat.items():
        *tables, last = key.split(".")
        place = result
        for table in tables:
            place = place.setdefault(table, {})
        place[last] = value
    return result

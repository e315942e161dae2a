"""What a training run is told: a TOML file of these dataclasses, or flags that override its values.

Every value of the paper's recipe (section 5.1) is here. `presets/*.toml` are such files; one that names a preset as its
`base` holds only what differs. `read` refuses unknown keys and wrong types with their path.
"""

import tomllib
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Literal

from liif_cli.errors import UsageError
from liif_cli.models.registry import ModelConfig
from liif_cli.models.schema import ConfigError, parse

FORBID: dict[str, Any] = {"extra": "forbid"}


@dataclass(frozen=True)
class DataConfig:
    """Pictures and the pairs made of them.

    folders and val: searched recursively. patch: side of the LR patch in pixels. scale: range from which each pair's scale
    is drawn uniformly; (k, k) trains one scale. queries: HR pixels per patch, drawn without replacement; 0 for all of them,
    with a decoder that makes whole patches. identity: share of
    the pairs that are at x1 whatever the range, so that a picture is given back as it is there. candidates: crops that are
    drawn for each pair, of which the one with the most detail is taken. degrade: how LR is made from HR. cache: decode once
    and keep, or read when needed ("auto": keep if it fits in half of the free memory). sides: (L, H) for whole square images in
    place of patches, inputs of L pixels per side and truths of L to H (paper, section 5.3; `squares`); patch, scale, identity,
    candidates and degrade then mean nothing. resized: all truths are resized to H.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID

    folders: tuple[str, ...] = ()
    val: tuple[str, ...] = ()
    patch: int = 48
    scale: tuple[float, float] = (1.0, 4.0)
    queries: int = 2304
    identity: float = 0.0
    candidates: int = 1
    augment: bool = True
    degrade: Literal["clean", "photo"] = "clean"
    cache: Literal["auto", "memory", "lazy"] = "auto"
    sides: tuple[int, int] | None = None
    resized: bool = False


@dataclass(frozen=True)
class OptimiserConfig:
    """Adam, AdamW, or Muon with Adam for what is no matrix. lr: the peak of the schedule. momentum: Muon's. clip: largest
    gradient norm, 0 for no clipping."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID

    name: Literal["adam", "adamw", "muon"] = "adam"
    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.95
    weight_decay: float = 0.0
    clip: float = 0.0


@dataclass(frozen=True)
class ScheduleConfig:
    """The learning rate over the iterations, as a factor of `OptimiserConfig.lr`; see `optimisers.factor`.

    warmup: iterations of a linear rise. multistep: times `gamma` at each of `milestones`. cosine: from 1 to `floor` between
    the end of warm-up and the end of the run. hold: 1 until the last `decay` iterations, then a cosine to `floor`; such a
    run can be stopped, continued, or given a short decay of its own at any time.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID

    name: Literal["constant", "multistep", "cosine", "hold"] = "constant"
    warmup: int = 0
    milestones: tuple[int, ...] = ()
    gamma: float = 0.5
    decay: int = 0
    floor: float = 0.0


@dataclass(frozen=True)
class EMAConfig:
    """Exponential moving average of the weights; decay 0 means none (the weights themselves are published).

    With `warmup` the decay of update n is min(decay, (1 + n) / (10 + n)), so that the first weights are soon forgotten.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID

    decay: float = 0.0
    warmup: bool = True


@dataclass(frozen=True)
class ValidationConfig:
    """Every how many iterations, at which scales, on how many pictures (their centre, `crop` pixels at most); 0 for
    all pictures, and whole ones.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID

    every: int = 1000
    scales: tuple[float, ...] = (2.0, 3.0, 4.0)
    pictures: int = 8
    crop: int = 192
    preview_scales: tuple[float, ...] = (2.0, 4.0, 8.0)


@dataclass(frozen=True)
class TrainConfig:
    """A whole run. name: of the checkpoint. iterations: optimiser steps. batch: patches per step over all processes together.

    loss: of colours in the model's normalised space. precision: of the forward and backward pass, auto for bf16 where that is
    fast; weights stay float32. workers: threads that prepare batches. threads: of torch on the CPU, 0 for its own choice.
    checkpoint_minutes: the clock on which the run's state is written. compile: by torch.compile (on an AMX CPU it gained
    under 5% and took over a minute). fourier: weight of the spectrum's loss, with whole patches. frozen: parameters, by the
    beginnings of their names, that are not trained. cuda_graph: on a CUDA device, replay one captured step.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID

    name: str = "model"
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    ema: EMAConfig = field(default_factory=EMAConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    iterations: int = 1_000_000
    batch: int = 16
    loss: Literal["l1", "l2", "charbonnier"] = "l1"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "fp32"
    device: str = "auto"
    workers: int = 2
    threads: int = 0
    seed: int = 0
    checkpoint_minutes: float = 10.0
    compile: bool = False
    fourier: float = 0.0
    frozen: tuple[str, ...] = ()
    cuda_graph: bool = True
    licence: str = "unknown"
    tensorboard: bool = False


def presets() -> list[str]:
    """Names of the presets that come with the package."""
    return sorted(
        Path(item.name).stem
        for item in files("liif_cli.training").joinpath("presets").iterdir()
        if item.name.endswith(".toml")
    )


def read(source: str, overrides: dict[str, Any] | None = None, *, file: bool = False) -> TrainConfig:
    """The preset named `source`, or with `file` the TOML file at that path, with `overrides` (nested) laid over it.

    Raises `UsageError` for an unknown preset, a file that is no TOML, and keys or values that `TrainConfig` does not know.
    """
    origin = source if file else f"preset {source}"
    try:
        return parse(TrainConfig, merge(_table(source, file), overrides or {}))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{origin} is not TOML: {error}") from None
    except ConfigError as error:
        raise UsageError(f"{origin}: {error}") from None


def fitted(config: TrainConfig) -> tuple[TrainConfig, list[str]]:
    """`config` with a schedule that fits its iterations, and a note on each value that was changed for that.

    What is longer than the run is scaled to it: a decay to a fifth, a warm-up to a twentieth, milestones so that the last is
    at four fifths. Otherwise a short run of a long recipe would never reach the learning rate it asks for.
    """
    schedule, run = config.schedule, config.iterations
    changed: dict[str, Any] = {}
    if schedule.name == "hold" and schedule.decay > run:
        changed["decay"] = run // 5
    if schedule.warmup > run:
        changed["warmup"] = run // 20
    if schedule.name == "multistep" and schedule.milestones and max(schedule.milestones) >= run:
        last = max(schedule.milestones)
        changed["milestones"] = tuple(4 * run * each // (5 * last) for each in schedule.milestones)
    notes = [
        f"schedule.{key} of {_listed(getattr(schedule, key))} does not fit into {run:,} iterations; scaled to {_listed(value)}"
        for key, value in changed.items()
    ]
    return replace(config, schedule=replace(schedule, **changed)), notes


def _listed(value: int | tuple[int, ...]) -> str:
    return ", ".join(f"{each:,}" for each in (value if isinstance(value, tuple) else (value,)))


def _table(source: str, file: bool) -> dict[str, Any]:
    """A recipe's values, laid over those of the preset that it names as its `base`."""
    data = tomllib.loads(_text(source, file))
    base = data.pop("base", None)
    return data if base is None else merge(_table(str(base), file=False), data)


def _text(source: str, file: bool) -> str:
    if not file and source not in presets():
        raise UsageError(f"there is no preset {source}", hint=f"one of {', '.join(presets())}", remedy="config")
    try:
        place = Path(source) if file else files("liif_cli.training").joinpath("presets", f"{source}.toml")
        return place.read_text("utf-8")
    except OSError as error:
        raise UsageError(f"{source} cannot be read: {error.strerror}") from None


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over`; tables are merged, except that another encoder or decoder replaces one; everything else
    is replaced."""
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        if isinstance(below, dict) and isinstance(value, dict) and not _is_another(key, below, value):
            value = merge(below, value)
        result[key] = value
    return result


def _is_another(key: str, below: dict[str, Any], value: dict[str, Any]) -> bool:
    """Whether two tables describe networks of different kinds, whose other keys have nothing to do with each other."""
    return key in ("encoder", "decoder") and value.get("name", below.get("name")) != below.get("name")


def parse_setting(text: str) -> dict[str, Any]:
    """`a.b=1` -> {"a": {"b": 1}}; the value is TOML, and text if it is not. Raises `UsageError`."""
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"{text!r} sets nothing", hint="KEY=VALUE, such as ema.decay=0.9995")
    try:
        result: Any = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        result = value
    for part in reversed(key.strip().split(".")):
        result = {part: result}
    return dict(result)

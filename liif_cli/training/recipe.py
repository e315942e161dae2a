"""The recipe of a training run: these dataclasses, read from a TOML file; options override its values.

Every value of the paper's recipe (section 5.1) is here. `presets/*.toml` are such files. A file that names a preset as its
`base` contains only the values that differ. `read` rejects unknown keys and wrong types, and names their path.
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Literal

from liif_cli.errors import UsageError
from liif_cli.models.registry import PRESETS, ModelConfig
from liif_cli.models.schema import ConfigError, parse, plain_text, to_dict
from liif_cli.training import defaults

FORBID: dict[str, Any] = {"extra": "forbid", "allow_inf_nan": False}


@dataclass(frozen=True)
class DataConfig:
    """The images and the pairs made from them.

    folders, val: folders of training and validation images, searched recursively. patch: side of the LR patch in pixels.
    scale: range from which each pair's scale is drawn uniformly; (k, k) trains one scale. queries: HR pixels per patch, drawn
    without replacement; 0: all of them, for decoders that render whole patches. identity: the share of pairs that are at ×1
    regardless of `scale`, so that the model learns to reproduce its input there. candidates: the number of crops drawn for each
    pair, of which the most detailed is used. augment: random flips and transpositions. degrade: how LR is made from HR; see
    `degradations`. cache: keep decoded images in memory ("memory"), read them on demand ("lazy"), or keep them if all fit into
    half of the free memory ("auto"). sides: (L, H) trains on whole square images instead of patches, with LR of L pixels per
    side and HR of L to H (paper, section 5.3; `squares`); patch, scale, identity, candidates and degrade are then ignored.
    resized: every HR image is resized to H.
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
    """Adam, AdamW, or Muon with Adam for parameters that are not matrices.

    lr: the peak of the learning rate. betas: of Adam. momentum: of Muon. clip: the largest gradient norm; 0: no clipping.
    """

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

    warmup: iterations of a linear rise. multistep: multiplied by `gamma` at each of `milestones`. cosine: from 1 to `floor`
    between the end of warm-up and the end of the run. hold: 1 until the last `decay` iterations, then a cosine to `floor`;
    such a run can be stopped, continued, or branched into a separate decay run at any time.
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
    """Exponential moving average of the weights. decay: 0 disables it, and the weights themselves are published.

    warmup: the decay of update n is min(decay, (1 + n) / (10 + n)), so that the initial weights are soon forgotten.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID

    decay: float = 0.0
    warmup: bool = True


@dataclass(frozen=True)
class ValidationConfig:
    """Scores during a run, on the centres of the first validation images.

    every: iterations between validations. pictures: the number of images; 0: all. crop: the largest side of the centres, in
    HR pixels; 0: whole images. preview_scales: the scales in the preview sheet.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID

    every: int = 1000
    scales: tuple[float, ...] = (2.0, 3.0, 4.0)
    pictures: int = 8
    crop: int = 192
    preview_scales: tuple[float, ...] = (2.0, 4.0, 8.0)


@dataclass(frozen=True)
class AdversarialConfig:
    """Adversarial training, for realistic detail instead of the highest PSNR; only for whole patches (queries = 0).

    weight: of the discriminator's loss; 0 disables adversarial training and all losses below. pixels: weight of the pixel loss.
    structure, consistency, artefacts: weights of the losses in `perceptual`. features: channels of the discriminator at the
    patch's resolution. lr: the peak of the discriminator's learning rate, which follows the schedule.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID

    weight: float = 0.0
    pixels: float = 0.1
    structure: float = 0.5
    consistency: float = 1.0
    artefacts: float = 1.0
    features: int = 32
    lr: float = 1e-4


@dataclass(frozen=True)
class TrainConfig:
    """The recipe of a whole run.

    name: of the checkpoint. iterations: optimiser steps. batch: patches per step, over all processes. loss: of colours in the
    model's normalised space. precision: of the forward and backward pass; "auto": see `trainer.settle`; weights stay float32.
    workers: threads that prepare batches. threads: torch's threads on the CPU; 0: torch's default. checkpoint_minutes: minutes
    between checkpoints. compile: use torch.compile. fourier: weight of the loss of the spectrum, for whole patches. frozen:
    prefixes of the names of parameters that are not trained. cuda_graph: on CUDA devices, capture one step as a graph and
    replay it, except with fp16, several processes or adversarial training. licence: of the weights.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID

    name: str = "model"
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    ema: EMAConfig = field(default_factory=EMAConfig)
    adversarial: AdversarialConfig = field(default_factory=AdversarialConfig)
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
    """Names of the presets in the package."""
    return sorted(
        Path(item.name).stem
        for item in files("liif_cli.training").joinpath("presets").iterdir()
        if item.name.endswith(".toml")
    )


def preset_of(model: str | None = None) -> str:
    """The default preset for an architecture: the one with its name if there is one. None: the default of all runs."""
    if model is None:
        return defaults.PRESET
    return model if model in presets() else defaults.QUERY_PRESET


def read(source: str, overrides: dict[str, Any] | None = None, *, file: bool = False) -> TrainConfig:
    """The preset named `source`, or with `file` the TOML file at that path. Nested `overrides` replace its values.

    Raises `UsageError` for an unknown preset, a file that is not TOML, and keys or values that `TrainConfig` does not allow.
    """
    origin = source if file else f"preset {source}"
    try:
        return parse(TrainConfig, merge(_table(source, file), overrides or {}))
    except ConfigError as error:
        raise UsageError(f"{origin}: {error}") from None
    except RecursionError:
        raise UsageError(f"{origin} is not TOML: it is nested too deeply") from None
    except ValueError as error:  # not TOML, or an integer of more digits than Python reads
        raise UsageError(f"{origin} is not TOML: {error}") from None


def fitted(config: TrainConfig) -> tuple[TrainConfig, list[str]]:
    """`config` with a schedule that fits its iterations, and a note on each value that was changed.

    If a part is longer than the run, it is scaled: the decay to a fifth of the run, the warm-up to a twentieth, the milestones
    so that the last is at four fifths. Otherwise a short run of a long recipe would never reach the intended learning rate.
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
        f"schedule.{key} {_listed(getattr(schedule, key))} does not fit into {run:,} iterations; scaled to {_listed(value)}"
        for key, value in changed.items()
    ]
    return replace(config, schedule=replace(schedule, **changed)), notes


def _listed(value: int | tuple[int, ...]) -> str:
    return ", ".join(f"{each:,}" for each in (value if isinstance(value, tuple) else (value,)))


def _table(source: str, file: bool) -> dict[str, Any]:
    """A recipe's values, merged into those of its `base`, if it names one."""
    data = tomllib.loads(_text(source, file))
    base = data.pop("base", None)
    return data if base is None else merge(_table(str(base), file=False), data)


def _text(source: str, file: bool) -> str:
    if not file and source not in presets():
        raise UsageError(f"unknown preset {source:.80}", hint=f"use one of {', '.join(presets())}", remedy="config")
    try:
        if file:
            return plain_text(Path(source))
        return files("liif_cli.training").joinpath("presets", f"{source}.toml").read_text("utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {source}: {error.strerror}") from None


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over`. Tables are merged, except that a different encoder or decoder replaces the old one."""
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        if isinstance(below, dict) and isinstance(value, dict) and not _is_another(key, below, value):
            value = merge(below, value)
        result[key] = value
    return result


def _is_another(key: str, below: dict[str, Any], value: dict[str, Any]) -> bool:
    """Whether two tables describe networks of different kinds, whose keys are unrelated."""
    return key in ("encoder", "decoder") and value.get("name", below.get("name")) != below.get("name")


def architecture(name: str) -> dict[str, Any]:
    """The config of the architecture with this name, as a dictionary. Raises `UsageError`."""
    if name not in PRESETS:
        raise UsageError(f"{name!r} is not an architecture", hint=f"use one of {', '.join(PRESETS)}", argument="model")
    return to_dict(PRESETS[name])


def parse_setting(text: str) -> dict[str, Any]:
    """`a.b=1` -> {"a": {"b": 1}}. The value is parsed as TOML, otherwise taken as text. Raises `UsageError`."""
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"{text!r} is not a setting", hint="use KEY=VALUE, such as ema.decay=0.9995")
    try:
        result: Any = tomllib.loads(f"value = {value}")["value"]
    except (ValueError, RecursionError):
        result = value
    return nested({key.strip(): result})


def parse_settings(texts: Iterable[str]) -> dict[str, Any]:
    """The merged settings of all texts; later ones replace earlier ones. Raises `UsageError`."""
    return reduce(merge, map(parse_setting, texts), {})


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

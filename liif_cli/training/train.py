"""Training from the first iteration to the published checkpoint (paper, section 5.1)."""

import math
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from liif_cli.errors import CheckpointError, UsageError
from liif_cli.machine.devices import choose_device
from liif_cli.machine.memory import available
from liif_cli.machine.processes import joined
from liif_cli.machine.signals import listening
from liif_cli.models.model import SRModel
from liif_cli.models.registry import DECODERS, only_scale
from liif_cli.models.store import load_model
from liif_cli.training.degradations import DEGRADATIONS
from liif_cli.training.loop import Loop, Watcher
from liif_cli.training.pairs import Pairs
from liif_cli.training.recipe import TrainConfig, fitted
from liif_cli.training.run_folder import Run
from liif_cli.training.sources import Pictures
from liif_cli.training.squares import Squares
from liif_cli.training.trainer import Trainer, settle


def train(
    run: Run,
    config: TrainConfig,
    *,
    init: str | Path | None = None,
    fork: Run | None = None,
    max_time: float = 0,
    watch: Watcher | None = None,
) -> str:
    """Train until `config.iterations`, `max_time` seconds, or a signal; returns which: "done", "time", "SIGTERM", "SIGINT".

    A run that has a state goes on from it, exactly. init: a checkpoint whose weights to start from. fork: a run whose weights,
    EMA and optimiser to start from, with data that it has not seen, at the beginning of this run's schedule. Started by
    torchrun, all its processes call this. A schedule that is longer than the run is scaled to it. Raises `LiifError`s for data,
    checkpoints and values that make no sense; a run that was created for this call and made no step is then removed.
    """
    check(config)
    with run.discarded_without_a_step():
        return _train(run, config, init, fork, max_time, watch or (lambda event: None))


def _train(
    run: Run, config: TrainConfig, init: str | Path | None, fork: Run | None, max_time: float, watch: Watcher
) -> str:
    if config.threads:
        torch.set_num_threads(config.threads)
    device = choose_device(config.device)
    torch.manual_seed(config.seed)
    with joined(device) as world, listening() as stop:
        if device.type == "cuda" and world.size > 1:
            device = torch.device("cuda", world.local)
        if config.batch % world.size:
            raise UsageError(f"a batch of {config.batch} cannot be shared out among {world.size} processes")
        config, notes = fitted(settle(config, device))
        trainer = Trainer(config, SRModel(config.model), device)
        source = begin(trainer, run, init, fork)
        trainer.distribute(world.size)
        return Loop(trainer, run, world, stop, make_pairs(config), source, watch, notes).run_until(max_time)


def check(config: TrainConfig) -> None:
    """Raises `UsageError` for values that do not fit together."""
    data = config.data
    smallest = data.patch if data.identity else round(data.patch * data.scale[0])
    if data.sides:
        smallest = data.sides[1] if data.resized else data.sides[0]
        if not 1 <= data.sides[0] <= data.sides[1]:
            raise UsageError(f"{data.sides[0]} to {data.sides[1]} is no range of sides")
    if not data.folders:
        raise UsageError("there is no training data", hint="name a folder of images", remedy="data")
    if not 1 <= data.scale[0] <= data.scale[1]:
        raise UsageError(f"{data.scale[0]:g} to {data.scale[1]:g} is no range of scales", hint="from 1 up, such as 1,4")
    _check_only_scale(config)
    if data.queries == 0 and not DECODERS[config.model.decoder.name].whole_patches:
        raise UsageError(
            "queries = 0, all pixels of each patch, is for decoders that make whole patches",
            hint="the model light has one",
            remedy="model",
        )
    if data.queries and not 1 <= data.queries <= smallest**2:
        raise UsageError(f"{data.queries} queries cannot be drawn from {smallest}x{smallest} pixels")
    if not 0 <= data.identity <= 1 or data.candidates < 1:
        raise UsageError("data.identity is a share from 0 to 1, data.candidates at least 1")
    if config.batch < 1 or config.iterations < 1:
        raise UsageError("batch and iterations are at least 1")


def _check_only_scale(config: TrainConfig) -> None:
    """A model of one scale is trained and validated at that scale."""
    only, data, check = only_scale(config.model.decoder), config.data, config.validation
    scales = {*data.scale, *([1.0] if data.identity else [])}
    if data.sides:
        scales = {data.sides[1] / data.sides[0], *([] if data.resized else [1.0])}
    asked = {*scales, *check.scales, *check.preview_scales}
    if only is not None and asked != {only}:
        raise UsageError(
            f"the model renders x{only:g} only, and is to be trained and validated at that scale",
            hint=f"scale, validation.scales and validation.preview_scales are {only:g}, as in the preset edsr-baseline-x2",
        )


def begin(trainer: Trainer, run: Run, init: str | Path | None, fork: Run | None) -> str:
    """Bring the trainer to where it starts; returns a word on it, which stays with the run."""
    state = run.load_state()
    if state is not None:
        return trainer.restore(state)
    if fork is not None:
        state = fork.load_state()
        if state is None:
            raise UsageError(f"{fork.folder} has no state yet to start from")
        before = trainer.restore(state)
        return trainer.start_over(f"iteration {state['iteration']:,} of {fork.folder.name}, itself from {before}")
    if init is not None:
        load_weights(trainer.model, init)
        return trainer.start_over(Path(init).stem)
    return trainer.start_over("random weights")


def load_weights(model: SRModel, reference: str | Path) -> None:
    """Weights of any checkpoint of this architecture: a name, a file (with liif's header or without), or a Hub reference.

    Raises `ModelNotFound`, `CheckpointError` when they do not fit, `UsageError` when the checkpoint's normalisation is another.
    """
    try:
        other = load_model(reference)
    except CheckpointError:
        model.load(_bare(Path(reference)))
        return
    if (other.config.mean, other.config.std) != (model.config.mean, model.config.std):
        raise UsageError(f"{reference} was trained with another normalisation: {other.config.mean}, {other.config.std}")
    model.load(other.export())


def _bare(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file that says nothing of itself. Raises `CheckpointError`."""
    try:
        return {name: tensor.float() for name, tensor in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a whole safetensors file: {error}") from None


def make_pairs(config: TrainConfig) -> Pairs:
    """The run's data: in memory where it fits (by `data.cache`)."""
    data = config.data
    smallest = data.sides[1] if data.sides else round(data.patch * data.scale[1])
    budget = {"memory": math.inf, "lazy": 0.0, "auto": available() / 2}[data.cache]
    pictures = Pictures([Path(f) for f in data.folders], smallest, budget)
    if data.sides:
        return Squares(pictures, data.sides, data.queries, data.augment, config.seed, data.resized)
    how = DEGRADATIONS[data.degrade]
    share, candidates = data.identity, data.candidates
    return Pairs(pictures, data.patch, data.scale, data.queries, data.augment, how, config.seed, share, candidates)

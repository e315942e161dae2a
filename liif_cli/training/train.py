"""Training from the first iteration to the published checkpoint (paper, section 5.1)."""

import math
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from liif_cli.errors import CheckpointError, LiifError, UsageError
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
from liif_cli.training.sources import ImageFolders
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
    """Train until `config.iterations`, `max_time` seconds, or a signal. Returns "done", "time", "SIGTERM" or "SIGINT".

    A run that has a state continues from it exactly. init: a checkpoint whose weights the run starts from. fork: a run whose
    weights, EMA and optimiser this run starts from; its schedule begins anew, with data that the other run has not seen. Under
    torchrun, every process calls this. If the schedule is longer than the run, it is scaled to fit. Raises `LiifError`s for
    invalid data, checkpoints and values; if the run was created for this call and made no step, it is then removed.
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
        if config.adversarial.weight and world.size > 1:
            raise UsageError("cannot train adversarially in several processes")
        if config.batch % world.size:
            raise UsageError(f"cannot divide a batch of {config.batch} among {world.size} processes")
        config, notes = fitted(settle(config, device))
        trainer = Trainer(config, SRModel(config.model), device)
        source = begin(trainer, run, init, fork)
        trainer.distribute(world.size)
        return Loop(trainer, run, world, stop, make_pairs(config), source, watch, notes).run_until(max_time)


def check(config: TrainConfig) -> None:
    """Raises `UsageError` if values contradict each other."""
    data = config.data
    smallest = data.patch if data.identity else round(data.patch * data.scale[0])
    if data.sides:
        smallest = data.sides[1] if data.resized else data.sides[0]
        if not 1 <= data.sides[0] <= data.sides[1]:
            raise UsageError(f"{data.sides[0]} to {data.sides[1]} is not a range of sides")
    if not data.folders:
        raise UsageError("no training data given", hint="give a folder of images", remedy="data")
    if not 1 <= data.scale[0] <= data.scale[1]:
        raise UsageError(
            f"{data.scale[0]:g} to {data.scale[1]:g} is not a range of scales",
            hint="use a range from 1 up, such as 1,4",
        )
    _check_only_scale(config)
    if data.queries == 0 and not DECODERS[config.model.decoder.name].whole_patches:
        raise UsageError(
            "cannot train with queries = 0 (all pixels of each patch): this decoder does not render whole patches",
            hint="use the model light, whose decoder does",
            remedy="model",
        )
    if data.queries and not 1 <= data.queries <= smallest**2:
        raise UsageError(f"cannot draw {data.queries} queries from {smallest}x{smallest} pixels")
    if not 0 <= data.identity <= 1 or data.candidates < 1:
        raise UsageError("data.identity must be from 0 to 1, and data.candidates at least 1")
    if config.batch < 1 or config.iterations < 1:
        raise UsageError("batch and iterations must be at least 1")
    if config.adversarial.weight and (data.queries or config.compile):
        raise UsageError(
            "cannot train adversarially with sampled queries or torch.compile",
            hint="set data.queries = 0, for a decoder that renders whole patches, and compile = false",
        )


def _check_only_scale(config: TrainConfig) -> None:
    """Raises `UsageError` if a model that renders only one scale would be trained or validated at another."""
    only, data, check = only_scale(config.model.decoder), config.data, config.validation
    scales = {*data.scale, *([1.0] if data.identity else [])}
    if data.sides:
        scales = {data.sides[1] / data.sides[0], *([] if data.resized else [1.0])}
    asked = {*scales, *check.scales, *check.preview_scales}
    if only is not None and asked != {only}:
        raise UsageError(
            f"the model renders only ×{only:g}; it must be trained and validated at that scale",
            hint=f"set scale, validation.scales and validation.preview_scales to {only:g}, as the preset edsr-baseline-x2 does",
        )


def begin(trainer: Trainer, run: Run, init: str | Path | None, fork: Run | None) -> str:
    """Load the weights or the state from which the run starts. Returns a description of their origin, which the run stores."""
    state = run.load_state()
    if state is not None:
        return restore(trainer, run, state)
    if fork is not None:
        state = fork.load_state()
        if state is None:
            raise UsageError(f"cannot start from {fork.folder}: it has no state yet")
        before = restore(trainer, fork, state)
        return trainer.start_over(f"iteration {state['iteration']:,} of {fork.folder.name}, itself from {before}")
    if init is not None:
        load_weights(trainer.model, init)
        return trainer.start_over(Path(init).stem)
    return trainer.start_over("random weights")


def restore(trainer: Trainer, run: Run, state: dict[str, Any]) -> str:
    """Load the state of `run`. Returns the origin of its weights. Raises `CheckpointError` if the state does not fit."""
    try:
        return trainer.restore(state)
    except LiifError:
        raise
    except Exception as error:  # a state with other names, shapes or types can make PyTorch raise anything
        reason = " ".join((str(error) or type(error).__name__).split())[:200]
        raise CheckpointError(f"{run.state_path} does not fit the run: {reason}") from None


def load_weights(model: SRModel, reference: str | Path) -> None:
    """Load the weights of a checkpoint of this architecture, or of one with fewer blocks if the encoder can be deepened.

    reference: a name, a file (with or without liif's header), or a place on the Hub.

    Raises `ModelNotFound`, `CheckpointError` if the weights do not fit, `UsageError` if the normalisation differs.
    """
    try:
        other = load_model(reference)
    except CheckpointError:
        model.load(_bare(Path(reference)))
        return
    if (other.config.mean, other.config.std) != (model.config.mean, model.config.std):
        raise UsageError(
            f"cannot start from {reference}: its normalisation differs ({other.config.mean}, {other.config.std})"
        )
    model.load(model.completed(other))


def _bare(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file without liif's header. Raises `CheckpointError`."""
    try:
        return {name: tensor.float() for name, tensor in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a complete safetensors file: {error}") from None


def make_pairs(config: TrainConfig) -> Pairs:
    """The pairs of a run; `data.cache` decides whether images are cached in memory. Raises `InputError` without images."""
    data = config.data
    smallest = data.sides[1] if data.sides else round(data.patch * data.scale[1])
    budget = {"memory": math.inf, "lazy": 0.0, "auto": available() / 2}[data.cache]
    images = ImageFolders([Path(f) for f in data.folders], smallest, budget)
    if data.sides:
        return Squares(images, data.sides, data.queries, data.augment, config.seed, data.resized)
    how = DEGRADATIONS[data.degrade]
    share, candidates = data.identity, data.candidates
    return Pairs(images, data.patch, data.scale, data.queries, data.augment, how, config.seed, share, candidates)

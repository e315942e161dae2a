"""Training from the first iteration to the published checkpoint (paper, section 5.1)."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from liif_cli.checkpoints import save_model
from liif_cli.datasets import Batch, Pairs, Pictures, batches, numbers_of
from liif_cli.errors import UsageError
from liif_cli.model import SRModel
from liif_cli.recipe import TrainConfig
from liif_cli.runs import Run
from liif_cli.trainer import Trainer, psnr
from liif_cli.validate import cases, validate


@dataclass
class Stop:
    """Set by a signal or the clock: finish the step, write the state, leave."""

    reason: str | None = None


@contextmanager
def listening() -> Iterator[Stop]:
    """SIGTERM and SIGINT end the run after the current step; a second one ends it at once."""
    stop = Stop()

    def handle(number: int, _: FrameType | None) -> None:
        if stop.reason is not None:
            raise KeyboardInterrupt
        stop.reason = signal.Signals(number).name

    former = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def train(
    run: Run, config: TrainConfig, *, init: Path | None = None, fork: Run | None = None, max_time: float = 0
) -> str:
    """Train until `config.iterations`, `max_time` seconds, or a signal; returns which: "done", "time", "SIGTERM", ...

    A run that has a state goes on from it. `init`: a checkpoint to start from; `fork`: a run whose weights, EMA and
    optimiser to start from, at iteration 0 of this run's schedule.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    trainer = Trainer(config, SRModel(config.model), torch.device("cpu"))
    started_from = begin(trainer, run, init, fork)
    pairs = make_pairs(config)
    run.log(event="start", iteration=trainer.iteration, pictures=len(pairs.pictures), source=started_from)
    with listening() as stop:
        reason = loop(trainer, run, pairs, stop, max_time)
    checkpoint(trainer, run)
    run.log(event="end", iteration=trainer.iteration, reason=reason)
    return reason


def begin(trainer: Trainer, run: Run, init: Path | None, fork: Run | None) -> str:
    """Bring the trainer to where it starts; returns a word on it."""
    state = run.load_state()
    if state is not None:
        trainer.restore(state)
        return "resume"
    if fork is not None:
        state = fork.load_state()
        if state is None:
            raise UsageError(f"{fork.folder} has no state yet to start from")
        trainer.restore(state | {"iteration": 0})
        return f"fork of {fork.folder.name} at {state['iteration']}"
    if init is not None:
        from safetensors.torch import load_file

        trainer.model.load(load_file(init))
        return f"init {init.name}"
    return "scratch"


def make_pairs(config: TrainConfig) -> Pairs:
    """The run's data."""
    data = config.data
    pictures = Pictures([Path(f) for f in data.folders], round(data.patch * data.scale[1]), data.cache != "lazy")
    return Pairs(
        pictures, patch=data.patch, scale=data.scale, queries=data.queries, augment=data.augment, seed=config.seed
    )


def loop(trainer: Trainer, run: Run, pairs: Pairs, stop: Stop, max_time: float) -> str:
    """Steps, with what the clock and the iteration number call for between them."""
    config = trainer.config
    check = config.validation
    todo = cases(Pictures([Path(f) for f in config.data.val], check.crop), check) if config.data.val else []
    begun = saved = shown = time.monotonic()
    losses: list[torch.Tensor] = []
    errors: list[torch.Tensor] = []
    waited = 0.0

    def make(step: int) -> Batch:
        return pairs.batch(numbers_of(step, config.batch))

    ahead = batches(make, trainer.iteration, config.iterations, config.workers)
    while trainer.iteration < config.iterations:
        asked = time.monotonic()
        batch = next(ahead)
        waited += time.monotonic() - asked
        loss, error = trainer.step(batch)
        losses.append(loss)
        errors.append(error)
        now = time.monotonic()
        if trainer.iteration % 100 == 0 or stop.reason:
            seconds = now - shown
            entry: dict[str, Any] = {
                "iteration": trainer.iteration,
                "loss": float(torch.stack(losses).mean()),
                "psnr": psnr(float(torch.stack(errors).mean())),
                "rate": trainer.optimiser.param_groups[0]["lr"],
                "samples_per_second": config.batch * len(losses) / seconds,
                "waiting": waited / seconds,
            }
            run.log(event="train", **entry)
            print(entry, flush=True)
            losses, errors, waited, shown = [], [], 0.0, now
        if todo and trainer.iteration % check.every == 0:
            scores = validate(trainer.published, todo)
            run.log(event="validate", iteration=trainer.iteration, psnr={f"{k:g}": v for k, v in scores.items()})
            print(scores, flush=True)
            shown = time.monotonic()
        if now - saved > 60 * config.checkpoint_minutes:
            checkpoint(trainer, run)
            saved = time.monotonic()
        if stop.reason:
            ahead.close()
            return stop.reason
        if max_time and now - begun > max_time:
            ahead.close()
            return "time"
    return "done"


def checkpoint(trainer: Trainer, run: Run) -> None:
    """Write the run's state and its published model."""
    run.save_state(trainer.state())
    provenance = {"iterations": trainer.iteration}
    path = run.folder / f"{trainer.config.name}.safetensors"
    save_model(trainer.published, path, licence=trainer.config.licence, provenance=provenance)
    run.log(event="checkpoint", iteration=trainer.iteration)

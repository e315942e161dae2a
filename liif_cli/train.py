"""Training from the first iteration to the published checkpoint (paper, section 5.1)."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import torch

from liif_cli.checkpoints import save_model
from liif_cli.datasets import Batch, Pairs, Pictures, batches, numbers_of
from liif_cli.errors import UsageError
from liif_cli.model import SRModel
from liif_cli.processes import World, joined
from liif_cli.recipe import TrainConfig
from liif_cli.runs import Run
from liif_cli.trainer import Trainer, psnr
from liif_cli.validate import Case, cases, validate

LOG_EVERY = 100
RUNNING, DONE, TIME, SIGNAL = 0, 1, 2, 3


@dataclass
class Stop:
    """Set by a signal: finish the step, write the state, leave."""

    signal: str | None = None


@contextmanager
def listening() -> Iterator[Stop]:
    """SIGTERM and SIGINT end the run after the current step; a second one ends it at once."""
    stop = Stop()

    def handle(number: int, _: FrameType | None) -> None:
        if stop.signal is not None:
            raise KeyboardInterrupt
        stop.signal = signal.Signals(number).name

    former = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@dataclass
class Meter:
    """What is reported of the last steps."""

    losses: list[torch.Tensor] = field(default_factory=list)
    errors: list[torch.Tensor] = field(default_factory=list)
    waited: float = 0.0
    since: float = field(default_factory=time.monotonic)

    def entry(self, world: World, batch: int) -> dict[str, float]:
        """Means over the steps and the processes, and speed; starts anew."""
        loss, error = world.mean(
            torch.stack([torch.stack(self.losses).mean(), torch.stack(self.errors).mean()])
        ).tolist()
        now = time.monotonic()
        seconds, steps = now - self.since, len(self.losses)
        entry = {
            "loss": loss,
            "psnr": psnr(error),
            "samples_per_second": batch * steps / seconds,
            "waiting": self.waited / seconds,
        }
        self.losses, self.errors, self.waited, self.since = [], [], 0.0, now
        return entry


def train(
    run: Run, config: TrainConfig, *, init: Path | None = None, fork: Run | None = None, max_time: float = 0
) -> str:
    """Train until `config.iterations`, `max_time` seconds, or a signal; returns which: "done", "time", "SIGTERM", "SIGINT".

    A run that has a state goes on from it. `init`: a checkpoint to start from; `fork`: a run whose weights, EMA and
    optimiser to start from, at iteration 0 of this run's schedule.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    device = torch.device("cpu")
    torch.manual_seed(config.seed)
    with joined(device) as world, listening() as stop:
        trainer = Trainer(config, SRModel(config.model), device)
        source = begin(trainer, run, init, fork)
        trainer.distribute(world.size)
        loop = Loop(trainer, run, world, stop, make_pairs(config))
        loop.log(event="start", iteration=trainer.iteration, pictures=len(loop.pairs.pictures), source=source)
        reason = loop.run_until(max_time)
        loop.log(event="end", iteration=trainer.iteration, reason=reason)
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


class Loop:
    """Steps, and between them what the clock and the iteration's number call for."""

    def __init__(self, trainer: Trainer, run: Run, world: World, stop: Stop, pairs: Pairs) -> None:
        self.trainer, self.run, self.world, self.stop, self.pairs = trainer, run, world, stop, pairs
        self.config = trainer.config
        self.todo = self._cases() if world.first else []
        self.meter = Meter()
        self.begun = self.saved = time.monotonic()

    def _cases(self) -> list[Case]:
        check = self.config.validation
        folders = [Path(f) for f in self.config.data.val]
        return cases(Pictures(folders, check.crop), check) if folders else []

    def log(self, **entry: object) -> None:
        """To log.jsonl, from the first process alone."""
        if self.world.first:
            self.run.log(**entry)
            print(entry, flush=True)

    def run_until(self, max_time: float) -> str:
        """The loop itself; the state is written before it returns."""
        ahead = batches(self._make, self.trainer.iteration, self.config.iterations, self.config.workers)
        try:
            code = DONE if self.trainer.iteration >= self.config.iterations else RUNNING
            while code == RUNNING:
                self._step(ahead)
                code = self.world.agree(self._why_stop(max_time))
                self._between(code)
        finally:
            ahead.close()
        self.checkpoint()
        self.world.wait()
        return {DONE: "done", TIME: "time"}.get(code) or self.stop.signal or "signal"

    def _make(self, step: int) -> Batch:
        return self.pairs.batch(numbers_of(step, self.config.batch, self.world.rank, self.world.size))

    def _step(self, ahead: Iterator[Batch]) -> None:
        asked = time.monotonic()
        batch = next(ahead).to(self.trainer.device)
        self.meter.waited += time.monotonic() - asked
        loss, error = self.trainer.step(batch)
        self.meter.losses.append(loss)
        self.meter.errors.append(error)

    def _why_stop(self, max_time: float) -> int:
        if self.stop.signal:
            return SIGNAL
        if self.trainer.iteration >= self.config.iterations:
            return DONE
        return TIME if max_time and time.monotonic() - self.begun > max_time else RUNNING

    def _between(self, code: int) -> None:
        iteration = self.trainer.iteration
        if iteration % LOG_EVERY == 0 or code != RUNNING:
            rate = self.trainer.optimiser.param_groups[0]["lr"]
            self.log(event="train", iteration=iteration, rate=rate, **self.meter.entry(self.world, self.config.batch))
        if self.todo and iteration % self.config.validation.every == 0:
            scores = validate(self.trainer.published, self.todo)
            self.log(event="validate", iteration=iteration, psnr={f"{k:g}": round(v, 4) for k, v in scores.items()})
            self.meter.since = time.monotonic()
        if code == RUNNING and time.monotonic() - self.saved > 60 * self.config.checkpoint_minutes:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Write the run's state and its published model; the first process alone."""
        if not self.world.first:
            return
        trainer, config = self.trainer, self.config
        self.run.save_state(trainer.state())
        path = self.run.folder / f"{config.name}.safetensors"
        save_model(trainer.published, path, licence=config.licence, provenance={"iterations": trainer.iteration})
        self.log(event="checkpoint", iteration=trainer.iteration)
        self.saved = time.monotonic()

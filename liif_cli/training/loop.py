"""The loop of a training run: steps, and between them logging, validation, checkpoints and the conditions to stop."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from liif_cli.errors import LiifError, UsageError
from liif_cli.machine.devices import free_memory
from liif_cli.machine.files import write_bytes
from liif_cli.machine.processes import World
from liif_cli.machine.signals import Stop
from liif_cli.models.checkpoints import save_model
from liif_cli.training.device_pairs import DevicePairs, bytes_needed, to_device
from liif_cli.training.events import Ended, Event, Noted, Saved, Skipped, Started, Step, Trained, Validated
from liif_cli.training.pairs import Batch, Pairs, Patches, batches, numbers_of
from liif_cli.training.report import card, provenance, verdict
from liif_cli.training.run_folder import Run
from liif_cli.training.trainer import Trainer, psnr
from liif_cli.training.validation import Validation

LOG_EVERY = 100
AGREE_EVERY = 16  # steps; on GPUs, because communicating with the other processes waits for the device
RUNNING, DONE, TIME, SIGNAL = 0, 1, 2, 3

Watcher = Callable[[Event], None]
"""Called with every event."""


@dataclass
class Meter:
    """Losses, errors and times since the last report."""

    losses: list[torch.Tensor] = field(default_factory=list)
    errors: list[torch.Tensor] = field(default_factory=list)
    waited: float = 0.0
    since: float = field(default_factory=time.monotonic)

    def report(self, world: World, batch: int, iteration: int, rate: float) -> Trained:
        """Means over the steps and the processes. Raises `LiifError` if the loss is not finite."""
        means = torch.stack([torch.stack(self.losses).mean(), torch.stack(self.errors).mean()])
        loss, error = world.mean(means).tolist()
        if not math.isfinite(loss):
            raise LiifError(
                "the loss is no longer finite",
                hint="try a lower learning rate, gradient clipping, or fp32",
                remedy="resume",
            )
        seconds, steps = time.monotonic() - self.since, len(self.losses)
        speed, waiting = batch * steps / seconds, self.waited / seconds
        return Trained(iteration, rate, loss, psnr(error), speed, waiting)


def device_pairs(pairs: Pairs, device: torch.device, photo: bool) -> DevicePairs | None:
    """The pairs served from GPU memory if the images fit into half of what is free there, otherwise None."""
    if (
        device.type != "cuda"
        or not pairs.crops
        or not pairs.images.in_memory
        or bytes_needed(pairs) > free_memory(device) / 2
    ):
        return None
    return DevicePairs(pairs, device, photo)


class Loop:
    """Runs steps, and logs, validates and saves between them."""

    def __init__(
        self,
        trainer: Trainer,
        run: Run,
        world: World,
        stop: Stop,
        pairs: Pairs,
        source: str,
        watch: Watcher,
        notes: Sequence[str] = (),
    ) -> None:
        self.trainer, self.run, self.world, self.stop, self.pairs = trainer, run, world, stop, pairs
        self.source, self.watch, self.config, self.notes = source, watch, trainer.config, notes
        if world.first:
            run.tidy()
        self.validation = Validation(self.config) if world.first and self.config.data.val else None
        self.scores: dict[str, float] = {}
        self.reported = 0  # the number of skipped images already reported
        self.meter, self.board = Meter(), self._board()
        self.begun = self.saved = time.monotonic()
        self.on_device = device_pairs(pairs, trainer.device, self.config.data.degrade == "photo")
        trainer.make = self.on_device.made if self.on_device else None

    def _board(self) -> Any:
        if not (self.config.tensorboard and self.world.first):
            return None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UsageError("TensorBoard is not installed", hint="pip install 'liif[tensorboard]'") from None
        return SummaryWriter(str(self.run.folder / "tensorboard"))

    def log(self, event: Event) -> None:
        """Write an event to log.jsonl and TensorBoard, and call the watcher; in the first process only."""
        if not self.world.first:
            return
        self.run.log({**event.entry(), "time": round(time.time(), 1)})
        self.watch(event)
        for name, value in event.scalars().items() if self.board is not None else ():
            self.board.add_scalar(f"{event.name}/{name}", value, event.iteration)

    def run_until(self, max_time: float) -> str:
        """Run the loop for at most `max_time` seconds (0: no limit), and save the state.

        Returns the reason why it stopped: "done", "time", or a signal's name.
        """
        images = self.pairs.images
        begun, skipped = self.trainer.iteration, self._newly_skipped()
        self.log(Started(begun, self.source, self.world.size, len(images), images.in_memory, skipped))
        for note in self.notes:
            self.log(Noted(begun, note))
        ahead = batches(self._make, self.trainer.iteration, self.config.iterations, self.config.workers)
        try:
            code = DONE if self.trainer.iteration >= self.config.iterations else RUNNING
            while code == RUNNING:
                self._step(ahead)
                code = self._agree(max_time)
                self._between(code)
        finally:
            ahead.close()
        self.checkpoint()
        if self.validation is not None and (below := verdict(self.last_scores(), self.validation.bicubic)):
            self.log(Noted(self.trainer.iteration, below))
        self.world.wait()
        reason = {DONE: "done", TIME: "time"}.get(code) or self.stop.signal or "signal"
        self.log(Ended(self.trainer.iteration, reason))
        if self.board is not None:
            self.board.close()
        return reason

    def _newly_skipped(self) -> list[str]:
        """The reasons for images skipped since the last call."""
        new = self.pairs.images.skipped[self.reported :]
        self.reported += len(new)
        return new

    def _make(self, step: int) -> Batch | Patches | torch.Tensor:
        """A step's data, or the table from which the device makes it. Called from any thread."""
        numbers = numbers_of(self.trainer.steps_before + step, self.config.batch, self.world.rank, self.world.size)
        return self.on_device.rows(numbers) if self.on_device else self.pairs.batch(numbers)

    def _step(self, ahead: Iterator[Batch | Patches | torch.Tensor]) -> None:
        asked = time.monotonic()
        made = next(ahead)
        batch = to_device(made, self.trainer.device) if isinstance(made, torch.Tensor) else made.to(self.trainer.device)
        self.meter.waited += time.monotonic() - asked
        loss, error = self.trainer.step(batch)
        self.run.stepped = True
        self.meter.losses.append(loss)
        self.meter.errors.append(error)
        if self.world.first:
            self.watch(Step(self.trainer.iteration, self.config.iterations))

    def _agree(self, max_time: float) -> int:
        """The reason to stop, or RUNNING; the same in all processes."""
        iteration = self.trainer.iteration
        if iteration >= self.config.iterations:
            return DONE
        if self.trainer.device.type == "cuda" and self.world.size > 1 and iteration % AGREE_EVERY:
            return RUNNING
        late = max_time and time.monotonic() - self.begun > max_time
        return self.world.agree(SIGNAL if self.stop.signal else TIME if late else RUNNING)

    def _between(self, code: int) -> None:
        iteration = self.trainer.iteration
        overdue = code == RUNNING and self._overdue()
        if iteration % LOG_EVERY == 0 or code != RUNNING or overdue:
            meter, self.meter = self.meter, Meter()
            if skipped := self._newly_skipped():
                self.log(Skipped(iteration, skipped))
            self.log(meter.report(self.world, self.config.batch, iteration, self.trainer.rate))
        if self.validation is not None and (iteration % self.config.validation.every == 0 or code in (DONE, TIME)):
            self.validate(self.validation)
        if overdue:
            self.checkpoint()

    def _overdue(self) -> bool:
        """Whether a checkpoint is due, by the clock of the first process. It is checked only at fixed iterations, because all
        processes must take part."""
        if self.trainer.iteration % 10:
            return False
        return bool(
            self.world.agree(
                int(self.world.first and time.monotonic() - self.saved > 60 * self.config.checkpoint_minutes)
            )
        )

    def validate(self, validation: Validation) -> None:
        """Score the published weights, and write a preview and the run's curves."""
        began, iteration = time.monotonic(), self.trainer.iteration
        self.scores = validation.scores(self.trainer.published)
        self.log(Validated(iteration, self.scores))
        previews = self.run.folder / "previews"
        previews.mkdir(exist_ok=True)
        validation.preview(self.trainer.published).save(previews / f"{iteration:08d}.png")
        self.run.draw_curve(validation.bicubic)
        self.meter.since += time.monotonic() - began

    def last_scores(self) -> dict[str, float]:
        """PSNR in dB by scale from the last validation, of an earlier session if this one had none."""
        return self.scores or self.run.last_scores()

    def checkpoint(self) -> None:
        """Write the run's state, and its published model with its card; in the first process only."""
        if not self.world.first:
            return
        trainer, config, images = self.trainer, self.config, len(self.pairs.images)
        self.run.save_state(trainer.state())
        bicubic = self.validation.bicubic if self.validation is not None else {}
        made = provenance(config, trainer.iteration, self.source, images, self.last_scores(), bicubic)
        save_model(trainer.published, self.run.model_path(config.name), licence=config.licence, provenance=made)
        parameters = sum(p.numel() for p in trainer.model.parameters())
        write_bytes(self.run.folder / f"{config.name}.md", card(config, made, parameters).encode())
        self.log(Saved(trainer.iteration))
        self.saved = time.monotonic()

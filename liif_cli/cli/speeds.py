"""The speeds of a call's tasks: those that are remembered, otherwise measured once. Loads torch only to measure."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from liif_cli.cli.streams import say_unless
from liif_cli.errors import LiifError

if TYPE_CHECKING:
    from liif_cli.images.formats.base import Format
    from liif_cli.models.checkpoints import Checkpoint
    from liif_cli.upscaling.jobs import Task
    from liif_cli.upscaling.options import Options
    from liif_cli.upscaling.speeds import Speed
    from liif_cli.upscaling.upscaler import Upscaler


class Speeds:
    """The speeds of a call's tasks: those that are known, otherwise measured once. upscaler: makes one; it loads torch."""

    def __init__(
        self, checkpoint: "Checkpoint", options: "Options", upscaler: "Callable[[], Upscaler]", quiet: bool
    ) -> None:
        self._checkpoint, self._options, self._upscaler, self._quiet = checkpoint, options, upscaler, quiet
        self._known: dict[int, Speed | None] = {}

    def known(self, task: "Task") -> "Speed | None":
        """A task's speed, if it is known."""
        from liif_cli.upscaling.speeds import recall

        bits = output_bits(task)
        if bits not in self._known:
            self._known[bits] = recall(self._checkpoint, self._options, bits)
        speed, formats = self._known[bits], {output.format.name for output in task.outputs}
        return speed if speed and formats <= set(speed.file) else None

    def of(self, task: "Task") -> "Speed":
        """A task's speed. Raises what loading the model raises."""
        speed = self.known(task)
        for form in () if speed else {output.format.name: output.format for output in task.outputs}.values():
            speed = self._known[output_bits(task)] = self._measure(task, form)
        assert speed is not None
        return speed

    def free(self, speed: "Speed") -> int | None:
        """Bytes that are free on a speed's device, which torch must be asked for; None: what is free on this machine."""
        if speed.device == "cpu":
            return None
        import torch

        from liif_cli.machine.devices import free_memory

        return free_memory(torch.device(speed.device))

    def _measure(self, task: "Task", form: "Format") -> "Speed":
        from liif_cli.upscaling.calibration import measured_speed

        say_unless(self._quiet, f"measuring once how fast {self._checkpoint.name} is on this machine")
        return measured_speed(self._upscaler(), output_bits(task), form)


def expectations(tasks: "Sequence[Task]", upscaler: "Upscaler") -> list[tuple[float, float]]:
    """Seconds to encode each image and for the rest; nothing if that cannot be told, which the run will say better."""
    from liif_cli.upscaling.estimate import seconds_of

    assert upscaler.checkpoint is not None
    speeds = Speeds(upscaler.checkpoint, upscaler.options, lambda: upscaler, quiet=True)
    try:
        return [seconds_of(task, speeds.of(task), upscaler.options) for task in tasks]
    except LiifError:
        return []


def output_bits(task: "Task") -> int:
    """Bits per sample of a task's outputs as they are rendered."""
    return 16 if task.header.bits > 8 else 8

"""The speeds for the tasks of a call: from the cache, or otherwise measured once. Loads torch only to measure."""

from collections.abc import Callable, Sequence
from pathlib import Path
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
    """The speeds for the tasks of a call. upscaler: returns an upscaler; called only to measure, because it loads torch."""

    def __init__(
        self, checkpoint: "Checkpoint", options: "Options", upscaler: "Callable[[], Upscaler]", quiet: bool
    ) -> None:
        self._checkpoint, self._options, self._upscaler, self._quiet = checkpoint, options, upscaler, quiet
        self._known: dict[tuple[Path, int], Speed | None] = {}

    def known(self, task: "Task") -> "Speed | None":
        """The speed for a task from the cache, or None."""
        from liif_cli.upscaling.speeds import recall

        network, bits = kind_of(task, self._checkpoint, self._options)
        if (network.path, bits) not in self._known:
            self._known[network.path, bits] = recall(network, self._options, bits)
        speed, formats = self._known[network.path, bits], {output.format.name for output in task.outputs}
        return speed if speed and formats <= set(speed.file) else None

    def of(self, task: "Task") -> "Speed":
        """The speed for a task, measured if it is not known. Raises the exceptions of loading the model."""
        speed = self.known(task)
        for form in () if speed else {output.format.name: output.format for output in task.outputs}.values():
            network, bits = kind_of(task, self._checkpoint, self._options)
            speed = self._known[network.path, bits] = self._measure(network, bits, form)
        assert speed is not None
        return speed

    def free(self, speed: "Speed") -> int | None:
        """The free bytes on a speed's device, as reported by torch; None for the CPU."""
        if speed.device == "cpu":
            return None
        import torch

        from liif_cli.machine.devices import free_memory

        return free_memory(torch.device(speed.device))

    def _measure(self, network: "Checkpoint", bits: int, form: "Format") -> "Speed":
        from liif_cli.upscaling.calibration import measured_speed

        say_unless(self._quiet, f"measuring the speed of {network.name} on this machine, once")
        return measured_speed(self._upscaler(), network, bits, form)


def expectations(tasks: "Sequence[Task]", upscaler: "Upscaler") -> list[tuple[float, float]]:
    """(encoding, everything else) in seconds for each image; empty if there is an error, which the run will report."""
    from liif_cli.upscaling.estimate import seconds_of

    assert upscaler.checkpoint is not None
    speeds = Speeds(upscaler.checkpoint, upscaler.options, lambda: upscaler, quiet=True)
    try:
        return [seconds_of(task, speeds.of(task), upscaler.options) for task in tasks]
    except LiifError:
        return []


def kind_of(task: "Task", checkpoint: "Checkpoint", options: "Options") -> "tuple[Checkpoint, int]":
    """What a task's speed depends on: the checkpoint of the network that renders it, and the bits per rendered sample."""
    from liif_cli.upscaling.restoration import network_for

    return network_for(options.restore, checkpoint, task.header), 16 if task.header.bits > 8 else 8

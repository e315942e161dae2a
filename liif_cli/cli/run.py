"""Runs the tasks of a call, on this machine or on a cluster, and returns the exit code."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from liif_cli.cli.progress import Display
from liif_cli.cli.speeds import expectations, kind_of
from liif_cli.errors import ExitCode

if TYPE_CHECKING:
    from liif_cli.models.checkpoints import Checkpoint
    from liif_cli.rendering.sizes import Target
    from liif_cli.upscaling.jobs import Work
    from liif_cli.upscaling.options import Options


def run(work: "Work", display: Display, do: "Callable[[], None]") -> int:
    """Process all tasks, by `do`, and return the exit code. If there is only one image, its error is raised."""
    with display:
        for name, error in work.failures:
            display.reject(name, error)
        if work.tasks:
            do()
    if work.lone and display.errors:
        raise display.errors[0]
    return ExitCode.SOME_FAILED if display.errors else ExitCode.OK


def on_this_machine(work: "Work", found: "Callable[[], Checkpoint]", options: "Options", display: Display) -> None:
    """Process all tasks on this machine."""
    from liif_cli.upscaling.batch import Batch
    from liif_cli.upscaling.calibration import learn
    from liif_cli.upscaling.jobs import Task
    from liif_cli.upscaling.upscaler import Upscaler

    upscaler = Upscaler(found(), options)
    known = [task for task in work.tasks if isinstance(task, Task)]
    near = len(known) == len(work.tasks)  # the headers of images in stores have not been read yet
    if display.watched and near and (seconds := expectations(known, upscaler)):
        display.expect(seconds)
    doing = Batch(upscaler, display, make_folders=work.make_folders)
    doing.run(work.tasks)
    kinds = [kind_of(task, found(), options) for task in known]
    if near and all(kind == kinds[0] for kind in kinds):
        learn(upscaler, *kinds[0], doing.measured)


def on_cluster(
    work: "Work",
    targets: "Sequence[Target]",
    found: "Callable[[], Checkpoint]",
    options: "Options",
    asked: tuple[str, int | None, float | None],
    display: Display,
) -> None:
    """Process all tasks on a Ray cluster. asked: its address, the number of actors and the GPUs per actor, as for `Fleet`."""
    from liif_cli.upscaling.fleet import run as run_fleet
    from liif_cli.upscaling.shares import Fleet

    run_fleet(work, targets, found(), options, Fleet(*asked), display)

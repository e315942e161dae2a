"""The plan of a call that `--dry-run` prints: sizes, tiles, memory, disk space and time."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from liif_cli.cli.fixed_scale import check_scales
from liif_cli.cli.progress import failure
from liif_cli.cli.speeds import Speeds
from liif_cli.cli.streams import result, say_unless
from liif_cli.errors import ExitCode

if TYPE_CHECKING:
    from liif_cli.models.checkpoints import Checkpoint
    from liif_cli.upscaling.estimate import Estimate
    from liif_cli.upscaling.jobs import Task, Work
    from liif_cli.upscaling.options import Options
    from liif_cli.upscaling.upscaler import Upscaler


def show_plan(
    work: "Work", found: "Callable[[], Checkpoint]", options: "Options", scales: list[str], as_json: bool, quiet: bool
) -> int:
    """Print the plan for `--dry-run`. Raises the first failure. Loads torch only if a speed is unknown."""
    raise_first(work.failures, as_json)
    if work.tasks:
        speeds = Speeds(found(), options, lazily(found, options), quiet)
        tasks = [replace(each.ready(), source=each.source) for each in work.tasks]  # drops downloaded objects
        if any(speeds.known(task) is None for task in tasks):
            check_scales(found(), scales)
        plans = [plan for task in tasks for plan in plans_of(task, speeds, options)]
        for each in plans:
            result(json.dumps(each.as_dict()) if as_json else describe(each))
        start = max(speeds.of(task).start for task in tasks)
        total = start + sum(each.seconds for each in plans)
        say_unless(quiet, f"about {duration(total)} in total, including {duration(start)} to start")
    return ExitCode.OK


def raise_first(failures: Sequence[tuple[str, Exception]], as_json: bool) -> None:
    """Raises the first failure, if there is one. as_json: print all failures before."""
    for name, error in failures if as_json else ():
        result(failure(name, error))
    for _, error in failures:
        raise error


def plans_of(task: "Task", speeds: Speeds, options: "Options") -> "list[Estimate]":
    """The plan of each of a task's outputs. Raises the exceptions of loading the model if its speed is not known."""
    from liif_cli.upscaling.estimate import estimate

    speed = speeds.of(task)
    return estimate(task, speed, options, speeds.free(speed))


def lazily(found: "Callable[[], Checkpoint]", options: "Options") -> "Callable[[], Upscaler]":
    """A function that returns an upscaler, which is made, and loads torch, on the first call."""

    @cache
    def make() -> "Upscaler":
        from liif_cli.upscaling.upscaler import Upscaler

        return Upscaler(found(), options)

    return make


def describe(plan: "Estimate") -> str:
    """The tiles, memory, disk space and time of an output, on one line."""
    from liif_cli.machine.memory import format_bytes

    tiles = f"{plan.tiles} tile{'s' * (plan.tiles > 1)} of up to {plan.tile} pixels" if plan.tiles else "no network"
    amounts = (
        f"memory up to {format_bytes(plan.peak_memory)}, "
        f"scratch {format_bytes(plan.scratch)}, file {'about' if plan.lossy else 'up to'} {format_bytes(plan.file)}"
    )
    return f"{plan.output}: {plan.width}x{plan.height}, {tiles}, {amounts}, about {duration(plan.seconds)}"


def duration(seconds: float) -> str:
    """Seconds as text for users: `0.4 s`, `12 s`, `3 min`, `1 h 20 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"

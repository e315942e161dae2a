"""What an upscale would take, without doing it: sizes, tiles, memory and disk."""

from dataclasses import asdict, dataclass
from typing import Any

from liif_cli.images.spool import IN_MEMORY
from liif_cli.images.write import file_bytes
from liif_cli.machine.memory import resident
from liif_cli.rendering.plan import Plan
from liif_cli.rendering.rows import groups, working_size
from liif_cli.upscaling.jobs import Output, Task
from liif_cli.upscaling.upscaler import Upscaler


@dataclass(frozen=True)
class Estimate:
    """One output before it is made. Bytes are upper bounds.

    tiles: how many, 0 where no network is needed; tile: their longest side in input pixels; peak_memory: of the whole
    process; scratch: on the output's disk while it is made; file: the finished file.
    """

    input: str
    output: str
    width: int
    height: int
    tiles: int
    tile: int
    peak_memory: int
    scratch: int
    file: int

    def as_dict(self) -> dict[str, Any]:
        """Fit for JSON."""
        return asdict(self)


def estimate(upscaler: Upscaler, task: Task) -> list[Estimate]:
    """What each output of a task would take. Raises what loading the model raises, and `OutOfMemory`."""
    header = task.header
    depth = 2 if header.bits > 8 else 1
    picture = header.height * header.width * header.channels * depth
    plans = _plans(upscaler, task, depth, picture)
    return [_estimate(task, output, plan, depth, picture) for output, plan in zip(task.outputs, plans, strict=True)]


def _plans(upscaler: Upscaler, task: Task, depth: int, picture: int) -> list[Plan | None]:
    """The plan under which each grid would be rendered; None if the filter alone makes it."""
    header, grids = task.header, [output.grid for output in task.outputs]
    renderer, alpha = upscaler.renderer(8 * depth), header.channels in (2, 4)
    plans: list[Plan | None] = [None] * len(grids)
    for group in groups(grids):
        working = working_size((header.height, header.width), [grids[index] for index in group])
        if working is None:
            continue
        budget, side = upscaler.budget(picture), upscaler.options.tile
        planned = renderer.plan(*working, header.channels * depth, budget=budget, side=side, alpha=alpha)
        for index in group:
            plans[index] = planned
    return plans


def _estimate(task: Task, output: Output, plan: Plan | None, depth: int, picture: int) -> Estimate:
    height, width = output.grid.shape
    channels, rows = task.header.channels, task.frames * height
    raw = rows * width * channels * depth
    held = raw if raw <= IN_MEMORY else 0
    return Estimate(
        input=task.source.name,
        output=output.name,
        width=width,
        height=height,
        tiles=plan.count if plan else 0,
        tile=plan.side if plan else 0,
        peak_memory=resident() + picture + held + (plan.peak if plan else picture * 4),
        scratch=0 if held else raw,
        file=file_bytes(output.format, rows, width, channels, "u2" if depth == 2 else "u1"),
    )

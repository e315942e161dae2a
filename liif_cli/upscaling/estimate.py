"""Estimates the sizes, tiles, memory, disk space and time of an upscale without running it. Does not load torch."""

from dataclasses import asdict, dataclass
from typing import Any

from liif_cli.images.picture import Header
from liif_cli.images.spool import IN_MEMORY
from liif_cli.images.write import file_bytes, is_lossy
from liif_cli.machine.memory import available, resident
from liif_cli.rendering.plan import HEADROOM, Plan, make_plan
from liif_cli.rendering.shrink import groups, working_size
from liif_cli.upscaling.jobs import Output, Task
from liif_cli.upscaling.options import Options, room
from liif_cli.upscaling.speeds import Speed


@dataclass(frozen=True)
class Estimate:
    """The estimate for one output.

    tiles: their number; 0 if no network is needed. tile: their longest side in input pixels. peak_memory: of the whole
    process, in bytes, an upper bound. scratch: bytes of disk space needed until the file is written. file: the size of the
    file in bytes, an upper bound unless the file is `lossy`. seconds: the output's share of its image's time, without the
    program's start.
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
    lossy: bool
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """The fields as a dictionary that can be serialised as JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Cost:
    """The work for one output.

    plan: its tiles; None if the bicubic filter alone makes it. encoded: input pixels to encode, including halos; if several
    outputs share an encoding, this output's share. turns: how often each pixel is computed (4 with self-ensemble).
    """

    plan: Plan | None = None
    encoded: float = 0.0
    turns: int = 1


def estimate(task: Task, speed: Speed, options: Options, free: int | None = None) -> list[Estimate]:
    """The estimate for each output of a task. free: free bytes on the device (None: the free memory of this machine).

    Raises `OutOfMemory`, `UsageError`.
    """
    costs = costs_of(task, speed, options, free)
    lossless = options.save.lossless
    return [_estimate(task, output, cost, speed, lossless) for output, cost in zip(task.outputs, costs, strict=True)]


def seconds_of(task: Task, speed: Speed, options: Options) -> tuple[float, float]:
    """(encoding, everything else) of a task, in seconds. Raises as `estimate`."""
    costs = costs_of(task, speed, options)
    total = sum(_seconds(task, output, cost, speed) for output, cost in zip(task.outputs, costs, strict=True))
    encode = task.frames * sum(cost.encoded for cost in costs) * speed.encode
    return encode, total - encode


def costs_of(task: Task, speed: Speed, options: Options, free: int | None = None) -> list[Cost]:
    """The work for each output of a task. free: as for `estimate`. Raises as `estimate`."""
    header, grids = task.header, [output.grid for output in task.outputs]
    turns, alpha = (4 if options.self_ensemble else 1), header.channels in (2, 4)
    costs = [Cost(turns=turns)] * len(grids)
    for group in groups(grids):
        working = working_size((header.height, header.width), [grids[index] for index in group])
        if working is None:
            continue
        size, over = working
        sample, held = header.channels * _depth(header), turns * (2 if alpha else 1)
        budget = _budget(task, speed, options, free)
        plan = make_plan(speed, size, over, sample, budget, options.tile, held, options.chunk)
        share = encoded_pixels(plan, size, speed) * turns / len(group)
        for index in group:
            costs[index] = Cost(plan, share, turns)
    return costs


def encoded_pixels(plan: Plan, size: tuple[int, int], speed: Speed) -> int:
    """The number of input pixels to encode, including halos."""
    windows = (tile.window(speed.halo, size, speed.alignment) for tile in plan.tiles())
    return sum(window.height * window.width for window in windows)


def _budget(task: Task, speed: Speed, options: Options, free: int | None) -> int:
    """Bytes that rendering may take once the model is loaded."""
    limited = room(options.memory, speed.program, _image_bytes(task.header))
    if limited is not None:
        return limited
    return int((available() - max(0, speed.program - resident()) if free is None else free) * HEADROOM)


def _depth(header: Header) -> int:
    """Bytes per sample."""
    return 2 if header.bits > 8 else 1


def _image_bytes(header: Header) -> int:
    """Bytes of the decoded image."""
    return header.height * header.width * header.channels * _depth(header)


def _seconds(task: Task, output: Output, cost: Cost, speed: Speed) -> float:
    pixels = output.grid.shape[0] * output.grid.shape[1]
    network = cost.encoded * speed.encode + pixels * cost.turns * speed.decode if cost.plan else 0.0
    return task.frames * (network + pixels * speed.file.get(output.format.name, 0.0))


def _estimate(task: Task, output: Output, cost: Cost, speed: Speed, lossless: bool) -> Estimate:
    height, width = output.grid.shape
    channels, rows, depth = task.header.channels, task.frames * height, _depth(task.header)
    raw, image, plan = rows * width * channels * depth, _image_bytes(task.header), cost.plan
    held = raw if raw <= IN_MEMORY else 0
    return Estimate(
        input=task.source.name,
        output=output.name,
        width=width,
        height=height,
        tiles=plan.count if plan else 0,
        tile=plan.side if plan else 0,
        peak_memory=speed.program + image + held + (plan.peak if plan else image * 4),
        scratch=0 if held else raw,
        file=file_bytes(output.format, rows, width, channels, "u2" if depth == 2 else "u1", lossless=lossless),
        lossy=is_lossy(output.format, lossless=lossless),
        seconds=_seconds(task, output, cost, speed),
    )

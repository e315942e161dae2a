"""What an upscale would take, without doing it: sizes, tiles, memory and disk (`--dry-run`)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from liif_cli.coords import Grid
from liif_cli.images import read
from liif_cli.images.formats.table import format_of
from liif_cli.images.spool import IN_MEMORY
from liif_cli.images.write import check_fit, check_output, file_bytes
from liif_cli.machine.memory import resident
from liif_cli.rendering.plan import Plan
from liif_cli.rendering.rows import groups, working_size
from liif_cli.rendering.sizes import Target
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


def estimate(
    upscaler: Upscaler,
    source: Path | bytes,
    outputs: Sequence[tuple[Target, Path | BinaryIO]],
    name: str | None = None,
) -> list[Estimate]:
    """Plan `outputs`, (target, path or stream) each, from the picture in `source`, called `name`. Raises what
    `Upscaler.file` raises before work; only a missing folder is none of its business."""
    options = upscaler.options
    header = read.probe(source, page=options.page, frame=options.frame)
    size = (header.height, header.width)
    frames = header.frames if options.frame is None else 1
    grids = upscaler.grids(size, [target for target, _ in outputs])
    for (_, path), grid in zip(outputs, grids, strict=True):
        missing = isinstance(path, Path) and not path.parent.exists()
        (check_fit if missing else check_output)(path, grid.shape, options.save, frames)
    depth = 2 if header.bits > 8 else 1
    picture = header.height * header.width * header.channels * depth
    plans = _plans(upscaler, size, grids, header.channels, depth, picture)
    return [
        _estimate(name or str(source), path, grid, plan, header.channels, depth, picture, frames, options.save.format)
        for (_, path), grid, plan in zip(outputs, grids, plans, strict=True)
    ]


def _plans(
    upscaler: Upscaler, size: tuple[int, int], grids: list[Grid], channels: int, depth: int, picture: int
) -> list[Plan | None]:
    """The plan under which each grid would be rendered; None where the filter alone makes it."""
    renderer, alpha = upscaler.renderer(8 * depth), channels in (2, 4)
    plans: list[Plan | None] = [None] * len(grids)
    for group in groups(grids):
        chosen = [grids[index] for index in group]
        working = working_size(size, chosen)
        if working is None:
            continue
        budget, side = upscaler.budget(picture), upscaler.options.tile
        planned = renderer.plan(*working, channels * depth, budget=budget, side=side, alpha=alpha)
        for index in group:
            plans[index] = planned
    return plans


def _estimate(
    name: str,
    path: Path | BinaryIO,
    grid: Grid,
    plan: Plan | None,
    channels: int,
    depth: int,
    picture: int,
    frames: int,
    form: str | None,
) -> Estimate:
    height, width = grid.shape
    raw = frames * height * width * channels * depth
    held = raw if raw <= IN_MEMORY else 0
    peak = resident() + picture + held + (plan.peak if plan else picture * 4)
    scratch = 0 if held else raw
    size = file_bytes(
        format_of(path if isinstance(path, Path) else None, form),
        frames * height,
        width,
        channels,
        "u2" if depth == 2 else "u1",
    )
    tiles, side = (plan.count, plan.side) if plan else (0, 0)
    return Estimate(name, str(path) if isinstance(path, Path) else "-", width, height, tiles, side, peak, scratch, size)

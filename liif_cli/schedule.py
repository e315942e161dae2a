"""The learning rate at each iteration, as a factor of its peak; a pure function, so that a resumed run needs no state of it."""

import math

from liif_cli.recipe import ScheduleConfig


def factor(schedule: ScheduleConfig, iteration: int, iterations: int) -> float:
    """Factor in [0, 1] for the step number `iteration` (0-based) of a run of `iterations` steps."""
    warm = min(1.0, (iteration + 1) / schedule.warmup) if schedule.warmup else 1.0
    if schedule.name == "multistep":
        return warm * float(schedule.gamma ** sum(iteration >= milestone for milestone in schedule.milestones))
    if schedule.name == "cosine":
        return warm * _cosine(iteration - schedule.warmup, iterations - schedule.warmup, schedule.floor)
    if schedule.name == "hold":
        return warm * _cosine(iteration - (iterations - schedule.decay), schedule.decay, schedule.floor)
    return warm


def _cosine(step: int, steps: int, floor: float) -> float:
    """1 until step 0, `floor` from step `steps` on, half a cosine between."""
    if step <= 0 or steps <= 0:
        return 1.0
    return floor + (1 - floor) * (1 + math.cos(math.pi * min(step / steps, 1.0))) / 2

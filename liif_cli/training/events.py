"""Events of a training run: passed to watchers, and written as the lines of log.jsonl."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, get_args, get_origin


@dataclass(frozen=True)
class Event:
    """Something that happened after `iteration` steps. name: its name in the log."""

    name: ClassVar[str]
    iteration: int

    def entry(self) -> dict[str, Any]:
        """The line in the log: `event` and the fields."""
        return {"event": self.name, **asdict(self)}

    def scalars(self) -> dict[str, float]:
        """The numbers to plot against the iterations."""
        return {name: value for name, value in asdict(self).items() if isinstance(value, float)}


@dataclass(frozen=True)
class Started(Event):
    """The run begins or continues.

    source: the origin of its weights. pictures: the number of training images. in_memory: whether all are cached. skipped: the
    reasons why other images were skipped.
    """

    name = "start"
    source: str
    processes: int
    pictures: int
    in_memory: bool
    skipped: list[str]


@dataclass(frozen=True)
class Step(Event):
    """A step was made. iterations: the number of steps of the whole run. Not written to the log."""

    name = "step"
    iterations: int


@dataclass(frozen=True)
class Skipped(Event):
    """Images were skipped. skipped: the reasons, one sentence each."""

    name = "skipped"
    skipped: list[str]


@dataclass(frozen=True)
class Noted(Event):
    """A message for the user, one sentence. The run continues."""

    name = "note"
    text: str


@dataclass(frozen=True)
class Trained(Event):
    """Means over the steps since the last such event: loss, PSNR in dB, speed, and the share of time spent waiting for data."""

    name = "train"
    rate: float
    loss: float
    psnr: float
    samples_per_second: float
    waiting: float


@dataclass(frozen=True)
class Validated(Event):
    """PSNR in dB by scale."""

    name = "validate"
    scores: dict[str, float]

    def scalars(self) -> dict[str, float]:
        """PSNR at each scale."""
        return {f"psnr_x{scale}": value for scale, value in self.scores.items()}


@dataclass(frozen=True)
class Saved(Event):
    """The state and the model were written."""

    name = "checkpoint"


@dataclass(frozen=True)
class Ended(Event):
    """The run stopped. reason: `done`, `time`, or a signal's name."""

    name = "end"
    reason: str


KINDS: dict[str, type[Event]] = {
    kind.name: kind for kind in (Started, Skipped, Noted, Trained, Validated, Saved, Ended)
}


def parse(entry: Mapping[str, Any]) -> Event | None:
    """The event of a log entry; None if this version does not know it."""
    kind = KINDS.get(str(entry.get("event")))
    if kind is None or not all(field.name in entry and _is(entry[field.name], field.type) for field in fields(kind)):
        return None
    return kind(**{field.name: entry[field.name] for field in fields(kind)})


def _is(value: Any, kind: Any) -> bool:
    """Whether a value of JSON is of a field's type."""
    if kind is float:
        return isinstance(value, int | float) and abs(value) < math.inf
    if get_origin(kind) is dict:
        return isinstance(value, dict) and all(_is(each, get_args(kind)[1]) for each in value.values())
    return isinstance(value, get_origin(kind) or kind)

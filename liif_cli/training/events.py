"""What happens during a run, as values: told to whoever watches, and kept as the lines of log.jsonl."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar


@dataclass(frozen=True)
class Event:
    """Something that happened after `iteration` steps. name: what the log calls it."""

    name: ClassVar[str]
    iteration: int

    def entry(self) -> dict[str, Any]:
        """The line of the log: `event` and the fields."""
        return {"event": self.name, **asdict(self)}

    def scalars(self) -> dict[str, float]:
        """The numbers to draw over the iterations."""
        return {name: value for name, value in asdict(self).items() if isinstance(value, float)}


@dataclass(frozen=True)
class Started(Event):
    """The run begins or goes on. source: of its weights. pictures: to train on; in_memory: all of them. skipped: why others
    were left out."""

    name = "start"
    source: str
    processes: int
    pictures: int
    in_memory: bool
    skipped: list[str]


@dataclass(frozen=True)
class Step(Event):
    """A step was made, of `iterations` in all. Not kept in the log."""

    name = "step"
    iterations: int


@dataclass(frozen=True)
class Skipped(Event):
    """Images were left out, and why."""

    name = "skipped"
    skipped: list[str]


@dataclass(frozen=True)
class Noted(Event):
    """Something to know about the run, which stops nothing: a sentence."""

    name = "note"
    text: str


@dataclass(frozen=True)
class Trained(Event):
    """Means over the steps since the last of these: loss, PSNR in dB, speed, and the share of time spent waiting for data."""

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
    """State and model were written."""

    name = "checkpoint"


@dataclass(frozen=True)
class Ended(Event):
    """The run stopped: `done`, `time`, or a signal's name."""

    name = "end"
    reason: str


KINDS: dict[str, type[Event]] = {
    kind.name: kind for kind in (Started, Skipped, Noted, Trained, Validated, Saved, Ended)
}


def parse(entry: Mapping[str, Any]) -> Event | None:
    """The event of a line of the log; None for one that this version does not know."""
    kind = KINDS.get(str(entry.get("event")))
    try:
        return kind(**{field.name: entry[field.name] for field in fields(kind)}) if kind else None
    except KeyError:
        return None

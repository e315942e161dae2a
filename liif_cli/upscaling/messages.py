"""The messages between the driver of a cluster and its actors: settings, tasks, results, errors."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from liif_cli import errors
from liif_cli.errors import LiifError
from liif_cli.images.formats.table import format_of
from liif_cli.models.checkpoints import Checkpoint
from liif_cli.rendering.sizes import Target
from liif_cli.stores.addresses import Place, clean
from liif_cli.upscaling.inputs import Source
from liif_cli.upscaling.jobs import Deferred
from liif_cli.upscaling.options import Options
from liif_cli.upscaling.results import Result
from liif_cli.upscaling.shares import Share


@dataclass(frozen=True)
class Settings:
    """The settings that every actor receives once.

    weights: a Ray reference to the checkpoint's bytes. share: the resources of an actor. folder: the driver's current folder.
    stop: the actor that signals when to stop.
    """

    checkpoint: Checkpoint
    weights: Any
    options: Options
    targets: tuple[Target, ...]
    share: Share
    make_folders: bool = False
    folder: Path = Path()
    stop: Any = None


Packed = tuple[int, Source, list[tuple[int, Place]], frozenset[Place]]


def pack(index: int, task: Deferred, targets: Sequence[Target]) -> Packed:
    """A task as a small message, without what is in `Settings` for all tasks."""
    source = Source(task.source.path, task.source.inside, task.source.found, task.source.entry)
    outputs = [(targets.index(target), place) for target, place, _ in task.outputs if isinstance(place, Place)]
    return index, source, outputs, task.replaced


def unpack(packed: Packed, settings: Settings) -> tuple[int, Deferred]:
    """The inverse of `pack`."""
    index, source, outputs, replaced = packed
    options, targets = settings.options, settings.targets
    whole = tuple((targets[which], place, format_of(place, options.save.format)) for which, place in outputs)
    return index, Deferred(source, options, whole, replaced)


@dataclass(frozen=True)
class NoTally:
    """A placeholder for a `rendering.timing.RenderStats`, which stays in the actor."""

    plans: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Times:
    """A `batch.Timing` for a process without torch, in seconds."""

    read: float = 0.0
    encode: float = 0.0
    decode: float = 0.0
    file: float = 0.0


def from_error(error: Exception) -> dict[str, Any]:
    """An exception as a dictionary that can be serialised as JSON, without secrets."""
    values: dict[str, Any] = {"kind": type(error).__name__, "message": clean(str(error))}
    if isinstance(error, LiifError):
        values |= {"hint": error.hint, "argument": error.argument, "remedy": error.remedy}
    return values


def as_error(values: dict[str, Any]) -> Exception:
    """The inverse of `from_error`. A class that is neither liif's nor MemoryError becomes a new class of the same name."""
    kind = getattr(errors, values["kind"], None)
    if isinstance(kind, type) and issubclass(kind, LiifError):
        return kind(values["message"], hint=values["hint"], argument=values["argument"], remedy=values["remedy"])
    return (
        MemoryError(values["message"])
        if values["kind"] == "MemoryError"
        else type(values["kind"], (Exception,), {})(values["message"])
    )


def from_result(result: Result) -> dict[str, Any]:
    """A result as a dictionary that can be serialised as JSON."""
    return result.as_dict() | {"notes": [(str(note), getattr(note, "remedy", None)) for note in result.notes]}


def as_result(values: dict[str, Any]) -> Result:
    """The inverse of `from_result`."""
    return Result(**{**values, "scale": tuple(values["scale"]), "notes": tuple(map(as_note, values["notes"]))})


def as_note(values: Sequence[Any]) -> str:
    """A note from its text and its remedy."""
    text, remedy = values
    return errors.Note.on(text, remedy) if remedy else text

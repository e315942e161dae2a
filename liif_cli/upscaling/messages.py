"""What travels between the driver of a cluster and its actors: settings, tasks, results, errors."""

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
    """What every actor is told once. weights: the checkpoint's bytes, a reference. folder: the driver's. stop: the actor that
    tells when to stop."""

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
    """A task as few bytes: what all tasks have in common is in `Settings`."""
    source = Source(task.source.path, task.source.inside, task.source.found, task.source.entry)
    outputs = [(targets.index(target), place) for target, place, _ in task.outputs if isinstance(place, Place)]
    return index, source, outputs, task.replaced


def unpack(packed: Packed, settings: Settings) -> tuple[int, Deferred]:
    """The task that `pack` was given."""
    index, source, outputs, replaced = packed
    options, targets = settings.options, settings.targets
    whole = tuple((targets[which], place, format_of(place, options.save.format)) for which, place in outputs)
    return index, Deferred(source, options, whole, replaced)


@dataclass(frozen=True)
class Untold:
    """Stands for a `rendering.timing.Tally`, which stays with the actor."""

    plans: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Times:
    """A `batch.Timing`, in a process that has no torch."""

    read: float = 0.0
    encode: float = 0.0
    decode: float = 0.0
    file: float = 0.0


def from_error(error: Exception) -> dict[str, Any]:
    """An exception as values that any process can read."""
    told: dict[str, Any] = {"kind": type(error).__name__, "message": clean(str(error))}
    if isinstance(error, LiifError):
        told |= {"hint": error.hint, "argument": error.argument, "remedy": error.remedy}
    return told


def as_error(told: dict[str, Any]) -> Exception:
    """The exception of such values: of the same class if it is one of ours or Python's, otherwise of the same name."""
    kind = getattr(errors, told["kind"], None)
    if isinstance(kind, type) and issubclass(kind, LiifError):
        return kind(told["message"], hint=told["hint"], argument=told["argument"], remedy=told["remedy"])
    return (
        MemoryError(told["message"])
        if told["kind"] == "MemoryError"
        else type(told["kind"], (Exception,), {})(told["message"])
    )


def from_result(result: Result) -> dict[str, Any]:
    """A result as values that any process can read."""
    return result.as_dict() | {"notes": [(str(note), getattr(note, "remedy", None)) for note in result.notes]}


def as_result(told: dict[str, Any]) -> Result:
    """The result of such values."""
    return Result(**{**told, "scale": tuple(told["scale"]), "notes": tuple(map(as_note, told["notes"]))})


def as_note(told: Sequence[Any]) -> str:
    """A note of its text and its remedy."""
    text, remedy = told
    return errors.Note.on(text, remedy) if remedy else text

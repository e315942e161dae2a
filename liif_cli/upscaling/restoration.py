"""Decides how strongly to restore an image: as requested, or depending on the compression of its file."""

from dataclasses import dataclass

from liif_cli.errors import Note
from liif_cli.images.formats.table import FORMATS
from liif_cli.images.picture import Header
from liif_cli.models import restore
from liif_cli.models.checkpoints import Checkpoint
from liif_cli.models.restore import Restore


@dataclass(frozen=True)
class Restoration:
    """The decision for one image. strength: 0 to 1. reason: in a few words. notes: messages for the user."""

    strength: float
    reason: str
    notes: tuple[Note, ...] = ()


def decide(wanted: Restore, checkpoint: Checkpoint | None, quality: int | None, form: str) -> Restoration:
    """The `wanted` strength, or, for "auto", the strength for the quality at which the image was compressed.

    checkpoint: the model's; None for a loaded model. quality: 1 to 100; None if unknown. form: the name of the image's format.
    """
    if wanted != "auto":
        return Restoration(wanted, "as requested" if wanted else "off")
    if quality is None:
        return Restoration(0.0, "no lossy compression found")
    if checkpoint is None or restore.counterpart(checkpoint) is None:
        return Restoration(0.0, "the model has no counterpart for degraded images")
    what, strength = f"{FORMATS[form].label} quality {quality}", restore.strength_for(quality, form)
    if not strength:
        return Restoration(0.0, what)
    if restore.AUTOMATIC:
        note = Note.on(f"restored with strength {strength:g}: {what}", "restore off")
        return Restoration(strength, what, (note,))
    note = Note.on(f"compression artefacts will be visible ({what}); a strength of {strength:g} suits it", "restore")
    return Restoration(0.0, f"{what}; automatic restoration is off", (note,) * (strength >= restore.STRONG))


def network_for(wanted: Restore, checkpoint: Checkpoint, image: Header) -> Checkpoint:
    """The checkpoint of the network that renders an image: if it is restored, the counterpart's, which may be deeper.

    Raises as `restore.needed_counterpart`.
    """
    strength = decide(wanted, checkpoint, image.quality, image.format).strength
    return restore.needed_counterpart(checkpoint) if strength else checkpoint

"""How strongly to restore one image, and why: as requested, or by the compression of its file."""

from dataclasses import dataclass

from liif_cli.errors import Note
from liif_cli.images.formats.table import FORMATS
from liif_cli.models import restore
from liif_cli.models.checkpoints import Checkpoint
from liif_cli.models.restore import Restore


@dataclass(frozen=True)
class Restoration:
    """What was decided for one image. strength: 0 to 1. reason: a few words. notes: sentences for the user."""

    strength: float
    reason: str
    notes: tuple[Note, ...] = ()


def decide(wanted: Restore, checkpoint: Checkpoint | None, quality: int | None, form: str) -> Restoration:
    """The strength that is `wanted`, or for "auto" the one that suits the quality that the image was compressed at.

    checkpoint: the model, None for a loaded one. quality: 1 to 100, None if unknown. form: the name of the image's format.
    """
    if wanted != "auto":
        return Restoration(wanted, "as asked for" if wanted else "off")
    if quality is None:
        return Restoration(0.0, "the image tells of no lossy compression")
    if checkpoint is None or restore.counterpart(checkpoint) is None:
        return Restoration(0.0, "the model has no counterpart for damaged images")
    what, strength = f"{FORMATS[form].label} of quality {quality}", restore.strength_for(quality, form)
    if not strength:
        return Restoration(0.0, what)
    if restore.AUTOMATIC:
        note = Note.on(f"restored with a strength of {strength:g}: {what}", "restore off")
        return Restoration(strength, what, (note,))
    note = Note.on(f"artefacts of compression will show ({what}); a strength of {strength:g} suits it", "restore")
    return Restoration(0.0, f"{what}; automatic restoring is off", (note,) * (strength >= restore.STRONG))

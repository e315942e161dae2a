"""Restoration: interpolates between the weights of a model and those of its counterpart for degraded images.

NAME-photo, next to NAME, was fine-tuned from NAME on images with compression artefacts and noise. Fine-tuning stays in the same
basin of the loss, so interpolated weights are useful models too (Wortsman et al., "Robust fine-tuning of zero-shot models",
CVPR 2022). One number, the strength, interpolates between the two. NAME-photo may have more blocks: NAME then counts as a
network of the same depth whose additional blocks return their input.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from liif_cli.errors import CheckpointError, UsageError
from liif_cli.models.checkpoints import Checkpoint, read_header

if TYPE_CHECKING:
    from liif_cli.models.model import SRModel

Restore = float | Literal["auto"]
"""The strength, 0 (NAME) to 1 (NAME-photo), or "auto": chosen from the compression quality of the file."""
SUFFIX = "-photo"
STRONG = 0.85
"""From this strength on, an image counts as strongly compressed and a note mentions its artefacts."""
CURVES = {
    "jpeg": ((85, 1.0), (90, 0.85), (95, 0.65), (98, 0.3), (100, 0.0)),
    "webp": ((75, 1.0), (90, 0.55), (100, 0.0)),
    "avif": ((35, 1.0), (53, 0.8), (70, 0.65), (87, 0.35), (100, 0.0)),
}
"""Per format, (quality, strength) in ascending order, linear in between and constant outside: the strengths with the highest
PSNR (`tests/benchmarks/bench_restore.py`; docs/photo.md has the numbers). Qualities are those of `formats.compression`."""
AUTOMATIC = False
"""Whether "auto" restores at all. `light-photo` has yet to reach the gains that were set as its goal (docs/photo.md)."""


def parse_restore(text: str) -> Restore:
    """`auto`, or a number from 0 to 1. Raises `UsageError`."""
    if text == "auto":
        return "auto"
    try:
        strength = float(text)
    except ValueError:
        strength = -1.0
    if not 0 <= strength <= 1:
        raise UsageError(f"{text!r} is not a strength", hint="use auto, or a number from 0 to 1", argument="restore")
    return strength


def strength_for(quality: int, form: str = "jpeg") -> float:
    """The strength for an image that a format compressed at this quality (1 to 100), in steps of 0.05, from `CURVES`."""
    curve = CURVES.get(form, CURVES["jpeg"])
    below = [point for point in curve if point[0] <= quality] or [curve[0]]
    above = [point for point in curve if point[0] >= quality] or [curve[-1]]
    (low, start), (high, end) = below[-1], above[0]
    share = (quality - low) / (high - low) if high > low else 0.0
    return round(20 * (start + share * (end - start))) / 20


def counterpart(checkpoint: Checkpoint) -> Checkpoint | None:
    """The model for degraded images next to `checkpoint`; None if there is none.

    Raises `CheckpointError` if its file is corrupt or has another architecture.
    """
    path = checkpoint.path.with_name(f"{checkpoint.path.stem}{SUFFIX}{checkpoint.path.suffix}")
    if not path.is_file():
        return None
    header = read_header(path)
    if not extends(header.model, checkpoint.header.model):
        raise CheckpointError(f"cannot combine {path.name} with {checkpoint.path.name}: their architectures differ")
    return Checkpoint(path.stem, path, header)


def extends(deep: Mapping[str, Any], model: Mapping[str, Any]) -> bool:
    """Whether `deep` is the config of a model like `model`, with at least as many encoder blocks; both as in a header."""
    encoder, other = deep.get("encoder"), model.get("encoder")
    if not (isinstance(encoder, dict) and isinstance(other, dict)):
        return deep == model
    alike = {**encoder, "blocks": 0} == {**other, "blocks": 0} and {**deep, "encoder": 0} == {**model, "encoder": 0}
    return alike and encoder.get("blocks", 0) >= other.get("blocks", 0)


def needed_counterpart(checkpoint: Checkpoint | None) -> Checkpoint:
    """The counterpart of `checkpoint`. Raises `UsageError` if there is none, and like `counterpart`."""
    if checkpoint is None:
        raise UsageError("cannot restore with a loaded model", hint="give the model as a name or file")
    found = counterpart(checkpoint)
    if found is None:
        wanted = checkpoint.path.stem + SUFFIX
        reason = f"there is no {wanted}{checkpoint.path.suffix} next to it"
        raise UsageError(f"cannot restore with {checkpoint.name}: {reason}", hint="use the model light, which has one")
    return found


def between(plain: "SRModel", photo: "SRModel", strength: float) -> "SRModel":
    """The model with weights interpolated from `plain` (strength 0) to `photo` (strength 1), on the device of `photo`.

    It is in evaluation mode. Both must have the same architecture, but `photo` may have more blocks. At 0 and 1, the result is
    one of the two, not a copy.
    """
    if strength in (0, 1):
        return photo if strength else plain
    near = photo.completed(plain)
    tensors = {name: near[name].lerp(tensor, strength) for name, tensor in photo.export().items()}
    device = next(photo.parameters()).device
    return type(plain).from_tensors(photo.config, tensors).to(device).eval()

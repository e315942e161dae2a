"""Converts checkpoint files of other projects to checkpoints of liif."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from liif_cli.errors import CheckpointError, Note
from liif_cli.machine.files import check_target, file_sha256
from liif_cli.models.checkpoints import check_file, is_ours, save_model
from liif_cli.models.foreign import Foreign, read_foreign
from liif_cli.models.known import Known, by_hash
from liif_cli.models.model import SRModel

UNKNOWN_LICENCE = "unknown"


@dataclass(frozen=True)
class Converted:
    """The result of a conversion.

    layout: the source's. sha256: of the source file. known: the published model with this hash, if any. unused: names of
    tensors that were left out. assumed: assumptions that the source does not confirm.
    """

    path: Path
    layout: str
    sha256: str
    known: Known | None
    licence: str
    parameters: int
    unused: tuple[str, ...]
    assumed: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Serialisable as JSON."""
        return vars(self) | {"path": str(self.path), "known": self.known and self.known.name}

    def notes(self) -> list[str]:
        """Notes for the user."""
        what = f"the published file of {self.known.name}" if self.known else "not a known published file"
        notes = [f"layout: {self.layout}, {self.parameters:,} parameters; {what}"]
        notes += [f"assumed: {each}" for each in self.assumed]
        if self.unused:
            notes.append(f"left out because the model does not use them: {', '.join(self.unused)}")
        terms = self.known.terms if self.known and self.licence == self.known.licence else self.licence
        licence = f"licence: {terms}"
        return [*notes, Note.on(licence, "licence") if self.licence == UNKNOWN_LICENCE else licence]


def default_output(name: str) -> Path:
    """The default output path: next to the source, or in the current folder if the source is on the Hub."""
    source = Path(name.rpartition("/")[2] if name.startswith("hf://") else name)
    ours = source.with_suffix(".safetensors")
    return ours if ours.name != source.name else source.with_name(f"{source.stem}-liif.safetensors")


def convert(source: Path, out: Path, *, licence: str | None = None, overwrite: bool = False) -> Converted:
    """Write the model in `source`, a checkpoint of another project, to `out` as a liif checkpoint.

    licence: of the weights; default: the known model's, otherwise "unknown". No code in `source` is run, and nothing is
    written unless all of it is understood. Raises `ModelNotFound`, `CheckpointError`, `OutputError`.
    """
    check_file(source)
    check_target(out, overwrite)
    _refuse_ours(source)
    foreign = read_foreign(source)
    model = _build(foreign, source.name)
    sha256 = file_sha256(source)
    known = by_hash(sha256)
    stated = licence or (known.licence if known else UNKNOWN_LICENCE)
    save_model(model, out, licence=stated, provenance=_provenance(source, foreign, sha256, known), overwrite=overwrite)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Converted(out, foreign.layout, sha256, known, stated, parameters, foreign.unused, foreign.assumed)


def _refuse_ours(source: Path) -> None:
    if is_ours(source):
        raise CheckpointError(f"{source.name} is already a liif checkpoint", hint="use it as it is", remedy="usable")


def _build(foreign: Foreign, name: str) -> SRModel:
    try:
        # names and shapes are checked before any tensor is converted
        SRModel.from_tensors(
            foreign.config, {k: torch.empty_like(t, device="meta") for k, t in foreign.tensors.items()}
        )
        return SRModel.from_tensors(foreign.config, {k: t.to(torch.float32) for k, t in foreign.tensors.items()}).eval()
    except CheckpointError as error:
        raise CheckpointError(f"{name} ({foreign.layout}): {error}") from None


def _provenance(source: Path, foreign: Foreign, sha256: str, known: Known | None) -> dict[str, Any]:
    made: dict[str, Any] = {
        "converted_from": source.name,
        "layout": foreign.layout,
        "sha256": sha256,
        "assumed": list(foreign.assumed),
    }
    if known:
        made |= {"known": known.name, "origin": known.origin, "notice": known.notice}
        made |= {"published_psnr": {what: dict(scores) for what, scores in known.scores.items()}}
    return made

"""What a model is, and whether its file is whole: for people who are about to use it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from liif_cli.errors import CheckpointError, LiifError
from liif_cli.machine.files import file_sha256
from liif_cli.models.checkpoints import Checkpoint, count_parameters
from liif_cli.models.known import Known, by_name, is_non_commercial
from liif_cli.models.store import cached, find, published_scores, pulled, shipped


def describe(reference: str) -> dict[str, Any]:
    """All that is known of a model without loading its tensors; fit for JSON.

    Config, provenance, licence and what it means for rendered images, scores, hash. A model of the table that was not pulled is
    described by the table. Raises `ModelNotFound` and `CheckpointError`.
    """
    known = by_name(reference)
    if known and reference not in {**shipped(), **pulled()} and not Path(reference).is_file():
        return _describe_known(known)
    return _describe_file(find(reference))


def _describe_file(found: Checkpoint) -> dict[str, Any]:
    header = found.header
    return {
        "name": found.name,
        "path": str(found.path),
        "revision": found.revision,
        "bytes": found.path.stat().st_size,
        "sha256": file_sha256(found.path),
        "parameters": count_parameters(found.path),
        "licence": header.licence,
        "outputs": what_licence_means(header.licence),
        "notice": header.provenance.get("notice") or None,
        "scores": published_scores(header.provenance),
        "model": header.model,
        "provenance": header.provenance,
    }


def _describe_known(known: Known) -> dict[str, Any]:
    return {
        "name": known.name,
        "path": None,
        "source": known.source,
        "bytes": known.bytes,
        "sha256": known.sha256,
        "parameters": known.parameters,
        "licence": known.licence,
        "outputs": what_licence_means(known.licence),
        "notice": known.notice or None,
        "scores": {what: dict(values) for what, values in known.scores.items()},
    }


def what_licence_means(licence: str) -> str:
    """What a licence of weights means for the images that are rendered with them, in a sentence."""
    if licence.startswith("unknown"):
        return "No licence is stated: ask whoever made the weights before you use them for more than a test."
    if is_non_commercial(licence):
        return f"{licence} forbids commercial use of the weights; that includes rendering images for commercial ends."
    return f"{licence} covers the weights and models adapted from them, not the images that you render with them."


@dataclass(frozen=True)
class Verified:
    """A model that was read whole. problem: what is wrong with it, None where nothing is."""

    name: str
    path: str
    sha256: str | None
    problem: str | None

    def as_dict(self) -> Mapping[str, Any]:
        """Fit for JSON."""
        return vars(self) | {"ok": self.problem is None}


def verify(reference: str, sha256: str | None = None) -> Verified:
    """Read a model whole: its header is understood, every tensor fits its config and is finite, its hash is as expected.

    sha256: what the file's hash is to be or to begin with. Files from the Hub are held against the Hub's own, the shipped ones
    against the installed package's record, where there is one. Raises `ModelNotFound` and `CheckpointError`.
    """
    found = find(reference)
    found.load()
    digest = file_sha256(found.path)
    wanted = sha256 or _recorded_sha256(found.path)
    if wanted and not digest.startswith(wanted.lower()):
        raise CheckpointError(f"{found.path.name} has the SHA-256 {digest}, and {wanted} was expected")
    return Verified(found.name, str(found.path), digest, None)


def verify_all() -> list[Verified]:
    """All models on this machine, whole or not. Never asks the network."""
    places = {**shipped(), **pulled(), **dict(cached())}
    return [_try(name, path) for name, path in places.items()]


def _try(name: str, path: Path) -> Verified:
    try:
        return Verified(name, str(path), verify(str(path), _cached_sha256(path)).sha256, None)
    except LiifError as error:
        return Verified(name, str(path), None, str(error))


def _cached_sha256(path: Path) -> str | None:
    """The hash that the Hub's cache names a large file by."""
    blob = path.readlink().name if path.is_symlink() else ""
    return blob if len(blob) == 64 else None


def _recorded_sha256(path: Path) -> str | None:
    """What the installed wheel's RECORD says of a file of it."""
    import base64
    from importlib.metadata import PackageNotFoundError, files

    try:
        recorded = next((file for file in files("liif") or () if file.locate() == path), None)
    except PackageNotFoundError:
        return None
    if recorded is None or recorded.hash is None or recorded.hash.mode != "sha256":
        return None
    return base64.urlsafe_b64decode(recorded.hash.value + "=").hex()

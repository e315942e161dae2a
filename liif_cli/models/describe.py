"""Describes models and verifies their files."""

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
    """A model's description without loading its tensors, serialisable as JSON.

    It has the config, provenance, scores, hash, licence and what the licence means for rendered images. A known model that was
    not pulled is described from the table in `known`. Raises `ModelNotFound` and `CheckpointError`.
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
    """A sentence on what a licence of weights means for the images rendered with them."""
    if licence.startswith("unknown"):
        return "No licence is stated: ask the author of the weights before using them for more than a test."
    if is_non_commercial(licence):
        return (
            f"{licence} forbids commercial use of the weights; that includes rendering images for commercial purposes."
        )
    return f"{licence} covers the weights and models adapted from them, not the images that you render with them."


@dataclass(frozen=True)
class Verified:
    """The result of verifying a model. problem: what is wrong with it, None if nothing is."""

    name: str
    path: str
    sha256: str | None
    problem: str | None

    def as_dict(self) -> Mapping[str, Any]:
        """Serialisable as JSON."""
        return vars(self) | {"ok": self.problem is None}


def verify(reference: str, sha256: str | None = None) -> Verified:
    """Read a model completely and check its header, the shapes and values of its tensors, and its hash.

    sha256: the expected hash of the file, or its beginning. Without it, shipped files are compared with the installed package's
    record, if there is one. Files from the Hub are always checked against the Hub's hash. Raises `ModelNotFound` and
    `CheckpointError`.
    """
    found = find(reference)
    found.load()
    digest = file_sha256(found.path)
    wanted = sha256 or _recorded_sha256(found.path)
    if wanted and not digest.startswith(wanted.lower()):
        raise CheckpointError(f"checksum mismatch for {found.path.name}: its SHA-256 is {digest}, not {wanted}")
    return Verified(found.name, str(found.path), digest, None)


def verify_all() -> list[Verified]:
    """Verify all models on this machine, without the network; files from the Hub are compared with the Hub's hashes."""
    places = {**shipped(), **pulled(), **dict(cached())}
    return [_try(name, path) for name, path in places.items()]


def _try(name: str, path: Path) -> Verified:
    try:
        return Verified(name, str(path), verify(str(path), _cached_sha256(path)).sha256, None)
    except LiifError as error:
        return Verified(name, str(path), None, str(error))


def _cached_sha256(path: Path) -> str | None:
    """The hash by which the Hub's cache names a large file."""
    blob = path.readlink().name if path.is_symlink() else ""
    return blob if len(blob) == 64 else None


def _recorded_sha256(path: Path) -> str | None:
    """A file's hash in the installed wheel's RECORD, None if there is none."""
    import base64
    from importlib.metadata import PackageNotFoundError, files

    try:
        recorded = next((file for file in files("liif") or () if file.locate() == path), None)
    except PackageNotFoundError:
        return None
    if recorded is None or recorded.hash is None or recorded.hash.mode != "sha256":
        return None
    return base64.urlsafe_b64decode(recorded.hash.value + "=").hex()

"""Fetches published models by name: downloads or resumes, checks, converts and stores them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from liif_cli.errors import CheckpointError, ModelNotFound, OutputError
from liif_cli.machine.files import file_sha256, write_bytes
from liif_cli.models.checkpoints import is_ours, read_header
from liif_cli.models.convert import convert
from liif_cli.models.download import Progress, download
from liif_cli.models.known import KNOWN, Known, by_name
from liif_cli.models.store import fetch_reference, pull_folder


@dataclass(frozen=True)
class Pulled:
    """A fetched model. fetched: False if it was already on this machine."""

    name: str
    path: Path
    licence: str
    source: str
    sha256: str
    fetched: bool

    def as_dict(self) -> dict[str, Any]:
        """Serialisable as JSON."""
        return vars(self) | {"path": str(self.path)}


def find_known(name: str) -> Known:
    """The published model with this name. Raises `ModelNotFound`."""
    known = by_name(name)
    if known is None:
        names = ", ".join(each.name for each in KNOWN)
        raise ModelNotFound(f"no known model is named {name!r}", hint=f"use one of {names}, or hf://owner/repo")
    return known


def pull(known: Known, *, overwrite: bool = False, progress: Progress | None = None) -> Pulled:
    """Fetch a published model unless it is on this machine; afterwards, every command accepts its name.

    The hash is checked before anything is used; an interrupted download is resumed. Raises `ModelNotFound`,
    `CheckpointError` and `OutputError`.
    """
    path = pull_folder() / f"{known.name}.safetensors"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.parent / f".{known.name}.lock"):
            fetched = overwrite or not path.is_file()
            if fetched:
                _fetch(known, path, progress)
    except OSError as error:
        raise OutputError(f"cannot write to {path.parent}: {error.strerror}") from error
    header = read_header(path)
    digest = str(header.provenance.get("sha256", known.sha256))
    return Pulled(known.name, path, header.licence, known.source, digest, fetched)


def _fetch(known: Known, path: Path, progress: Progress | None) -> None:
    if known.source.startswith("hf://"):
        _keep(fetch_reference(known.source).path, known, path)
        return
    part = path.parent / f".{known.name}.part"
    resumed = part.exists()
    download(known.source, part, size=known.bytes, progress=progress)
    if resumed and not known.matches(file_sha256(part)):  # the remote file may have changed since
        part.unlink()
        download(known.source, part, size=known.bytes, progress=progress)
    try:
        _keep(part, known, path)
    except CheckpointError:
        part.unlink()
        raise
    part.unlink()


def _keep(source: Path, known: Known, path: Path) -> None:
    """Check a fetched file, and store it as a liif checkpoint."""
    digest = file_sha256(source)
    if not known.matches(digest):
        raise CheckpointError(f"checksum mismatch for {known.source}: its SHA-256 is {digest}, not {known.sha256}")
    if is_ours(source):
        read_header(source)
        write_bytes(path, source.read_bytes())
    else:
        convert(source, path, licence=known.licence, overwrite=True)

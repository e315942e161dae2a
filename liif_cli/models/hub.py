"""Files from the Hugging Face Hub, with the one check that its client leaves out: the hash.

The client (huggingface_hub) does the rest: HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_OFFLINE, resuming, locks, progress.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from liif_cli.errors import CheckpointError, ModelNotFound

Kind = Literal["model", "dataset"]
_OFFLINE_HINT = "check the network, HF_ENDPOINT and HF_HUB_OFFLINE"


@dataclass(frozen=True)
class HubFile:
    """A file in the Hub's cache on this machine. commit: the revision's full name. etag: its hash, as the Hub states."""

    path: Path
    commit: str
    etag: str


def fetch(repo: str, name: str, *, kind: Kind = "model", revision: str | None = None) -> HubFile:
    """The file `name` of a repository, from the cache or the network, its hash checked.

    Large files are checked by SHA-256, small ones by git's SHA-1. Raises `ModelNotFound` where it is not cached and
    cannot be had, and `CheckpointError` where the bytes are not those that the Hub states.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # its warning for each try is said once, by our own error
    try:
        path = Path(hf_hub_download(repo, name, repo_type=kind, revision=revision))
        etag = _cached_etag(path) or _ask_etag(repo, name, kind, _commit(path))
    except Exception as error:
        raise _refusal(repo, name, kind, error) from error
    _check(path, etag)
    return HubFile(path, _commit(path), etag)


def list_files(repo: str, *, kind: Kind = "model", revision: str | None = None) -> list[str]:
    """Names of all files of a repository; asks the network. Raises `ModelNotFound`."""
    from huggingface_hub import HfApi

    try:
        return sorted(HfApi().list_repo_files(repo, repo_type=kind, revision=revision))
    except Exception as error:
        raise _refusal(repo, "its list of files", kind, error) from error


def hide_progress() -> None:
    """No progress bars from the client, for the rest of this process."""
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    disable_progress_bars()


def stated_licence(repo: str, revision: str | None = None) -> str:
    """The licence that a model's card states, "none" where it states none, "unknown" offline. Raises `ModelNotFound`."""
    from huggingface_hub import HfApi
    from huggingface_hub.constants import is_offline_mode

    if is_offline_mode():
        return "unknown, as the Hub is not asked"
    try:
        card = HfApi().model_info(repo, revision=revision).card_data
    except Exception as error:
        raise _refusal(repo, "its card", "model", error) from error
    return str((card and card.get("license")) or "none")


def _cached_etag(path: Path) -> str | None:
    """The name of the blob that the cache's link names: one step only, the blob may be a link to a shared store."""
    return path.readlink().name if path.is_symlink() else None


def _ask_etag(repo: str, name: str, kind: Kind, commit: str) -> str:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    return get_hf_file_metadata(hf_hub_url(repo, name, repo_type=kind, revision=commit)).etag or ""


def _commit(path: Path) -> str:
    """The commit from the cache's layout, snapshots/COMMIT/..."""
    return path.parts[path.parts.index("snapshots") + 1]


def _check(path: Path, etag: str) -> None:
    with path.open("rb") as file:
        if re.fullmatch("[0-9a-f]{40}", etag):
            prefix = b"blob %d\0" % path.stat().st_size
            found = hashlib.sha1(prefix + file.read()).hexdigest()
        else:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != etag:
        raise CheckpointError(
            f"{path.name} from the Hub does not have the hash that the Hub states",
            hint=f"delete {path.resolve()} and try again",
        )


def _refusal(repo: str, name: str, kind: Kind, error: Exception) -> Exception:
    """What the client's error means to a user; any other error as it is."""
    from huggingface_hub import errors

    what = f"the {'data set' if kind == 'dataset' else 'model'} {repo} on the Hub"
    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        return ModelNotFound(f"{name} of {what} is not in the cache and the Hub cannot be reached", hint=_OFFLINE_HINT)
    if isinstance(error, errors.RepositoryNotFoundError):
        return ModelNotFound(f"{what} does not exist or is private", hint="for a private one set HF_TOKEN")
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelNotFound(f"{what} has no such revision")
    if isinstance(error, errors.EntryNotFoundError):
        return ModelNotFound(f"{what} has no file {name}")
    if isinstance(error, errors.HFValidationError):
        return ModelNotFound(f"{repo} is not a place on the Hub: {error}")
    if isinstance(error, OSError) or type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore"):
        reason = (str(error) or type(error).__name__).splitlines()[0]
        return ModelNotFound(f"{name} of {what} cannot be had: {reason}", hint=_OFFLINE_HINT)
    return error

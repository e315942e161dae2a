"""Files from the Hugging Face Hub, with the hash check that its client omits.

The client (huggingface_hub) does the rest: HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_OFFLINE, resuming, locks, progress.
"""

import errno
import hashlib
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from liif_cli.errors import CheckpointError, LiifError, ModelNotFound, OutputError

Kind = Literal["model", "dataset"]
_OFFLINE_HINT = "check the network, HF_ENDPOINT and HF_HUB_OFFLINE"
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EFBIG)
log = logging.getLogger(__name__)


class FileMissing(ModelNotFound):
    """The repository exists but has no such file."""


@dataclass(frozen=True)
class HubFile:
    """A file in the Hub's cache on this machine. commit: the revision's full hash. etag: the file's hash, from the Hub."""

    path: Path
    commit: str
    etag: str


def fetch(repo: str, name: str, *, kind: Kind = "model", revision: str | None = None) -> HubFile:
    """The file `name` of a repository, from the cache or the network, its hash checked.

    Large files are checked by SHA-256, small ones by git's SHA-1; a file with the wrong hash is deleted. If the Hub cannot be
    reached, a cached file is used and a warning is logged. Raises `ModelNotFound` (neither cached nor available),
    `CheckpointError` (the hash differs from the Hub's) and `OutputError` (the cache cannot be written).
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import logging as client_logging

    client_logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # liif's error reports a failure once, not per try
    try:
        path = _fall_back(repo, name, kind, revision) or Path(
            hf_hub_download(repo, name, repo_type=kind, revision=revision)
        )
        etag = _cached_etag(path) or _ask_etag(repo, name, kind, _commit(path))
    except Exception as error:
        raise _refusal(repo, name, kind, error) from error
    _check(path, etag)
    return HubFile(path, _commit(path), etag)


def _fall_back(repo: str, name: str, kind: Kind, revision: str | None) -> Path | None:
    """The cached file if the Hub cannot be reached, with a warning; None if the client should continue.

    The client itself would silently use a cached file whatever the Hub's answer: no network, a wrong token, a deleted
    repository. Here the Hub is asked first, so that each of these is an error or a warning.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache

    if constants.HF_HUB_OFFLINE or re.fullmatch("[0-9a-f]{40}", revision or ""):
        return None
    try:
        get_hf_file_metadata(hf_hub_url(repo, name, repo_type=kind, revision=revision))
    except Exception as error:
        cached = try_to_load_from_cache(repo, name, revision=revision, repo_type=kind) if _is_away(error) else None
        if not isinstance(cached, str):
            raise
        log.warning(
            "cannot reach the Hub: using %s of %s from the cache, commit %s", name, repo, _commit(Path(cached))[:12]
        )
        return Path(cached)
    return None


def _is_away(error: Exception) -> bool:
    """Whether there was no answer, or a status that means that the Hub is down."""
    return is_network(error) or status(error) in (500, 502, 503, 504)


def is_network(error: Exception) -> bool:
    """Whether an error of the Hub's client is from the network, without an HTTP status."""
    module = type(error).__module__.partition(".")[0]
    return module in ("httpx", "httpx2", "httpcore", "httpcore2") and status(error) is None


def status(error: Exception) -> int | None:
    """The HTTP status behind an error."""
    return getattr(getattr(error, "response", None), "status_code", None)


def list_files(repo: str, *, kind: Kind = "model", revision: str | None = None) -> list[str]:
    """The names of all files in a repository; uses the network. Raises `ModelNotFound`."""
    from huggingface_hub import HfApi

    try:
        return sorted(HfApi().list_repo_files(repo, repo_type=kind, revision=revision))
    except Exception as error:
        raise _refusal(repo, "its list of files", kind, error) from error


def hide_progress() -> None:
    """Disable the client's progress bars for the rest of this process."""
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    disable_progress_bars()


def stated_licence(repo: str, revision: str | None = None) -> str:
    """The licence in a model's card, "none" if there is none, "unknown, ..." offline. Raises `ModelNotFound`."""
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        return "unknown, because HF_HUB_OFFLINE is set"
    try:
        card = HfApi().model_info(repo, revision=revision).card_data
    except Exception as error:
        raise _refusal(repo, "its card", "model", error) from error
    return str((card and card.get("license")) or "none")


def _cached_etag(path: Path) -> str | None:
    """The name of the blob that the cache's link points to; follows one link only, since the blob may itself be a link."""
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
        blob = path.parent / path.readlink() if path.is_symlink() else path
        for each in {path, blob, path.resolve()}:
            each.unlink(missing_ok=True)
        raise CheckpointError(
            f"checksum mismatch for {path.name} downloaded from the Hub: the file was deleted",
            hint="try again to download it",
        )


def explain(repo: str, kind: Kind, error: Exception) -> LiifError | None:
    """The user's error for an answer of the Hub about a repository; None if `error` is not such an answer."""
    from huggingface_hub import errors

    what = f"the {'data set' if kind == 'dataset' else 'model'} {repo} on the Hub"
    if isinstance(error, errors.HFValidationError):
        return ModelNotFound(f"{repo} is not a repository on the Hub: {error}")
    if isinstance(error, errors.GatedRepoError):
        return ModelNotFound(
            f"{what} is gated: users must accept its terms",
            hint="accept them on its page, then set HF_TOKEN to your token",
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return ModelNotFound(f"{what} does not exist or is private", hint="if it is private, set HF_TOKEN")
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelNotFound(f"{what} has no such revision")
    if status(error) == 401:
        return ModelNotFound("the Hub rejected the token", hint="renew HF_TOKEN, or unset it")
    if status(error) == 403:
        return ModelNotFound(f"the Hub denied access to {what}", hint="check the permissions of the token")
    if status(error) == 429:
        wait = re.search(r"Retry after (\d+) seconds", str(error))
        when = f"in {wait[1]} seconds" if wait else "later"
        return ModelNotFound(
            f"the Hub refused {what}: too many requests", hint=f"try again {when}; HF_TOKEN raises the limit"
        )
    return None


def _refusal(repo: str, name: str, kind: Kind, error: Exception) -> Exception:
    """The user's error for a client error about a file; any other error unchanged."""
    from huggingface_hub import errors

    what = f"{name} of the {'data set' if kind == 'dataset' else 'model'} {repo} on the Hub"
    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        return ModelNotFound(f"{what} is not in the cache and the Hub cannot be reached", hint=_OFFLINE_HINT)
    if (explained := explain(repo, kind, error)) is not None:
        return explained
    if isinstance(error, errors.EntryNotFoundError):
        return FileMissing(f"the {'data set' if kind == 'dataset' else 'model'} {repo} on the Hub has no file {name}")
    if isinstance(error, OSError) and error.errno in _DISK:
        return OutputError(
            f"cannot write the Hub's cache: {error.strerror}", hint="free some space, or move the cache with HF_HOME"
        )
    if type(error).__name__ == "RemoteProtocolError" or "Consistency check failed" in str(error):
        return ModelNotFound(f"the download of {what} is incomplete", hint="try again: it resumes where it stopped")
    if isinstance(error, OSError) or is_network(error):
        reason = (str(error) or type(error).__name__).splitlines()[0]
        return ModelNotFound(f"cannot fetch {what}: {reason}", hint=_OFFLINE_HINT)
    return error

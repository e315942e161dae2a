"""Downloads a file, resuming where an earlier attempt stopped. The caller must check its hash."""

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from liif_cli.errors import CheckpointError, ModelNotFound, OutputError
from liif_cli.machine.files import check_room

Progress = Callable[[int, int | None], None]
CHUNK = 2**20
TRIES = 4  # in a row without progress
PAUSE = 1.0  # seconds before the second try; doubles each time
TIMEOUT = 30.0  # seconds without an answer
LARGEST = 4 * 2**30


class _Broken(Exception):
    """The connection ended too early, or there was no answer; trying again may help."""


def download(url: str, path: Path, *, size: int | None = None, progress: Progress | None = None) -> None:
    """Download `url` to `path`, continuing after the bytes that `path` already has.

    size: the file's known length in bytes. progress: called with the bytes so far and in total (None: unknown). Raises
    `ModelNotFound` (refused, missing, or unreachable in several tries; the bytes so far are kept for the next call),
    `CheckpointError` (the length differs from `size`) and `OutputError` (the disk).
    """
    failures = 0
    while True:
        before = _length(path)
        try:
            _continue(url, path, size, progress)
            return
        except _Broken as error:
            failures = 0 if _length(path) > before else failures + 1
            if failures >= TRIES:
                raise ModelNotFound(
                    f"cannot download {url}: {error}", hint="try again: the download resumes where it stopped"
                ) from None
            time.sleep(PAUSE * 2 ** max(failures - 1, 0) if failures else 0)


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _continue(url: str, path: Path, size: int | None, progress: Progress | None) -> None:
    """Download over one connection until the file is complete. Raises `_Broken` if trying again may help."""
    start = _length(path)
    if size is not None and start == size:
        return
    with _open(url, start) as answer:
        if answer is None:  # no bytes after `start`: the local file is complete, or of another file
            if size is None:
                return
            path.unlink()
            raise _Broken("the server does not have the requested range")
        if answer.status != http.client.PARTIAL_CONTENT:
            start = 0
        total = _total(answer, start) or size
        _check_length(url, size, total)
        check_room(path.parent, (total or start) - start)
        _copy(answer, path, start, total, progress)


class _open:
    """Context manager: the response to a request for the bytes from `start` on; None if there are none."""

    def __init__(self, url: str, start: int) -> None:
        headers = {"User-Agent": "liif", "Accept-Encoding": "identity"} | (
            {"Range": f"bytes={start}-"} if start else {}
        )
        self.request = urllib.request.Request(url, headers=headers)
        self.answer: Any = None

    def __enter__(self) -> Any:
        try:
            self.answer = urllib.request.urlopen(self.request, timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise _refusal(self.request.full_url, error) from None
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            raise _Broken(str(getattr(error, "reason", error)) or type(error).__name__) from None
        return self.answer

    def __exit__(self, *_: object) -> None:
        if self.answer is not None:
            self.answer.close()


def _refusal(url: str, error: urllib.error.HTTPError) -> Exception:
    """The error for an HTTP status; a busy server may recover."""
    if error.code in (408, 500, 502, 503, 504):
        return _Broken(f"the server answered {error.code} {error.reason}")
    if error.code == http.client.TOO_MANY_REQUESTS:
        wait = error.headers.get("Retry-After") or ""  # a number, or a date
        return ModelNotFound(
            f"cannot download {url}: too many requests (429)",
            hint=f"try again in {wait if wait.isdigit() else 'a few'} seconds",
        )
    reasons = {401: "login required", 403: "access denied", 404: "not found", 410: "no longer available"}
    return ModelNotFound(f"cannot download {url}: {reasons.get(error.code, error.reason)} ({error.code})")


def _total(answer: Any, start: int) -> int | None:
    """The whole file's length in bytes according to the server."""
    rest = answer.headers.get("Content-Length")
    return start + int(rest) if rest and rest.isdigit() else None


def _check_length(url: str, size: int | None, total: int | None) -> None:
    if total is not None and (total > LARGEST or (size is not None and total != size)):
        expected = f"at most {LARGEST:,}" if size is None else f"{size:,}"
        raise CheckpointError(f"{url} has {total:,} bytes, expected {expected}")


def _copy(answer: Any, path: Path, start: int, total: int | None, progress: Progress | None) -> None:
    done = start
    with _append(path, start) as file:
        while chunk := _read(answer):
            _write(file, chunk, path)
            done += len(chunk)
            if progress:
                progress(done, total)
            if done > LARGEST:
                raise CheckpointError(f"{answer.url} is larger than any checkpoint")
    if total is not None and done < total:
        raise _Broken(f"the connection ended at {done:,} of {total:,} bytes")


def _append(path: Path, start: int) -> BinaryIO:
    try:
        return path.open("ab" if start else "wb")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error


def _read(answer: Any) -> bytes:
    try:
        chunk: bytes = answer.read(CHUNK)
        return chunk
    except (http.client.HTTPException, OSError) as error:
        raise _Broken(str(error) or type(error).__name__) from None


def _write(file: BinaryIO, chunk: bytes, path: Path) -> None:
    try:
        file.write(chunk)
        file.flush()
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}", hint="free some space and try again") from error

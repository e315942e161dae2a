"""Lists, reads and writes objects in stores with fsspec. An object is written completely or not at all.

Exceptions of a store's library become errors of liif, without secrets in their text. Temporary failures (a server that is busy
or broken, a lost connection) are retried.
"""

import glob
import inspect
import os
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar

from liif_cli.errors import InputError, LiifError, OutputError, UsageError
from liif_cli.stores.addresses import WEB, Address, Place, clean

T = TypeVar("T")
PAUSES = (1.0, 3.0, 9.0)
"""Seconds before each retry. The libraries have already retried several times by then."""
IN_MEMORY = 64 * 2**20
"""Objects of up to this many bytes are read into memory; larger ones into a temporary file."""
SINGLY = 4
"""Up to this many outputs are looked up one by one; more are looked up in a single listing."""
WRITABLE = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory")
"""Protocols of stores in which an object is complete or absent, even if its writer is killed."""
LIBRARIES = {"s3": "s3fs", "s3a": "s3fs", "http": "aiohttp", "https": "aiohttp", "gs": "gcsfs", "gcs": "gcsfs"}
LIBRARIES |= {"az": "adlfs", "abfs": "adlfs", "abfss": "adlfs"}
"""The library that fsspec needs for each protocol. (fsspec names it only in the text of an exception.)"""
EXTRA = ("s3fs", "aiohttp")
"""The libraries that the extra `remote` installs."""
FINAL = (
    FileNotFoundError,
    FileExistsError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
    NotImplementedError,
)
"""Exceptions after which a retry is useless."""
Kind = Literal["object", "folder", "none"]


@dataclass(frozen=True)
class Entry:
    """An object in a listing. size: in bytes. version: its ETag, or otherwise its modification time. None: unknown."""

    address: Address
    size: int | None
    version: str | None


class Fetched:
    """A temporary file for a download. It is deleted together with this object."""

    def __init__(self, suffix: str) -> None:
        folder = tempfile.mkdtemp(prefix="liif-")
        self.path = Path(folder) / f"input{suffix}"
        self._remove = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)


def opened(address: Address) -> tuple[Any, str]:
    """The store's fsspec file system, and the path of the address in it. Does not access the network.

    Raises `UsageError` if the library is not installed or the protocol does not exist.
    """
    import fsspec

    try:
        return fsspec.core.url_to_fs(address.full, use_listings_cache=False)  # type: ignore[no-any-return]
    except ImportError as error:
        library = LIBRARIES.get(address.protocol)
        if library is None:
            raise UsageError(f"cannot open {address}: {clean(str(error))}") from None
        needed = "pip install 'liif[remote]'" if library in EXTRA else f"pip install {library}"
        raise UsageError(f"cannot open {address}: {library} is not installed", hint=needed) from None
    except Exception as error:  # the store's library can raise anything
        raise UsageError(f"cannot open {address}: {_reason(error)}") from None


@contextmanager
def _explained(address: Address, kind: type[LiifError], doing: str) -> Iterator[None]:
    """Turn exceptions of a store's library into `kind`, without secrets. The cause, which may contain some, is cut off."""
    try:
        yield
    except LiifError:
        raise
    except FileNotFoundError:
        raise kind(f"cannot {doing} {address}: there is no such object or bucket") from None
    except Exception as error:
        raise kind(f"cannot {doing} {address}: {_reason(error)}", hint=_hint(error)) from None


def _reason(error: Exception) -> str:
    said = clean(" ".join(str(error).split()))
    if isinstance(error, PermissionError):
        return f"access is denied ({said})" if said else "access is denied"
    return said or type(error).__name__


def _hint(error: Exception) -> str | None:
    denied = isinstance(error, PermissionError) or "redential" in type(error).__name__
    return "set the credentials as usual for this store: environment, profile or role" if denied else None


def _with_retries(attempt: Callable[[], T], cancelled: threading.Event | None = None) -> T:
    """The result of `attempt`, which is retried after temporary failures. cancelled: set it to stop retrying."""
    for pause in PAUSES:
        try:
            return attempt()
        except Exception as error:
            if not _is_temporary(error):
                raise
        if cancelled is None:
            time.sleep(pause)
        elif cancelled.wait(pause):
            break
    return attempt()


def _is_temporary(error: Exception) -> bool:
    """Whether a retry may succeed: after status 5xx, 408 or 429, a lost connection, or a timeout."""
    if isinstance(error, (LiifError, *FINAL)):
        return False
    status = getattr(error, "status", None)  # of an aiohttp response
    if isinstance(status, int):
        return status >= 500 or status in (408, 429)
    network = type(error).__module__.partition(".")[0] in ("aiohttp", "botocore", "aiobotocore", "azure", "gcsfs")
    return isinstance(error, OSError | TimeoutError) or (network and "redential" not in type(error).__name__)


@cache
def kind(address: Address) -> Kind:
    """What exists at an address. Cached. A web address is assumed to be an object. Raises `InputError`, `UsageError`."""
    if address.web:
        return "object"
    fs, path = opened(address)
    with _explained(address, InputError, "open"):
        try:
            found = _with_retries(lambda: fs.info(path))
        except FileNotFoundError:
            return "none"
    return "folder" if found["type"] == "directory" else "object"


def is_folder(address: Address) -> bool:
    """Whether an address is a folder. A bucket counts as one. False if the store cannot be accessed."""
    if "/" not in address.path and not address.web:
        return True
    try:
        return kind(address) == "folder"
    except LiifError:
        return False


def is_pattern(address: Address) -> bool:
    """Whether an address has wildcards and is not the name of an object. False for web addresses, which cannot be listed."""
    if address.web or not glob.has_magic(address.path):
        return False
    try:
        return kind(address) == "none"
    except LiifError:
        return True


def matches(pattern: Address) -> tuple[Address, list[Entry]]:
    """The folder before a pattern's first wildcard, and the objects that the pattern matches, sorted. `**` matches any folders.

    Raises `InputError`, `UsageError`.
    """
    parts = pattern.path.split("/")
    first = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    root = replace(pattern, path="/".join(parts[:first]))
    if not root.path:
        raise InputError(f"cannot list {pattern}: the bucket name must not contain wildcards")
    return root, _listed(root, lambda fs, path: fs.glob(f"{path}/{'/'.join(parts[first:])}", detail=True))


def below(folder: Address, recursive: bool) -> list[Entry]:
    """The objects in a folder, sorted by name, from one listing. recursive: include its subfolders.

    Raises `InputError`, `UsageError`.
    """
    depth = None if recursive else 1
    return _listed(folder, lambda fs, path: fs.find(path, maxdepth=depth, detail=True))


def _listed(
    root: Address, ask: Callable[[Any, str], dict[str, Any]], error: type[LiifError] = InputError
) -> list[Entry]:
    fs, path = opened(root)
    with _explained(root, error, "list"):
        found = _with_retries(lambda: ask(fs, path.rstrip("/")))
    start = len(path.strip("/"))
    entries = []
    while found:  # emptied on the way, so that a listing of millions is not held twice
        name, info = found.popitem()
        if info["type"] != "directory":
            entries.append(Entry(root / name.strip("/")[start:].lstrip("/"), info.get("size"), _version(info)))
    return sorted(entries, key=lambda entry: entry.address.path)


def _version(info: dict[str, Any]) -> str | None:
    """An object's ETag, or otherwise its modification time."""
    for name in ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "updated", "mtime", "created"):
        if info.get(name):
            return str(info[name]).strip('"')
    return None


def entry(address: Address) -> Entry:
    """The entry of one object. Raises `InputError` if it does not exist, and `UsageError`."""
    fs, path = opened(address)
    with _explained(address, InputError, "read"):
        info = _with_retries(lambda: fs.info(path))
    return Entry(address, info.get("size"), _version(info))


def existing(places: Iterable[Place]) -> set[Place]:
    """The places at which something exists. Many objects are looked up in a single listing of their common folder.

    Raises `OutputError`, `UsageError`.
    """
    places = list(places)
    found: set[Place] = {place for place in places if isinstance(place, Path) and place.exists()}
    stores: dict[tuple[str, str], list[Address]] = {}
    for place in places:
        if isinstance(place, Address):
            stores.setdefault((place.protocol, place.path.partition("/")[0]), []).append(place)
    for asked in stores.values():
        found |= {each for each in asked if exists(each)} if len(asked) <= SINGLY else _in_listing(asked)
    return found


def exists(address: Address) -> bool:
    """Whether the object exists. Raises `OutputError`, `UsageError`."""
    fs, path = opened(address)
    with _explained(address, OutputError, "look for"):
        return bool(_with_retries(lambda: fs.exists(path)))


def _in_listing(asked: list[Address]) -> set[Address]:
    common = os.path.commonpath([PurePosixPath(each.parent.path) for each in asked])
    root = replace(asked[0].parent, path=PurePosixPath(common).as_posix())
    try:
        there = {each.address.path for each in _listed(root, lambda fs, path: fs.find(path, detail=True), OutputError)}
    except OutputError as error:
        raise OutputError(str(error), hint=error.hint, remedy="unlisted") from None
    return {each for each in asked if each.path in there}


def fetch(address: Address, size: int | None = None) -> bytes | Fetched:
    """Download an object: as bytes, or as a temporary file if it has more than `IN_MEMORY` bytes. size: in bytes, if known.

    Raises `InputError`, `UsageError`.
    """
    fs, path = opened(address)
    with _explained(address, InputError, "read"):
        if size is not None and size <= IN_MEMORY:
            return bytes(_with_retries(lambda: fs.cat_file(path, **_in_one_request(fs))))
        file = Fetched(address.suffix)
        _with_retries(lambda: fs.get_file(path, str(file.path)))
        return file.path.read_bytes() if file.path.stat().st_size <= IN_MEMORY else file


class ObjectFile:
    """Context manager: a temporary file that is uploaded if the block succeeds, and deleted in any case.

    The object appears when the upload is complete, and an existing object stays until then: stores replace it at the end, and
    a multipart upload that fails or is cancelled is aborted. Without `overwrite`, the store itself refuses an existing name; an
    existing object with the same bytes counts as written. cancelled: set it to stop the upload soon. Raises `OutputError`,
    `UsageError`.
    """

    def __init__(self, address: Address, overwrite: bool = False, cancelled: threading.Event | None = None) -> None:
        self.address, self.overwrite = address, overwrite
        self.cancelled = cancelled or threading.Event()

    def __enter__(self) -> Path:
        self._fs, self._path = opened(self.address)
        self._folder = tempfile.TemporaryDirectory(prefix="liif-", ignore_cleanup_errors=True)
        self.temporary = Path(self._folder.name) / f"output{self.address.suffix}"
        return self.temporary

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._folder:
            if kind is None:
                with _explained(self.address, OutputError, "write"):
                    self._upload()

    def _upload(self) -> None:
        try:
            _with_retries(self._put, self.cancelled)
        except FileExistsError:
            if not self._is_same():
                raise OutputError(f"{self.address} exists", remedy="overwrite") from None

    def _put(self) -> None:
        if self.cancelled.is_set():
            raise OutputError(f"cannot write {self.address}: interrupted")
        how = _exclusively(self._fs) if not self.overwrite else _replacing(self._fs)
        self._fs.put_file(str(self.temporary), self._path, callback=_stopper(self.cancelled), **how)

    def _is_same(self) -> bool:
        """Whether the existing object has the same bytes, by the ETag of a single-part upload.

        This happens if the response to an upload of ours was lost.
        """
        import hashlib

        with self.temporary.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        return (_version(self._fs.info(self._path)) or "") == digest


def _in_one_request(fs: Any) -> dict[str, Any]:
    """Arguments that make a file system read an object in one request, without asking for its size first."""
    return {"max_concurrency": 1} if "max_concurrency" in _parameters(fs, "cat_file") else {}


def _parameters(fs: Any, method: str = "put_file") -> Any:
    return inspect.signature(getattr(fs, f"_{method}", None) or getattr(fs, method)).parameters


def _exclusively(fs: Any) -> dict[str, Any]:
    """Arguments that make a file system refuse an existing name. Raises `OutputError` if it cannot."""
    known = _parameters(fs)
    if "mode" in known:
        return {"mode": "create"}
    if "overwrite" in known:
        return {"overwrite": False}
    raise OutputError("the store's library cannot protect existing objects", remedy="overwrite")


def _replacing(fs: Any) -> dict[str, Any]:
    return {"overwrite": True} if "overwrite" in _parameters(fs) else {}


def _stopper(cancelled: threading.Event) -> Any:
    """A callback that ends an unfinished upload when `cancelled` is set."""
    from fsspec.callbacks import Callback

    class Stopper(Callback):  # type: ignore[misc]
        def call(self, *_: Any, **__: Any) -> None:
            if cancelled.is_set() and self.size is not None and self.value < self.size:
                raise OutputError("the upload was interrupted")

    return Stopper()


def check_writable(address: Address) -> None:
    """Check an output before any work. Raises `UsageError` if it cannot be an object or the store's library is not installed.

    Raises `OutputError` if the library cannot protect existing objects.
    """
    check_store(address)
    if not address.name:
        raise UsageError(f"cannot write to {address}: it is a bucket", hint=f"{address}/NAME.png", argument="output")
    _exclusively(opened(address)[0])


def check_store(address: Address) -> None:
    """Raises `UsageError` if the store cannot be written to, or does not write objects atomically."""
    if address.protocol not in WRITABLE:
        why = "web addresses are read-only" if address.protocol in WEB else "its objects are not written atomically"
        raise UsageError(
            f"cannot write to {address}: {why}", hint="use a file, or an address of s3, gs or az", argument="output"
        )

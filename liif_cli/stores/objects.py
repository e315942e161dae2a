"""Objects in stores, by fsspec: listed, read whole, and written whole or not at all.

What a store's library raises becomes an error of ours whose text holds no secret; what passes (a server that is busy or
broken, a connection that is lost) is tried again.
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
"""Seconds before each further attempt. The libraries have already tried several times by then."""
IN_MEMORY = 64 * 2**20
"""Objects up to this number of bytes are read into memory, larger ones into a temporary file."""
SINGLY = 4
"""Up to this number of outputs are looked up one by one; more are looked up in one listing."""
WRITABLE = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory")
"""Stores in which an object is there whole or not at all, whenever a writer dies."""
LIBRARIES = {"s3": "s3fs", "s3a": "s3fs", "http": "aiohttp", "https": "aiohttp", "gs": "gcsfs", "gcs": "gcsfs"}
LIBRARIES |= {"az": "adlfs", "abfs": "adlfs", "abfss": "adlfs"}
"""What fsspec asks for by protocol; it does not say so in a way that can be read."""
EXTRA = ("s3fs", "aiohttp")
"""What the extra `remote` installs."""
FINAL = (
    FileNotFoundError,
    FileExistsError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
    NotImplementedError,
)
"""What another attempt does not change."""
Kind = Literal["object", "folder", "none"]


@dataclass(frozen=True)
class Entry:
    """An object that a listing told of. size: in bytes. version: its ETag, otherwise when it was last changed."""

    address: Address
    size: int | None
    version: str | None


class Fetched:
    """A temporary file, to be filled, that is there as long as this object."""

    def __init__(self, suffix: str) -> None:
        folder = tempfile.mkdtemp(prefix="liif-")
        self.path = Path(folder) / f"input{suffix}"
        self._remove = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)


def opened(address: Address) -> tuple[Any, str]:
    """The store's fsspec filesystem, and the address as that writes it. Asks no network.

    Raises `UsageError` if its library is not installed or there is no such protocol.
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
    except Exception as error:  # whatever its library objects to
        raise UsageError(f"cannot open {address}: {_reason(error)}") from None


@contextmanager
def _explained(address: Address, kind: type[LiifError], doing: str) -> Iterator[None]:
    """What a store's library raises becomes `kind`, without its secrets. The cause is cut off, which may hold them, too."""
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
    return "credentials come from the store's own settings: environment, profile or role" if denied else None


def _patiently(attempt: Callable[[], T], cancelled: threading.Event | None = None) -> T:
    """What `attempt` returns; it is retried if it failed for a temporary reason."""
    for pause in PAUSES:
        try:
            return attempt()
        except Exception as error:
            if not _passes(error):
                raise
        if cancelled is None:
            time.sleep(pause)
        elif cancelled.wait(pause):
            break
    return attempt()


def _passes(error: Exception) -> bool:
    """Whether another attempt may succeed: after a server's 5xx or 429, a lost connection, a timeout."""
    if isinstance(error, (LiifError, *FINAL)):
        return False
    status = getattr(error, "status", None)  # of aiohttp's answers
    if isinstance(status, int):
        return status >= 500 or status in (408, 429)
    network = type(error).__module__.partition(".")[0] in ("aiohttp", "botocore", "aiobotocore", "azure", "gcsfs")
    return isinstance(error, OSError | TimeoutError) or (network and "redential" not in type(error).__name__)


@cache
def kind(address: Address) -> Kind:
    """What is at an address. Asked once. A web address is taken for an object. Raises `InputError`, `UsageError`."""
    if address.web:
        return "object"
    fs, path = opened(address)
    with _explained(address, InputError, "open"):
        try:
            found = _patiently(lambda: fs.info(path))
        except FileNotFoundError:
            return "none"
    return "folder" if found["type"] == "directory" else "object"


def is_folder(address: Address) -> bool:
    """Whether objects lie below an address. A bucket counts as one; what cannot be asked does not."""
    if "/" not in address.path and not address.web:
        return True
    try:
        return kind(address) == "folder"
    except LiifError:
        return False


def is_pattern(address: Address) -> bool:
    """Whether an address has wildcards and is no object's own name. Web addresses have none: they cannot be listed."""
    if address.web or not glob.has_magic(address.path):
        return False
    try:
        return kind(address) == "none"
    except LiifError:
        return True


def matches(pattern: Address) -> tuple[Address, list[Entry]]:
    """The folder that a pattern starts from, and the objects that it matches, by name. `**` stands for any folders.

    Raises `InputError`, `UsageError`.
    """
    parts = pattern.path.split("/")
    first = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    root = replace(pattern, path="/".join(parts[:first]))
    if not root.path:
        raise InputError(f"cannot list {pattern}: the bucket is to be named in full")
    return root, _listed(root, lambda fs, path: fs.glob(f"{path}/{'/'.join(parts[first:])}", detail=True))


def below(folder: Address, recursive: bool) -> list[Entry]:
    """The objects in a folder, by name; with those of its folders. One listing. Raises `InputError`, `UsageError`."""
    depth = None if recursive else 1
    return _listed(folder, lambda fs, path: fs.find(path, maxdepth=depth, detail=True))


def _listed(
    root: Address, ask: Callable[[Any, str], dict[str, Any]], error: type[LiifError] = InputError
) -> list[Entry]:
    fs, path = opened(root)
    with _explained(root, error, "list"):
        found = _patiently(lambda: ask(fs, path.rstrip("/")))
    start = len(path.strip("/"))
    entries = []
    while found:  # a listing of millions is not held twice
        name, info = found.popitem()
        if info["type"] != "directory":
            entries.append(Entry(root / name.strip("/")[start:].lstrip("/"), info.get("size"), _version(info)))
    return sorted(entries, key=lambda entry: entry.address.path)


def _version(info: dict[str, Any]) -> str | None:
    """An object's ETag, otherwise when it was changed."""
    for name in ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "updated", "mtime", "created"):
        if info.get(name):
            return str(info[name]).strip('"')
    return None


def entry(address: Address) -> Entry:
    """One object, looked up. Raises `InputError` if there is none, `UsageError`."""
    fs, path = opened(address)
    with _explained(address, InputError, "read"):
        info = _patiently(lambda: fs.info(path))
    return Entry(address, info.get("size"), _version(info))


def existing(places: Iterable[Place]) -> set[Place]:
    """Those of the places where something is. Objects are looked up in one listing of what they have in common.

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
    """Whether there is an object. Raises `OutputError`, `UsageError`."""
    fs, path = opened(address)
    with _explained(address, OutputError, "look for"):
        return bool(_patiently(lambda: fs.exists(path)))


def _in_listing(asked: list[Address]) -> set[Address]:
    common = os.path.commonpath([PurePosixPath(each.parent.path) for each in asked])
    root = replace(asked[0].parent, path=PurePosixPath(common).as_posix())
    try:
        there = {each.address.path for each in _listed(root, lambda fs, path: fs.find(path, detail=True), OutputError)}
    except OutputError as error:
        raise OutputError(str(error), hint=error.hint, remedy="unlisted") from None
    return {each for each in asked if each.path in there}


def fetch(address: Address, size: int | None = None) -> bytes | Fetched:
    """All of an object: its bytes, or a temporary file if it is large or of unknown size. Raises `InputError`, `UsageError`."""
    fs, path = opened(address)
    with _explained(address, InputError, "read"):
        if size is not None and size <= IN_MEMORY:
            return bytes(_patiently(lambda: fs.cat_file(path, **_in_one_request(fs))))
        file = Fetched(address.suffix)
        _patiently(lambda: fs.get_file(path, str(file.path)))
        return file.path.read_bytes() if file.path.stat().st_size <= IN_MEMORY else file


class ObjectFile:
    """Context manager: a temporary file that becomes an object on a clean exit and is removed on any other.

    The object is there once all of it has arrived, and what was there before stays until then: stores put one in place at
    the end, and an upload in parts that fails or is cancelled is taken back. Without `overwrite` the store itself refuses a
    name that is taken; an object with the very bytes counts as written. cancelled: when set, the upload ends soon. Raises
    `OutputError`, `UsageError`.
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
            _patiently(self._put, self.cancelled)
        except FileExistsError:
            if not self._is_same():
                raise OutputError(f"{self.address} exists", remedy="overwrite") from None

    def _put(self) -> None:
        if self.cancelled.is_set():
            raise OutputError(f"cannot write {self.address}: interrupted")
        how = _exclusively(self._fs) if not self.overwrite else _replacing(self._fs)
        self._fs.put_file(str(self.temporary), self._path, callback=_stopper(self.cancelled), **how)

    def _is_same(self) -> bool:
        """Whether what is there has these bytes, by the ETag of an upload in one part: a lost answer to our own upload."""
        import hashlib

        with self.temporary.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        return (_version(self._fs.info(self._path)) or "") == digest


def _in_one_request(fs: Any) -> dict[str, Any]:
    """How a filesystem is told not to ask for an object's size first, in order to read it in parts."""
    return {"max_concurrency": 1} if "max_concurrency" in _parameters(fs, "cat_file") else {}


def _parameters(fs: Any, method: str = "put_file") -> Any:
    return inspect.signature(getattr(fs, f"_{method}", None) or getattr(fs, method)).parameters


def _exclusively(fs: Any) -> dict[str, Any]:
    """How a filesystem is told to refuse a name that is taken. Raises `OutputError` if it cannot be."""
    known = _parameters(fs)
    if "mode" in known:
        return {"mode": "create"}
    if "overwrite" in known:
        return {"overwrite": False}
    raise OutputError("its library cannot refuse to replace an object", remedy="overwrite")


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
    """Before any work: `UsageError` if no object can be written there, or its library is not installed."""
    check_store(address)
    if not address.name:
        raise UsageError(f"cannot write to {address}: it is a bucket", hint=f"{address}/NAME.png", argument="output")
    _exclusively(opened(address)[0])


def check_store(address: Address) -> None:
    """Raises `UsageError` if such a store takes no objects that are whole or not there."""
    if address.protocol not in WRITABLE:
        why = "the web is read-only" if address.protocol in WEB else "an object there could be seen half written"
        raise UsageError(
            f"cannot write to {address}: {why}", hint="a file, or an address of s3, gs or az", argument="output"
        )

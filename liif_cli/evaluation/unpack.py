"""Extracts images from untrusted archives."""

import errno
import gzip
import os
import re
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

from liif_cli.errors import CheckpointError, LiifError, OutputError
from liif_cli.images.formats.table import SUFFIXES

MOST_BYTES = 8 * 2**30
MOST_FILES = 20_000
MOST_HEADER = 2**20
_NAME = re.compile(r"\w[\w .()+-]*")


def unpack_images(archive: Path, folder: Path) -> None:
    """Extract the images of a .tar.gz or .zip into the new folder `folder`, without subfolders; all of them or none.

    Only regular files with an image suffix are written, under the last part of their path; hidden files are skipped.
    Raises `CheckpointError` for a damaged archive, and for one that contains a path outside the folder, a link, a device, two
    files of the same name, more than 8 GiB or more than 20,000 files; `OutputError` if the disk cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=folder.parent) as temporary:
            inside = Path(temporary) / "images"
            inside.mkdir()
            _unpack(archive, inside)
            _move(inside, folder)
    except OSError as error:
        raise OutputError(f"cannot unpack {archive.name} into {folder}: {error.strerror or error}") from error


def _move(inside: Path, folder: Path) -> None:
    try:
        inside.replace(folder)
    except OSError:
        if not folder.is_dir():  # otherwise another process was faster, with the same images
            raise


def _unpack(archive: Path, folder: Path) -> None:
    total = 0
    try:
        for number, (name, size, source) in enumerate(_members(archive)):
            total += size
            if total > MOST_BYTES or number >= MOST_FILES:
                raise _unsafe(archive, f"contains more than {MOST_BYTES >> 30} GiB or {MOST_FILES:,} files")
            target = folder / _plain_name(archive, name)
            if target.exists():
                raise _unsafe(archive, f"contains two files called {target.name}")
            with target.open("xb") as file:
                shutil.copyfileobj(source, file)
    except (LiifError, MemoryError):
        raise
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # EINVAL: the damaged archive made the reader seek before its start
            raise
        raise CheckpointError(f"{archive.name} is damaged: {error}") from error
    except Exception as error:  # the decompressors of tarfile and zipfile raise anything on damage
        raise CheckpointError(f"{archive.name} is damaged: {error}") from error
    if not any(folder.iterdir()):
        raise CheckpointError(f"{archive.name} contains no images")


def _members(archive: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    """(name, size, contents) of every image. Every member of the archive is checked."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as bundle:
            for entry in bundle.infolist():
                kind = stat.S_IFMT(entry.external_attr >> 16)
                if _wanted(archive, entry.filename, entry.is_dir(), kind in (0, stat.S_IFREG, stat.S_IFDIR)):
                    with bundle.open(entry) as source:
                        yield entry.filename, entry.file_size, source
        return
    with gzip.open(archive) as stream, tarfile.open(fileobj=cast(IO[bytes], _Bounded(stream)), mode="r:") as tape:
        total = 0
        for number, member in enumerate(tape):
            total += member.size
            if total > MOST_BYTES or number >= 4 * MOST_FILES:  # skipped members are decompressed, too
                raise _unsafe(archive, f"contains more than {MOST_BYTES >> 30} GiB or {4 * MOST_FILES:,} entries")
            if _wanted(archive, member.name, member.isdir(), member.isfile() or member.isdir()):
                contents = tape.extractfile(member)
                assert contents is not None
                yield member.name, member.size, contents


@dataclass(frozen=True)
class _Bounded:
    """A stream that limits single reads by tarfile: a few compressed bytes can be a header of gigabytes."""

    stream: gzip.GzipFile

    def read(self, size: int = -1) -> bytes:
        """Raises `tarfile.ReadError` for more than `MOST_HEADER` bytes."""
        if not 0 <= size <= MOST_HEADER:
            raise tarfile.ReadError(f"it has a header of {size:,} bytes")
        return self.stream.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        """See the stream's `seek`."""
        return self.stream.seek(offset, whence)

    def tell(self) -> int:
        """See the stream's `tell`."""
        return self.stream.tell()


def _wanted(archive: Path, name: str, is_folder: bool, is_plain: bool) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    if not is_plain:
        raise _unsafe(archive, f"contains {name!r}, which is neither a file nor a folder")
    if path.is_absolute() or ".." in path.parts or re.match("[A-Za-z]:", name):
        raise _unsafe(archive, f"contains {name!r}, a path outside the folder")
    return not is_folder and path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _plain_name(archive: Path, name: str) -> str:
    last = PurePosixPath(name.replace("\\", "/")).name
    if not _NAME.fullmatch(last) or len(os.fsencode(last)) > 200:
        raise _unsafe(archive, f"contains {name!r}, a name that is not valid on every system")
    return last


def _unsafe(archive: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{archive.name} {reason}; nothing was unpacked")

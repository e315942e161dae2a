"""Finds the input images of a command: files, objects, folders, patterns and standard input, in order of their names."""

import glob
import os
import re
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

from liif_cli.errors import InputError, LiifError, UsageError
from liif_cli.images.formats.table import SUFFIXES
from liif_cli.images.source import Source as Content
from liif_cli.stores import objects
from liif_cli.stores.addresses import Address, Place, is_address, is_safe, local

STDIN = "-"
OUTPUT_NAME = re.compile(r"(?P<stem>.+?)(?:_compared)?_(?:[\d.]+x|[\d.]+x[\d.]+x|\d+x\d+)")
"""Stems of outputs that were written next to their inputs (`output_names.Naming`)."""


@dataclass(frozen=True)
class Source:
    """An input image.

    path: the file or object; None for standard input. inside: its folder, relative to the folder argument in which it was
    found. found: whether it was found in a folder or by a pattern, not named by the user. entry: from a store's listing.
    """

    path: Place | None
    inside: Path = Path()
    found: bool = False
    entry: objects.Entry | None = field(default=None, compare=False, repr=False)
    _kept: bytes | Content | None = field(default=None, init=False, compare=False, repr=False)

    @property
    def remote(self) -> bool:
        """Whether it is in a store. If so, it is read only when it is to be processed."""
        return isinstance(self.path, Address)

    @property
    def name(self) -> str:
        """Its name in messages."""
        return STDIN if self.path is None else str(self.path)

    @property
    def stem(self) -> str:
        """The stem for the names of its outputs."""
        return "stdin" if self.path is None else self.path.stem

    @property
    def suffix(self) -> str:
        """The suffix without its dot, in lower case; empty for standard input."""
        return "" if self.path is None else self.path.suffix.removeprefix(".").lower()

    def fetched(self) -> "Source":
        """A copy that holds the downloaded object; the source itself if it is not in a store.

        The download is deleted together with the copy. Raises `InputError`, `UsageError`.
        """
        if not isinstance(self.path, Address):
            return self
        content = objects.fetch(self.path, self.entry.size if self.entry else None)
        here = Source(self.path, self.inside, self.found, self.entry)
        label, held = self.name, content if isinstance(content, objects.Fetched) else None
        given = content.path if isinstance(content, objects.Fetched) else content
        object.__setattr__(here, "_kept", Content(given, label, held))
        return here

    def read(self) -> Path | bytes | Content:
        """The file's path, or the content of standard input, of a pipe or of an object. The content is kept for the next call.

        Raises `UsageError` if standard input is a terminal or closed, and `InputError`.
        """
        if isinstance(self.path, Address):
            return self._kept or self.fetched()._kept or b""
        if self.path is not None and not self._is_pipe(self.path):
            return self.path
        if self._kept is None and self.path is not None:
            object.__setattr__(self, "_kept", self._all(self.path))
        if self._kept is None:
            if sys.stdin is None or sys.stdin.isatty():
                raise UsageError("standard input is not an image", hint="name a file, or redirect one: ... < in.png")
            object.__setattr__(self, "_kept", sys.stdin.buffer.read())
        assert self._kept is not None
        return self._kept

    @staticmethod
    def _is_pipe(path: Path) -> bool:
        """Whether the file can be read only once, such as `<(...)` and /dev/stdin. Raises `InputError` for a device."""
        try:
            mode = path.stat().st_mode
        except (OSError, ValueError):
            return False  # opening it raises the error
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            raise InputError(f"{path} is a device, not an image", hint="use - to read standard input")
        return stat.S_ISFIFO(mode)

    @staticmethod
    def _all(path: Path) -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from error


def expand(
    arguments: Sequence[str], recursive: bool = False, without: Place | None = None
) -> tuple[list[Source], list[tuple[str, LiifError]]]:
    """The images given by `arguments`, each file once, and (argument, error) for each that failed.

    An argument is a file, a folder (meaning its images, with subfolders if `recursive`), a pattern with `*`, `?`, `[...]` or
    `**` (for shells that do not expand them), the address of any of these in a store, or `-`. without: a folder to leave out,
    because outputs are written there. Hidden files are included only if they are named. Raises `UsageError` for a second `-`.
    """
    if list(arguments).count(STDIN) > 1:
        raise UsageError("standard input can be read only once")
    sources: dict[str, Source] = {}
    failures = list[tuple[str, LiifError]]()
    for argument in arguments:
        try:
            for source in _expand(local(argument), recursive, without, failures):
                sources.setdefault(_key(source.path), source)
        except InputError as error:
            failures.append((called(argument), error))
    return list(sources.values()), failures


def _key(path: Place | None) -> str:
    if path is None:
        return STDIN
    return path.full if isinstance(path, Address) else os.path.normcase(os.path.realpath(path))


def called(argument: str) -> str:
    """An argument's name in messages: an address without its secrets."""
    return str(Address.parse(argument)) if is_address(argument) else argument


def without_outputs(sources: Sequence[Source]) -> tuple[list[Source], list[Source]]:
    """The sources to process, and those left out: found files that are named like outputs, at any scale, of other sources."""
    inputs = {(source.path.parent, source.stem) for source in sources if source.path is not None}
    inputs |= {(folder, f"{stem}_{suffix}") for folder, stem, suffix in _parts(sources)}
    kept, left_out = list[Source](), list[Source]()
    for source in sources:
        made = OUTPUT_NAME.fullmatch(source.stem) if source.found else None
        is_output = made is not None and source.path is not None and (source.path.parent, made["stem"]) in inputs
        (left_out if is_output else kept).append(source)
    return kept, left_out


def _parts(sources: Sequence[Source]) -> Iterator[tuple[Place, str, str]]:
    for source in sources:
        if source.path is not None:
            yield source.path.parent, source.stem, source.suffix


def is_many(argument: str) -> bool:
    """Whether an argument can mean several images: a folder or a pattern."""
    if is_address(argument):
        address = Address.parse(argument)
        return not address.web and (objects.is_pattern(address) or objects.is_folder(address))
    argument = local(argument)
    return argument != STDIN and (Path(argument).is_dir() or _is_pattern(argument))


def _is_pattern(argument: str) -> bool:
    return glob.has_magic(argument) and not Path(argument).exists()


def _expand(
    argument: str, recursive: bool, without: Place | None, failures: list[tuple[str, LiifError]]
) -> Iterator[Source]:
    """The sources of one argument. Found files that cannot be used are added to `failures`. Raises `InputError`."""
    without_here = without if isinstance(without, Path) else None
    if argument == STDIN:
        yield Source(None)
    elif is_address(argument):
        yield from _stored(Address.parse(argument), recursive, without, failures)
    elif _is_pattern(argument):
        yield from _matches(argument)
    elif Path(argument).is_dir():
        yield from _folder(Path(argument), recursive, without_here)
    elif Path(argument).exists():
        yield Source(Path(argument))
    else:
        raise _missing(argument)


def _missing(argument: str) -> InputError:
    """An error for an argument that is not a file, with a similar name that may have been meant."""
    folder, name = Path(argument).parent, Path(argument).name
    try:
        there = [each.name for each in folder.iterdir() if each.is_dir() or each.suffix.lower() in SUFFIXES]
    except OSError:
        return InputError(f"{argument} does not exist", hint=f"there is no folder {folder}")
    same = [each for each in there if Path(each).stem == Path(name).stem]
    near = same or get_close_matches(name, there, n=1, cutoff=0.8)
    return InputError(f"{argument} does not exist", hint=f"did you mean {folder / near[0]}?" if near else None)


def _stored(
    address: Address, recursive: bool, without: Place | None, failures: list[tuple[str, LiifError]]
) -> Iterator[Source]:
    """The images given by an address. The folders below a pattern's first wildcard are kept, like those inside a folder."""
    if address.web:
        objects.opened(address)  # raises if its library is missing
        yield Source(address)
    elif objects.is_pattern(address):
        root, entries = objects.matches(address)
        yield from _found(root, entries, without, failures, f"no object matches {address}")
    elif objects.is_folder(address):
        entries = [each for each in objects.below(address, recursive) if each.address.suffix.lower() in SUFFIXES]
        yield from _found(address, entries, without, failures, f"no images in {address}", remedy="recursive")
    elif objects.kind(address) == "object":
        yield Source(address, entry=objects.entry(address))
    else:
        raise InputError(f"{address} does not exist")


def _found(
    root: Address,
    entries: Sequence[objects.Entry],
    without: Place | None,
    failures: list[tuple[str, LiifError]],
    nothing: str,
    remedy: str | None = None,
) -> Iterator[Source]:
    """Sources for the objects found below `root`, except hidden ones, outputs and folder markers. Raises `InputError`."""
    outputs, some = f"{without.path}/" if isinstance(without, Address) else None, False
    for entry in entries:
        inside = entry.address.path[len(root.path) + 1 :]
        if any(part.startswith(".") and part.strip(".") for part in inside.split("/")) or inside.endswith("/"):
            continue
        if outputs is not None and entry.address.path.startswith(outputs):
            continue
        some = True
        if not is_safe(inside):
            failures.append((str(entry.address), InputError(f"the name of {entry.address} is not a safe path")))
            continue
        yield Source(entry.address, Path(PurePosixPath(inside).parent), True, entry)
    if not some:
        raise InputError(nothing, remedy=remedy)


def _matches(pattern: str) -> Iterator[Source]:
    found = [Path(name) for name in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207 (Path.glob wants a base)
    files = [path for path in found if path.is_file()]
    if not files:
        raise InputError(f"no file matches {pattern}")
    yield from (Source(path, found=True) for path in files)


def _folder(folder: Path, recursive: bool, without: Path | None) -> Iterator[Source]:
    files = list(_walk(folder, recursive, None if without is None else without.resolve()))
    if not files:
        deeper = not recursive and any(path.is_dir() for path in folder.iterdir())
        raise InputError(f"no images in {folder}", remedy="recursive" if deeper else None)
    yield from (Source(path, path.parent.relative_to(folder), found=True) for path in files)


def _walk(folder: Path, recursive: bool, without: Path | None) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"cannot read the folder {folder}: {error.strerror}") from error
    entries = [path for path in entries if not path.name.startswith(".")]
    yield from (path for path in entries if path.suffix.lower() in SUFFIXES and path.is_file())
    for inner in entries if recursive else ():
        if inner.is_dir() and not inner.is_symlink() and inner.resolve() != without:
            yield from _walk(inner, recursive, without)

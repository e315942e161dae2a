"""Which images a command is to work on: files, folders, patterns and standard input, in the order of their names."""

import glob
import os
import re
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from liif_cli.errors import InputError, UsageError
from liif_cli.images.formats.table import SUFFIXES

STDIN = "-"
OUTPUT_NAME = re.compile(r"(?P<stem>.+?)(?:_compared)?_(?:[\d.]+x|[\d.]+x[\d.]+x|\d+x\d+)")
"""The stems that outputs get next to their inputs (`output_names.Naming`)."""


@dataclass(frozen=True)
class Source:
    """One image to read.

    path: the file, None for standard input. inside: its folder, relative to the folder argument it was found under.
    found: in a folder or by a pattern, not named by the user.
    """

    path: Path | None
    inside: Path = Path()
    found: bool = False
    _kept: bytes | None = field(default=None, init=False, compare=False, repr=False)

    @property
    def name(self) -> str:
        """What to call it."""
        return STDIN if self.path is None else str(self.path)

    @property
    def stem(self) -> str:
        """For the names of outputs."""
        return "stdin" if self.path is None else self.path.stem

    @property
    def suffix(self) -> str:
        """Without its dot, in lower case; empty for standard input."""
        return "" if self.path is None else self.path.suffix.removeprefix(".").lower()

    def read(self) -> Path | bytes:
        """The file, or all that standard input gave, which is kept. Raises `UsageError` if that is a terminal or closed."""
        if self.path is not None and not self._is_pipe(self.path):
            return self.path
        if self._kept is None and self.path is not None:
            object.__setattr__(self, "_kept", self._all(self.path))
        if self._kept is None:
            if sys.stdin is None or sys.stdin.isatty():
                raise UsageError("standard input is not an image", hint="name a file, or send one: ... < in.png")
            object.__setattr__(self, "_kept", sys.stdin.buffer.read())
        assert self._kept is not None
        return self._kept

    @staticmethod
    def _is_pipe(path: Path) -> bool:
        """Whether the file can be read only once, as `<(...)` and /dev/stdin. Raises `InputError` for a device."""
        try:
            mode = path.stat().st_mode
        except (OSError, ValueError):
            return False  # said when it is opened
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            raise InputError(f"{path} is a device, not an image", hint="- reads standard input")
        return stat.S_ISFIFO(mode)

    @staticmethod
    def _all(path: Path) -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}") from error


def expand(
    arguments: Sequence[str], recursive: bool = False, without: Path | None = None
) -> tuple[list[Source], list[tuple[str, InputError]]]:
    """The images that `arguments` stand for, each file once, and what went wrong with which argument.

    An argument is a file, a folder (its images; those of its folders too when `recursive`), a pattern with `*`, `?`, `[...]`
    or `**` (for shells that expand none), or `-`. without: a folder that is left out, since outputs go there. Hidden files
    are only taken when they are named. Raises `UsageError` for a second `-`.
    """
    if list(arguments).count(STDIN) > 1:
        raise UsageError("standard input can be read only once")
    sources: dict[str, Source] = {}
    failures = []
    for argument in arguments:
        try:
            for source in _expand(argument, recursive, without):
                key = source.name if source.path is None else os.path.normcase(os.path.realpath(source.path))
                sources.setdefault(key, source)
        except InputError as error:
            failures.append((argument, error))
    return list(sources.values()), failures


def without_outputs(sources: Sequence[Source]) -> tuple[list[Source], list[Source]]:
    """`sources`, and those left out of them: found ones that are named like outputs of others among them, at any scale."""
    inputs = {(source.path.parent, source.stem) for source in sources if source.path is not None}
    inputs |= {(folder, f"{stem}_{suffix}") for folder, stem, suffix in _parts(sources)}
    kept, left_out = list[Source](), list[Source]()
    for source in sources:
        made = OUTPUT_NAME.fullmatch(source.stem) if source.found else None
        is_output = made is not None and source.path is not None and (source.path.parent, made["stem"]) in inputs
        (left_out if is_output else kept).append(source)
    return kept, left_out


def _parts(sources: Sequence[Source]) -> Iterator[tuple[Path, str, str]]:
    for source in sources:
        if source.path is not None:
            yield source.path.parent, source.stem, source.suffix


def is_many(argument: str) -> bool:
    """Whether an argument may stand for several images, whatever is there now."""
    return argument != STDIN and (Path(argument).is_dir() or _is_pattern(argument))


def _is_pattern(argument: str) -> bool:
    return glob.has_magic(argument) and not Path(argument).exists()


def _expand(argument: str, recursive: bool, without: Path | None) -> Iterator[Source]:
    if argument == STDIN:
        yield Source(None)
    elif _is_pattern(argument):
        yield from _matches(argument)
    elif Path(argument).is_dir():
        yield from _folder(Path(argument), recursive, without)
    elif Path(argument).exists():
        yield Source(Path(argument))
    else:
        raise _missing(argument)


def _missing(argument: str) -> InputError:
    """That an argument is no file, and what may have been meant: a download, or a file of nearly that name."""
    if re.match(r"[a-z][a-z0-9+.-]+://", argument, re.IGNORECASE):
        return InputError(
            f"{argument} is a URL, and images are read from files", hint="download it first", remedy="url"
        )
    folder, name = Path(argument).parent, Path(argument).name
    try:
        there = [each.name for each in folder.iterdir() if each.is_dir() or each.suffix.lower() in SUFFIXES]
    except OSError:
        return InputError(f"{argument} does not exist", hint=f"there is no folder {folder}")
    same = [each for each in there if Path(each).stem == Path(name).stem]
    near = same or get_close_matches(name, there, n=1, cutoff=0.8)
    return InputError(f"{argument} does not exist", hint=f"did you mean {folder / near[0]}?" if near else None)


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
        raise InputError(f"the folder {folder} cannot be read: {error.strerror}") from error
    entries = [path for path in entries if not path.name.startswith(".")]
    yield from (path for path in entries if path.suffix.lower() in SUFFIXES and path.is_file())
    for inner in entries if recursive else ():
        if inner.is_dir() and not inner.is_symlink() and inner.resolve() != without:
            yield from _walk(inner, recursive, without)

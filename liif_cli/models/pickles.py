"""Checks what a pickle would build without building it: a few bytes may expand to more values than fit into memory."""

import io
import pickletools
import zipfile
from pathlib import Path
from typing import Any

from liif_cli.errors import CheckpointError

MAX_PICKLE = 4 * 2**20
"""The most bytes of a checkpoint's pickles, without tensor data; RDN-LIIF with Adam's state has 0.2 MB."""
MAX_VALUES = 2**20
"""The most values that a pickle may expand to, each counted as often as it is referenced."""
MAX_DEPTH = 100
"""The deepest nesting of values; a value that contains itself is infinitely deep."""
MAX_INTEGER = 2**128
OLD_PICKLES = 5
"""The consecutive pickles in a file that is not an archive: number, version, system, content, names of the storages."""
FILLS = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"}
"""Operations that add values to the object below them on the stack."""


def check_pickles(path: Path) -> None:
    """Raises `CheckpointError` if a PyTorch file is compressed, or if a pickle in it is too long or expands too much."""
    try:
        if not zipfile.is_zipfile(path):
            with path.open("rb") as file:
                _check_several(io.BytesIO(file.read(MAX_PICKLE)), OLD_PICKLES)
            return
        with zipfile.ZipFile(path) as archive:
            _check_archive(archive, path.stat().st_size)
    except MemoryError:
        raise
    except _Refused as error:
        raise CheckpointError(f"{path.name} {error}") from None
    except Exception as error:  # a damaged archive or pickle can raise anything
        reason = " ".join((str(error) or type(error).__name__).split())[:200]
        raise CheckpointError(f"{path.name} is not a complete PyTorch checkpoint: {reason}") from None


class _Refused(Exception):
    """Its message is the end of a sentence that begins with the file's name."""


def _check_archive(archive: zipfile.ZipFile, size: int) -> None:
    members: list[zipfile.ZipInfo] = archive.infolist()
    if sum(member.file_size for member in members) > size or any(member.compress_type for member in members):
        raise _Refused("is a compressed archive, or its members overlap; PyTorch never writes such files")
    if min((member.header_offset for member in members), default=0):
        raise _Refused("has data before its archive")
    for member in members:
        if member.filename.endswith("data.pkl"):
            if member.file_size > MAX_PICKLE:
                raise _Refused(f"has a pickle of more than {MAX_PICKLE >> 20} MiB")
            _check_several(io.BytesIO(archive.read(member)), 1)


def _check_several(file: io.BytesIO, count: int) -> None:
    size = len(file.getbuffer())
    for _ in range(count):
        if file.tell() == size < MAX_PICKLE:  # a plain pickle may be the only one
            return
        _check(file)


def _check(file: io.BytesIO) -> None:
    """Check one pickle by following its operations, as `pickletools.dis` does: objects are numbered, and `inside` lists the
    objects in each of them."""
    inside: list[list[int]] = []
    stack: list[int | None] = []  # None: a mark
    memo: dict[int, int | None] = {}
    for operation, argument, _ in pickletools.genops(file):
        if isinstance(argument, int) and abs(argument) >= MAX_INTEGER:
            raise _Refused("has an integer of more than 128 bits")
        _follow(operation, argument, inside, stack, memo)
    _unfold(inside)


def _follow(operation: Any, argument: Any, inside: list[list[int]], stack: list[Any], memo: dict[int, Any]) -> None:
    name = operation.name
    if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
        memo[len(memo) if argument is None else argument] = stack[-1]
    elif name in ("GET", "BINGET", "LONG_BINGET"):
        stack.append(memo[argument])
    elif name == "DUP":
        stack.append(stack[-1])
    elif name == "MARK":
        stack.append(None)
    elif name == "POP":
        stack.pop()
    else:
        taken = _taken(operation, stack)
        if name in FILLS:
            inside[stack[-1]] += taken
        elif operation.stack_after:
            inside.append(taken)
            stack.append(len(inside) - 1)


def _taken(operation: Any, stack: list[Any]) -> list[int]:
    """The objects that an operation takes from the stack; for `FILLS`, without the object that is filled."""
    before, taken = operation.stack_before, []
    count = len(before)
    if pickletools.markobject in before:
        while (each := stack.pop()) is not None:
            taken.append(each)
        count = before.index(pickletools.markobject)
    return taken + [stack.pop() for _ in range(count - (operation.name in FILLS))]


def _unfold(inside: list[list[int]]) -> None:
    """Refuses objects that expand to too many values, are nested too deeply, or contain themselves."""
    sizes: dict[int, tuple[int, int]] = {}  # how many values, and how deep
    for start in range(len(inside)):
        path = [] if start in sizes else [(start, iter(inside[start]))]
        while path:
            number, rest = path[-1]
            below = next((each for each in rest if each not in sizes), None)
            if below is not None:
                path.append((below, iter(inside[below])))
            else:
                sizes[number] = _size([sizes[each] for each in inside[number]])
                path.pop()
            if len(path) > MAX_DEPTH:
                raise _Refused(UNFOLDS)


def _size(parts: list[tuple[int, int]]) -> tuple[int, int]:
    """(values, depth) of an object with these parts. Refuses too many values and too much depth."""
    size, depth = 1 + sum(size for size, _ in parts), 1 + max((depth for _, depth in parts), default=0)
    if size > MAX_VALUES or depth > MAX_DEPTH:
        raise _Refused(UNFOLDS)
    return size, depth


UNFOLDS = f"expands to more than {MAX_VALUES:,} values, or nests them more than {MAX_DEPTH} deep"

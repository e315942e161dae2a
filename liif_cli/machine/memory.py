"""How much memory this process may still use: the least of what the machine, the container and its own limit leave."""

import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

from liif_cli.errors import OutOfMemory, UsageError

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
KEPT = 2**30  # the most bytes of freed memory that glibc keeps at the end of its heap
LIBRARIES = 512 * 2**20  # bytes of address space; PyTorch, NumPy and libvips map more
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def parse_bytes(text: str) -> int:
    """Bytes of `2GiB`, `800MB`, `1.5g` or a plain number. Raises `UsageError`."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?\s*", text.lower())
    if match is None or float(match[1]) == 0:
        raise UsageError(
            f"{text!r} is not an amount of memory", hint="use, for example, 2GiB or 800MB", argument="memory"
        )
    return int(float(match[1]) * UNITS[match[2] or ""])


def format_bytes(count: float) -> str:
    """A number of bytes as text for users: `1.5 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


def available(root: Path = Path("/")) -> int:
    """Bytes that this process may still use. root: the folder of /proc and /sys (tests pass their own)."""
    limits = [_machine(), _cgroup(root), _address_space(root)]
    return max(0, min(limit for limit in limits if limit is not None))


def check_libraries() -> None:
    """Raises OutOfMemory if the limit of this process's address space is too low for loading the libraries.

    Some libraries would otherwise end the process themselves.
    """
    limit = _address_limit()
    if limit is not None and limit < LIBRARIES:
        raise OutOfMemory(
            f"out of memory: the limit is {format_bytes(limit)} of addresses, and the libraries alone need more",
            hint="raise the limit of the address space with ulimit",
        )


def resident() -> int:
    """Bytes of physical memory that this process uses."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def give_back() -> None:
    """Return freed memory to the system if the C library is glibc, which otherwise keeps freed memory between used blocks."""
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


@cache
def keep_freed() -> None:
    """Make glibc keep freed memory, also of large blocks, until `give_back`. Does nothing with another C library.

    Otherwise, glibc gets the memory of every layer's result from the system, page by page and zeroed, which takes a third as
    long as the convolutions.
    """
    set_option = _of_glibc("mallopt")
    if set_option is not None:
        set_option(M_MMAP_MAX, 0)
        set_option(M_TRIM_THRESHOLD, KEPT)


@cache
def _of_glibc(name: str) -> Callable[..., int] | None:
    import ctypes

    try:
        function: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):  # another C library; on Windows, None is not a library
        return None
    return function


def _machine() -> int:
    import psutil

    return int(psutil.virtual_memory().available)


def _cgroup(root: Path) -> int | None:
    """Bytes that the control groups (v1 or v2) leave: the minimum over the group and its parents; None without a limit."""
    rooms = [room for version, mount, group in own_groups(root) for room in _walk(version, mount, group)]
    return min(rooms, default=None)


def own_groups(root: Path = Path("/")) -> list[tuple[int, Path, Path]]:
    """The control groups of this process that may limit memory: (version 1 or 2, the topmost visible folder, the group's
    folder). In a container, both folders may be the same."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "" or "memory" in controllers.split(","):
            version = 1 if controllers else 2
            found += [(version, mount, _place(mount, top, path)) for mount, top in _mounts(root, version)]
    return found


def _mounts(root: Path, version: int) -> list[tuple[Path, str]]:
    """Where a hierarchy is mounted, and the path of the group at its top, which in a container is often the container's group.

    If the system does not list its mounts, the usual folder.
    """
    try:
        lines = (root / "proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return [(root / "sys/fs/cgroup" / ("" if version == 2 else "memory"), "/")]
    found = []
    for line in lines:
        own, _, system = line.partition(" - ")  # proc(5): fields, optional ones, a dash, then the file system's
        kind, _, options = system.split(" ", 2)
        if kind == "cgroup2" if version == 2 else kind == "cgroup" and "memory" in options.split(","):
            top, place = own.split(" ")[3:5]
            found.append((root / place.lstrip("/"), top))
    return found


def _place(mount: Path, top: str, path: str) -> Path:
    """The folder of the group at `path` if it is visible under `mount`, the folder of the group `top`; otherwise `mount`."""
    inside = path.removeprefix(top) if top == "/" or path == top or path.startswith(f"{top}/") else ""
    group = mount / inside.lstrip("/")
    return group if group.is_dir() else mount


def _walk(version: int, mount: Path, group: Path) -> list[int]:
    """The bytes left in a group and in its visible parents."""
    limits, usage, cache = (
        (("memory.max", "memory.high"), "memory.current", "inactive_file")
        if version == 2
        else (("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file")
    )
    groups = [each for each in (group, *group.parents) if each.is_relative_to(mount)]
    return [room for each in groups for room in _rooms(each, limits, usage, cache)]


def _rooms(group: Path, limits: tuple[str, ...], usage: str, cache: str) -> list[int]:
    """The bytes that each limit of a group leaves."""
    used, stat = _number(group / usage), _statistics(group / "memory.stat")
    if used is None:
        return []
    found = [_number(group / name) for name in limits] + [
        stat.get("hierarchical_memory_limit")
    ]  # v1: of hidden parents
    room = stat.get(cache, 0) - used
    return [
        most + room for most in found if most is not None and most < 2**60
    ]  # v1 writes a huge number for "no limit"


def _number(path: Path) -> int | None:
    """The number in a file; None if the file does not contain a number (v2 writes `max` for "no limit")."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _statistics(path: Path) -> dict[str, int]:
    """The numbers, by name, in a file with lines of a name and a number."""
    try:
        return {name: int(value) for name, value in map(str.split, path.read_text().splitlines())}
    except (OSError, ValueError):
        return {}


def _address_space(root: Path) -> int | None:
    """Bytes that RLIMIT_AS leaves (Unix); None without a limit."""
    limit = _address_limit()
    if limit is None:
        return None
    import psutil

    return int(limit - psutil.Process().memory_info().vms)


def _address_limit() -> int | None:
    """RLIMIT_AS in bytes (Unix); None without a limit."""
    if sys.platform == "win32":
        return None
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else limit

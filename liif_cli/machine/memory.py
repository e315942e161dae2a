"""How much memory this process may still use: the least of what the machine, the container and its own limit leave."""

import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

from liif_cli.errors import UsageError

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
KEPT = 2**30  # bytes at the heap's end, at most
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def parse_bytes(text: str) -> int:
    """Bytes of `2GiB`, `800MB`, `1.5g` or a plain number. Raises `UsageError`."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?\s*", text.lower())
    if match is None or float(match[1]) == 0:
        raise UsageError(f"{text!r} is not an amount of memory", hint="for example 2GiB or 800MB", argument="memory")
    return int(float(match[1]) * UNITS[match[2] or ""])


def format_bytes(count: float) -> str:
    """For people: `1.5 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


def available(root: Path = Path("/")) -> int:
    """Bytes that this process may still use. root: the folder of /proc and /sys (tests pass their own)."""
    limits = [_machine(root), _cgroup(root), _address_space(root)]
    return max(0, min(limit for limit in limits if limit is not None))


def resident(root: Path = Path("/")) -> int:
    """Bytes of memory that this process holds."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def give_back() -> None:
    """Return freed memory to the system if the C library is glibc, which otherwise keeps what is between live blocks."""
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


@cache
def keep_freed() -> None:
    """Make glibc keep freed memory, of large blocks too, until `give_back`. Otherwise, every layer's result comes from the
    system, page by page and zeroed, which takes as long as a third of the convolutions do. With another C library, nothing."""
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


def _machine(root: Path) -> int:
    import psutil

    return int(psutil.virtual_memory().available)


def _cgroup(root: Path) -> int | None:
    """Bytes that the control groups leave (v1 or v2), the least of the group and its parents; None without a limit."""
    if not (root / "proc/self/cgroup").is_file():
        return None
    rooms = []
    for line in (root / "proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            rooms += _walk(root / "sys/fs/cgroup", path, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            rooms += _walk(root / "sys/fs/cgroup/memory", path, *names)
    return min(rooms, default=None)


def _walk(mount: Path, path: str, limit: str, usage: str, cache: str) -> list[int]:
    """The bytes left in the group at `path` and in its parents. In a container only the root may be visible."""
    group = mount / path.lstrip("/")
    groups = [group, *group.parents] if group.is_dir() else [mount]
    return [
        room
        for group in groups
        if group.is_relative_to(mount) and (room := _room(group, limit, usage, cache)) is not None
    ]


def _room(group: Path, limit: str, usage: str, cache: str) -> int | None:
    try:
        most, used = (group / limit).read_text().strip(), int((group / usage).read_text())
    except (OSError, ValueError):
        return None
    if most == "max" or int(most) >= 2**60:  # v1 writes a huge number for "no limit"
        return None
    reclaimable = 0
    stat = group / "memory.stat"
    if stat.is_file():
        found = re.search(rf"^{cache} (\d+)$", stat.read_text(), re.MULTILINE)
        reclaimable = int(found[1]) if found else 0
    return int(most) - used + reclaimable


def _address_space(root: Path) -> int | None:
    """Bytes that RLIMIT_AS leaves (Unix); None without a limit."""
    if sys.platform == "win32":
        return None
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return None
    import psutil

    return int(limit - psutil.Process().memory_info().vms)

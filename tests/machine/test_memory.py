"""How much memory is left: of the machine, of containers old and new, of the process's own limit."""

import subprocess
import sys
from pathlib import Path

import pytest

from liif_cli.errors import UsageError
from liif_cli.machine import memory

GIB = 2**30


def put(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


@pytest.fixture
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with 64 GiB free and no limit of its own."""
    monkeypatch.setattr(memory, "_machine", lambda: 64 * GIB)
    monkeypatch.setattr(memory, "_address_space", lambda root: None)


@pytest.mark.usefixtures("roomy")
class TestContainers:
    def test_none(self, tmp_path: Path) -> None:
        assert memory.available(tmp_path) == 64 * GIB
        put(tmp_path, "proc/self/cgroup", "0::/\n")
        assert memory.available(tmp_path) == 64 * GIB

    def test_version_2(self, tmp_path: Path) -> None:
        put(tmp_path, "proc/self/cgroup", "0::/box\n")
        put(tmp_path, "sys/fs/cgroup/box/memory.max", f"{4 * GIB}\n")
        put(tmp_path, "sys/fs/cgroup/box/memory.current", f"{3 * GIB}\n")
        put(tmp_path, "sys/fs/cgroup/box/memory.stat", f"anon 5\ninactive_file {GIB // 2}\nslab 3\n")
        assert memory.available(tmp_path) == GIB + GIB // 2

    def test_version_2_where_a_parent_is_tighter(self, tmp_path: Path) -> None:
        put(tmp_path, "proc/self/cgroup", "0::/outer/inner\n")
        for group, limit in (("outer", str(2 * GIB)), ("outer/inner", "max")):
            put(tmp_path, f"sys/fs/cgroup/{group}/memory.max", limit)
            put(tmp_path, f"sys/fs/cgroup/{group}/memory.current", str(GIB))
        assert memory.available(tmp_path) == GIB

    def test_version_2_where_the_path_is_the_hosts(self, tmp_path: Path) -> None:
        put(tmp_path, "proc/self/cgroup", "0::/../../kubepods/pod7\n")
        put(tmp_path, "sys/fs/cgroup/memory.max", str(3 * GIB))
        put(tmp_path, "sys/fs/cgroup/memory.current", str(GIB))
        assert memory.available(tmp_path) == 2 * GIB

    def test_version_1(self, tmp_path: Path) -> None:
        put(tmp_path, "proc/self/cgroup", "9:cpu,cpuacct:/a\n7:memory:/box\n")
        put(tmp_path, "sys/fs/cgroup/memory/box/memory.limit_in_bytes", str(4 * GIB))
        put(tmp_path, "sys/fs/cgroup/memory/box/memory.usage_in_bytes", str(GIB))
        put(tmp_path, "sys/fs/cgroup/memory/box/memory.stat", "total_inactive_file 0\n")
        put(tmp_path, "sys/fs/cgroup/memory/memory.limit_in_bytes", str(2**63 - 4096))
        put(tmp_path, "sys/fs/cgroup/memory/memory.usage_in_bytes", "5")
        assert memory.available(tmp_path) == 3 * GIB

    def test_version_2_counts_what_it_is_throttled_at(self, tmp_path: Path) -> None:
        put(tmp_path, "proc/self/cgroup", "0::/box\n")
        for name, text in (("max", "max"), ("high", str(2 * GIB)), ("current", str(GIB))):
            put(tmp_path, f"sys/fs/cgroup/box/memory.{name}", text)
        assert memory.available(tmp_path) == GIB

    def test_version_1_where_the_top_is_the_containers(self, tmp_path: Path) -> None:
        """As Docker mounts it: the path is the host's, and groups nested in the container count."""
        put(tmp_path, "proc/self/cgroup", "7:memory:/docker/7f/inner\n")
        line = "35 32 0:32 /docker/7f /sys/fs/cgroup/memory ro,nosuid master:11 - cgroup cgroup rw,memory\n"
        put(tmp_path, "proc/self/mountinfo", "34 32 0:31 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n" + line)
        for group, limit in (("", 8 * GIB), ("inner/", 4 * GIB)):
            put(tmp_path, f"sys/fs/cgroup/memory/{group}memory.limit_in_bytes", str(limit))
            put(tmp_path, f"sys/fs/cgroup/memory/{group}memory.usage_in_bytes", str(GIB))
        assert memory.available(tmp_path) == 3 * GIB

    def test_version_1_where_a_hidden_parent_is_tighter(self, tmp_path: Path) -> None:
        put(tmp_path, "proc/self/cgroup", "7:memory:/pod/box\n")
        put(tmp_path, "sys/fs/cgroup/memory/memory.limit_in_bytes", str(2**63 - 4096))
        put(tmp_path, "sys/fs/cgroup/memory/memory.usage_in_bytes", str(GIB))
        put(tmp_path, "sys/fs/cgroup/memory/memory.stat", f"cache 7\nhierarchical_memory_limit {3 * GIB}\n")
        assert memory.available(tmp_path) == 2 * GIB

    def test_both_versions_at_once(self, tmp_path: Path) -> None:
        """The memory controller in one, version 2 beside it without."""
        put(tmp_path, "proc/self/cgroup", "4:memory:/box\n0::/\n")
        lines = (
            "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
            "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
        )
        put(tmp_path, "proc/self/mountinfo", lines)
        put(tmp_path, "sys/fs/cgroup/unified/cgroup.controllers", "hugetlb\n")
        put(tmp_path, "sys/fs/cgroup/memory/box/memory.limit_in_bytes", str(4 * GIB))
        put(tmp_path, "sys/fs/cgroup/memory/box/memory.usage_in_bytes", str(GIB))
        assert memory.available(tmp_path) == 3 * GIB

    def test_a_group_that_is_full(self, tmp_path: Path) -> None:
        put(tmp_path, "proc/self/cgroup", "0::/box\n")
        put(tmp_path, "sys/fs/cgroup/box/memory.max", "100")
        put(tmp_path, "sys/fs/cgroup/box/memory.current", "200")
        assert memory.available(tmp_path) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
def test_a_real_group_counts() -> None:
    from robustness import faults

    code = "from liif_cli.machine.memory import available; print(available())"
    try:
        with faults.memory_group(2**28) as group:
            done = subprocess.run(faults.in_group(group, ["-c", code]), capture_output=True, text=True, check=True)
    except faults.Skipped as reason:
        pytest.skip(str(reason))
    assert 2**26 < int(done.stdout) < 2**28


@pytest.mark.skipif(sys.platform == "win32", reason="RLIMIT_AS is Unix's")
def test_the_process_own_limit_counts() -> None:
    code = (
        "import resource; from liif_cli.machine.memory import available; before = available();"
        "import psutil; held = psutil.Process().memory_info().vms;"
        "resource.setrlimit(resource.RLIMIT_AS, (held + 2**28, -1)); print(available() <= 2**28 < before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_this_process_holds_some_memory_and_may_take_more() -> None:
    assert memory.resident() > 2**20
    assert memory.available() > 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2GiB", 2 * GIB),
        ("800MB", 800_000_000),
        ("1.5g", 1_500_000_000),
        ("512 MiB", 2**29),
        ("4096", 4096),
        ("64k", 64_000),
    ],
)
def test_amounts(text: str, expected: int) -> None:
    assert memory.parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "0", "-1GiB", "GiB", "2 apples", "nan", "1e9"])
def test_no_amounts(text: str) -> None:
    with pytest.raises(UsageError):
        memory.parse_bytes(text)


def test_amounts_for_people() -> None:
    assert [memory.format_bytes(n) for n in (17, 1536, 2**20, 2.5 * GIB, 5000 * GIB)] == [
        "17 B",
        "1.5 KiB",
        "1.0 MiB",
        "2.5 GiB",
        "5000.0 GiB",
    ]

"""`liif upscale` with addresses, in a store that needs no server and no extra: fsspec's memory."""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from liif_cli.errors import ExitCode, InputError, OutputError, UsageError
from liif_cli.images.read import read
from liif_cli.images.write import write
from liif_cli.stores import objects
from liif_cli.stores.addresses import Address

Run = Callable[..., Any]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryFileSystem]:
    """An empty store."""
    monkeypatch.setattr(objects, "PAUSES", (0.0, 0.0))
    fs = fsspec.filesystem("memory")
    fs.store.clear(), fs.pseudo_dirs.clear(), objects.kind.cache_clear()
    yield fs
    fs.store.clear(), fs.pseudo_dirs.clear(), objects.kind.cache_clear()


@pytest.fixture
def image(tmp_path: Path) -> bytes:
    """A PNG of 12x10 pixels."""
    pixels = np.random.default_rng(1).integers(0, 256, (10, 12, 3), np.uint8)
    write(tmp_path / "image.png", pixels)
    return (tmp_path / "image.png").read_bytes()


@pytest.fixture
def up(liif: Run, tiny_file: Path) -> Run:
    """Runs `liif upscale -s 2`."""
    return lambda *arguments: liif("upscale", "-s", 2, "-m", tiny_file, *arguments)


def keys(fs: MemoryFileSystem, prefix: str) -> list[str]:
    """The objects below a prefix."""
    return sorted(name for name in fs.store if name.startswith(prefix))


def test_a_pattern_keeps_its_tree_and_gives_what_files_give(up: Run, store: Any, image: bytes) -> None:
    Path("in.png").write_bytes(image)
    assert up("in.png", "-o", "here.png").code == 0
    for name in ("a.png", "x/b.png", "x/y/c.png", "x/.hidden.png", "x/notes.txt"):
        store.pipe(f"/b/in/{name}", image)
    ran = up("memory://b/in/**/*.png", "-o", "memory://b/out", "--json")
    assert ran.code == 0, ran.err
    assert keys(store, "/b/out") == ["/b/out/a_2x.png", "/b/out/x/b_2x.png", "/b/out/x/y/c_2x.png"]
    assert {store.cat(key) for key in keys(store, "/b/out")} == {Path("here.png").read_bytes()}
    rows = [json.loads(line) for line in ran.out]
    assert [row["input"] for row in rows] == [f"memory://b/in/{name}.png" for name in ("a", "x/b", "x/y/c")]
    assert rows[0]["output"] == "memory://b/out/a_2x.png" and rows[0]["width"] == 24


def test_here_and_there_are_mixed(up: Run, store: Any, image: bytes) -> None:
    store.pipe("/b/a.png", image)
    Path("in.png").write_bytes(image)
    assert up("memory://b/a.png", "in.png", "-o", "out").code == 0
    assert sorted(path.name for path in Path("out").iterdir()) == ["a_2x.png", "in_2x.png"]
    assert up("in.png", "-o", "memory://b/new/x.webp").code == 0
    assert store.cat("/b/new/x.webp")[8:12] == b"WEBP"
    assert up("memory://b/a.png").out == ["memory://b/a_2x.png"]  # beside the input
    assert up("file://" + str(Path("in.png").resolve()), "-o", "file.png").code == 0
    assert Path("file.png").read_bytes() == store.cat("/b/a_2x.png")
    assert up("memory://b/a.png", "-o", "memory://b/{stem}-{width}.png").out == ["memory://b/a-24.png"]


def test_a_folder_with_and_without_its_folders(up: Run, store: Any, image: bytes) -> None:
    for name in ("a.png", "x/b.png", "out/c.png"):
        store.pipe(f"/b/in/{name}", image)
    assert up("memory://b/in", "-o", "memory://b/in/out/").out == ["memory://b/in/out/a_2x.png"]
    ran = up("memory://b/in", "-r", "-o", "memory://b/in/out/", "--overwrite")
    assert ran.out == ["memory://b/in/out/a_2x.png", "memory://b/in/out/x/b_2x.png"]  # and no output as an input
    assert up("memory://b/x/*.png", "-o", "out").err == ["Error: no object matches memory://b/x/*.png"]
    assert up("memory://b/none.png", "-o", "out/").code == ExitCode.INPUT


def test_skip_existing_asks_once(up: Run, store: Any, image: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(12):
        store.pipe(f"/b/in/{index:02}.png", image)
    for index in range(9):
        store.pipe(f"/b/out/{index:02}_2x.png", b"kept")
    asked: list[str] = []
    for name in ("info", "exists", "find"):
        monkeypatch.setattr(MemoryFileSystem, name, spy(getattr(MemoryFileSystem, name), name, asked))
    ran = up("memory://b/in/*.png", "-o", "memory://b/out/", "--skip-existing")
    assert ran.code == 0 and len(ran.out) == 3 and "9 skipped because they exist" in ran.err[-1]
    assert asked.count("find /b/out") == 1
    assert not [
        each for each in asked if "_2x" in each and not each.endswith(tuple(f"{i:02}_2x.png" for i in (9, 10, 11)))
    ]
    assert store.cat("/b/out/00_2x.png") == b"kept"


def spy(method: Any, name: str, asked: list[str]) -> Any:
    """The method, which notes what it was called with."""

    def call(self: Any, path: str, *arguments: Any, **options: Any) -> Any:
        asked.append(f"{name} {path}")
        return method(self, path, *arguments, **options)

    return call


def test_an_existing_object_is_refused_before_any_work(up: Run, store: Any, image: bytes) -> None:
    store.pipe("/b/a.png", image)
    store.pipe("/b/a_2x.png", b"kept")
    ran = up("memory://b/a.png")
    assert ran.code == ExitCode.OUTPUT
    assert ran.err == ["Error: memory://b/a_2x.png exists", "Hint: --overwrite replaces it"]
    assert store.cat("/b/a_2x.png") == b"kept"
    assert up("memory://b/a.png", "--overwrite").code == 0
    assert store.cat("/b/a_2x.png")[:4] == b"\x89PNG"


def test_a_bad_image_stops_only_itself(up: Run, store: Any, image: bytes) -> None:
    for name, content in (("a.png", image), ("b.png", b"no image"), ("c.png", image[:60])):
        store.pipe(f"/b/in/{name}", content)
    ran = up("memory://b/in/*.png", "-o", "memory://b/out", "--json")
    assert ran.code == ExitCode.SOME_FAILED
    rows = {row["input"][-5]: row for row in map(json.loads, ran.out)}
    assert rows["b"]["code"] == rows["c"]["code"] == ExitCode.INPUT and "memory://b/in/b.png" in rows["b"]["error"]
    assert keys(store, "/b/out") == ["/b/out/a_2x.png"]


def test_unsafe_names_are_refused(up: Run, store: Any, image: bytes) -> None:
    store.store.update({"/b/in/ok.png": None, "/b/in/../../evil.png": None})
    store.store.clear()
    store.pipe("/b/in/ok.png", image)
    store.store["/b/in/x/../../../evil.png"] = store.store["/b/in/ok.png"]
    ran = up("memory://b/in", "-r", "-o", "out")
    assert ran.code == ExitCode.SOME_FAILED
    assert any("not a safe path" in line for line in ran.err)
    assert [path.as_posix() for path in Path().rglob("*.png")] == ["out/ok_2x.png"]


def test_where_nothing_can_be_written(up: Run, store: Any, image: bytes) -> None:
    store.pipe("/b/a.png", image)
    for output, said in (
        ("https://ann:pw@example.org/a.png", "web addresses are read-only"),
        ("ftp://h/a.png", "not written atomically"),
    ):
        ran = up("memory://b/a.png", "-o", output)
        assert ran.code == ExitCode.USAGE and said in ran.err[0] and "pw" not in "".join(ran.err)


@pytest.mark.parametrize(
    ("address", "module", "library", "hint"),
    [
        ("https://ann:pw@example.org/a.png?token=x", "aiohttp", "aiohttp", "pip install 'liif[remote]'"),
        ("s3://b/a.png", "s3fs", "s3fs", "pip install 'liif[remote]'"),
        ("gs://b/a.png", "gcsfs", "gcsfs", "pip install gcsfs"),
        ("az://b/a.png", "adlfs", "adlfs", "pip install adlfs"),
    ],
)
def test_a_missing_library_is_named(
    up: Run, monkeypatch: pytest.MonkeyPatch, address: str, module: str, library: str, hint: str
) -> None:
    from fsspec.registry import _registry

    for protocol in ("http", "https", "s3"):
        _registry.pop(protocol, None)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "fsspec.implementations.http", raising=False)
    ran = up(address, "-o", "out.png")
    shown = address.replace("ann:pw@", "").partition("?")[0]
    assert (ran.code, ran.err) == (
        ExitCode.USAGE,
        [f"Error: cannot open {shown}: {library} is not installed", f"Hint: {hint}"],
    )
    assert up("s3x://b/a.png", "-o", "out.png").code == ExitCode.USAGE


def test_temporary_failures_are_retried(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store.pipe("/b/a", b"abc")
    faults: list[Exception] = [OSError(5, "InternalError"), TimeoutError()]
    monkeypatch.setattr(MemoryFileSystem, "cat_file", failing(MemoryFileSystem.cat_file, faults))
    assert objects.fetch(Address.parse("memory://b/a"), 3) == b"abc"
    faults += [PermissionError("https://u:secret@h/k?sig=secret is forbidden")]
    with pytest.raises(InputError, match="access is denied") as caught:
        objects.fetch(Address.parse("memory://b/a"), 3)
    assert "secret" not in str(caught.value) and caught.value.__cause__ is None and caught.value.__suppress_context__
    faults += [OSError(5, "InternalError")] * 3
    with pytest.raises(InputError, match="InternalError"):
        objects.fetch(Address.parse("memory://b/a"), 3)
    assert faults == []


def failing(method: Any, faults: list[Exception]) -> Any:
    """The method, which first raises what is in `faults`."""

    def call(*arguments: Any, **options: Any) -> Any:
        if faults:
            raise faults.pop(0)
        return method(*arguments, **options)

    return call


def test_an_upload_leaves_nothing_unless_it_is_whole(store: Any) -> None:
    address = Address.parse("memory://b/a.png")
    with pytest.raises(ZeroDivisionError), objects.ObjectFile(address) as draft:
        draft.write_bytes(b"half")
        raise ZeroDivisionError
    assert keys(store, "/b") == [] and not draft.parent.exists()
    stopped = threading.Event()
    with pytest.raises(OutputError, match="interrupted"), objects.ObjectFile(address, cancelled=stopped) as draft:
        draft.write_bytes(b"whole")
        stopped.set()
    assert keys(store, "/b") == [] and not draft.parent.exists()
    with objects.ObjectFile(address) as draft:
        draft.write_bytes(b"whole")
    with pytest.raises(OutputError, match="exists"), objects.ObjectFile(address) as draft:
        draft.write_bytes(b"other")
    assert store.cat("/b/a.png") == b"whole"


def test_large_objects_are_read_from_a_file(store: Any, image: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "IN_MEMORY", 10)
    store.pipe("/b/a.png", image)
    fetched = objects.fetch(Address.parse("memory://b/a.png"), len(image))
    assert isinstance(fetched, objects.Fetched)
    assert read(fetched.path).width == 12
    folder = fetched.path.parent
    del fetched
    assert not folder.exists()


def test_a_bucket_is_not_an_object() -> None:
    with pytest.raises(UsageError, match="it is a bucket"):
        objects.check_writable(Address.parse("memory://b"))

"""Outputs and inputs that are no ordinary files, and what may happen between two steps."""

import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from liif_cli.errors import CheckpointError, InputError, OutputError
from liif_cli.evaluation.unpack import unpack_images
from liif_cli.machine import files
from liif_cli.machine.files import OutputFile, check_room, check_target
from liif_cli.upscaling.inputs import Source


def test_a_file_that_appears_at_the_last_step_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.png"
    monkeypatch.setattr(files, "check_target", lambda *_: path.write_bytes(b"theirs"))
    with pytest.raises(OutputError, match="exists"), OutputFile(path) as temporary:
        temporary.write_bytes(b"ours")
    assert path.read_bytes() == b"theirs"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="this system has no modes")
def test_the_temporary_file_has_no_wider_rights(tmp_path: Path) -> None:
    path = tmp_path / "out.png"
    path.write_bytes(b"old")
    path.chmod(0o600)
    with OutputFile(path, overwrite=True) as temporary:
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
        temporary.write_bytes(b"new")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", 0o600)


def test_leftovers_of_killed_processes_go_and_nothing_else(tmp_path: Path) -> None:
    names = [".liif-0123456789ab.png", ".liif-0123456789ac.png", ".liif-other.png", ".liif-0123456789ad.png"]
    for name in names[:3]:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / names[3]).mkdir()
    past = time.time() - 2 * files.DAY
    for name in (names[0], names[2], names[3]):
        os.utime(tmp_path / name, (past, past))
    with OutputFile(tmp_path / "out.png") as temporary:
        temporary.write_bytes(b"new")
    assert {path.name for path in tmp_path.iterdir()} == {"out.png", *names[1:]}


@pytest.mark.skipif(os.name == "nt", reason="this system has no such locks")
def test_what_a_living_process_writes_is_no_leftover(tmp_path: Path) -> None:
    """However old it is: a render may take days. Once its process is gone, it goes."""
    code = (
        "import sys, time; from pathlib import Path; from liif_cli.machine.files import OutputFile\n"
        "with OutputFile(Path(sys.argv[1])) as temporary: print(temporary, flush=True); time.sleep(600)"
    )
    past = time.time() - 2 * files.DAY
    command = [sys.executable, "-c", code, str(tmp_path / "long.png")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        temporary = Path(process.stdout.readline().strip())
        os.utime(temporary, (past, past))
        files.remove_leftovers(tmp_path)
        assert temporary.exists()
        process.kill()
    files._cleared.discard(tmp_path)
    files.remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["n" * 252 + ".png", "\u56fe" * 84 + ".png"], ids=["latin", "chinese"])
def test_a_name_that_is_too_long_has_its_own_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match=r"has 256 bytes; the file system allows \d+"):
        check_target(tmp_path / name, overwrite=False)


def test_a_loop_of_links_has_its_own_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to(tmp_path / "b.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "a.png")
    with pytest.raises(OutputError, match="cannot write"):
        check_target(tmp_path / "a.png", overwrite=True)


def test_little_room_is_counted_in_kb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 65_536}))
    with pytest.raises(OutputError, match="64 kB are free, but the output needs up to 98 kB"):
        check_room(tmp_path, 100_000)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_read_once_and_kept(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"content",))
    writer.start()
    source = Source(pipe)
    assert source.read() == source.read() == b"content"
    writer.join()


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="this system has no /dev/zero")
def test_a_device_is_refused_at_once() -> None:
    with pytest.raises(InputError, match="is a device"):
        Source(Path("/dev/zero")).read()


def test_a_damaged_archive_is_damaged_whatever_is_raised(shared: Path, tmp_path: Path) -> None:
    archive = shared / "review/hostile/31-archive-lzma/damaged.zip"
    with pytest.raises(CheckpointError, match="damaged"):
        unpack_images(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_of_a_name_or_header_steers_a_terminal() -> None:
    from liif_cli.cli.streams import visible

    shown = visible("a\x1b[31m\x07\r\u202eb\nc")
    assert shown == "a\\x1b[31m\\x07\\r\\u202eb\nc"
    assert visible("caf\u00e9 \u56fe.png") == "caf\u00e9 \u56fe.png"

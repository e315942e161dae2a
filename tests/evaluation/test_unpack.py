"""Archives: what is unpacked, and what is refused without leaving anything behind."""

import io
import tarfile
import zipfile

import pytest

from liif_cli.errors import CheckpointError
from liif_cli.evaluation import unpack
from liif_cli.evaluation.unpack import unpack_images


def tar(path, *members):
    """Members are (name, bytes), or a TarInfo of another kind."""
    with tarfile.open(path, "w:gz") as bundle:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                bundle.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            bundle.addfile(info, io.BytesIO(member[1]))
    return path


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_only_images_are_unpacked_without_folders(tmp_path):
    folder = special("Set_HR", tarfile.DIRTYPE)
    files = [("Set_HR/b.png", b"2"), ("Set_HR/a.PNG", b"1"), ("Set_HR/._a.png", b"fork"), ("Set_HR/read.me", b"text")]
    unpack_images(tar(tmp_path / "s.tar.gz", folder, *files), tmp_path / "deep" / "HR")
    assert contents(tmp_path / "deep" / "HR") == {"a.PNG": b"1", "b.png": b"2"}


def test_zip_archives(tmp_path):
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as bundle:
        bundle.mkdir("DIV2K_valid_HR")
        bundle.writestr("DIV2K_valid_HR/0801.png", b"x" * 1000)
    unpack_images(tmp_path / "s.zip", tmp_path / "HR")
    assert contents(tmp_path / "HR") == {"0801.png": b"x" * 1000}


@pytest.mark.parametrize(
    "bad",
    [
        ("../outside.png", b"!"),
        ("/outside.png", b"!"),
        ("a/../../outside.png", b"!"),
        ("..\\outside.png", b"!"),
        ("C:\\outside.png", b"!"),
        ("ou\nt.png", b"!"),
        special("link.png", tarfile.SYMTYPE, "/outside.png"),
        special("hard.png", tarfile.LNKTYPE, "good.png"),
        special("pipe.png", tarfile.FIFOTYPE),
        ("other/good.png", b"a second one"),
    ],
    ids=str,
)
def test_archives_that_cannot_be_trusted_leave_nothing_behind(tmp_path, bad):
    archive = tar(tmp_path / "s.tar.gz", ("in/good.png", b"1"), bad)
    with pytest.raises(CheckpointError, match="nothing was unpacked"):
        unpack_images(archive, tmp_path / "cache" / "HR")
    assert list((tmp_path / "cache").iterdir()) == []
    assert sorted(file.name for file in tmp_path.iterdir()) == ["cache", "s.tar.gz"]


def test_a_link_in_a_zip_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as bundle:
        info = zipfile.ZipInfo("link.png")
        info.external_attr = 0o120777 << 16
        bundle.writestr(info, "/outside")
    with pytest.raises(CheckpointError, match="neither a file nor a folder"):
        unpack_images(tmp_path / "s.zip", tmp_path / "HR")


def test_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(unpack, "MOST_FILES", 2)
    archive = tar(tmp_path / "s.tar.gz", *((f"{i}.png", b"1") for i in range(3)))
    with pytest.raises(CheckpointError, match="contains more than"):
        unpack_images(archive, tmp_path / "cache" / "HR")
    monkeypatch.setattr(unpack, "MOST_FILES", 9)
    monkeypatch.setattr(unpack, "MOST_BYTES", 2)
    with pytest.raises(CheckpointError, match="contains more than"):
        unpack_images(archive, tmp_path / "cache" / "HR")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("cut", [10, 60, 200])
def test_a_truncated_archive_is_damaged(tmp_path, cut):
    whole = tar(tmp_path / "s.tar.gz", ("a.png", bytes(range(256)) * 8), ("b.png", b"2")).read_bytes()
    (tmp_path / "t.tar.gz").write_bytes(whole[:cut])
    with pytest.raises(CheckpointError, match="is damaged"):
        unpack_images(tmp_path / "t.tar.gz", tmp_path / "cache" / "HR")
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_archive_without_images(tmp_path):
    with pytest.raises(CheckpointError, match="no images"):
        unpack_images(tar(tmp_path / "s.tar.gz", ("a.txt", b"1")), tmp_path / "HR")


def test_a_second_process_keeps_the_images_of_the_first(tmp_path):
    archive = tar(tmp_path / "s.tar.gz", ("a.png", b"1"))
    unpack_images(archive, tmp_path / "HR")
    unpack_images(archive, tmp_path / "HR")
    assert contents(tmp_path / "HR") == {"a.png": b"1"}

"""The input images given by a command's arguments."""

import io
import os
import sys
from pathlib import Path

import pytest

from liif_cli.errors import InputError, UsageError
from liif_cli.upscaling.inputs import Source, expand, is_many, without_outputs


@pytest.fixture
def tree(desk: Path) -> Path:
    """pics/{b.png, A.JPG, notes.txt, .hidden.png, sub/{c.tif, deep/d.webp}, .git/e.png}, and z.png beside it."""
    for name in (
        "z.png",
        "pics/b.png",
        "pics/A.JPG",
        "pics/notes.txt",
        "pics/.hidden.png",
        "pics/sub/c.tif",
        "pics/sub/deep/d.webp",
        "pics/.git/e.png",
    ):
        path = desk / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return desk


def names(*arguments: str, recursive: bool = False, without: Path | None = None) -> list[str]:
    sources, failures = expand(arguments, recursive, without)
    assert not failures
    return [Path(source.name).as_posix() for source in sources]


def test_files_keep_their_order_and_come_once(tree: Path) -> None:
    assert names("z.png", "pics/b.png", "./z.png", "pics/../z.png") == ["z.png", "pics/b.png"]
    assert names("pics/notes.txt") == ["pics/notes.txt"]  # named: its content decides


def test_a_folder_gives_its_images_and_with_r_all_below(tree: Path) -> None:
    assert names("pics") == ["pics/A.JPG", "pics/b.png"]
    assert names("pics", recursive=True) == ["pics/A.JPG", "pics/b.png", "pics/sub/c.tif", "pics/sub/deep/d.webp"]
    assert names("pics", recursive=True, without=Path("pics/sub/deep"))[-1] == "pics/sub/c.tif"


def test_a_found_image_knows_its_folder_in_the_tree(tree: Path) -> None:
    sources, _ = expand(["pics", "z.png"], recursive=True)
    assert [(s.inside.as_posix(), s.found) for s in sources] == [
        (".", True),
        (".", True),
        ("sub", True),
        ("sub/deep", True),
        (".", False),
    ]


def test_patterns_are_expanded_here_too(tree: Path) -> None:
    assert names("pics/*.png") == ["pics/b.png"]
    assert names("pics/**/[cd].*") == ["pics/sub/c.tif", "pics/sub/deep/d.webp"]
    assert is_many("*.png") and is_many("pics") and not is_many("z.png") and not is_many("-")


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tree: Path) -> None:
    Path("pics/[b].png").touch()
    assert names("pics/[b].png") == ["pics/[b].png"]
    assert not is_many("pics/[b].png")


def test_missing_inputs_have_their_own_errors_and_stop_nothing(tree: Path) -> None:
    Path("empty/in").mkdir(parents=True)
    sources, failures = expand(["nothing.png", "z.png", "*.gif", "empty"])
    assert [source.name for source in sources] == ["z.png"]
    assert [(name, str(error)) for name, error in failures] == [
        ("nothing.png", "nothing.png does not exist"),
        ("*.gif", "no file matches *.gif"),
        ("empty", "no images in empty"),
    ]
    assert all(isinstance(error, InputError) for _, error in failures)
    assert failures[2][1].remedy == "recursive"


def test_outputs_of_earlier_runs_are_left_out_at_any_scale() -> None:
    stems = ("a", "a_1.2x", "a_2x3.5x", "a_1920x1080", "a_jpg_4x", "a_compared_4x", "b_2x", "a_b_2x", "c_2x", "c_2x_3x")
    found = [Source(Path("d", f"{stem}.jpg"), found=True) for stem in stems]
    kept, left_out = without_outputs([*found, Source(Path("other", "b.jpg"), found=True)])
    assert [source.stem for source in left_out] == [*stems[1:6], "c_2x_3x"]  # c_2x may be an image of its own
    assert [source.stem for source in kept] == ["a", "b_2x", "a_b_2x", "c_2x", "b"]
    named = [Source(Path("a.jpg")), Source(Path("a_2x.jpg"))]
    assert without_outputs(named) == (named, [])


def test_a_loop_of_links_ends(tree: Path) -> None:
    try:
        Path("pics/sub/loop").symlink_to(tree / "pics", target_is_directory=True)
    except OSError:
        pytest.skip("no links here")
    assert len(names("pics", recursive=True)) == 4


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_cannot_be_read(tree: Path) -> None:
    Path("pics").chmod(0)
    _, failures = expand(["pics"])
    Path("pics").chmod(0o755)
    assert "cannot read" in str(failures[0][1])


def test_standard_input_once_and_only_when_named(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="only once"):
        expand(["-", "-"])
    stdin = io.TextIOWrapper(io.BytesIO(b"abc"))
    monkeypatch.setattr(sys, "stdin", stdin)
    (source,), _ = expand(["-"])
    assert (source.read(), source.name, source.stem) == (b"abc", "-", "stdin")
    assert source.read() == b"abc"  # read once, kept
    Path("-").touch()
    (named,), _ = expand(["./-"])
    assert named.path == Path("-")


def test_a_terminal_is_not_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(stdin, "isatty", lambda: True)
    for closed_or_terminal in (stdin, None):
        monkeypatch.setattr(sys, "stdin", closed_or_terminal)
        with pytest.raises(UsageError, match="standard input is not an image"):
            Source(None).read()

"""A stranger's folder: its liif.toml may say how images are made, not where they go or what they replace."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def image(desk: Path) -> None:
    """in.png, 12 x 8 pixels."""
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (8, 12, 3), np.uint8)).save("in.png")


def test_it_replaces_no_file_of_the_user(liif: Run, tiny_file: Path) -> None:
    Path("victim").write_text("mine")
    Path("liif.toml").write_text('[upscale]\noutput = "victim"\nformat = "png"\noverwrite = true\nmodel = "hf://a/b"\n')
    ran = liif("upscale", "in.png", "-s", "2", "-m", str(tiny_file))
    assert (ran.code, ran.out) == (0, ["in_2x.png"])
    assert Path("victim").read_text() == "mine"
    assert ran.err[0].startswith("Warning: liif.toml in this folder cannot set output, overwrite, model:")
    assert ran.err[1] == "Note: liif.toml in this folder sets format"


def test_the_users_own_file_may(liif: Run, tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from liif_cli.cli import settings

    own = tmp_path / "own.toml"
    own.write_text(f'[upscale]\nmodel = "{tiny_file}"\noutput = "mine.png"\n')
    monkeypatch.setattr(settings, "files", lambda: [own, Path("liif.toml")])
    assert liif("upscale", "in.png", "-s", "2").out == ["mine.png"]


def test_a_byte_order_mark_is_passed_over(liif: Run, tiny_file: Path) -> None:
    Path("liif.toml").write_bytes(b"\xef\xbb\xbf[upscale]\nscale = '2'\n")
    assert liif("upscale", "in.png", "-m", str(tiny_file)).out == ["in_2x.png"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[upscale]\n".encode("utf-16"), "not UTF-8"),
        (b"a = " + b"[" * 5000, "TOML"),
        (b"#" * (2**20 + 1), "larger than 1 MiB"),
    ],
    ids=["UTF-16", "nested", "large"],
)
def test_what_is_no_small_plain_toml_is_refused(liif: Run, content: bytes, said: str) -> None:
    Path("liif.toml").write_bytes(content)
    ran = liif("doctor")
    assert ran.code == 2 and said in ran.err[0]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(liif: Run) -> None:
    os.mkfifo("liif.toml")
    ran = liif("doctor")
    assert ran.code == 2 and "not a regular file" in ran.err[0]


def test_its_note_obeys_quiet_and_its_warning_does_not(liif: Run, tiny_file: Path) -> None:
    Path("liif.toml").write_text('[upscale]\nformat = "png"\noverwrite = true\n')
    ran = liif("upscale", "in.png", "-s", "2", "-m", str(tiny_file), "--quiet")
    assert ran.code == 0 and len(ran.err) == 1
    assert ran.err[0].startswith("Warning: liif.toml in this folder cannot set overwrite:")

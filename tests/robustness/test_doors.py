"""Settings, recipes, archives and run folders that are damaged or forged: read, or refused with a documented code."""

import gzip
import io
import json
import os
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from robustness.campaign import Kind, judge
from robustness.texts import ARCHIVES, CONFIGS, RUNS, run_files

from liif_cli.errors import CheckpointError, InputError, UsageError
from liif_cli.evaluation.unpack import unpack_images
from liif_cli.training import events, recipe
from liif_cli.training.run_folder import Run


@pytest.mark.parametrize("kind", [CONFIGS, ARCHIVES, RUNS], ids=["configs", "archives", "runs"])
def test_mutated_files_are_read_or_refused(kind: Kind) -> None:
    files = kind.files()
    healthy = {
        judge(kind, data) for name, data in files if name != "plain tar"
    }  # that is compressed when it is mutated
    assert healthy == {"made"}
    verdicts = [judge(kind, kind.mutated(seed, files)[1]) for seed in range(150)]
    assert [verdict for verdict in verdicts if not verdict.startswith(("made", "refused"))] == []
    assert {verdict.partition(":")[0] for verdict in verdicts} == {"made", "refused"}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run's folder, healthy."""
    for name, content in run_files():
        (tmp_path / name).write_bytes(content[1:])
    return Run.open(tmp_path)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff", b"[" * 5000, b'{"iterations": ' + b"9" * 5000 + b"}"])
def test_a_damaged_config_of_a_run_is_an_input_error(run: Run, text: bytes) -> None:
    run.config_path.write_bytes(text)
    with pytest.raises(InputError, match="is damaged"):
        run.config()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02]q\0h\0a.", b"\x80\x02K\x01."])
def test_a_damaged_state_is_a_checkpoint_error(run: Run, content: bytes) -> None:
    run.state_path.write_bytes(content)
    with pytest.raises(CheckpointError, match="state"):
        run.load_state()


def test_a_state_of_another_model_is_a_checkpoint_error(run: Run, liif: Callable[..., Any]) -> None:
    """At the command line, before a step is made."""
    images = run.folder / "images"
    images.mkdir()
    Image.effect_noise((256, 256), 90).convert("RGB").save(images / "a.png")
    config = recipe.parse_setting("optimiser.name='adam'") | {"data": {"folders": [str(images)]}, "device": "cpu"}
    run.config_path.write_text(json.dumps(recipe.merge(run.config(), config)))
    torch.save({"optimiser": {"state": {}, "param_groups": []}, "model": 3, "iteration": 3}, run.state_path)
    ran = liif("train", "--resume", run.folder)
    assert ran.code == 6 and "state.pt does not fit the run" in ran.err[-1]


def test_lines_of_a_log_that_are_no_events_are_passed_over(run: Run) -> None:
    odd = [
        3,
        None,
        {"event": 3},
        {"event": "validate", "iteration": 1, "scores": 3},
        {"event": "end", "iteration": "x"},
    ]
    lines = [json.dumps(each) for each in odd] + ["9" * 5000, "[" * 5000, "\x00"]
    before = run.events()
    with run.log_path.open("ab") as file:
        file.write(b"\xff\n" + "\n".join(lines).encode() + b"\n")
    assert run.events() == before and len(before) == 3
    nan = {"event": "validate", "iteration": 1, "scores": {"2": float("nan")}}
    assert events.parse(json.loads(json.dumps(nan))) is None


@pytest.mark.parametrize("content", [b"\xff", b"a = [" * 3000, b"iterations = " + b"9" * 5000, b"#" * 2**21])
def test_a_recipe_that_is_no_toml_is_a_usage_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.toml").write_bytes(content)
    with pytest.raises(UsageError, match=r"a\.toml"):
        recipe.read(str(tmp_path / "a.toml"), file=True)


def test_a_recipe_may_begin_with_a_byte_order_mark_and_holds_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(b"\xef\xbb\xbfiterations = 5\n")
    assert recipe.read(str(tmp_path / "a.toml"), file=True).iterations == 5
    (tmp_path / "a.toml").write_text("optimiser = {lr = nan}")
    with pytest.raises(UsageError, match="lr"):
        recipe.read(str(tmp_path / "a.toml"), file=True)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_recipe_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.toml")
    with pytest.raises(UsageError, match="not a regular file"):
        recipe.read(str(tmp_path / "a.toml"), file=True)


def packed(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A .tar.gz whose one member has `size` zeros, compressed to a thousandth."""
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    file = io.BytesIO()
    with gzip.open(file, "wb", 1) as stream:
        stream.write(info.tobuf(tarfile.GNU_FORMAT))
        for _ in range(size // 2**20):
            stream.write(bytes(2**20))
    return file.getvalue()


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE])
def test_a_header_of_an_archive_is_bounded(tmp_path: Path, kind: bytes) -> None:
    """A few kB of it were 64 MiB in memory."""
    (tmp_path / "a.tar.gz").write_bytes(packed("a", 2**26, kind))
    with pytest.raises(CheckpointError, match="damaged: it has a header of 67,1"):
        unpack_images(tmp_path / "a.tar.gz", tmp_path / "out")


def test_what_is_passed_over_in_an_archive_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from liif_cli.evaluation import unpack

    monkeypatch.setattr(unpack, "MOST_BYTES", 2**25)
    (tmp_path / "a.tar.gz").write_bytes(packed("read.txt", 2**26))
    with pytest.raises(CheckpointError, match="contains more than"):
        unpack_images(tmp_path / "a.tar.gz", tmp_path / "out")


def test_the_time_for_a_config_grows_with_its_size(tmp_path: Path) -> None:
    """Of the shapes that parsers of TOML were quadratic in."""
    shapes = [
        b"a" + b".a" * 400 + b"=1\n",
        b"[[a]]\n" * 100_000,
        b"[a]\n" + b"b=1\n" * 100_000,
        b"a=[" + b"1," * 250_000,
    ]
    start = time.process_time()
    for shape in shapes:
        (tmp_path / "a.toml").write_bytes(shape)
        with pytest.raises(UsageError):
            recipe.read(str(tmp_path / "a.toml"), file=True)
    assert time.process_time() - start < 15

"""Mutated files at the other doors: settings, recipes, archives of images, and the folder of a run."""

import gzip
import io
import json
import random
import tarfile
import zipfile
from functools import cache

import torch

from liif_cli.cli import settings
from liif_cli.cli.app import command
from liif_cli.errors import CheckpointError, LiifError
from liif_cli.evaluation.unpack import unpack_images
from liif_cli.models.schema import to_dict
from liif_cli.training import recipe
from liif_cli.training.run_folder import Run

from .campaign import Kind, scratch
from .mutate import BLIND, Mutator, apply

SETTINGS = b"""device = "cpu"
quality = 90
[upscale]
scale = ["2", "3.5"]
format = 'png'
lossless = false
[models.push]
private = true
"""
RECIPE = b"""base = "light"
name = "mine"
iterations = 1_000
[data]
folders = ["photos"]
scale = [1.0, 4.0]
[optimiser]
lr = 1e-4
"""
PIECES = (
    *(b"[" * 2000, b"{a=" * 500, b"a.b.c.d=1\n", b"[[upscale]]\n", b"9" * 5000, b"nan", b"-inf", b"1e999", b"0x", b"\xff"),
    *(b"\xef\xbb\xbf", b"\r", b"\0", b'"""', b"'''", b"2026-13-45", b"base = 3\n", b"model = 'x'\n", b"\\U00110000"),
    *("\u202e".encode(), b"[optimiser]\nlr=[]\n", b"[]\n", b"null", b'"\\ud800"', b"\n{}\n", b"1\n", b"x" * 300),
)  # fmt: skip


def piece(data: bytearray, dice: random.Random) -> None:
    """Put in something that a parser of text may trip over."""
    at = dice.randrange(len(data))
    data[at:at] = dice.choice(PIECES)


TEXT: tuple[Mutator, ...] = (*BLIND, piece, piece)


def text_mutated(seed: int, files: list[tuple[str, bytes]]) -> tuple[str, bytes]:
    """(what was done, file) that the number `seed` stands for."""
    return apply(seed, files, TEXT)


# Settings and recipes


def configs() -> list[tuple[str, bytes]]:
    """A `liif.toml` and a recipe; the first byte says which."""
    return [("settings", b"s" + SETTINGS), ("recipe", b"r" + RECIPE)]


def config_judged(data: bytes) -> str:
    """`made`, or `refused: ` and the error's class. Raises what is none of liif's errors."""
    path = scratch("texts") / "liif.toml"
    path.write_bytes(data[1:])
    try:
        if data[:1] == b"s":
            list(settings._read(path, settings.flat(command().commands)))
        else:
            recipe.read(str(path), file=True)
    except LiifError as error:
        assert len(str(error)) < 4096, f"a message of {len(str(error))} characters"
        return f"refused: {type(error).__name__}"
    return "made"


CONFIGS = Kind(configs, text_mutated, config_judged, memory=100)


# Archives


def archives() -> list[tuple[str, bytes]]:
    """The same two images, a hidden file and a text in a zip of each compression and in a .tar.gz."""
    members = {"set/a.png": b"a" * 300, "set/b.jpg": b"b" * 50, "set/.hidden.png": b"", "set/read.txt": b"text"}
    files = []
    for how in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", how) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        files.append((f"zip {how}", file.getvalue()))
    return [*files, ("tar", _tar(members)), ("plain tar", gzip.decompress(_tar(members)))]


def _tar(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.pax_headers = len(content), {"comment": "caf\u00e9"}
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def archive_mutated(seed: int, files: list[tuple[str, bytes]]) -> tuple[str, bytes]:
    """(what was done, file); a tar that is not compressed yet is compressed behind the mutation."""
    what, data = apply(seed, files, BLIND)
    return what, gzip.compress(data, 1) if what.startswith("plain") else data


def archive_judged(data: bytes) -> str:
    """`made`, or `refused: ` and the error's class. Raises what is none of liif's errors, or if something else was written."""
    path, out = scratch("texts") / "archive", scratch("texts") / "images"
    path.write_bytes(data)
    for name in scratch("texts").glob("images/*"):
        name.unlink()
    if out.exists():
        out.rmdir()
    try:
        unpack_images(path, out)
        verdict = "made"
    except LiifError as error:
        assert not out.exists()
        verdict = f"refused: {type(error).__name__}"
    assert {each.name for each in scratch("texts").iterdir()} <= {"archive", "images", "liif.toml", "run"}
    return verdict


ARCHIVES = Kind(archives, archive_mutated, archive_judged, memory=200)


# Run folders

NAMES = {b"c": "config.json", b"s": "state.pt", b"l": "log.jsonl"}


@cache
def run_files() -> list[tuple[str, bytes]]:
    """The files of a run's folder; the first byte says which."""
    config = recipe.read("light", {"data": {"folders": ["photos"]}})
    state = io.BytesIO()
    torch.save(
        {"iteration": 3, "model": {"a": torch.zeros(4)}, "optimiser": {"state": {}}, "rng": torch.zeros(3)}, state
    )
    events = [
        {"event": "train", "iteration": 1, "rate": 1e-4, "loss": 0.5, "psnr": 20.0, "samples_per_second": 3, "waiting": 0},
        {"event": "validate", "iteration": 2, "scores": {"2": 30.0, "3": 28.5}},
        {"event": "end", "iteration": 2, "reason": "done"},
    ]  # fmt: skip
    log = "".join(json.dumps(event) + "\n" for event in events)
    files = {b"c": json.dumps(to_dict(config), indent=2).encode(), b"s": state.getvalue(), b"l": log.encode()}
    return [(NAMES[key], key + content) for key, content in files.items()]


def run_judged(data: bytes) -> str:
    """`made`, or `refused: ` and the error's class. Raises what is none of liif's errors."""
    folder = scratch("texts") / "run"
    folder.mkdir(exist_ok=True)
    for key, content in run_files():
        (folder / key).write_bytes(content[1:])
    (folder / NAMES.get(data[:1], "config.json")).write_bytes(data[1:])
    try:
        run = Run.open(folder)
        run.parsed_config(recipe.merge(run.config(), {"iterations": 3}))
        run.load_state()
        run.last_scores()
        if data[:1] == b"l":
            run.draw_curve({"2": 29.0})
    except CheckpointError as error:
        return f"refused: {type(error).__name__}"
    except LiifError as error:
        assert len(str(error)) < 4096, f"a message of {len(str(error))} characters"
        return f"refused: {type(error).__name__}"
    return "made"


RUNS = Kind(run_files, text_mutated, run_judged, memory=200)

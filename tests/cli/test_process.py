"""What only a process of its own can show: its start, signals, pipes, terminals and encodings."""

import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import forked
import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and pipes")


@pytest.fixture(autouse=True)
def images(desk: Path) -> None:
    """a.png, b.png, c.png."""
    for name in "abc":
        Image.fromarray(np.random.default_rng(1).integers(0, 256, (8, 12, 3), np.uint8)).save(f"{name}.png")


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}


PIPES: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


def start(*arguments: Any, env: dict[str, str] | None = None, **options: Any) -> subprocess.Popen[bytes]:
    """In a new interpreter."""
    command = [sys.executable, "-m", "liif_cli", *map(str, arguments)]
    return subprocess.Popen(command, env=env or environment(), **(PIPES | options))


def fork(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
    """In a process that has loaded PyTorch already."""
    return forked.start(*arguments, **(PIPES | options))


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    return subprocess.run(
        [sys.executable, "-c", code], env=environment(), check=True, capture_output=True, text=True
    ).stdout


HEAVY = "sorted({'torch', 'numpy', 'PIL', 'pyvips', 'rich', 'pydantic', 'safetensors', 'huggingface_hub'} & set(sys.modules))"


def heavy(*calls: list[str]) -> list[set[str]]:
    """Which large libraries are loaded after each of the calls, made one after another in one interpreter."""
    code = f"""
import sys
from liif_cli.cli.app import run
from liif_cli.cli.options import models
for call in {calls}:
    models("") if call == ["completion"] else run(call)
    print("loaded:", {HEAVY})
"""
    return [set(eval(line[7:])) for line in python(code).splitlines() if line.startswith("loaded:")]


def test_nothing_heavy_is_loaded_to_help() -> None:
    *help, completion = heavy(["--version"], ["--help"], ["upscale", "--help"], ["completion"])
    assert help == [set()] * 3
    assert not {"torch", "numpy", "pyvips"} & completion


def test_what_is_wrong_is_said_before_torch_is_loaded() -> None:
    absent, existing = ["upscale", "gone.png", "-s", "2"], ["upscale", "a.png", "-s", "2", "-o", "b.png"]
    loaded = heavy(["upscale"], ["config"], ["models"], absent, existing)
    assert len(loaded) == 5 and not any("torch" in each for each in loaded)


def test_an_architecture_loads_nothing_of_torchs_compiler() -> None:
    """It takes a second to import, and torch does so for some random numbers that are never made."""
    code = """
import sys, torch
from liif_cli.models.model import SRModel
from liif_cli.models.registry import PRESETS
with torch.device("meta"):
    for config in PRESETS.values():
        SRModel(config)
print("torch._dynamo" in sys.modules)
"""
    assert python(code) == "False\n"


@posix
def test_an_image_goes_through_pipes(tiny_file: Path) -> None:
    data = Path("a.png").read_bytes()
    arguments = ["upscale", "-", "-s", 2, "-o", "-", "--format", "jpeg", "-m", tiny_file]
    with fork(*arguments, stdin=subprocess.PIPE) as process:
        out, err = process.communicate(data)
    assert (process.returncode, err) == (0, b"")
    Path("out.bin").write_bytes(out)
    with Image.open("out.bin") as image:
        assert (image.size, image.format) == ((24, 16), "JPEG")
    with fork(*arguments, stdin=subprocess.PIPE) as process:
        out, err = process.communicate(b"no image")
    assert (process.returncode, out) == (3, b"") and err.startswith(b"Error: ")


@posix
def test_a_terminal_gets_no_image_and_gives_none() -> None:
    import pty

    leader, follower = pty.openpty()
    try:
        with fork("upscale", "a.png", "-s", 2, "-o", "-", stdout=follower) as process:
            assert process.wait(60) == 2 and b"cannot write an image to a terminal" in process.communicate()[1]
        with fork("upscale", "-", "-s", 2, "-o", "x.png", stdin=follower) as process:
            assert process.wait(60) == 2 and b"standard input is not an image" in process.communicate()[1]
    finally:
        os.close(leader), os.close(follower)


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_leave_whole_files_a_summary_and_130(tiny_file: Path, number: int) -> None:
    """Of forty images some are written when the signal comes, after the first."""
    for index in range(40):
        Image.fromarray(np.random.default_rng(index).integers(0, 256, (64, 96, 3), np.uint8)).save(f"p{index:02}.png")
    before = {path.name for path in Path().iterdir()}
    with fork("upscale", "p*.png", "-s", 8, "-m", tiny_file) as process:
        assert process.stdout is not None and process.stdout.readline()
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"interrupted; the remaining images were not processed" in err and b"Traceback" not in err
    made = {path.name for path in Path().iterdir()} - before
    assert 0 < len(made) < 40 and made == {f"p{int(name[1:3]):02}_8x.png" for name in made}
    assert len(made) == 1 + len(out.split())
    for name in made:
        with Image.open(name) as image:
            image.load()
            assert image.size == (768, 512)


@posix
def test_what_the_caller_ignores_does_not_end_the_work(tiny_file: Path) -> None:
    """As under nohup: the terminal may go."""
    for index in range(10):
        Image.fromarray(np.random.default_rng(index).integers(0, 256, (64, 96, 3), np.uint8)).save(f"p{index}.png")
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = fork("upscale", "p*.png", "-s", 2, "-m", tiny_file)
    finally:
        signal.signal(signal.SIGHUP, before)
    with process:
        assert process.stdout is not None and process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        assert len(process.communicate(timeout=60)[0].split()) == 9 and process.returncode == 0


@posix
def test_a_reader_that_goes_away_ends_the_work_quietly() -> None:
    for arguments in (["models"], ["upscale", "--help"]):
        reader, writer = os.pipe()
        os.close(reader)
        with fork(*arguments, stdout=writer) as process:
            os.close(writer)
            err = process.communicate(timeout=60)[1]
        assert (process.returncode, err) == (4, b""), arguments


@posix
def test_closed_standard_streams() -> None:
    for redirection in (">&-", "2>&- <&-"):
        call = f"exec {sys.executable} -m liif_cli models {redirection}"
        done = subprocess.run(call, shell=True, env=environment(), capture_output=True)
        assert (done.returncode, done.stderr) == (0, b""), redirection
    done = subprocess.run(
        f"exec {sys.executable} -m liif_cli upscale gone.png -s 2 >&- 2>&-", shell=True, env=environment()
    )
    assert done.returncode == 3


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8"])
def test_names_that_the_terminal_cannot_show(encoding: str) -> None:
    """As an error's and, through --dry-run's way, as a result's text."""
    code = """
from liif_cli.cli.app import run
from liif_cli.cli.streams import result
code = run(["upscale", "ä→猫.png", "-s", "2"])
result("ä→猫.png")
raise SystemExit(code)
"""
    call = [sys.executable, "-c", code]
    done = subprocess.run(call, env=environment(PYTHONIOENCODING=encoding), capture_output=True)
    name = "ä→猫.png".encode(encoding, errors="backslashreplace")
    assert done.returncode == 3 and done.stderr.splitlines()[0] == b"Error: " + name + b" does not exist"
    assert done.stdout.strip() == name


def test_nothing_is_loaded_before_signals_are_answered() -> None:
    """By neither entry point: the installed program calls what the module calls."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        assert tomllib.load(file)["project"]["scripts"] == {"liif": "liif_cli.__main__:main"}
    loaded = python("import sys; before = {*sys.modules}; import liif_cli.__main__; print({*sys.modules} - before)")
    assert {each.partition(".")[0] for each in eval(loaded)} <= {"liif_cli", *sys.stdlib_module_names}
    assert {each for each in eval(loaded) if each.startswith("liif_cli.")} == {
        "liif_cli.__main__", "liif_cli.errors", "liif_cli.machine", "liif_cli.machine.signals",
    }  # fmt: skip
    assert not {"typing", "re", "dataclasses", "inspect"} & eval(loaded)


def test_the_module_is_the_program() -> None:
    with start("--version") as process:
        assert process.communicate()[0].startswith(b"liif ")
    assert python("import liif_cli.__main__; print('quiet')") == "quiet\n"

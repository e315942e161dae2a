"""Faults of the machine, as scripts: full disks, signals, too little memory, too few descriptors, races.

Each runs the real command in a process of its own, and asserts what is promised: the documented exit code, two lines, an
existing output whole, nothing half-written left behind.
"""

import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
FORMATS = ("png", "jpg", "webp", "tif", "gif", "avif")


@dataclass(frozen=True)
class Ran:
    """What became of a command: its exit code, standard output and the lines on standard error."""

    code: int
    out: bytes
    err: list[str]


Launch = Callable[..., "subprocess.Popen[bytes]"]


def interpreted(*arguments: object, limits: dict[int, int] | None = None, **options: Any) -> "subprocess.Popen[bytes]":
    """The command in a new interpreter, with limits of the system and options of `Popen`."""

    def prepare() -> None:
        for what, value in (limits or {}).items():
            resource.setrlimit(what, (value, value))
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)

    command = [sys.executable, "-m", "liif_cli", *map(str, arguments)]
    return subprocess.Popen(command, preexec_fn=prepare, **options)


@dataclass(frozen=True)
class Desk:
    """A folder with an image `in.png` (48 x 32) and a tiny model. launch: what starts a command, see `start`."""

    folder: Path
    launch: Launch

    @classmethod
    @contextmanager
    def new(cls, launch: Launch | None = None) -> Iterator["Desk"]:
        """One that is removed behind the block."""
        from .checkpoints import seeds

        with tempfile.TemporaryDirectory(prefix="liif-faults-") as name:
            desk = cls(Path(name), launch or interpreted)
            desk.image("in.png")
            desk.path("tiny.safetensors").write_bytes(dict(seeds())["edsr-liif"])
            yield desk

    def path(self, name: str) -> Path:
        """A file here."""
        return self.folder / name

    def image(self, name: str, size: tuple[int, int] = (32, 48), seed: int = 0) -> Path:
        """Write an image of (height, width)."""
        pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(self.path(name))
        return self.path(name)

    def start(
        self, *arguments: object, limits: dict[int, int] | None = None, **options: Any
    ) -> "subprocess.Popen[bytes]":
        """The command, with limits of the system (`resource.RLIMIT_*` -> value)."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("LIIF_")}
        environment |= {
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "HOME": str(self.folder),
            "HF_HUB_OFFLINE": "1",
        }
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return self.launch(*arguments, limits=limits, env=environment, cwd=self.folder, **(pipes | options))

    def upscale(self, source: str = "in.png", out: str = "out.png", *more: object) -> list[object]:
        """Arguments of a call that takes no second on an idle machine."""
        return ["upscale", source, "-s", 2, "-m", "tiny.safetensors", "-o", out, *more]

    def call(self, *arguments: object, **options: Any) -> Ran:
        """The command, to its end."""
        return ended(self.start(*arguments, **options))

    def hidden(self) -> list[str]:
        """What was left behind."""
        return [each.name for each in self.folder.rglob(".liif-*")]


def ended(process: "subprocess.Popen[bytes]", seconds: float = 300) -> Ran:
    """Wait for a command. Kills what does not end, and says so."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(f"{process.args} does not end") from None
    return Ran(process.returncode, out or b"", (err or b"").decode(errors="replace").splitlines())


def said(ran: Ran, codes: tuple[int, ...], what: str = "") -> None:
    """The exit code is one of `codes`, and an error is one line and at most one hint, no traceback, and about `what`."""
    assert ran.code in codes, (ran.code, ran.err)
    errors = [line for line in ran.err if line.startswith("Error: ")]
    assert not any("Traceback" in line or "this is a bug" in line for line in ran.err), ran.err
    if ran.code not in (0, 1, 130):
        assert len(errors) == 1, ran.err
        assert what.lower() in errors[0].lower(), errors


def whole(path: Path, size: tuple[int, int] = (96, 64)) -> bool:
    """Whether a file is an image of (width, height) that can be decoded to its end."""
    with Image.open(path) as image:
        image.load()
        return image.size == size


# Disk


def full_disk(desk: Desk) -> None:
    """No file may grow beyond 400 bytes: each format and a comparison end with code 4, and what was there stays."""
    for suffix in FORMATS:
        out = desk.path(f"out.{suffix}")
        out.write_bytes(b"old")
        ran = desk.call(*desk.upscale(out=out.name), "--overwrite", limits={resource.RLIMIT_FSIZE: 400})
        said(ran, (4,))
        assert out.read_bytes() == b"old" and not desk.hidden(), (suffix, desk.hidden())
    ran = desk.call(
        "compare", "in.png", "-s", 4, "-m", "tiny.safetensors", "-o", "c.png", limits={resource.RLIMIT_FSIZE: 400}
    )
    said(ran, (4,))
    assert not desk.path("c.png").exists() and not desk.hidden()


def full_stream(desk: Desk) -> None:
    """Standard output leads to a full device: an image, a list and JSON end with code 4."""
    calls = (desk.upscale("in.png", "-", "--format", "png"), ["models"], ["models", "--json"], ["upscale", "--help"])
    for arguments in calls:
        with Path("/dev/full").open("wb") as full:
            said(desk.call(*arguments, stdout=full), (4,))


@contextmanager
def small_disk(desk: Desk, size: str) -> Iterator[Path | None]:
    """A disk of `size` mounted on the desk; None where that is not allowed."""
    folder = desk.path("small")
    folder.mkdir(exist_ok=True)
    mount = shutil.which("mount")
    options = ["-t", "tmpfs", "-o", f"size={size}", "liif-small", str(folder)]
    if mount is None or subprocess.run([mount, *options], capture_output=True).returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def small_disk_is_full(desk: Desk) -> None:
    """A disk of 64 kB, of which half is taken: the lack is said before the work where the size is known, and what was there
    stays. Needs the right to mount."""
    with small_disk(desk, "64k") as folder:
        if folder is None:
            print("skipped: mounting is not allowed here")
            return
        (folder / "out.png").write_bytes(b"old" * 10_000)
        ran = desk.call("upscale", "in.png", "-s", 8, "-m", "tiny.safetensors", "-o", "small/out.png", "--overwrite")
        said(ran, (4,), "disk space")
        assert (folder / "out.png").read_bytes() == b"old" * 10_000 and not desk.hidden()


# Signals


def interrupted(desk: Desk, seed: int = 0) -> None:
    """A signal at any moment: code 130 (the signal's own before the program has begun, 0 behind its end), and the output is the
    old one or a whole one."""
    dice = random.Random(seed)
    number, suffix = dice.choice(SIGNALS), dice.choice(FORMATS)
    out = desk.path(f"out.{suffix}")
    out.write_bytes(b"old")
    process = desk.start(*desk.upscale(out=out.name), "--overwrite")
    time.sleep(dice.uniform(0, 1.2 * LENGTH.get("upscale", 4.0)))
    process.send_signal(number)
    ran = ended(process)
    # Within `exec`, as dataclasses are made, CPython remembers an interrupt that was caught: it ends by SIGINT, a shell's 130.
    assert ran.code in (130, 0, -number, -signal.SIGINT), (ran.code, ran.err)
    assert not any("Traceback" in line for line in ran.err) or ran.code == -number, ran.err
    assert out.read_bytes() == b"old" if ran.code < 0 else out.read_bytes() == b"old" or whole(out)
    assert not desk.hidden(), desk.hidden()


LENGTH: dict[str, float] = {}
"""Seconds of a whole call on this machine, by what is called."""


def measure(desk: Desk) -> None:
    """How long a call takes here, so that signals come at all of its moments."""
    start = time.monotonic()
    said(desk.call(*desk.upscale(out="length.png")), (0,))
    LENGTH["upscale"] = time.monotonic() - start


def killed(desk: Desk, seed: int = 0) -> None:
    """SIGKILL at any moment: the output is the old one or a whole one; what is left hidden goes with the next call that writes
    there a day later."""
    dice = random.Random(seed)
    out = desk.path("out.png")
    out.write_bytes(b"old")
    process = desk.start(*desk.upscale(), "--overwrite")
    time.sleep(dice.uniform(0.3, 1.1) * LENGTH.get("upscale", 4.0))
    process.kill()
    ended(process)
    assert out.read_bytes() == b"old" or whole(out)
    past = time.time() - 2 * 86_400
    for name in desk.hidden():
        os.utime(desk.path(name), (past, past))
    said(desk.call(*desk.upscale(), "--overwrite"), (0,))
    assert whole(out) and not desk.hidden()


# Memory and descriptors


def little_memory(desk: Desk, seed: int = 0) -> None:
    """An address space from far too small to ample: it works, or the code is 7; what was there stays."""
    mib = (100, 150, 300, 450, 600, 800, 1200, 2000)[seed % 8]
    out = desk.path("out.png")
    out.write_bytes(b"old")
    ran = desk.call(*desk.upscale(), "--overwrite", limits={resource.RLIMIT_AS: mib << 20})
    said(ran, (0, 7), "memory")
    assert whole(out) if ran.code == 0 else out.read_bytes() == b"old"
    assert not desk.hidden()


def few_descriptors(desk: Desk, seed: int = 0) -> None:
    """From five open files on, which Python itself needs: it works, or is refused with a code; what was there stays."""
    count = (5, 6, 7, 8, 10, 12, 16, 20, 24, 32)[seed % 10]
    out = desk.path("out.png")
    out.write_bytes(b"old")
    ran = desk.call(*desk.upscale(), "--overwrite", limits={resource.RLIMIT_NOFILE: count})
    said(ran, (0, 3, 4, 5, 6, 7))
    assert whole(out) if ran.code == 0 else out.read_bytes() == b"old"
    assert not desk.hidden()


# Races


def two_for_one_output(desk: Desk) -> None:
    """Two at once: without --overwrite one gets the name and the other code 4, with it both end well, and the file is whole."""
    both = [desk.start(*desk.upscale(out="race.png")) for _ in range(2)]
    codes = sorted(ended(process).code for process in both)
    assert codes == [0, 4] and whole(desk.path("race.png")), codes
    both = [desk.start(*desk.upscale(out="race.png"), "--overwrite") for _ in range(2)]
    assert [ended(process).code for process in both] == [0, 0] and whole(desk.path("race.png"))
    assert not desk.hidden()


def _in_a_batch(desk: Desk, change: Callable[[list[Path]], None], *, out: str = "made") -> Ran:
    """Upscale 24 small images; when the first is done, `change` what is still to come."""
    for name in ("photos", out):
        shutil.rmtree(desk.path(name), ignore_errors=True)
        desk.path(name).mkdir()
    files = [desk.image(f"photos/{index:02}.png", (40, 50), index) for index in range(24)]
    process = desk.start("upscale", "photos", "-s", 2, "-m", "tiny.safetensors", "-o", out)
    assert process.stdout is not None and process.stdout.readline()
    change(files)
    return ended(process)


def input_truncated(desk: Desk) -> None:
    """Images that lose their end while the batch runs: code 1, the others are whole."""

    def cut(files: list[Path]) -> None:
        for path in files[18:]:
            os.truncate(path, path.stat().st_size // 2)

    ran = _in_a_batch(desk, cut)
    said(ran, (1,))
    assert all(whole(path, (100, 80)) for path in desk.path("made").iterdir()) and not desk.hidden()


def input_replaced(desk: Desk) -> None:
    """Images that become others, of another size, or vanish: those are refused, no output is a mixture."""

    def swap(files: list[Path]) -> None:
        for path in files[18:21]:
            other = desk.image("other.png", (20, 30), 99)
            other.replace(path)
        for path in files[21:]:
            path.unlink()

    ran = _in_a_batch(desk, swap)
    said(ran, (1,))
    assert not any("Traceback" in line or "this is a bug" in line for line in ran.err)
    made = list(desk.path("made").iterdir())
    assert len(made) >= 18 and not desk.hidden()
    for path in made:
        with Image.open(path) as image:
            image.load()
            assert image.size in ((100, 80), (60, 40))


def folder_removed(desk: Desk) -> None:
    """The output folder goes away: code 4 or 1, and no other folder takes its place."""
    ran = _in_a_batch(desk, lambda _: shutil.rmtree(desk.path("made"), ignore_errors=True))
    said(ran, (1, 4))
    assert not any("this is a bug" in line for line in ran.err), ran.err
    assert not desk.hidden()


def folder_is_a_file(desk: Desk) -> None:
    """A file takes the name of an output while it is made: it stays."""
    process = desk.start(*desk.upscale(out="late.png"))
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(0.3 * LENGTH.get("upscale", 4.0))
    desk.path("late.png").write_bytes(b"theirs")
    ran = ended(process)
    if ran.code != 0:  # otherwise it was there first
        said(ran, (4,), "exists")
        assert desk.path("late.png").read_bytes() == b"theirs"
    assert not desk.hidden()


ONCE: tuple[Callable[[Desk], None], ...] = (
    full_disk, full_stream, small_disk_is_full, two_for_one_output, input_truncated, input_replaced, folder_removed,
    folder_is_a_file,
)  # fmt: skip
BY_CHANCE: tuple[Callable[[Desk, int], None], ...] = (interrupted, killed, little_memory, few_descriptors)


def run(rounds: int, first: int = 0, tell: Callable[[str], Any] = print) -> int:
    """Every script once, and those with chance in them `rounds` times. Returns how many failed."""
    failed = 0
    with Desk.new() as desk:
        measure(desk)
        tell(f"a call takes {LENGTH['upscale']:.1f} s")
    trials = [(script.__name__, script, None) for script in ONCE]
    trials += [(each.__name__, each, seed) for each in BY_CHANCE for seed in range(first, first + rounds)]  # type: ignore[misc]
    for name, script, seed in trials:
        with Desk.new() as desk:
            try:
                script(desk) if seed is None else script(desk, seed)  # type: ignore[call-arg]
                verdict = "as promised"
            except AssertionError as error:
                failed, verdict = failed + 1, f"FAILED {error}"
        tell(f"{name}{'' if seed is None else f' {seed}'}: {verdict}")
    return failed

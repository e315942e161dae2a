"""Faults of the machine, as scripts: full disks, signals, too little memory, too few descriptors, races.

Each runs the real command in a process of its own, and asserts what is promised: the documented exit code, two lines, an
existing output whole, nothing half-written left behind. Where a fault is to come at a certain point of the work, the command
is made to wait there.
"""

import contextlib
import json
import os
import random
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
FORMATS = ("png", "jpg", "webp", "tif", "gif", "avif")


class Skipped(Exception):
    """What a script needs is not here; says what."""


@dataclass(frozen=True)
class Ran:
    """What became of a command: its exit code, standard output and the lines on standard error."""

    code: int
    out: bytes
    err: list[str]


@cache
def tiny_model() -> bytes:
    """The file of a tiny model."""
    from .checkpoints import seeds

    return dict(seeds())["edsr-liif"]


Launch = Callable[..., "subprocess.Popen[bytes]"]


def interpreted(*arguments: object, **options: Any) -> "subprocess.Popen[bytes]":
    """liif in a new interpreter, with limits of the system and options of `Popen`."""
    return new_process([sys.executable, "-m", "liif_cli", *map(str, arguments)], **options)


def new_process(command: list[str], limits: dict[int, int] | None = None, **options: Any) -> "subprocess.Popen[bytes]":
    """A command, with limits of the system and options of `Popen`."""

    def prepare() -> None:
        for what, value in (limits or {}).items():
            resource.setrlimit(what, (value, value))
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)

    return subprocess.Popen(command, preexec_fn=prepare, **options)


@dataclass(frozen=True)
class Desk:
    """A folder with an image `in.png` (48 x 32) and a tiny model. launch: what starts liif, see `start`. started: the commands
    that were started here."""

    folder: Path
    launch: Launch
    started: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    @classmethod
    @contextmanager
    def new(cls, launch: Launch | None = None) -> Iterator["Desk"]:
        """One that is removed behind the block, as are commands that still run."""
        with tempfile.TemporaryDirectory(prefix="liif-faults-") as name:
            desk = cls(Path(name), launch or interpreted)
            desk.image("in.png")
            desk.path("tiny.safetensors").write_bytes(tiny_model())
            try:
                yield desk
            finally:
                for process in desk.started:
                    with process:  # closes its streams, too
                        process.kill()

    def path(self, name: str) -> Path:
        """A file here."""
        return self.folder / name

    def image(self, name: str, size: tuple[int, int] = (32, 48), seed: int = 0) -> Path:
        """Write an image of (height, width)."""
        pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(self.path(name))
        return self.path(name)

    def start(
        self, *arguments: object, limits: dict[int, int] | None = None, command: list[str] | None = None, **options: Any
    ) -> "subprocess.Popen[bytes]":
        """liif, or another command in a new process, with limits of the system (`resource.RLIMIT_*` -> value)."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("LIIF_")}
        environment |= {
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "HOME": str(self.folder),
            "HF_HUB_OFFLINE": "1",
        }
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        options = {"limits": limits, "env": environment, "cwd": self.folder, **pipes, **options}
        begun = new_process(command, **options) if command else self.launch(*arguments, **options)
        self.started.append(begun)
        return begun

    def upscale(self, source: str = "in.png", out: str = "out.png", *more: object) -> list[object]:
        """Arguments of a call that takes no second on an idle machine."""
        return ["upscale", source, "-s", 2, "-m", "tiny.safetensors", "-o", out, *more]

    def call(self, *arguments: object, **options: Any) -> Ran:
        """The command, to its end."""
        return ended(self.start(*arguments, **options))

    def hidden(self) -> list[str]:
        """What was left behind."""
        return [each.name for each in self.folder.rglob(".liif-*")]


def ended(process: "subprocess.Popen[bytes]", seconds: float = 900) -> Ran:
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
            raise Skipped("mounting is not allowed here")
        (folder / "out.png").write_bytes(b"old" * 10_000)
        ran = desk.call("upscale", "in.png", "-s", 8, "-m", "tiny.safetensors", "-o", "small/out.png", "--overwrite")
        said(ran, (4,), "disk space")
        assert (folder / "out.png").read_bytes() == b"old" * 10_000 and not desk.hidden()


# Signals


def begun(process: "subprocess.Popen[bytes]") -> bool:
    """Whether liif itself answers signals by now: it has set the handler of SIGTERM, which the interpreter leaves alone. Before
    that, a signal ends the interpreter, which is not ours. Linux; elsewhere False."""
    try:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    except OSError:
        return False
    masks = [int(line.split()[1], 16) for line in lines if line.startswith(("SigCgt:", "SigIgn:"))]
    return any(mask >> (signal.SIGTERM - 1) & 1 for mask in masks)


def interrupted(desk: Desk, seed: int = 0) -> None:
    """A signal at any moment: code 130, or 0 if the work was done; before liif has begun, the signal's own. No traceback, and
    the output is the old one or a whole one."""
    dice = random.Random(seed)
    number, suffix = dice.choice(SIGNALS), dice.choice(FORMATS)
    out = desk.path(f"out.{suffix}")
    out.write_bytes(b"old")
    process = desk.start(*desk.upscale(out=out.name), "--overwrite")
    time.sleep(dice.uniform(0, 1.2 * LENGTH.get(desk.launch, 4.0)))
    ours = begun(process)
    process.send_signal(number)
    judge_interrupt(desk, out, ended(process), None if ours else number)


def judge_interrupt(desk: Desk, out: Path, ran: Ran, early: signal.Signals | None) -> None:
    """Raises if an interrupted call kept something else than what is promised. early: the signal, if it may have come before
    liif had begun."""
    codes = (130, 0) if early is None else (130, 0, -early)
    assert ran.code in codes, f"code {ran.code} of {codes}: {ran.err}"
    assert ran.code < 0 or not any("Traceback" in line for line in ran.err), ran.err
    old = out.read_bytes() == b"old"
    assert old or (ran.code >= 0 and whole(out)), f"code {ran.code}, and the output is not the old one"
    assert ran.code or not old, "code 0, but no new output"
    assert not desk.hidden(), f"left behind: {desk.hidden()}"


def interrupted_anywhere(desk: Desk, seed: int = 0) -> None:
    """A signal at `MOMENTS` moments between the first of liif's own code and the work, in forks of one call: code 130, silent,
    and the old output. Linux."""
    if sys.platform != "linux":
        raise Skipped("the threads of a process are counted in /proc")
    for told in anywhere(desk, MOMENTS, seed, EVENTS, *desk.upscale(), "--overwrite"):
        assert told["code"] == 130 and not told["said"].strip(), told
    assert not desk.hidden(), f"left behind: {desk.hidden()}"


MOMENTS = 10
EVENTS = 1_400_000
"""Calls of functions, about, until a small image is read."""


def anywhere(desk: Desk, count: int, seed: int, last: int, *arguments: object) -> list[dict[str, Any]]:
    """What `anywhere.py` tells of `count` forks of a call."""
    command = [sys.executable, "-m", "tests.robustness.anywhere", str(count), str(seed), str(last)]
    ran = ended(desk.start(command=[*command, *map(str, arguments)]))
    assert ran.code == 0, ran.err
    return [json.loads(line) for line in ran.out.decode().splitlines() if line.startswith("{")]


LENGTH: dict[Launch, float] = {}
"""Seconds of a whole call on this machine, by what starts it."""


def measure(desk: Desk) -> None:
    """How long a call takes here, so that signals come at all of its moments."""
    start = time.monotonic()
    said(desk.call(*desk.upscale(out="length.png"), "--overwrite"), (0,))
    LENGTH[desk.launch] = time.monotonic() - start


def killed(desk: Desk, seed: int = 0) -> None:
    """SIGKILL at any moment: the output is the old one or a whole one; what is left hidden goes with the next call that writes
    there a day later."""
    dice = random.Random(seed)
    out = desk.path("out.png")
    out.write_bytes(b"old")
    process = desk.start(*desk.upscale(), "--overwrite")
    time.sleep(dice.uniform(0.3, 1.1) * LENGTH.get(desk.launch, 4.0))
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


@contextmanager
def memory_group(most: int) -> Iterator[Path]:
    """A control group whose processes may hold `most` bytes, in the one of this process."""
    from liif_cli.machine.memory import own_groups

    for version, _, parent in own_groups():
        group = parent / f"liif-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            try:
                (group / ("memory.max" if version == 2 else "memory.limit_in_bytes")).write_text(str(most))
            except OSError:
                continue
            yield group
            return
        finally:
            while own := (group / "cgroup.procs").read_text().split():  # none, unless a script failed
                for each in own:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(each), signal.SIGKILL)
            group.rmdir()
    raise Skipped("no control group of memory can be made here")


def small_group(desk: Desk) -> None:
    """In a control group of 512 MiB, an image is made in tiles that fit, or refused with code 7; the system kills nothing."""
    desk.image("other.png", (60, 80))
    with memory_group(2**29) as group:
        ran = ended(desk.start(command=in_group(group, ["-m", "liif_cli", *desk.upscale("other.png")])))
    said(ran, (0, 7), "memory")
    assert ran.code or whole(desk.path("out.png"), (160, 120))
    assert not desk.hidden()


def far_too_small_group(desk: Desk) -> None:
    """In a control group that has room for the libraries and little more: code 7, and the old output stays."""
    out = desk.path("out.png")
    out.write_bytes(b"old")
    with memory_group(400 * 2**20) as group:
        ran = ended(desk.start(command=in_group(group, ["-m", "liif_cli", *desk.upscale(), "--overwrite"])))
    said(ran, (0, 7), "memory")
    assert whole(out) if ran.code == 0 else out.read_bytes() == b"old"
    assert not desk.hidden()


def in_group(group: Path, arguments: list[object]) -> list[str]:
    """The command line that enters a control group and becomes Python with some arguments."""
    enter = f'echo $$ > {shlex.quote(str(group / "cgroup.procs"))} && exec "$@"'
    return ["/bin/sh", "-c", enter, "sh", sys.executable, *map(str, arguments)]


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
    """Upscale 24 small images; when the first is done, `change` what is still to come: the command waits meanwhile, since
    nobody reads what it prints of that first one."""
    for name in ("photos", out):
        shutil.rmtree(desk.path(name), ignore_errors=True)
        desk.path(name).mkdir()
    files = [desk.image(f"photos/{index:02}.png", (40, 50), index) for index in range(24)]
    reader, writer = full_pipe()
    process = desk.start("upscale", "photos", "-s", 2, "-m", "tiny.safetensors", "-o", out, stdout=writer)
    os.close(writer)
    wait_for(lambda: any(desk.path(out).glob("*.png")) or process.poll() is not None, "the first image")
    change(files)
    with os.fdopen(reader, "rb") as pipe:
        pipe.read()
    return ended(process)


def full_pipe() -> tuple[int, int]:
    """A pipe that takes no more until it is read: its ends to read and to write."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    for size in (4096, 1):
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, bytes(size))
    os.set_blocking(writer, True)
    return reader, writer


def wait_for(there: Callable[[], bool], what: str, seconds: float = 120) -> None:
    """Wait until something is there."""
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.002)


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
    """The output folder goes away when the first image of a batch is in it: the others fail, and no new folder takes its
    place, in which the first would be missing."""
    ran = _in_a_batch(desk, lambda _: gone(desk.path("made")))
    said(ran, (1,))
    assert any("made" in line for line in ran.err), ran.err
    assert not desk.path("made").exists(), "a new folder took its place"


REMOVE_FIRST = """
import shutil
from liif_cli.__main__ import main
from liif_cli.machine.files import OutputFile
put_in_place = OutputFile._put_in_place
OutputFile._put_in_place = lambda self: (shutil.rmtree(self.path.parent), put_in_place(self))
main()
"""


def folder_removed_before_the_last_step(desk: Desk) -> None:
    """The output folder goes away when the file is written under its temporary name, and about to get its own: code 4."""
    desk.path("made").mkdir()
    ran = ended(desk.start(command=[sys.executable, "-c", REMOVE_FIRST, *map(str, desk.upscale(out="made/out.png"))]))
    said(ran, (4,), "cannot write")
    assert not desk.path("made").exists(), "a new folder took its place"


def gone(folder: Path) -> None:
    """Remove a folder in which somebody may be writing."""
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)


def folder_is_a_file(desk: Desk) -> None:
    """A file takes the name of an output while it is made: it stays."""
    process = desk.start(*desk.upscale(out="late.png"))
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(0.3 * LENGTH.get(desk.launch, 4.0))
    desk.path("late.png").write_bytes(b"theirs")
    ran = ended(process)
    if ran.code != 0:  # otherwise it was there first
        said(ran, (4,), "exists")
        assert desk.path("late.png").read_bytes() == b"theirs"
    assert not desk.hidden()


def interrupted_at_work(desk: Desk, seed: int = 0) -> None:
    """The same in a process that has loaded the libraries already, so that most signals come while it works."""
    interrupted(desk, seed)


ONCE: tuple[Callable[[Desk], None], ...] = (
    full_disk, full_stream, small_disk_is_full, two_for_one_output, input_truncated, input_replaced, folder_removed,
    folder_removed_before_the_last_step, folder_is_a_file, small_group, far_too_small_group,
)  # fmt: skip
BY_CHANCE: tuple[Callable[[Desk, int], None], ...] = (
    interrupted, interrupted_anywhere, interrupted_at_work, killed, little_memory, few_descriptors,
)  # fmt: skip
FRESH = (interrupted, interrupted_anywhere, little_memory, few_descriptors)
"""What has to do with the start of the interpreter; the others are forked from one that has loaded the libraries."""


def run(rounds: int, first: int = 0, only: str | None = None, tell: Callable[[str], Any] = print) -> int:
    """Every script once, and those with chance in them `rounds` times; or only those of one name. Returns how many failed."""
    from tests import forked

    start, verdicts = time.monotonic(), Counter[str]()
    for launch in (interpreted, forked.start):
        with Desk.new(launch) as desk:
            measure(desk)
            measure(desk)  # the first may have to read the libraries from the disk
        tell(f"a call takes {LENGTH[launch]:.1f} s ({launch.__module__})")
    trials: list[tuple[str, Callable[[Desk], None], Launch]] = [(each.__name__, each, forked.start) for each in ONCE]
    for each in BY_CHANCE:
        launch = interpreted if each in FRESH else forked.start
        trials += [
            (f"{each.__name__} {seed}", partial(each, seed=seed), launch) for seed in range(first, first + rounds)
        ]
    for name, script, launch in trials:
        if only not in (None, name.partition(" ")[0]):
            continue
        verdict = tried(script, launch)
        verdicts[verdict.partition(":")[0]] += 1
        tell(f"{name}: {verdict}")
    for verdict, number in verdicts.most_common():
        tell(f"{number:7,} {verdict}")
    tell(f"{time.monotonic() - start:.0f} s")
    return verdicts["FAILED"]


def tried(script: Callable[[Desk], None], launch: Launch = interpreted) -> str:
    """The verdict on one script: `as promised`, `skipped: ` and what is missing, or `FAILED: ` and why."""
    with Desk.new(launch) as desk:
        try:
            script(desk)
        except Skipped as reason:
            return f"skipped: {reason}"
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            return f"FAILED: {type(error).__name__} {error} in line {last.lineno}: {last.line}"
    return "as promised"

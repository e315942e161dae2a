"""Many images at once: `liif upscale` from its arguments to its files."""

import json
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from liif_cli.errors import InputError, OutputError
from liif_cli.images import read as images
from liif_cli.images import vips, write
from liif_cli.images.formats.table import format_of
from liif_cli.machine.files import check_target
from liif_cli.machine.signals import interruptible
from liif_cli.models.model import SRModel
from liif_cli.models.store import find
from liif_cli.rendering.sizes import Scale, check_pixels, make_grid
from liif_cli.upscaling import batch
from liif_cli.upscaling.batch import Batch
from liif_cli.upscaling.inputs import Source
from liif_cli.upscaling.jobs import Task, task_for
from liif_cli.upscaling.options import Options
from liif_cli.upscaling.results import Draft
from liif_cli.upscaling.upscaler import Upscaler

RNG = np.random.default_rng(9)
X2 = Scale.parse("2")


def sample(name: str, width: int = 12, height: int = 8) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (height, width, 3), np.uint8)).save(path)
    return path


def size(path: str | Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def files(folder: Path | str = ".") -> list[str]:
    """Every file below a folder, including hidden ones."""
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


@pytest.fixture
def up(liif: Callable[..., Any], tiny_file: Path) -> Callable[..., Any]:
    """`liif upscale` with the tiny model on the CPU."""
    return lambda *arguments: liif("upscale", "-m", tiny_file, "--device", "cpu", *arguments)


def test_a_tree_is_kept_under_the_folder(up: Callable[..., Any]) -> None:
    for name in ("pics/a.png", "pics/x/b.jpg", "pics/x/y/c.png"):
        sample(name)
    ran = up("pics", "-r", "-s", 2, "-o", "large")
    assert ran.code == 0
    assert files("large") == ["a_2x.png", "x/b_2x.png", "x/y/c_2x.png"]
    assert [Path(line).as_posix() for line in ran.out] == ["large/a_2x.png", "large/x/b_2x.png", "large/x/y/c_2x.png"]
    assert size("large/x/b_2x.png") == (24, 16)
    assert ran.err[-1].startswith("3 written; ")


def test_a_folder_inside_the_input_is_not_read_again(up: Callable[..., Any]) -> None:
    sample("a.png")
    for more in ((), ("--skip-existing",)):
        assert up(".", "-r", "-s", 2, "-o", "large", *more).code == 0
        assert files() == ["a.png", "large/a_2x.png"]


def test_running_twice_next_to_the_inputs_makes_nothing_new(up: Callable[..., Any]) -> None:
    sample("a.png")
    assert up(".", "-s", 2).code == 0
    ran = up("*.png", "-s", 2, "--skip-existing")
    assert (ran.code, ran.out) == (0, []) and "1 skipped" in ran.err[-1]
    assert files() == ["a.png", "a_2x.png"]


def test_patterns_templates_and_several_sizes(up: Callable[..., Any]) -> None:
    sample("a.png"), sample("b.png")
    ran = up("?.png", "-s", 2, "--size", "30x", "-o", "{model}/{stem}-{width}.webp")
    assert ran.code == 0
    assert files("tiny") == ["a-24.webp", "a-30.webp", "b-24.webp", "b-30.webp"]


def test_a_bad_file_is_reported_and_the_rest_done(up: Callable[..., Any]) -> None:
    sample("a.png"), sample("c.png")
    Path("b.png").write_bytes(Path("a.png").read_bytes()[:60])
    ran = up("a.png", "b.png", "gone.png", "c.png", "-s", 2)
    assert ran.code == 1
    assert ran.out == ["a_2x.png", "c_2x.png"]
    errors = [line for line in ran.err if line.startswith("Error: ")]
    assert errors[0] == "Error: gone.png does not exist" and errors[1].startswith("Error: b.png")
    assert ran.err[-1].startswith("2 written, 2 failed; ")
    assert files() == ["a.png", "a_2x.png", "b.png", "c.png", "c_2x.png"]


def test_a_lone_image_that_fails_has_its_own_code(up: Callable[..., Any]) -> None:
    Path("b.png").write_bytes(b"nothing")
    for arguments in (("b.png",), ("gone.png",), (".",), ("*.gif",)):
        ran = up(*arguments, "-s", 2)
        assert ran.code == 3
        assert ran.err[0].startswith("Error: ") and len(ran.err) <= 2


def test_the_rest_of_a_batch_that_was_done_before_is_no_lone_image(up: Callable[..., Any]) -> None:
    sample("a.png"), Path("bad.png").write_bytes(b"nothing")
    for _ in range(2):
        ran = up("a.png", "bad.png", "-s", 2, "-o", "out", "--skip-existing")
        assert ran.code == 1 and "bad.png" in ran.err[0] and "1 failed" in ran.err[-1]


def test_errors_beyond_ours_stop_only_their_image(up: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    sample("a.png"), sample("b.png")
    real = images.read

    def read(source: Any, **options: Any) -> Any:
        if Path(source).stem == "a":
            raise ZeroDivisionError("in a decoder")
        return real(source, **options)

    monkeypatch.setattr(images, "read", read)
    ran = up("a.png", "b.png", "-s", 2)
    assert (ran.code, ran.out) == (1, ["b_2x.png"])
    assert "Error: a.png: ZeroDivisionError: in a decoder" in ran.err


def test_an_image_too_large_is_refused_before_it_is_decoded(
    up: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sample("a.png")

    def read(*_: Any, **__: Any) -> Any:
        raise AssertionError("decoded")

    monkeypatch.setattr(images, "read", read)
    ran = up("a.png", "-s", 2, "--max-pixels", 100)
    assert ran.code == 9 and "more than the limit" in ran.err[0]


def test_nothing_is_done_when_an_output_exists(up: Callable[..., Any]) -> None:
    sample("a.png"), sample("b.png")
    Path("b_2x.png").write_text("mine")
    ran = up("a.png", "b.png", "-s", 2)
    assert (ran.code, ran.out) == (4, [])
    assert ran.err == ["Error: b_2x.png exists", "Hint: --overwrite replaces it"]
    assert files() == ["a.png", "b.png", "b_2x.png"] and Path("b_2x.png").read_text() == "mine"
    assert up("a.png", "b.png", "-s", 2, "--skip-existing").out == ["a_2x.png"]
    assert Path("b_2x.png").read_text() == "mine"
    assert up("b.png", "-s", 2, "--overwrite").code == 0 and size("b_2x.png") == (24, 16)


def test_collisions_are_refused_before_work(up: Callable[..., Any]) -> None:
    sample("a.png"), sample("a.jpg")
    ran = up("a.png", "a.jpg", "-s", 2, "-o", "{stem}.png")
    assert ran.code == 2 and "would both be written" in ran.err[0] and ran.err[1].startswith("Hint: ")
    assert up("a.png", "-s", 2, "-s", 3, "-o", "x.png").code == 2
    assert files() == ["a.jpg", "a.png"]


def test_json_has_one_object_per_output(up: Callable[..., Any], tiny_file: Path) -> None:
    sample("ä.png")
    ran = up("ä.png", "-s", "1.5", "--size", "5x5", "--json")
    lines = [json.loads(line) for line in ran.out]
    expected = ["input", "output", "width", "height", "scale", "model", "revision"]
    expected += ["device", "precision", "seconds", "restore", "restore_reason", "notes"]
    assert [list(line) for line in lines] == [expected, expected]
    first, second = lines
    assert (first["input"], first["output"], first["width"], first["height"]) == ("ä.png", "ä_1.5x.png", 18, 12)
    assert (first["scale"], first["model"], first["revision"]) == ([1.5, 1.5], "tiny", None)
    assert (first["device"], first["notes"]) == ("cpu", [])
    assert first["precision"] in ("fp32", "bf16", "fp16") and first["seconds"] > 0
    assert any("aspect" in note for note in second["notes"])


def test_json_has_a_line_for_each_input_that_failed(up: Callable[..., Any]) -> None:
    sample("a.png"), sample("c.png")
    Path("b.png").write_bytes(Path("a.png").read_bytes()[:60])
    ran = up("a.png", "b.png", "gone.png", "c.png", "-s", 2, "--json", "--max-pixels", "400")
    lines = [json.loads(line) for line in ran.out]
    assert ran.code == 1 and [line["input"] for line in lines] == ["gone.png", "b.png", "a.png", "c.png"]
    assert [line.get("code") for line in lines] == [3, 3, None, None] and set(lines[0]) == {"input", "error", "code"}
    assert lines[0]["error"] == "gone.png does not exist" and "b.png" in lines[1]["error"]
    lone = up("a.png", "-s", 4, "--json", "--max-pixels", "400")
    assert lone.code == 9 == json.loads(lone.out[0])["code"] and json.loads(lone.out[0])["error"] in lone.err[0]
    plan = up("gone.png", "-s", 4, "--json", "--dry-run")
    assert plan.code == 3 == json.loads(plan.out[0])["code"]


@pytest.mark.parametrize("name", ["x.png", "{stem}_{width}_{scale}.png", "new/"])
def test_everything_is_decided_once(up: Callable[..., Any], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One image and one output: the header, the grid and the format once; permissions before the work and at the end."""
    monkeypatch.setattr("liif_cli.upscaling.calibration.remember", lambda *_: None)  # a slow run writes its speed, too
    sample("a.png")
    counted = {f.__code__: f.__name__ for f in (images.probe, make_grid, format_of, check_target, check_pixels, find)}
    calls: Counter[str] = Counter()

    def tally(frame: Any, event: str, _: Any) -> None:
        if event == "call" and frame.f_code in counted:
            calls[counted[frame.f_code]] += 1

    threading.setprofile(tally)
    sys.setprofile(tally)
    try:
        ran = up("a.png", "--size", "30x", "-o", name, "-v")
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    assert ran.code == 0
    # a folder that is yet to be made is looked at before the work in another way: whether it can be
    permissions = 1 if name == "new/" else 2
    formats = 2 if name == "new/" else 1  # the suffix of a name that is made up is a format's, too
    expected = {
        "probe": 1,
        "make_grid": 1,
        "check_pixels": 1,
        "format_of": formats,
        "check_target": permissions,
        "find": 1,
    }
    assert dict(calls) == expected


def test_a_file_that_has_changed_since_it_was_probed_is_refused(desk: Path, tiny: SRModel) -> None:
    sample("a.png"), sample("b.png")
    tasks = [task("a.png"), task("b.png")]
    sample("a.png", 9, 9)
    watcher = Notes()
    Batch(Upscaler(tiny, Options(precision="fp32")), watcher).run(tasks)
    assert [str(error) for error in watcher.errors] == [
        "a.png has changed since it was probed: it had 12x8 pixels and has 9x9"
    ]
    assert files() == ["a.png", "b.png", "b_2x.png"]


def test_dry_run_shows_every_output_and_writes_nothing(up: Callable[..., Any]) -> None:
    sample("a.png"), sample("b.png", 20, 10)
    ran = up("a.png", "b.png", "-s", 2, "-o", "new/", "--dry-run", "--json")
    plans = [json.loads(line) for line in ran.out]
    assert [(Path(p["output"]).as_posix(), p["width"]) for p in plans] == [("new/a_2x.png", 24), ("new/b_2x.png", 40)]
    assert files() == ["a.png", "b.png"] and not Path("new").exists()


def test_talk(up: Callable[..., Any]) -> None:
    sample("a.png"), sample("b.png")
    quiet = up("a.png", "b.png", "--size", "5x5", "-q")
    assert (quiet.out, quiet.err) == (["a_5x5.png", "b_5x5.png"], [])
    usual = up("a.png", "--size", "5x5", "--overwrite")
    assert all(line.startswith("Note: ") for line in usual.err) and usual.err
    verbose = up("a.png", "b.png", "-s", 2, "-v")
    for line, name in zip(verbose.err, ("a", "b"), strict=False):
        for part in (
            f"{name}_2x.png: tiny on cpu in ",
            "1 tile of up to 12 pixels",
            "read ",
            "encode ",
            "decode ",
            "file ",
        ):
            assert part in line
    assert up("a.png", "-s", 2, "-q", "-v").code == 2


def test_the_times_of_verbose_are_those_of_the_parts(
    desk: Path, tiny: SRModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample("a.png")
    clock = [0.0]

    def slow(function: Callable[..., Any], seconds: float) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            clock[0] += seconds
            return function(*arguments, **options)

        return call

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(images, "read", slow(images.read, 0.1))
    monkeypatch.setattr(tiny, "encode", slow(tiny.encode, 0.2))
    monkeypatch.setattr(tiny, "render", slow(tiny.render, 0.3))
    monkeypatch.setattr(write, "encode", slow(write.encode, 0.4))
    watcher = Notes()
    Batch(Upscaler(tiny, Options(precision="fp32")), watcher).run([task("a.png")])
    (timing,) = watcher.timings
    parts = timing.read, timing.encode, timing.decode, timing.file
    assert parts == pytest.approx((0.1, 0.2, 0.3, 0.4))
    assert watcher.results[0].seconds == pytest.approx(1)


class Notes:
    """A watcher that remembers, and can be told to raise."""

    def __init__(self, interrupt_after: int = 10**9) -> None:
        self.results: list[Any] = []
        self.timings: list[Any] = []
        self.errors: list[Exception] = []
        self.rendering: list[str] = []
        self.pixels, self.interrupt_after = 0, interrupt_after

    def started(self, task: Task, *_: Any) -> None:
        self.rendering.append(task.source.name)
        if len(self.rendering) > self.interrupt_after:
            raise KeyboardInterrupt

    def advanced(self, pixels: int) -> None:
        self.pixels += pixels

    def finished(self, result: Any, timing: Any, stats: Any) -> None:
        assert threading.current_thread() is threading.main_thread()
        self.results.append(result)
        self.timings.append(timing)

    def failed(self, task: Task, error: Exception) -> None:
        self.errors.append(error)


def task(name: str) -> Task:
    return task_for(Source(Path(name)), [(X2, Path(f"{Path(name).stem}_2x.png"))], Options())


def test_reading_and_writing_happen_during_rendering(
    desk: Path, tiny: SRModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each rendering waits for the next image to have been read, and each writing for the next rendering to have begun."""
    names = [sample(f"{index}.png").name for index in range(6)]
    tasks = [task(name) for name in names]
    was_read, begun = [[threading.Event() for _ in names] for _ in range(2)]
    real_read, real_encode, real_render = images.read, write.encode, tiny.render
    watcher, written = Notes(), count()

    def read(source: Path, **options: Any) -> Any:
        original = real_read(source, **options)
        was_read[names.index(source.name)].set()
        return original

    def encode(*arguments: Any) -> Any:
        assert all(event.wait(10) for event in begun[: next(written) + 2])
        return real_encode(*arguments)

    def render(*arguments: Any) -> Any:
        index = len(watcher.rendering) - 1
        begun[index].set()
        assert all(event.wait(10) for event in was_read[: index + 2])
        return real_render(*arguments)

    monkeypatch.setattr(images, "read", read)
    monkeypatch.setattr(write, "encode", encode)
    monkeypatch.setattr(tiny, "render", render)
    Batch(Upscaler(tiny, Options(precision="fp32")), watcher).run(tasks)
    assert not watcher.errors and [result.input for result in watcher.results] == names
    assert watcher.pixels == 6 * 24 * 16


def test_large_images_are_not_read_ahead(desk: Path, tiny: SRModel, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [sample(f"{index}.png").name for index in range(4)]
    threads = []
    real = images.read

    def read(source: Any, **options: Any) -> Any:
        threads.append(threading.current_thread())
        return real(source, **options)

    monkeypatch.setattr(images, "read", read)
    monkeypatch.setattr(batch, "LARGE", 12 * 8 * 3 - 1)
    Batch(Upscaler(tiny, Options(precision="fp32")), Notes()).run([task(name) for name in names])
    assert set(threads) == {threading.main_thread()} and len(threads) == 4


def test_outputs_that_wait_take_bounded_memory(desk: Path, tiny: SRModel, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [sample(f"{index}.png").name for index in range(6)]
    held = most = 0
    real_save, real_render = Draft.save, Upscaler.render

    def render(*arguments: Any) -> Any:
        nonlocal held, most
        drafts = real_render(*arguments)
        held += sum(draft.bytes for draft in drafts)
        most = max(most, held)
        return drafts

    def save(draft: Any) -> Any:
        nonlocal held
        time.sleep(0.03)
        result = real_save(draft)
        held -= draft.bytes
        return result

    monkeypatch.setattr(Draft, "save", save)
    monkeypatch.setattr(Upscaler, "render", render)
    one = 24 * 16 * 3
    monkeypatch.setattr(batch, "WAITING", 2 * one)
    watcher = Notes()
    Batch(Upscaler(tiny, Options(precision="fp32")), watcher).run([task(name) for name in names])
    assert len(watcher.results) == 6 and most <= 3 * one


def test_an_interrupt_leaves_whole_files_and_nothing_else(
    desk: Path, tiny: SRModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [sample(f"{index}.png").name for index in range(8)]
    watcher = Notes(interrupt_after=4)
    with pytest.raises(KeyboardInterrupt):
        Batch(Upscaler(tiny, Options(precision="fp32")), watcher).run([task(name) for name in names])
    made = {result.output for result in watcher.results}
    assert set(files()) == {*names, *made} and len(made) <= 4
    assert all(size(path) == (24, 16) for path in made)
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("liif-")]


def test_a_folder_that_is_removed_meanwhile_is_not_made_again(desk: Path, tiny: SRModel) -> None:
    """It would lack the outputs before."""

    class Removing(Notes):
        def started(self, task: Task, *more: Any) -> None:
            super().started(task, *more)
            if len(self.rendering) == 4:
                wait(each.future for each in run._saving)
                shutil.rmtree("out/deep")

    Path("out/deep").mkdir(parents=True)
    tasks = [task_for(Source(sample(f"{i}.png")), [(X2, Path(f"out/deep/{i}.png"))], Options()) for i in range(12)]
    watcher = Removing()
    run = Batch(Upscaler(tiny, Options(precision="fp32")), watcher, make_folders=True)
    run.run(tasks)
    assert len(watcher.results) == 3 and len(watcher.errors) == 9 and not Path("out/deep").exists()
    assert all(isinstance(error, OutputError) and "deep" in str(error) for error in watcher.errors)


def test_a_signal_is_delayed_until_an_output_is_reported(
    desk: Path, tiny: SRModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file that was made is reported, wherever the signal comes while outputs are handed over or reported."""
    names = [sample(f"{index}.png").name for index in range(4)]
    for raiser in ("finished", "submit"):
        watcher = Notes()
        run = Batch(Upscaler(tiny, Options(precision="fp32")), watcher)
        with interruptible(), pytest.raises(KeyboardInterrupt), monkeypatch.context() as patch:
            if raiser == "finished":
                patch.setattr(watcher, "finished", _after_a_signal(watcher.finished))
                patch.setattr(watcher, "started", lambda *_, run=run: wait(each.future for each in run._saving))
            else:
                patch.setattr(ThreadPoolExecutor, "submit", _then_a_signal(ThreadPoolExecutor.submit))
            run.run([task(name) for name in names])
        assert [result.output for result in watcher.results] == ["0_2x.png"], raiser
        assert files() == sorted([*names, "0_2x.png"]), raiser
        Path("0_2x.png").unlink()


def _after_a_signal(call: Callable[..., Any]) -> Callable[..., Any]:
    def signalled(*arguments: Any) -> None:
        signal.raise_signal(signal.SIGTERM)
        call(*arguments)

    return signalled


def _then_a_signal(submit: Callable[..., Any]) -> Callable[..., Any]:
    """`submit` that is interrupted when it has taken a draft to save, which then gets its time."""

    def signalled(pool: Any, call: Any, *arguments: Any) -> Any:
        future = submit(pool, call, *arguments)
        if call is batch._save:
            future.result()
            signal.raise_signal(signal.SIGTERM)
        return future

    return signalled


def test_an_interrupt_stops_an_encoder(desk: Path, tiny: SRModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that takes long to write is abandoned, and no trace of it is left."""
    sample("a.png"), sample("b.png")
    encoding_now, real = threading.Event(), vips.interruptibly

    def endless(image: Any, work: Callable[[], object], cancelled: threading.Event) -> None:
        def until_killed() -> None:
            encoding_now.set()
            for _ in range(1000):
                time.sleep(0.01)
                work()

        real(image, until_killed, cancelled)

    monkeypatch.setattr(vips, "interruptibly", endless)
    watcher = Notes(interrupt_after=1)
    monkeypatch.setattr(watcher, "started", lambda task, *_: _raise_when(task.source.name == "b.png", encoding_now))
    started = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        Batch(Upscaler(tiny, Options(precision="fp32")), watcher).run([task("a.png"), task("b.png")])
    assert time.perf_counter() - started < 5
    assert files() == ["a.png", "b.png"] and not watcher.results and not watcher.errors


def _raise_when(condition: bool, event: threading.Event) -> None:
    if condition:
        assert event.wait(5)
        raise KeyboardInterrupt


def test_the_model_is_loaded_once_and_its_errors_end_the_run(up: Callable[..., Any], liif: Callable[..., Any]) -> None:
    sample("a.png"), sample("b.png")
    ran = liif("upscale", "a.png", "b.png", "-s", 2, "-m", "edsr-baseline-lif")
    assert ran.code == 5 and ran.err[1] == "Hint: did you mean edsr-baseline-liif?" and len(ran.err) == 2
    Path("bad.safetensors").write_bytes(b"12345678901234567890")
    assert liif("upscale", "a.png", "b.png", "-s", 2, "-m", "bad.safetensors").code == 6
    assert files() == ["a.png", "b.png", "bad.safetensors"]


def test_a_full_disk_costs_only_its_output(desk: Path, tiny: SRModel, monkeypatch: pytest.MonkeyPatch) -> None:
    sample("a.png"), sample("b.png")
    real = write.encode

    def encode(image: Any, path: Path, *arguments: Any, **options: Any) -> Any:
        if next(calls):
            raise OutputError("the output could not be written: No space left on device")
        return real(image, path, *arguments, **options)

    calls = iter([True, False])
    monkeypatch.setattr(write, "encode", encode)
    monkeypatch.setattr(batch.os, "cpu_count", lambda: 1)
    watcher = Notes()
    Batch(Upscaler(tiny, Options(precision="fp32")), watcher).run([task("a.png"), task("b.png")])
    assert [result.output for result in watcher.results] == ["b_2x.png"]
    assert isinstance(watcher.errors[0], OutputError) and files() == ["a.png", "b.png", "b_2x.png"]


def test_waiting_raises_the_error() -> None:
    future: Future[int] = Future()
    future.set_exception(InputError("no"))
    with pytest.raises(InputError):
        batch.result_of(future)


def test_the_name_of_the_model_is_that_of_its_file(tiny_file: Path) -> None:
    assert Upscaler(tiny_file).name == find(tiny_file).name == "tiny"

"""The cache of models' speeds, and `--dry-run`."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from liif_cli.errors import OutOfMemory
from liif_cli.models.checkpoints import save_model
from liif_cli.models.decoders.fourier import FourierConfig
from liif_cli.models.encoders.gated import GatedConfig
from liif_cli.models.model import SRModel
from liif_cli.models.registry import ModelConfig
from liif_cli.models.store import find
from liif_cli.rendering.sizes import Scale
from liif_cli.rendering.timing import RenderStats
from liif_cli.upscaling import calibration, speeds
from liif_cli.upscaling.estimate import estimate, seconds_of
from liif_cli.upscaling.inputs import Source
from liif_cli.upscaling.jobs import task_for
from liif_cli.upscaling.options import Options
from liif_cli.upscaling.speeds import Measured, Speed, recall, remember
from liif_cli.upscaling.upscaler import Upscaler

SPEED = Speed("cpu", 1e-6, 1e-7, 2.0, 10**8, 4, 1, 100, 50, 1000, {"png": 1e-8})


@pytest.fixture(autouse=True)
def cache(desk: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache in a folder of its own; a.png, 12x8."""
    monkeypatch.setattr("huggingface_hub.constants.HF_ASSETS_CACHE", str(desk.parent / "cache"))
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (8, 12, 3), np.uint8)).save("a.png")
    return desk.parent / "cache" / "liif" / "speeds.json"


def loads_torch(*arguments: Any) -> bool:
    """Whether a call in a process of its own loads torch."""
    code = f"import sys; from liif_cli.cli.app import run; run({[str(a) for a in arguments]!r}); print('torch' in sys.modules)"
    variables = os.environ | {"HF_ASSETS_CACHE": str(Path.cwd().parent / "cache")}
    ran = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True)
    return ran.stdout.splitlines()[-1] == "True"


def test_a_dry_run_measures_once_and_then_loads_no_torch(
    liif: Callable[..., Any], tiny_file: Path, cache: Path, tmp_path: Path
) -> None:
    model = tmp_path / "tiny.safetensors"
    model.write_bytes(tiny_file.read_bytes())
    call = ("upscale", "a.png", "-s", "3", "-m", model, "--dry-run", "--json", "--device", "cpu")
    first = liif(*call)
    assert first.err[0] == "Note: measuring the speed of tiny on this machine, once"
    again = liif(*call)
    assert len(again.err) == 1 and again.err[0].startswith("Note: about ")
    assert json.loads(first.out[0]) == json.loads(again.out[0]) and json.loads(again.out[0])["seconds"] > 0
    assert not loads_torch(*call)
    other = liif(*call, "-o", "a.webp")  # another format: how long that takes to write is not known
    assert "measuring" in other.err[0]
    assert set(next(iter(json.loads(cache.read_text()).values()))["file"]) == {"png", "webp"}
    os.utime(model, ns=(1, 1))
    assert "measuring" in liif(*call).err[0]


def test_a_restored_image_has_the_speed_of_the_counterpart(liif: Callable[..., Any], tmp_path: Path) -> None:
    for name, blocks in (("mine", 2), ("mine-photo", 3)):
        model = SRModel(ModelConfig(GatedConfig(features=4, blocks=blocks), FourierConfig()))
        save_model(model, tmp_path / f"{name}.safetensors", licence="CC0-1.0", provenance={})
    call = ("upscale", "a.png", "-s", "3", "-m", tmp_path / "mine.safetensors", "--dry-run", "--device", "cpu")
    assert liif(*call).err[0] == "Note: measuring the speed of mine on this machine, once"
    assert liif(*call, "--restore", "0.5").err[0] == "Note: measuring the speed of mine-photo on this machine, once"
    plain, photo = (
        recall(find(tmp_path / f"{name}.safetensors"), Options(device="cpu"), 8) for name in ("mine", "mine-photo")
    )
    assert plain is not None and photo is not None and (plain.halo, photo.halo) == (8, 11)
    assert "measuring" not in liif(*call, "--restore", "1").err[0]


def test_a_speed_is_of_a_file_a_version_threads_and_a_precision(
    tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tiny.safetensors"
    path.write_bytes(tiny_file.read_bytes())
    checkpoint, options = find(path), Options()
    assert recall(checkpoint, options, 8) is None
    remember(checkpoint, options, 8, SPEED)
    assert recall(checkpoint, options, 8) == SPEED
    assert recall(checkpoint, options, 16) is None
    for other in ({"precision": "fp32"}, {"device": "cuda"}, {"chunk": 100}):
        assert recall(checkpoint, replace(options, **other), 8) is None
    assert recall(checkpoint, replace(options, tile=9, memory=2**30, self_ensemble=True), 8) == SPEED
    for patch in (("OMP_NUM_THREADS", "17"), ("CUDA_VISIBLE_DEVICES", "7")):
        with monkeypatch.context() as context:
            context.setenv(*patch)
            assert recall(checkpoint, options, 8) is None
    for name, value in (("__version__", "99"), ("_torch_version", lambda: "99"), ("_processors", lambda: 99)):
        with monkeypatch.context() as context:
            context.setattr(speeds, name, value)
            assert recall(checkpoint, options, 8) is None
    os.utime(path, ns=(1, 1))
    assert recall(checkpoint, options, 8) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"x": {"device": 3}}'])
def test_a_cache_of_another_version_is_ignored(tiny_file: Path, cache: Path, content: str) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text(content)
    assert recall(find(tiny_file), Options(), 8) is None
    remember(find(tiny_file), Options(), 8, SPEED)
    assert recall(find(tiny_file), Options(), 8) == SPEED


def test_a_cache_that_cannot_be_written_stops_nothing(tiny_file: Path, cache: Path) -> None:
    cache.parent.parent.write_text("a file in its place")
    remember(find(tiny_file), Options(), 8, SPEED)
    assert recall(find(tiny_file), Options(), 8) is None


def test_the_cache_stays_small(tiny_file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speeds, "MOST", 3)
    for chunk in range(1, 6):
        remember(find(tiny_file), Options(chunk=chunk), 8, SPEED)
    assert len(json.loads(cache.read_text())) == 3
    assert recall(find(tiny_file), Options(chunk=5), 8) == SPEED


def test_seconds_are_those_of_all_pixels() -> None:
    task, options = task_for(Source(Path("a.png")), [(Scale.parse("3"), Path("b.png"))], Options()), Options()
    pixels = 36 * 24
    assert seconds_of(task, SPEED, options) == pytest.approx((96e-6, pixels * 1.1e-7))
    four = seconds_of(task, SPEED, Options(self_ensemble=True))
    assert four == pytest.approx((4 * 96e-6, pixels * (4e-7 + 1e-8)))
    tiled = estimate(task, SPEED, Options(tile=6))[0]  # two tiles in a row, halos of 4 around them
    assert tiled.tiles == 4 and tiled.seconds == pytest.approx(4 * 8 * 10 * 1e-6 + pixels * 1.1e-7)
    several = task_for(Source(Path("a.png")), [(Scale.parse(s), Path(f"{s}.png")) for s in ("2", "3", "0.5")], options)
    each = [plan.seconds for plan in estimate(several, SPEED, options)]
    assert each == pytest.approx([48e-6 + 24 * 16 * 1.1e-7, 48e-6 + pixels * 1.1e-7, 24 * 1e-8])


def test_a_limit_counts_the_program_with_its_model() -> None:
    task = task_for(Source(Path("a.png")), [(Scale.parse("3"), Path("b.png"))], Options())
    with pytest.raises(OutOfMemory, match=r"the program and the image alone take 95\.4 MiB"):
        estimate(task, SPEED, Options(memory=9 * 10**7))


def test_the_plan_without_torch_is_the_renderers(tiny: Any) -> None:
    """The tiles and the memory are the same with a model and with its cached speed."""
    upscaler = Upscaler(tiny, Options(memory=2**33))
    task = task_for(Source(Path("a.png")), [(Scale.parse("3"), Path("b.png"))], upscaler.options)
    renderer = upscaler.renderer(8)
    from liif_cli.upscaling.calibration import described

    speed = described(renderer, 0, 0, 0, 0, {})
    plan = renderer.plan((8, 12), [task.outputs[0].grid], 3, budget=2**33 - 288)
    found = estimate(task, speed, upscaler.options)[0]
    assert (found.tiles, found.tile, found.peak_memory) == (plan.count, plan.side, plan.peak + 288 + 36 * 24 * 3)


def test_a_run_updates_the_speed(liif: Callable[..., Any], tiny_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speeds, "ENOUGH", 0.0)
    assert liif("upscale", "a.png", "-s", 4, "-m", tiny_file, "--device", "cpu").code == 0
    speed = recall(find(tiny_file), Options(device="cpu"), 8)
    assert speed is not None and set(speed.file) == {"png"} and min(speed.encode, speed.decode, speed.file["png"]) > 0
    ran = liif("upscale", "a.png", "-s", 5, "-m", tiny_file, "--device", "cpu", "--dry-run")
    assert not any("measuring" in line for line in ran.err) and ran.out[0].endswith(" s")


def test_short_measurements_are_ignored() -> None:
    stats: Any = SimpleNamespace(encode=0.1, encoded=10**5, decode=0.001, decoded=10**5)
    measured = Measured()
    measured.add(stats)
    measured.add_file("png", 0.2, 10**6)
    learned = measured.onto(SPEED)
    assert (learned.encode, learned.decode) == (1e-6, SPEED.decode)
    assert learned.file == {"png": pytest.approx(2e-7)}
    assert not measured.enough


def test_bands_are_so_small_that_progress_is_seen() -> None:
    stats = RenderStats()
    assert stats.band(2**20) == 2**16 and stats.band(100) == 100  # nothing is known yet
    stats.decode, stats.decoded = 2.0, 100_000
    assert stats.band(2**20) == 25_000 and stats.band(2**20, fields=4) == 6_250
    stats.decoded = 10**9
    assert stats.band(2**20) == 2**20


def test_a_measurement_is_not_what_other_programs_made_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine was busy during the first of them, or during all but one."""
    for taken in ([0.2, 0.001, 0.001, 0.001], [0.05, 0.07, 0.01, 0.06], [0.6]):
        ends = iter([moment for seconds in taken for moment in (0.0, seconds)])
        monkeypatch.setattr(calibration.time, "perf_counter", lambda ends=ends: next(ends))
        calls: list[int] = []
        least, _ = calibration._timed(lambda calls=calls: calls.append(1))
        assert least == min(taken) and len(calls) <= len(taken)

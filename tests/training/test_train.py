"""Training: a step is the authors' step, a resumed run is the uninterrupted one bit for bit, and no end loses work."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import forked
import numpy as np
import pytest
import torch
from PIL import Image
from plain_step import plain_loss
from tiny_models import tiny_config
from torch import nn

from liif_cli.cli.app import run as cli
from liif_cli.errors import CheckpointError, InputError, LiifError, OutputError, UsageError
from liif_cli.machine.processes import World
from liif_cli.models.checkpoints import read_header, save_model
from liif_cli.models.decoders.fourier import FourierConfig
from liif_cli.models.encoders.gated import GatedConfig
from liif_cli.models.model import SRModel
from liif_cli.models.registry import ModelConfig
from liif_cli.models.schema import to_dict
from liif_cli.models.store import load_model
from liif_cli.training.device_pairs import DevicePairs
from liif_cli.training.events import Noted, Step
from liif_cli.training.optimisers import factor
from liif_cli.training.pairs import Pairs
from liif_cli.training.recipe import (
    DataConfig,
    EMAConfig,
    OptimiserConfig,
    ScheduleConfig,
    TrainConfig,
    ValidationConfig,
    fitted,
    read,
)
from liif_cli.training.report import verdict
from liif_cli.training.run_folder import Run
from liif_cli.training.sources import ImageFolders
from liif_cli.training.train import load_weights, train
from liif_cli.training.trainer import Objective, Trainer, make_ema, settle


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Nine smooth images of 64 x 72 pixels."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for number in range(9):
        small = Image.fromarray(rng.integers(0, 256, (9, 8, 3), dtype=np.uint8))
        small.resize((64, 72), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def config(photos):
    """A run of seconds with every moving part: warm-up, EMA with warm-up, clipping, validation."""
    return TrainConfig(
        name="tiny",
        model=tiny_config(),
        data=DataConfig(folders=(str(photos),), val=(str(photos),), patch=12, queries=40),
        optimiser=OptimiserConfig(lr=2e-3, clip=1.0),
        schedule=ScheduleConfig("cosine", warmup=3),
        ema=EMAConfig(0.99),
        validation=ValidationConfig(every=8, scales=(2.0,), pictures=2, crop=24, preview_scales=(2.0,)),
        iterations=24,
        batch=4,
        seed=5,
    )


def same(a, b):
    """Whether two nested states are equal bit for bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def size_of(path):
    with Image.open(path) as image:
        return image.size


# The step


@pytest.mark.parametrize(
    "changes", [{}, {"local_ensemble": False}, {"feature_unfolding": False}, {"cell_decoding": False}]
)
@pytest.mark.parametrize("encoder", ["edsr", "rdn"])
def test_loss_and_gradients_are_those_of_a_plain_step(photos, encoder, changes):
    torch.manual_seed(0)
    model = SRModel(tiny_config(encoder, **changes))
    batch = Pairs(ImageFolders([photos], 48), patch=12, scale=(1.0, 4.0), queries=60).batch(range(6))
    loss, error = Objective(model)(batch.lr, batch.rgb, batch.position, batch.cell)
    loss.backward()
    ours = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    expected, squared = plain_loss(model, batch)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert error.item() == pytest.approx(squared.item(), rel=1e-4)
    for name, parameter in model.named_parameters():
        assert torch.allclose(ours[name], parameter.grad, rtol=2e-3, atol=2e-6), name


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_sixteen_bits_come_close(photos, precision):
    torch.manual_seed(0)
    model = SRModel(tiny_config())
    batch = Pairs(ImageFolders([photos], 48), patch=12, scale=(1.0, 4.0), queries=60).batch(range(6))
    gradients = []
    for kind in (torch.float32, precision):
        model.zero_grad()
        Objective(model, precision=kind)(batch.lr, batch.rgb, batch.position, batch.cell)[0].backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert nn.functional.cosine_similarity(*gradients, dim=0) > 0.999
    assert all(p.grad.dtype == torch.float32 for p in model.parameters())


def test_pieces_do_not_change_the_gradients(photos, monkeypatch):
    torch.manual_seed(0)
    model = SRModel(tiny_config())
    batch = Pairs(ImageFolders([photos], 48), patch=12, scale=(1.0, 4.0), queries=50).batch(range(2))
    gradients = []
    for size in (2**21, 4 * 16 * 4 * 7):  # everything at once; seven queries at once
        monkeypatch.setattr("liif_cli.models.kernels.backward.BYTES_AT_ONCE", size)
        model.zero_grad()
        Objective(model)(batch.lr, batch.rgb, batch.position, batch.cell)[0].backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-7) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("loss", ["l1", "l2", "charbonnier"])
def test_losses(photos, loss):
    model = SRModel(tiny_config())
    batch = Pairs(ImageFolders([photos], 48), patch=12, scale=(1.0, 4.0), queries=60).batch(range(2))
    predicted = model.decoder.query(model.encode(batch.lr.float() / 255), batch.position, batch.cell)
    difference = (predicted - (batch.rgb.float() / 255 - 0.5) / 0.5).detach().numpy()
    expected = {"l1": np.abs(difference), "l2": difference**2, "charbonnier": np.sqrt(difference**2 + 1e-6)}[
        loss
    ].mean()
    assert Objective(model, loss)(batch.lr, batch.rgb, batch.position, batch.cell)[0].item() == pytest.approx(
        expected, rel=1e-5
    )


def test_schedules():
    paper = read("edsr-baseline-liif-paper")
    rates = [paper.optimiser.lr * factor(paper.schedule, i, paper.iterations) for i in (0, 199_999, 200_000, 999_999)]
    assert rates == [1e-4, 1e-4, 5e-5, 1e-4 / 16]
    cosine = ScheduleConfig("cosine", warmup=10, floor=0.1)
    assert [factor(cosine, i, 110) for i in (0, 4, 9, 10)] == [0.1, 0.5, 1.0, 1.0]
    assert factor(cosine, 60, 110) == pytest.approx(0.55) and factor(cosine, 110, 110) == pytest.approx(0.1)
    hold = ScheduleConfig("hold", warmup=10, decay=20)
    assert [factor(hold, i, 100) for i in (4, 50, 80)] == [0.5, 1.0, 1.0]
    assert factor(hold, 90, 100) == pytest.approx(0.5) and 0 < factor(hold, 99, 100) < 0.01
    assert factor(ScheduleConfig(), 5, 10) == 1


@pytest.mark.parametrize("iterations", [60, 20_000])
@pytest.mark.parametrize("preset", ["light", "edsr-baseline-liif", "edsr-baseline-liif-paper"])
def test_a_schedule_longer_than_the_run_is_scaled_to_it(preset, iterations):
    recipe, notes = fitted(replace(read(preset), iterations=iterations))
    rates = [factor(recipe.schedule, i, iterations) for i in range(iterations)]
    assert sum(rate == 1 for rate in rates) > 0.15 * iterations and rates.index(1.0) <= 0.05 * iterations
    assert rates[-1] < 0.1  # it is let down at the end, too
    assert notes and all(note.startswith("schedule.") for note in notes)
    assert fitted(recipe) == (recipe, [])
    assert fitted(read(preset)) == (read(preset), [])


def test_what_a_short_schedule_is_scaled_to():
    light = read("light")
    recipe, notes = fitted(replace(light, iterations=100))
    assert (recipe.schedule.decay, recipe.schedule.warmup) == (20, 5)
    assert notes[0] == "schedule.decay 60,000 does not fit into 100 iterations; scaled to 20"
    paper, _ = fitted(replace(read("edsr-baseline-liif-paper"), iterations=500))
    assert paper.schedule.milestones == (100, 200, 300, 400)
    cool_down = replace(light, iterations=60_000)  # all decay: asked for, and it fits
    assert fitted(cool_down) == (cool_down, [])


def test_the_averages_decay_warms_up():
    model = nn.Linear(1, 1, bias=False)
    ema = make_ema(model, EMAConfig(0.999))
    values, expected = [3.0, 1.0, -2.0, 5.0], 3.0
    for n, value in enumerate(values):
        nn.init.constant_(model.weight, value)
        ema.next()
        ema.update_parameters(model)
        expected = expected if n == 0 else expected + (value - expected) * (1 - (1 + n) / (10 + n))
    assert ema.module.weight.item() == pytest.approx(expected, rel=1e-6)
    assert ema.n_averaged == 4 and ema.module.weight.requires_grad and ema.module.weight.grad is None
    assert make_ema(model, EMAConfig(0)) is None


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_precision_is_what_the_processor_does_fast(monkeypatch, native, expected):
    monkeypatch.setattr("liif_cli.training.trainer.fast_bf16_cpu", lambda: native)
    default = read("edsr-baseline-liif")
    assert default.precision == "auto"
    assert settle(default, torch.device("cpu")).precision == expected
    assert settle(replace(default, precision="fp16"), torch.device("cpu")).precision == "fp16"


def test_the_papers_preset_has_the_papers_numbers():
    paper = read("edsr-baseline-liif-paper")
    assert (paper.data.patch, paper.data.scale, paper.data.queries, paper.batch) == (48, (1.0, 4.0), 2304, 16)
    assert paper.optimiser == OptimiserConfig("adam", 1e-4) and paper.optimiser.clip == 0
    assert paper.schedule == ScheduleConfig("multistep", milestones=(200_000, 400_000, 600_000, 800_000), gamma=0.5)
    assert (paper.iterations, paper.loss, paper.precision, paper.data.degrade) == (1_000_000, "l1", "fp32", "clean")
    assert paper.ema.decay == 0 and paper.data.augment
    assert sum(p.numel() for p in SRModel(paper.model).parameters()) == 1_567_299


# Runs


def test_a_run_leaves_what_it_should(config, tmp_path):
    run = Run.create(tmp_path / "run", config)
    heard = []
    assert train(run, config, watch=heard.append) == "done"
    entries = run.entries()
    assert [e["iteration"] for e in entries if e["event"] == "validate"] == [8, 16, 24]
    assert [e["event"] for e in entries][-3:] == ["checkpoint", "note", "end"]  # under bicubic
    assert sum(isinstance(event, Step) for event in heard) == 24
    header = read_header(tmp_path / "run" / "tiny.safetensors")
    assert header.model == json.loads(json.dumps(to_dict(config.model))) and header.provenance["iterations"] == 24
    assert header.provenance["recipe"]["optimiser"]["lr"] == 2e-3 and header.provenance["pictures"] == 9
    assert str(tmp_path) not in json.dumps(to_dict(header)) and str(
        Path(config.data.folders[0]).parent
    ) not in json.dumps(to_dict(header))
    assert size_of(tmp_path / "run" / "curve.png") == (720, 600)
    assert len(list((tmp_path / "run" / "previews").iterdir())) == 3
    card = (tmp_path / "run" / "tiny.md").read_text("utf-8")
    assert (
        "liif upscale photo.jpg --scale 4 --model tiny.safetensors" in card and "| iterations | 24 of batch 4 |" in card
    )
    published = load_model(tmp_path / "run" / "tiny.safetensors").export()
    averages = {k.removeprefix("module."): v for k, v in run.load_state()["ema"].items()}
    assert all(torch.equal(v, averages[k if k.startswith("encoder") else f"decoder.{k}"]) for k, v in published.items())


def test_training_learns(config, tmp_path):
    check = replace(config.validation, every=50)
    longer = replace(config, iterations=150, optimiser=replace(config.optimiser, lr=1e-2), validation=check)
    train(Run.create(tmp_path / "run", longer), longer)
    entries = [e for e in Run(tmp_path / "run").entries() if e["event"] == "validate"]
    assert entries[-1]["scores"]["2"] > entries[0]["scores"]["2"] + 2


@pytest.mark.parametrize(
    ("precision", "optimiser"),
    [("fp32", "adam"), ("bf16", "adam"), ("fp16", "adam"), ("fp16", "muon")],
)
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(config, tmp_path, precision, optimiser):
    changes = {"optimiser": replace(config.optimiser, name=optimiser)}
    config = replace(config, precision=precision, iterations=12, **changes)
    whole, parts = (Run.create(tmp_path / name, config) for name in ("whole", "parts"))
    train(whole, config)
    for stop in (1, 5, 6, 12):  # the schedule is that of the whole run, the stops come from outside
        assert train(parts, config, watch=stopper(stop)) == ("SIGTERM" if stop < 12 else "done")
        assert parts.load_state()["iteration"] == stop
        torch.manual_seed(stop)  # whatever happens between must not matter
    assert same(whole.load_state(), parts.load_state())
    assert (tmp_path / "whole/tiny.safetensors").read_bytes() == (tmp_path / "parts/tiny.safetensors").read_bytes()


def test_images_read_as_needed_train_the_same_as_those_in_memory(config, tmp_path):
    states = []
    for cache in ("memory", "lazy"):
        changed = replace(config, iterations=4, data=replace(config.data, cache=cache))
        run = Run.create(tmp_path / cache, changed)
        train(run, changed)
        assert run.entries()[0]["in_memory"] == (cache == "memory")
        states.append(run.load_state())
    assert same(*states)


def test_an_image_that_breaks_on_the_way_is_named(config, photos, tmp_path):
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    config = replace(config, iterations=8, workers=0, data=replace(config.data, folders=(str(folder),), cache="lazy"))
    run = Run.create(tmp_path / "run", config)

    def ruin(event):
        if isinstance(event, Step) and event.iteration == 1:
            (folder / "3.png").write_bytes(b"no image any more")

    assert train(run, config, watch=ruin) == "done"
    (named,) = (e["skipped"] for e in run.entries() if e["event"] == "skipped")
    assert len(named) == 1 and "3.png" in named[0]


def stopper(iteration):
    """A watcher that sends this process SIGTERM after a step."""

    def watch(event):
        if isinstance(event, Step) and event.iteration == iteration:
            signal.raise_signal(signal.SIGTERM)

    return watch


def test_a_deeper_network_starts_as_the_shallower_one(tmp_path):
    shallow, deep, wide = (
        SRModel(ModelConfig(GatedConfig(features=features, blocks=blocks), FourierConfig())).eval()
        for features, blocks in ((4, 2), (4, 3), (6, 3))
    )
    save_model(shallow, tmp_path / "start.safetensors", licence="x", provenance={})
    load_weights(deep, tmp_path / "start.safetensors")
    image = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(deep.encoder(image), shallow.encoder(image))
    with pytest.raises(CheckpointError, match="has the shape"):
        load_weights(wide, tmp_path / "start.safetensors")


def test_max_time_ends_a_run_cleanly(config, tmp_path):
    endless = replace(config, iterations=10**6)
    run = Run.create(tmp_path / "run", endless)
    began = time.monotonic()
    assert train(run, endless, max_time=0.5) == "time"
    assert time.monotonic() - began < 10 and run.load_state()["iteration"] > 0
    assert (tmp_path / "run" / "tiny.safetensors").is_file()


def test_init_and_fork(config, tmp_path):
    parent = Run.create(tmp_path / "parent", config)
    train(parent, config)
    state = parent.load_state()
    begun = Trainer(config, SRModel(config.model), torch.device("cpu"))
    save_model(begun.model, tmp_path / "start.safetensors", licence="x", provenance={})

    short = replace(config, iterations=1, optimiser=replace(config.optimiser, lr=0.0), schedule=ScheduleConfig())
    train(Run.create(tmp_path / "init", short), short, init=tmp_path / "start.safetensors")
    after = Run(tmp_path / "init").load_state()
    assert same(after["model"], begun.model.state_dict()) and after["source"] == "start"

    train(Run.create(tmp_path / "fork", short), short, fork=parent)
    after = Run(tmp_path / "fork").load_state()
    assert same(after["model"], state["model"]) and after["iteration"] == 1
    assert after["optimiser"]["state"][0]["step"] == 25 and after["ema"]["n_averaged"] == 25
    assert after["steps_before"] == 24 and "iteration 24 of parent" in after["source"]
    other = replace(short, optimiser=replace(config.optimiser, name="muon"))
    with pytest.raises(UsageError, match="optimiser was not muon"):
        train(Run.create(tmp_path / "muon", other), other, fork=parent)
    with pytest.raises(UsageError, match="no state yet"):
        train(Run.create(tmp_path / "other", short), short, fork=Run.create(tmp_path / "empty", short))


def test_what_makes_no_sense_is_refused(config, tmp_path, monkeypatch):
    run = Run.create(tmp_path / "run", config)
    with pytest.raises(OutputError, match="already contains a run"):
        Run.create(tmp_path / "run", config)
    with pytest.raises(UsageError, match="145 queries"):
        train(run, replace(config, data=replace(config.data, queries=145)))
    for wrong in ({"identity": 1.5}, {"candidates": 0}):
        with pytest.raises(UsageError, match="identity must be from 0 to 1"):
            train(run, replace(config, data=replace(config.data, **wrong)))
    with pytest.raises(UsageError, match="no training data"):
        train(run, replace(config, data=replace(config.data, folders=())))
    with pytest.raises(UsageError, match="range of scales"):
        train(run, replace(config, data=replace(config.data, scale=(0.5, 2.0))))
    with pytest.raises(InputError, match="no usable image"):
        train(run, replace(config, data=replace(config.data, patch=99)))
    with monkeypatch.context() as patch, pytest.raises(UsageError, match="cannot divide a batch of 4 among 3"):
        patch.setattr("liif_cli.training.train.joined", lambda device: nullcontext(World(0, 3)))
        train(run, config)
    with pytest.raises(InputError, match="does not contain a run"):
        Run.open(tmp_path)


def test_a_run_under_bicubic_says_so_when_it_ends_and_on_its_card(config, tmp_path):
    heard = []
    run = Run.create(tmp_path / "run", config)
    train(run, config, watch=heard.append)
    [note] = [event.text for event in heard if isinstance(event, Noted)]
    assert note.startswith("this model is worse than bicubic at x2 (")
    card = (run.folder / "tiny.md").read_text("utf-8")
    assert f"**T{note[1:]}.**" in card
    scores = run.last_scores()
    made = read_header(run.folder / "tiny.safetensors").provenance
    assert made["validation_psnr"] == scores and made["validation_bicubic"]["2"] > scores["2"]
    assert verdict({"2": 30.0, "3": 28.0}, {"2": 29.0, "3": 28.0}) is None


def test_the_schedule_that_was_scaled_is_noted_and_published(config, tmp_path):
    config = replace(config, iterations=10, schedule=ScheduleConfig("hold", decay=1000))
    heard = []
    run = Run.create(tmp_path / "run", config)
    train(run, config, watch=heard.append)
    notes = [event.text for event in heard if isinstance(event, Noted)]
    assert notes[0] == "schedule.decay 1,000 does not fit into 10 iterations; scaled to 2"
    made = read_header(run.folder / "tiny.safetensors").provenance
    assert made["recipe"]["schedule"]["decay"] == 2
    assert run.config()["schedule"]["decay"] == 1000  # a run that is made longer gets it


@pytest.mark.parametrize("existing", [False, True])
def test_nothing_is_left_by_a_run_that_never_stepped(photos, tmp_path, monkeypatch, capsys, existing):
    monkeypatch.chdir(tmp_path)
    if existing:
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "notes.txt").touch()
    before = sorted(tmp_path.rglob("*"))
    tiny = [
        "--set",
        "model.encoder={name='edsr', features=8, blocks=1}",
        "--set",
        "model.decoder={name='liif', hidden=[16]}",
    ]
    rest = ["--out", "a/run", "--patch", "12", "--queries", "30", "--batch", "2", "--iterations", "2", *tiny]
    (tmp_path / "empty").mkdir()
    for wrong in ("gone", "empty"):
        assert cli(["train", "--data", wrong, *rest]) == 3
        assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "empty"])
    assert cli(["train", "--data", str(photos), "--val", "gone", *rest]) == 3
    assert cli(["train", "--data", str(photos), "--init", "gone", *rest]) == 5
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "empty"])
    assert cli(["train", "--data", str(photos), *rest]) == 0  # the corrected command
    assert Run(tmp_path / "a" / "run").load_state()["iteration"] == 2


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_last_good_state(config, tmp_path):
    run = Run.create(tmp_path / "run", config)
    train(run, config, watch=stopper(4))
    state = run.load_state()
    broken = replace(config, optimiser=replace(config.optimiser, lr=float("inf"), clip=0.0))
    with pytest.raises(LiifError, match="no longer finite"):
        train(run, broken)
    assert same(run.load_state(), state)


def test_data_on_the_device_trains_alike_and_resumes_exactly(config, tmp_path, monkeypatch):
    """The loop of a GPU run, on the CPU's tensors."""
    config = replace(config, iterations=12)
    usual = Run.create(tmp_path / "usual", config)
    train(usual, config)
    monkeypatch.setattr("liif_cli.training.loop.device_pairs", DevicePairs)
    whole, parts = (Run.create(tmp_path / name, config) for name in ("whole", "parts"))
    train(whole, config)
    train(parts, config, watch=stopper(5))
    train(parts, config)
    assert same(whole.load_state(), parts.load_state())
    # The same patches, other pixels of them: not the same losses, but close.
    losses = [[e["loss"] for e in run.entries() if e["event"] == "train"][-1] for run in (usual, whole)]
    assert losses[0] != losses[1] and losses[0] == pytest.approx(losses[1], rel=0.1)


# Processes


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(path, iteration, process):
    """Until the run's log tells of a checkpoint at or after an iteration."""
    run, deadline = Run(path), time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        if any(e["event"] == "checkpoint" and e["iteration"] >= iteration for e in run.entries()):
            return
        time.sleep(0.02)
    raise AssertionError("the run does not get on")


def recipe(config, path, **changes):
    """The config as a run's folder, so that a process can resume it from its beginning."""
    changed = replace(config, **changes)
    return Run.create(path, changed), changed


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_killed_run_resumes_from_its_last_checkpoint(config, tmp_path):
    """SIGKILL while checkpoints are written all the time; then to the end, against a run that nobody killed."""
    run, changed = recipe(config, tmp_path / "killed", iterations=400, checkpoint_minutes=0.0)
    process = forked.start("train", "--resume", run.folder, stderr=subprocess.PIPE)
    wait_for(run.folder, 30, process)
    process.kill()
    process.communicate()
    state = run.load_state()
    assert 30 <= state["iteration"] < 400
    (run.folder / ".liif-0123.pt").write_bytes(b"half a state")  # what a kill in the middle of a write leaves
    until = state["iteration"] + 7
    assert train(run, changed, watch=stopper(until)) == "SIGTERM"
    whole, _ = recipe(config, tmp_path / "whole", iterations=400, checkpoint_minutes=10.0)
    train(whole, changed, watch=stopper(until))
    assert same(run.load_state(), whole.load_state())
    assert not list(run.folder.glob(".liif-*"))


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_says_how_to_go_on(config, tmp_path, number):
    run, _ = recipe(config, tmp_path / "run", iterations=10**6, checkpoint_minutes=0.0)
    process = forked.start("train", "--resume", run.folder, stderr=subprocess.PIPE, text=True)
    wait_for(run.folder, 10, process)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"resume with: liif train --resume {run.folder}" in said and "Traceback" not in said
    last = run.entries()[-1]
    assert last["event"] == "end" and last["iteration"] == run.load_state()["iteration"]


def test_two_processes_give_what_one_gives(config, tmp_path):
    """Two processes over gloo as torchrun starts them: the same data, one log, one checkpoint, the same weights to rounding."""
    config = replace(config, iterations=10)
    alone, _ = recipe(config, tmp_path / "alone")
    train(alone, config)
    run, _ = recipe(config, tmp_path / "two")
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [
        forked.start(
            "train", "--resume", run.folder, env=os.environ | shared | {"RANK": rank, "LOCAL_RANK": rank}, **pipes
        )
        for rank in "01"
    ]
    said = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert [out.strip() for out, _ in said] == [str(run.folder / "tiny.safetensors"), ""]  # one of the two prints
    events = [e["event"] for e in run.entries()]
    assert events.count("start") == events.count("end") == events.count("checkpoint") == 1
    assert run.entries()[0]["processes"] == 2
    losses = [[e["loss"] for e in r.entries() if e["event"] == "train"] for r in (alone, run)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    ours, theirs = run.load_state(), alone.load_state()
    for key in theirs["model"]:
        assert torch.allclose(ours["model"][key], theirs["model"][key], rtol=1e-3, atol=1e-5), key
        assert torch.allclose(ours["ema"][f"module.{key}"], theirs["ema"][f"module.{key}"], rtol=1e-3, atol=1e-5), key


# The command


def test_the_command_trains_resumes_and_its_result_upscales(photos, tmp_path, capsys):
    tiny = [
        "--set",
        "model.encoder={name='edsr', features=8, blocks=1}",
        "--set",
        "model.decoder={name='liif', hidden=[16]}",
    ]
    flags = [
        "--patch",
        "12",
        "--queries",
        "30",
        "--scale",
        "1,3",
        "--batch",
        "2",
        "--iterations",
        "3",
        "--precision",
        "fp32",
    ]
    out = tmp_path / "run"
    arguments = [
        "train",
        "--data",
        str(photos),
        "--out",
        str(out),
        *flags,
        *tiny,
        "--set",
        "name=mine",
        "--degrade",
        "photo",
    ]
    assert cli(arguments) == 0
    assert capsys.readouterr().out.strip() == str(out / "mine.safetensors")
    assert cli(["train", "--resume", str(out), "--iterations", "5"]) == 0
    assert Run(out).load_state()["iteration"] == 5 and Run(out).config()["iterations"] == 5
    picture = photos / "0.png"
    assert (
        cli(
            [
                "upscale",
                str(picture),
                "--scale",
                "2",
                "-o",
                str(tmp_path / "x.png"),
                "--model",
                str(out / "mine.safetensors"),
            ]
        )
        == 0
    )
    assert size_of(tmp_path / "x.png") == (128, 144)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--data", "."], "a new run needs a folder"),
        (["--data", ".", "--out", "run", "--preset", "nothing"], "unknown preset nothing"),
        (["--data", ".", "--out", "run", "--set", "ema.speed=2"], "ema.speed"),
        (["--data", ".", "--out", "run", "--set", "ema"], "is not a setting"),
        (["--data", ".", "--out", "run", "--scale", "small"], "not a scale"),
        (["--data", ".", "--out", "run", "--max-time", "long"], "not a duration"),
        (["--data", ".", "--out", "run", "--model", "vgg"], "--model 'vgg' is not an architecture"),
        (["--out", "run"], "no training data"),
        (["--resume", ".", "--init", "x"], "cannot combine --init with --resume"),
    ],
)
def test_the_command_refuses(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli(["train", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()

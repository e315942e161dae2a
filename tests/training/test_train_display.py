"""What `liif train` shows, and TensorBoard."""

import io
import json
import sys
import types
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from rich.progress import Progress, TextColumn
from tiny_models import tiny_config

from liif_cli.cli import progress
from liif_cli.cli.progress import Live
from liif_cli.errors import UsageError
from liif_cli.images.panels import GAP
from liif_cli.models.model import SRModel
from liif_cli.training.events import (
    KINDS,
    Ended,
    Noted,
    Saved,
    Skipped,
    Started,
    Step,
    Trained,
    Validated,
    parse,
)
from liif_cli.training.recipe import DataConfig, TrainConfig, ValidationConfig
from liif_cli.training.report import curves
from liif_cli.training.run_folder import Run
from liif_cli.training.train import train
from liif_cli.training.validation import PANEL, Validation

STEP = Step(100, 1000)
NUMBERS = Trained(100, rate=1e-4, loss=0.03271, psnr=29.687, samples_per_second=31.25, waiting=0.213)
SCORES = Validated(100, {"2": 30.551, "4": 25.974})
GONE = Skipped(100, ["b.png: gone"])
START = Started(0, "random weights", processes=1, pictures=1299, in_memory=True, skipped=["a.png: bad"])


@pytest.fixture
def folder(tmp_path):
    from PIL import Image

    (tmp_path / "photos").mkdir()
    Image.radial_gradient("L").save(tmp_path / "photos" / "a.png")
    return tmp_path


def small(folder):
    data = DataConfig(folders=(str(folder / "photos"),), val=(str(folder / "photos"),), patch=12, queries=20)
    check = ValidationConfig(every=2, scales=(2.0,), crop=24, preview_scales=(2.0,))
    return TrainConfig(model=tiny_config(), data=data, validation=check, iterations=2, batch=2)


def test_the_live_line_has_loss_psnr_speed_and_waiting(monkeypatch):
    terminal = io.StringIO()
    console = Console(file=terminal, force_terminal=True, width=120)
    bar = Progress(TextColumn("{task.description}"), TextColumn("{task.fields[detail]}"), console=console)
    monkeypatch.setattr(progress, "make_bar", lambda: bar)
    with Live() as shown:
        for entry in (
            START,
            STEP,
            NUMBERS,
            GONE,
            Step(101, 1000),
            SCORES,
        ):
            shown.hear(entry)
    text = terminal.getvalue()
    assert "101/1,000 loss 0.0327, PSNR 29.69 dB, 31.2 samples/s, 21% waiting for data" in text
    assert "validation x2 30.55 dB, x4 25.97 dB" in text
    assert "skipped: a.png: bad" in text and "skipped: b.png: gone" in text and "on 1,299 images (in memory)" in text


def test_the_log_keeps_events_whole_and_passes_over_others():
    events = [START, GONE, Noted(1, "so"), NUMBERS, SCORES, Saved(100), Ended(100, "done")]
    assert {event.name for event in events} == set(KINDS)
    for event in events:
        entry = json.loads(json.dumps({**event.entry(), "time": 1.5}))
        assert entry["event"] == event.name and parse(entry) == event
    assert parse({"event": "comet", "iteration": 1}) is None and parse({"event": "train", "iteration": 1}) is None
    assert list(NUMBERS.entry()) == ["event", "iteration", "rate", "loss", "psnr", "samples_per_second", "waiting"]


def test_without_a_terminal_there_are_lines_and_quiet_has_none(monkeypatch, capsys):
    monkeypatch.setattr(progress, "make_bar", lambda: None)
    for quiet in (False, True):
        with Live(quiet=quiet) as shown:
            for entry in (STEP, NUMBERS, NUMBERS, SCORES):
                shown.hear(entry)
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.count("loss 0.0327") == said.err.count("validation") == (0 if quiet else 1)


def test_tensorboard_gets_the_numbers(folder, monkeypatch):
    written = []

    class Writer:
        def __init__(self, path):
            self.path = path

        def add_scalar(self, name, value, step):
            written.append((name, step))
            assert isinstance(value, float)

        def close(self):
            written.append(("closed", 0))

    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    config = replace(small(folder), tensorboard=True)
    train(Run.create(folder / "run", config), config)
    assert written[-1] == ("closed", 0) and ("train/loss", 2) in written and ("validate/psnr_x2", 2) in written
    assert not any("time" in name for name, _ in written)


def test_tensorboard_that_is_missing_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    config = replace(small(folder), tensorboard=True)
    with pytest.raises(UsageError, match="TensorBoard is not installed") as caught:
        train(Run.create(folder / "run", config), config)
    assert "liif[tensorboard]" in caught.value.hint


def test_a_preview_shows_lr_bicubic_the_model_and_hr(folder):
    config = replace(small(folder), validation=ValidationConfig(scales=(2.0,), crop=24, preview_scales=(2.0, 4.0)))
    validation, side = Validation(config), PANEL + GAP
    sheet = np.asarray(validation.preview(SRModel(config.model).eval()))
    label = (len(sheet) - GAP) // 2 - side  # the strip above each panel
    assert sheet.shape[1] == 4 * side + GAP and 12 < label < 60
    for row, (case, size) in enumerate(zip(validation.shown, (12, 6), strict=True)):
        assert len(case.lr) == size and len(case.hr) == 24
        for column, pixels in ((0, case.lr), (1, case.bicubic()), (3, case.hr)):
            top, left = GAP + label + row * (side + label), GAP + column * side
            enlarged = pixels.repeat(PANEL // len(pixels), 0).repeat(PANEL // len(pixels), 1)  # not smoothed
            np.testing.assert_array_equal(sheet[top : top + PANEL, left : left + PANEL], enlarged)


def test_curves_have_a_line_for_each_series():
    drawn = curves([("loss", {"loss": [(0, 1.0), (50, 0.5), (100, 0.25)]}), ("nothing", {})])
    assert drawn.size == (720, 600)
    colours = {colour for _, colour in drawn.crop((64, 28, 610, 266)).getcolors(100000)}
    assert (31, 119, 180) in colours
    flat = curves([("one", {"x2": [(100, 1.0)]})])  # one value, no range
    assert flat.size == (720, 300)

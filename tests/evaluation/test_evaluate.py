"""`liif eval`: synthetic sets with values worked out by hand, sharing between processes, and the command."""

import csv
import io
import json
import math
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import forked
import numpy as np
import pytest
import torch
from PIL import Image

from liif_cli.cli import app
from liif_cli.coords import Grid
from liif_cli.evaluation.benchmarks import find
from liif_cli.evaluation.evaluate import Shown, evaluate
from liif_cli.evaluation.methods import Method, bicubic, compared, lanczos_from, network
from liif_cli.evaluation.metrics import STUDIO_LUMA
from liif_cli.evaluation.protocols import PROTOCOLS
from liif_cli.images.degrade import Degradation
from liif_cli.images.resize import resample
from liif_cli.models.checkpoints import save_model
from liif_cli.rendering.renderer import render_image
from liif_cli.rendering.sizes import Cell

BENCHMARK, DIV2K = PROTOCOLS["benchmark"], PROTOCOLS["div2k"]


def only(scale):
    """The `supports` of a fixed-scale model."""
    return lambda grid: None if grid.rows.count == scale * grid.rows.extent else f"it renders only ×{scale}"


BLACK = Method("black", lambda low, height, width: np.zeros((height, width, 3), np.float32))


WRITTEN = ("bicubic", "x4-lanczos", "tiny", "low", "truth")


def noise(height=60, width=48, seed=0):
    blocks = np.random.default_rng(seed).integers(0, 256, (height // 6, width // 6, 3), np.uint8)
    return np.asarray(Image.fromarray(blocks).resize((width, height), Image.Resampling.BICUBIC))


def folder_of(path, *photos):
    path.mkdir(parents=True, exist_ok=True)
    for index, pixels in enumerate(photos):
        Image.fromarray(pixels).save(path / f"{index}.png")
    return find(str(path))[0]


def flat(value, side=36):
    return np.full((side, side, 3), value, np.uint8)


@pytest.fixture(scope="module")
def checkpoint(tiny, tmp_path_factory):
    """A checkpoint file of the tiny model, called tiny."""
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    save_model(tiny, path, licence="CC0-1.0", provenance={})
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of three images, one of them too small for x6."""
    home = tmp_path_factory.mktemp("photos") / "mine"
    folder_of(home, noise(), noise(66, 54, 1), noise(18, 24, 2))
    return home


class TestRows:
    def test_a_known_error_gives_its_decibels(self, tmp_path):
        dataset = folder_of(tmp_path / "flat", flat(51))  # 51 / 255 = 0.2 away from black
        (luma,) = evaluate([BLACK], dataset, [2.0])
        assert luma.psnr == pytest.approx(-20 * math.log10(0.2 * STUDIO_LUMA.sum()), abs=1e-9)
        (rgb,) = evaluate([BLACK], dataset, [2.0], DIV2K)
        assert rgb.psnr == pytest.approx(-20 * math.log10(0.2), abs=1e-9)
        # of flat images SSIM compares the means alone: (2ab + C1) / (a2 + b2 + C1) with a = 0, b = 0.2
        assert rgb.ssim == pytest.approx(1e-4 / (0.04 + 1e-4), abs=1e-9)

    def test_decibels_are_averaged_not_errors(self, tmp_path):
        dataset = folder_of(tmp_path / "flat", flat(51), flat(102), flat(204))
        (row,) = evaluate([BLACK], dataset, [3.0], DIV2K)
        assert row.psnr == pytest.approx(-20 * np.mean(np.log10([0.2, 0.4, 0.8])), abs=1e-9)
        assert [score.image for score in row.scores] == ["0.png", "1.png", "2.png"]

    def test_small_images_are_excluded_and_not_counted(self, tmp_path):
        dataset = folder_of(tmp_path / "sizes", noise(18, 60), noise(30, 60), noise(90, 90))
        rows = evaluate([BLACK], dataset, [2.0, 6.0, 30.0, 31.0], BENCHMARK)
        # shaved sides: 18-4, 30-4, 90-4; 18-12, 30-12, 90-12; 0-60, 30-60, 90-60; ..., 62-62
        assert [row.images for row in rows] == [3, 2, 1, 0]
        assert rows[3].psnr is None

    def test_a_folder_is_measured_by_benchmark_unless_told_otherwise(self, tmp_path):
        dataset = folder_of(tmp_path / "mine", noise())
        assert [row.protocol for row in evaluate([BLACK], dataset, [2.0])] == ["benchmark"]

    def test_rows_stand_in_the_order_asked_for(self, tmp_path):
        dataset = folder_of(tmp_path / "mine", noise())
        only_three = Method("three", BLACK.upscale, only(3))
        rows = evaluate([bicubic(BENCHMARK), only_three, BLACK], dataset, [3.0, 2.0])
        assert [(row.scale, row.method) for row in rows] == [
            *((3.0, name) for name in ("bicubic", "three", "black")),
            *((2.0, name) for name in ("bicubic", "black")),
        ]

    def test_making_lr_another_way_is_not_standard(self, tmp_path):
        dataset = folder_of(tmp_path / "mine", noise())
        method = bicubic(BENCHMARK)
        standard, other, far = (
            evaluate([method], dataset, [scale], low_from=source)[0]
            for scale, source in ((2.0, None), (2.0, "pillow"), (6.0, "matlab"))
        )
        assert standard.standard and not other.standard and not far.standard
        assert standard.psnr != other.psnr

    def test_every_result_is_seen(self, tmp_path):
        dataset, seen = folder_of(tmp_path / "mine", noise()), []
        evaluate([BLACK], dataset, [2.0, 3.0], on_result=seen.append)
        assert [(shown.image.name, shown.scale, shown.method) for shown in seen] == [
            ("0.png", 2.0, "black"),
            ("0.png", 3.0, "black"),
        ]
        assert isinstance(seen[0], Shown) and seen[0].pair.low.shape == (30, 24, 3) and seen[0].result.max() == 0

    @pytest.mark.parametrize(("rank", "own"), [(0, ["0.png", "2.png"]), (1, ["1.png"])])
    def test_each_process_does_its_share_and_no_more(self, tmp_path, monkeypatch, rank, own):
        dataset, seen = folder_of(tmp_path / "mine", *(noise(seed=seed) for seed in range(3))), []
        monkeypatch.setattr("liif_cli.evaluation.evaluate._rank_and_size", lambda: (rank, 2))
        monkeypatch.setattr("liif_cli.evaluation.evaluate._gather", lambda found: found)
        evaluate([BLACK], dataset, [2.0], on_result=seen.append)
        assert [shown.image.name for shown in seen] == own

    def test_faces_are_pairs(self, tmp_path):
        for side in (64, 128):
            folder_of(tmp_path / str(side), np.asarray(Image.fromarray(noise(126, 126)).resize((side, side))))
        dataset = find("celebahq", tmp_path)[0]
        nearest = Method("nearest", lambda low, height, width: low.repeat(2, 0).repeat(2, 1) / 255)
        (row,) = evaluate([nearest], dataset)
        low, high = (np.asarray(Image.open(tmp_path / str(side) / "0.png")) / 255 for side in (64, 128))
        error = np.mean((low.repeat(2, 0).repeat(2, 1) - high) ** 2)  # all pixels: nothing is shaved
        assert row.psnr == pytest.approx(-10 * math.log10(error), abs=1e-9)
        assert (row.dataset, row.protocol, row.scale, row.standard) == ("celebahq-64-128", "celebahq", 2.0, True)


class TestMethods:
    def test_a_network_renders_the_truths_grid(self, tiny):
        low = noise(12, 18)
        expected = render_image(tiny, low, Grid.whole((12, 18), (31, 47)))
        np.testing.assert_array_equal(network(tiny, "tiny").upscale(low, 31, 47), expected)

    def test_x4_lanczos(self, tiny):
        low, method = noise(12, 18), network(tiny, "tiny")
        base = lanczos_from(method)
        four = method.upscale(low, 48, 72)
        np.testing.assert_array_equal(base.upscale(low, 48, 72), four)
        expected = np.clip(resample(four, 24, 36, "lanczos"), 0, 1)
        np.testing.assert_array_equal(base.upscale(low, 24, 36), expected)
        assert base.name == "x4-lanczos"

    def test_options_change_what_the_network_gives(self, tiny):
        low = noise(12, 18)
        raw, clipped, ensemble = (
            network(tiny, "tiny", **options).upscale(low, 96, 144)
            for options in ({}, {"cell": Cell.parse("clip")}, {"self_ensemble": True})
        )
        assert np.abs(raw - clipped).max() > 1e-4 and np.abs(raw - ensemble).max() > 1e-4

    def test_the_methods_of_a_table(self, tiny):
        fixed = Method("fixed", BLACK.upscale, only(2))
        names = [method.name for method in compared([fixed, network(tiny, "a"), network(tiny, "b")], BENCHMARK)]
        assert names == ["bicubic", "x4-lanczos", "fixed", "a", "b"]
        assert [method.name for method in compared([fixed], BENCHMARK)] == ["bicubic", "fixed"]
        assert [method.name for method in compared([fixed], BENCHMARK, ["none"])] == ["fixed"]

    def test_scores_depend_on_neither_tiles_nor_threads(self, tiny, tmp_path):
        dataset = folder_of(tmp_path / "mine", noise(96, 90))

        def tiled(low, height, width):
            return render_image(tiny, low, Grid.whole(low.shape[:2], (height, width)), side=16)

        threads = torch.get_num_threads()
        (whole,) = evaluate([network(tiny, "tiny")], dataset, [2.0])
        try:
            torch.set_num_threads(1)
            rows = evaluate([Method("tiled", tiled), network(tiny, "one thread")], dataset, [2.0])
        finally:
            torch.set_num_threads(threads)
        for row in rows:
            assert row.psnr == pytest.approx(whole.psnr, abs=1e-4) and row.ssim == pytest.approx(whole.ssim, abs=1e-6)


def run(capsys, *arguments):
    """Exit code, stdout, stderr of `liif eval ...`."""
    code = app.run(["eval", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


class TestCommand:
    def test_json(self, capsys, photos, checkpoint):
        code, out, err = run(capsys, "--dataset", photos, "--model", checkpoint, "--scale", "2,6", "--json")
        rows = json.loads(out)["rows"]
        assert (code, err) == (0, "")
        assert [(row["scale"], row["method"], row["images"]) for row in rows] == [
            *((2, method, 3) for method in ("bicubic", "x4-lanczos", "tiny")),
            *((6, method, 2) for method in ("bicubic", "x4-lanczos", "tiny")),
        ]
        assert {(row["dataset"], row["protocol"], row["standard"]) for row in rows} == {("mine", "benchmark", True)}
        assert all(row["psnr"] > 0 and 0 < row["ssim"] < 1 and row["seconds"] >= 0 for row in rows)
        dataset = find(str(photos))[0]
        (expected,) = evaluate([bicubic(BENCHMARK)], dataset, [2.0])
        assert rows[0]["psnr"] == expected.psnr

    def test_an_image_is_reproduced_at_x1(self, capsys, photos, checkpoint):
        options = ("--model", checkpoint, "--scale", "1", "--baseline", "bicubic")
        _, out, _ = run(capsys, "--dataset", photos, *options, "--json")
        same, network = json.loads(out)["rows"]
        assert (same["method"], same["psnr"], same["ssim"]) == ("bicubic", None, 1.0)  # JSON has no infinity
        assert network["psnr"] > 0
        assert "∞" in run(capsys, "--dataset", photos, *options)[1]

    def test_several_models_and_sets(self, capsys, photos, checkpoint, tmp_path):
        other = tmp_path / "other.safetensors"
        other.write_bytes(checkpoint.read_bytes())
        twin = tmp_path / "twin" / "tiny.safetensors"
        twin.parent.mkdir()
        twin.write_bytes(checkpoint.read_bytes())
        folder_of(tmp_path / "second", noise())
        models = [option for file in (checkpoint, other, twin) for option in ("-m", file)]
        code, out, _ = run(capsys, "-d", photos, "-d", tmp_path / "second", *models, "-s", "3", "--csv")
        lines = list(csv.DictReader(io.StringIO(out)))
        names = ["bicubic", "x4-lanczos", str(checkpoint), "other", str(twin)]
        assert code == 0 and [line["method"] for line in lines] == names * 2
        assert [line["dataset"] for line in lines] == ["mine"] * 5 + ["second"] * 5
        assert lines[2]["psnr"] == lines[3]["psnr"] == lines[4]["psnr"]

    def test_the_table_and_markdown(self, capsys, photos, checkpoint):
        _, out, _ = run(capsys, "-d", photos, "-m", checkpoint, "-s", "x2", "--lr", "pillow", "--per-image")
        assert (
            "benchmark *" in out
            and "* not standard" in out
            and "1.png" in out
            and "x4-lanczos" in out
            and "fp32" in out
        )
        _, out, _ = run(capsys, "-d", photos, "-m", checkpoint, "-s", "2", "--protocol", "mmediting", "--markdown")
        assert "**mine**, protocol `mmediting`" in out and "| scale | images | bicubic | x4-lanczos | tiny |" in out
        _, out, _ = run(capsys, "-d", photos, "-m", checkpoint, "-s", "2", "--baseline", "bicubic", "--markdown")
        assert "| scale | images | bicubic | tiny |" in out

    def test_degraded_inputs_are_a_protocol_of_our_own(self, capsys, photos, checkpoint, tmp_path):
        options = ("-d", photos, "-m", checkpoint, "-s", "2", "--baseline", "bicubic,lanczos")
        wanted = "clean,jpeg:10,noise:9+jpeg:90"
        _, out, _ = run(capsys, *options, "--degrade", wanted, "--json", "--save-images", tmp_path / "images")
        rows = json.loads(out)["rows"]
        plain = json.loads(run(capsys, *options, "--json")[1])["rows"]
        assert [(row["degraded"], row["method"]) for row in rows] == [
            (degraded, method)
            for degraded in ("", "jpeg:10", "noise:9+jpeg:90")
            for method in ("bicubic", "lanczos", "tiny")
        ]
        assert [row["psnr"] for row in rows[:3]] == [row["psnr"] for row in plain]
        assert [row["standard"] for row in rows] == [True] * 3 + [False] * 6
        assert rows[3]["psnr"] < rows[0]["psnr"] - 0.5
        low = Image.open(tmp_path / "images" / "mine" / "x2_jpeg10" / "0_low.png")
        clean = Image.open(tmp_path / "images" / "mine" / "x2" / "0_low.png")
        expected = Degradation.parse("jpeg:10").apply(np.asarray(clean), "0.png")
        np.testing.assert_array_equal(np.asarray(low), expected)
        _, out, _ = run(capsys, *options, "--degrade", "jpeg:10")
        assert "benchmark + jpeg:10" in out and "+ degraded LR images: a protocol of liif's own" in out
        _, out, _ = run(capsys, *options, "--degrade", "jpeg:10", "--markdown")
        assert "**mine**, protocol `benchmark + jpeg:10 (liif's own)`" in out

    def test_only_the_centres(self, capsys, photos, checkpoint, tmp_path):
        for file in photos.iterdir():
            with Image.open(file) as image:
                left, top = ((n - 40) // 2 if n > 40 else 0 for n in image.size)
                cut = image.crop((left, top, left + min(40, image.width), top + min(40, image.height)))
                (tmp_path / "cut").mkdir(exist_ok=True)
                cut.save(tmp_path / "cut" / file.name)
        options = ("-m", checkpoint, "-s", "2", "--baseline", "bicubic", "--json")
        cut = json.loads(run(capsys, "-d", tmp_path / "cut", *options)[1])["rows"]
        code, out, _ = run(capsys, "-d", photos, "--centre", "40", *options)
        rows = json.loads(out)["rows"]
        assert code == 0 and rows[0]["dataset"] == "mine (central 40)"
        assert [row["psnr"] for row in rows] == [row["psnr"] for row in cut]

    def test_files_of_the_set(self, capsys, tmp_path, checkpoint):
        home = tmp_path / "Set5"
        folder_of(home / "HR", noise())
        (home / "LR_bicubic" / "X2").mkdir(parents=True)
        Image.fromarray(noise(30, 24)).save(home / "LR_bicubic" / "X2" / "0x2.png")
        options = ("-d", "set5", "--data-dir", tmp_path, "-m", checkpoint, "--json")
        code, out, err = run(capsys, *options, "--lr", "files")
        rows = json.loads(out)["rows"]
        assert code == 0 and {(row["scale"], row["standard"]) for row in rows} == {(2, False)}
        assert err == "Note: set5 should have 5 images; found 1\n"
        code, _, err = run(capsys, *options, "--lr", "files", "-s", "3", "-q")
        assert code == 3 and "no x3 file for 0.png" in err and "Hint: --lr matlab" in err

    def test_images_and_figures_are_written(self, capsys, photos, checkpoint, tmp_path):
        images, sheet = tmp_path / "images", tmp_path / "sheet.png"
        options = ("-d", photos, "-m", checkpoint, "-s", "2,4", "--save-images", images, "--figure", sheet, "--json")
        assert run(capsys, *options, "--figure-image", "1", "--crop", "5,5,20,20")[0] == 0
        names = {file.name for file in (images / "mine" / "x4").iterdir()}
        assert {f"1_{what}.png" for what in WRITTEN} <= names
        with Image.open(images / "mine" / "x4" / "1_tiny.png") as result, Image.open(photos / "1.png") as source:
            assert result.size == (52, 64) and source.size == (54, 66)
        with Image.open(sheet) as figure:
            assert figure.width > 3 * 240 + 4 * 8  # three crops and the whole image
        before = sheet.read_bytes()
        code, out, err = run(capsys, *options)
        assert (code, out) == (4, "") and "images is not empty" in err and sheet.read_bytes() == before
        code, _, err = run(capsys, "-d", photos, "-m", checkpoint, "--figure", sheet)
        assert code == 4 and "sheet.png exists" in err
        assert run(capsys, *options, "--overwrite")[0] == 0
        assert sheet.read_bytes() != before

    def test_the_plot(self, capsys, photos, checkpoint, tmp_path):
        pytest.importorskip("matplotlib")
        assert run(capsys, "-d", photos, "-m", checkpoint, "-s", "2,3", "--plot", tmp_path / "p.png")[0] == 0
        with Image.open(tmp_path / "p.png") as plot:
            assert plot.width > 300

    @pytest.mark.parametrize(
        ("options", "code", "message"),
        [
            (("-d", "set6"), 2, "--dataset 'set6' is not a set, folder or file"),
            (("-d", "set5", "--data-dir", "."), 5, "cannot find the set set5 in"),
            (("-d", "{photos}", "-s", "0.5"), 2, "is not a list of scales"),
            (("-d", "{photos}", "-s", "2,two"), 2, "is not a list of scales"),
            (("-d", "{photos}", "--protocol", "best"), 2, "--protocol 'best' is not a protocol"),
            (("-d", "{photos}", "--lr", "opencv"), 2, "--lr 'opencv' is not one of"),
            (("-d", "{photos}", "--baseline", "nearest"), 2, "--baseline 'nearest' is not one of"),
            (("-d", "{photos}", "--json", "--csv"), 2, "exclude each other"),
            (("-d", "{photos}", "--degrade", "jpeg:200"), 2, "--degrade 'jpeg:200' is not a degradation"),
            (("-d", "{photos}", "--centre", "20", "--lr", "files", "-s", "2"), 2, "cannot use --centre"),
            (("-d", "{photos}", "--cell", "round"), 2, "is not a cell"),
            (("-d", "{photos}", "--model", "nothing"), 5, "no model or file 'nothing'"),
            (("-d", "{photos}", "--figure", "sheet.txt"), 2, "cannot write the format of"),
            (
                ("-d", "{photos}", "--figure", "f.png", "--figure-image", "9"),
                2,
                "--figure-image 9 is not an image of",
            ),
            (
                ("-d", "{photos}", "--figure", "f.png", "-s", "2", "--figure-scale", "3"),
                2,
                "--figure-scale 3 is not one of the scales",
            ),
        ],
    )
    def test_refusals(self, capsys, monkeypatch, tmp_path, photos, checkpoint, options, code, message):
        monkeypatch.chdir(tmp_path)
        filled = [option.format(photos=photos) for option in options]
        found, out, err = run(capsys, *filled, *([] if "--model" in filled else ["-m", checkpoint]))
        assert (found, out) == (code, "") and message in err and err.startswith("Error: ")
        assert list(tmp_path.iterdir()) == []

    def test_offline_and_absent(self, capsys, monkeypatch, tmp_path):
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path / "assets"))
        code, out, err = run(capsys, "--dataset", "set14")
        assert (code, out) == (5, "") and "cannot find the set set14 on this machine" in err
        assert "Hint: with network access the set is downloaded; otherwise add --data-dir DIR;" in err
        assert "expected: DIR/Set14/HR/*.png" in err


def test_two_processes_share_the_images_and_print_one_table(capsys, photos, checkpoint, tmp_path):
    options = ["--dataset", str(photos), "--model", str(checkpoint), "--scale", "2,6", "--json", "--per-image"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    processes = [
        forked.start(
            *("eval", *options, "--save-images", tmp_path / "images"),
            env=os.environ | group | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    outputs = [process.communicate(timeout=100)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0] and outputs[1] == ""
    alone = json.loads(run(capsys, *options)[1])["rows"]
    shared_out = json.loads(outputs[0])["rows"]
    saved = [file.name for file in (tmp_path / "images" / "mine" / "x2").iterdir()]
    assert sorted(saved) == sorted(f"{i}_{what}.png" for i in range(3) for what in WRITTEN)
    for row, same in zip(shared_out, alone, strict=True):
        for each in (row, same, *row["per_image"], *same["per_image"]):
            each.pop("seconds")
        assert {key: row[key] for key in ("dataset", "scale", "method", "images")} == {
            key: same[key] for key in ("dataset", "scale", "method", "images")
        }
        assert row["psnr"] == pytest.approx(same["psnr"], abs=1e-4)
        assert [each["image"] for each in row["per_image"]] == [each["image"] for each in same["per_image"]]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="resource is not on Windows")
def test_memory_stays_bounded_on_a_2k_image(tmp_path, checkpoint):
    folder_of(tmp_path / "large", noise(1356, 2040))
    code = (
        "import resource, sys; from liif_cli.cli import app; app.run(sys.argv[1:]);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    )
    options = ["eval", "-d", str(tmp_path / "large"), "-m", str(checkpoint), "-s", "2", "--protocol", "div2k", "--json"]
    result = subprocess.run([sys.executable, "-c", code, *options], capture_output=True, text=True, check=True)
    peak = int(result.stderr.split()[-1]) * (1 if sys.platform == "darwin" else 1024)
    assert json.loads(result.stdout)["rows"][0]["images"] == 1
    assert peak < 1.5 * 2**30


@pytest.mark.shared
@pytest.mark.weights
@pytest.mark.slow
@pytest.mark.parametrize("file", ["docs/evaluation.md", "weights/README.md"])
def test_the_scores_that_are_quoted_are_the_shipped_models(shared, file):
    from liif_cli.models.store import load_model

    text = (Path(__file__).parents[2] / file).read_text(encoding="utf-8").partition("<!-- scores -->")[2]
    table = re.search(r"\*\*set5\*\*, protocol `benchmark`.*?(\| scale [^\n]*)\n.*?(\| ×8 [^\n]*)\n", text, re.DOTALL)
    assert table, "make the tables: python tests/tools/make_tables.py"
    names, values = ([cell.strip() for cell in row.strip("| ").split("|")][2:] for row in table.groups())
    quoted = {name: tuple(map(float, value.split("/"))) for name, value in zip(names, values, strict=True)}
    models = [network(load_model(name), name) for name in names if name not in ("bicubic", "x4-lanczos")]
    assert len(models) > 1
    rows = evaluate(compared(models, BENCHMARK), find("set5", shared / "benchmarks")[0], [8.0])
    assert {row.method for row in rows} == set(quoted)
    for row in rows:
        assert quoted[row.method] == (pytest.approx(row.psnr, abs=0.01), pytest.approx(row.ssim, abs=2e-4)), row.method

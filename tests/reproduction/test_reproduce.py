"""`liif reproduce`: a table from end to end, with a tiny network and budget."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from liif_cli.reproduction.tables import TABLES
from liif_cli.training.recipe import presets

Run = Callable[..., Any]
TINY = ("--set", "model.encoder.features=8", "--set", "model.encoder.blocks=1", "--set", "batch=1")
PATCH = ("--set", "data.patch=8", "--set", "data.queries=20")
SMALL = (*TINY, *PATCH)


@pytest.fixture
def photos(desk: Path) -> Path:
    """Three square images of 48 pixels: waves, which enlarge well."""
    (desk / "photos").mkdir()
    y, x = np.mgrid[0:48, 0:48] / 5
    for index in range(3):
        pixels = 127 + 90 * np.stack([np.sin(x + index), np.cos(y), np.sin(x + y)], -1)
        Image.fromarray(np.rint(pixels).astype(np.uint8)).save(desk / "photos" / f"{index}.png")
    return desk / "photos"


def test_table_3_from_end_to_end(liif: Run, photos: Path) -> None:
    one = photos / "0.png"
    up = ("reproduce", "table3", "--data", photos, "--dataset", one, "--budget", 0.000002, "-s", "2,4", *SMALL)
    ran = liif(*up, "-o", "t3")
    assert ran.code == 0, ran.err
    assert [line for line in ran.out if line.startswith("| LIIF")] and Path("t3/table3.md").read_text().rstrip() in (
        "\n".join(ran.out)
    )
    assert any("0.000% of the paper's iterations" in line and "edsr-baseline-liif-c 2" in line for line in ran.out)
    rows = list(csv.DictReader(Path("t3/table3.csv").read_text().splitlines()))
    assert [row["row"] for row in rows[::2]] == ["LIIF", "LIIF (-c)", "LIIF (-u)", "LIIF (-e)", "LIIF (-d)"]
    assert len({row["psnr"] for row in rows}) == 10 and {row["scale"] for row in rows} == {"2", "4"}
    # Again: nothing is trained or scored twice; what was lost is done again, and comes out the same.
    again = liif(*up, "-o", "t3")
    assert again.out == ran.out and not any("training" in line or "scoring" in line for line in again.err)
    scores = json.loads(Path("t3/scores.json").read_text())
    del scores["LIIF (-e)"]
    Path("t3/scores.json").write_text(json.dumps(scores))
    assert liif(*up, "-o", "t3").out == ran.out
    other = liif(*up, "--set", "batch=2", "-o", "t3")
    assert other.code == 2 and "t3 contains a reproduction with other settings" in other.err[0]
    # With given checkpoints it only scores.
    given = [f"--model={name}=t3/runs/{name}/{name}.safetensors" for name in ("edsr-baseline-liif-c",)]
    only = liif("reproduce", "table3", *given, "--dataset", one, "-s", "2,4", "-o", "given")
    assert only.code == 0 and not Path("given/runs").exists()
    line = next(line for line in ran.out if line.startswith("| LIIF (-c)"))
    assert line in only.out and not any(line.startswith("| LIIF (-u)") for line in only.out)


def test_table_5_from_end_to_end(liif: Run, photos: Path) -> None:
    sides = ("--set", "data.queries=16", "--set", "model.encoder.features=4", "--set", "model.encoder.blocks=1")
    Image.open(photos / "0.png").resize((256, 256)).save(photos / "0.png")
    for index in (1, 2):
        (photos / f"{index}.png").unlink()
    up = (
        "reproduce",
        "table5",
        "--data",
        photos,
        "--dataset",
        photos,
        "--budget",
        0.000004,
        *sides,
        "--set",
        "batch=1",
    )
    ran = liif(*up, "-o", "t5")
    assert ran.code == 0, ran.err
    rows = list(csv.DictReader(Path("t5/table5.csv").read_text().splitlines()))
    assert [(row["dataset"], row["scale"], row["published"]) for row in rows] == [
        ("celebahq-64-128", "2", "34.78"),
        ("celebahq-64-128", "2", "35.96"),
        ("celebahq-32-256", "8", "27.56"),
        ("celebahq-32-256", "8", "27.74"),
    ]


@pytest.mark.parametrize(("name", "panels"), [("figure5", "1-SIREN"), ("figure7", "cell 1/30")])
def test_figures(liif: Run, photos: Path, name: str, panels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from liif_cli.training import siren

    monkeypatch.setattr(siren, "fit", lambda pixels, fit=siren.fit: fit(pixels, iterations=2, width=8))
    Image.open(photos / "0.png").resize((4, 3)).save("in.png")
    up = ("reproduce", name, "--data", photos, "--budget", 0.000001, *SMALL, "-o", "out")
    assert liif(*up).code == 2
    ran = liif(*up, "--image", "in.png")
    assert ran.code == 0 and panels in "\n".join(ran.out), ran.err
    with Image.open(f"out/{name}.png") as sheet:
        assert sheet.height > 90 and sheet.width >= 4 * 120


def test_hours_are_shared_equally(liif: Run, photos: Path) -> None:
    up = (
        "reproduce",
        "table4",
        "--data",
        photos,
        "--dataset",
        photos / "0.png",
        "--hours",
        0.0003,
        "-s",
        "2",
        *SMALL,
        "-o",
        "t4",
    )
    assert liif(*up).code == 0
    assert len(set(json.loads(Path("t4/plan.json").read_text())["iterations"].values())) == 1


def test_every_row_has_a_preset() -> None:
    assert {preset for table in TABLES.values() for preset in table.presets} <= set(presets())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--budget", 0.1), "no training data given"),
        (("--data", "photos"), "give either a budget or hours"),
        (("--data", "photos", "--budget", 0.1, "--hours", 1), "give either a budget or hours"),
        (("--data", "photos", "--budget", 0.1, "--scale", "abc"), "--scale 'abc' is not a list of scales"),
        (("--model", "light=x.safetensors"), "light is not a row of table3"),
        (("--model", "x.safetensors"), "'x.safetensors' is not a model of a row"),
    ],
)
def test_invalid_requests(liif: Run, desk: Path, options: tuple[object, ...], message: str) -> None:
    ran = liif("reproduce", "table3", "-o", "out", *options)
    assert ran.code == 2 and message in ran.err[0]
    assert not Path("out").exists()

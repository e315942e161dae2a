"""Rows as JSON with exactly the documented keys, as CSV, as Markdown and as a table."""

import csv
import io
import json

import pytest

from liif_cli.evaluation import scores
from liif_cli.evaluation.scores import COLUMNS, Row, Score, to_csv, to_json, to_markdown

SCORES = (Score("a.png", 30.0, 0.9, 1.0), Score("b.png", 34.0, 0.7, 2.0))
ROWS = [
    Row("set5", 2.0, "bicubic", "benchmark", True, SCORES),
    Row("set5", 2.0, "mine", "benchmark", True, (Score("a.png", float("inf"), 1.0, 0.5),)),
    Row("set5", 2.5, "bicubic", "benchmark", True),
    Row("faces", 8.0, "mine", "celebahq", False, SCORES[:1]),
]


def test_a_row_is_the_mean_of_its_images():
    assert (ROWS[0].images, ROWS[0].psnr, ROWS[0].seconds) == (2, 32.0, 1.5)
    assert ROWS[0].ssim == pytest.approx(0.8)
    assert (ROWS[2].images, ROWS[2].psnr) == (0, None)


def test_json():
    data = json.loads(to_json(ROWS), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert list(data) == ["rows"] and all(list(row) == list(COLUMNS) for row in data["rows"])
    assert data["rows"][0] == {
        "dataset": "set5",
        "scale": 2,
        "method": "bicubic",
        "protocol": "benchmark",
        "standard": True,
        "degraded": "",
        "images": 2,
        "psnr": 32.0,
        "ssim": pytest.approx(0.8),
        "seconds": 1.5,
    }
    assert isinstance(data["rows"][0]["scale"], int) and data["rows"][2]["scale"] == 2.5
    assert data["rows"][1]["psnr"] is None and data["rows"][2]["psnr"] is None


def test_json_with_images():
    row = json.loads(to_json(ROWS, per_image=True))["rows"][0]
    assert row["per_image"][1] == {"image": "b.png", "psnr": 34.0, "ssim": 0.7, "seconds": 2.0}


def test_csv():
    lines = list(csv.DictReader(io.StringIO(to_csv(ROWS))))
    assert len(lines) == 4 and tuple(lines[0]) == COLUMNS
    assert (lines[0]["psnr"], lines[0]["scale"], lines[2]["psnr"], lines[3]["standard"]) == ("32.0", "2", "", "False")
    lines = list(csv.DictReader(io.StringIO(to_csv(ROWS, per_image=True))))
    assert [line["image"] for line in lines] == ["", "a.png", "b.png", "", "a.png", "", "", "a.png"]
    assert lines[2]["psnr"] == "34.0" and lines[2]["images"] == "1"


def test_markdown_names_set_and_protocol_and_marks_what_is_not_standard():
    text = to_markdown(ROWS)
    assert "**set5**, protocol `benchmark`" in text and "**faces**, protocol `celebahq (non-standard LR)`" in text
    assert "| ×2 | 2 | 32.00 / 0.8000 | ∞ / 1.0000 |" in text
    assert "| ×2.5 | 0 | – / – | – |" in text
    assert "|  | b.png | 34.00 / 0.7000 | – |" in to_markdown(ROWS, per_image=True)


def test_the_table_prints_the_protocol_with_every_number():
    out = scores.render(ROWS, per_image=True, caption="fp32")
    assert "fp32" in out
    lines = [line for line in out.splitlines() if "set5" in line or "faces" in line]
    assert len(lines) == len(ROWS) and all("benchmark" in line or "celebahq" in line for line in lines)
    assert "32.000" in lines[0] and "0.8000" in lines[0] and "celebahq *" in lines[3]
    assert "* not standard" in out and "*" not in scores.render(ROWS[:3])
    assert sum("b.png" in line for line in out.splitlines()) == 1

"""README.md and docs/: short enough, every link leads somewhere, and the scores agree wherever they are quoted."""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make_tables import merged, placed, rows_of, summary
from PIL import Image

from liif_cli.evaluation.scores import Row, Score, to_json

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    "README.md",
    "CHANGELOG.md",
    "weights/README.md",
    *(f"docs/{file.name}" for file in (ROOT / "docs").glob("*.md")),
]


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def test_the_readme_stays_short() -> None:
    assert len(README.splitlines()) < 200


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", read(page)):
        if not target.startswith(("https://", "http://")):
            file, _, anchor = target.partition("#")
            place = (ROOT / page).parent / file if file else ROOT / page
            assert place.exists(), target
            assert not anchor or anchor in anchors(place.read_text(encoding="utf-8")), target


def anchors(text: str) -> set[str]:
    """The anchors that a Markdown page's headings get."""
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", ["README.md", "docs/README.md"])
def test_every_chapter_is_listed(page: str) -> None:
    linked = {((ROOT / page).parent / target).resolve() for target in re.findall(r"\]\(([^)#\s]+\.md)\)", read(page))}
    assert {file for file in (ROOT / "docs").glob("*.md") if file.name != "README.md"} <= linked


@pytest.mark.parametrize("name", ["set-up", "test"])
def test_the_two_commands_stand_between_their_markers(name: str) -> None:
    (block,) = re.findall(rf"<!-- {name} command -->\n```sh\n(.*?)\n```\n<!-- end -->", README, re.DOTALL)
    assert block.startswith("python3 -m venv .venv && .venv/bin/pip install -c constraints.txt ") and "\n" not in block
    assert all((ROOT / word).exists() for word in block.split() if word.startswith(("docs/", "constraints")))


def quoted(page: str) -> dict[tuple[str, str, str], str]:
    """PSNR by (set, scale, method) under the protocol `benchmark`, from the tables of Markdown that `liif eval` prints."""
    found = {}
    for name, table in re.findall(r"\*\*(\w+)\*\*, protocol `benchmark`.*?\n\n((?:\|.*\n)+)", read(page)):
        head, _, *lines = ([cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines())
        for scale, _, *values in lines:
            found |= {
                (name, scale, method): value.split(" /")[0] for method, value in zip(head[2:], values, strict=True)
            }
    return found


def summarised() -> dict[tuple[str, str, str], str]:
    """The same from the README's summary."""
    found = {}
    for table in re.findall(
        r"((?:^\|.*\n)+)", README.partition("<!-- scores -->")[2].partition("<!-- end -->")[0], re.M
    ):
        head, _, *lines = ([cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines())
        for method, *values in lines:
            found |= {(head[0].lower(), scale, method): value for scale, value in zip(head[1:], values, strict=True)}
    return found


def test_the_quoted_scores_agree() -> None:
    assert summarised() == quoted("docs/evaluation.md") == quoted("weights/README.md") != {}


def test_the_summary_has_a_row_for_each_method_and_a_column_for_each_scale() -> None:
    def row(scale: float, method: str, *psnr: float) -> Row:
        return Row("set5", scale, method, "benchmark", True, tuple(Score("a", value, 0.9, 1.0) for value in psnr))

    first = [row(2, "bicubic", 30.0, 31.0), row(2.5, "bicubic", math.inf)]
    rows = merged([first, [row(2, "light", 33.456), row(2.5, "light")]])
    assert [(row.scale, row.method) for row in rows][1:3] == [(2, "light"), (2.5, "bicubic")]
    assert rows_of(to_json(rows, per_image=True)) == rows
    assert json.loads(to_json(rows, per_image=True))["rows"][2]["psnr"] is None
    assert summary(rows).splitlines() == [
        "| Set5 | ×2 | ×2.5 |",
        "| --- | --: | --: |",
        "| bicubic | 30.50 | ∞ |",
        "| light | 33.46 | – |",
    ]


def test_tables_are_placed_between_exactly_one_pair_of_markers() -> None:
    assert placed("a\n<!-- scores -->\nold\n<!-- end -->\nb", "new") == "a\n<!-- scores -->\n\nnew\n\n<!-- end -->\nb"
    for text in ("", "<!-- scores -->\n<!-- end -->\n" * 2):
        with pytest.raises(ValueError, match="pairs of markers"):
            placed(text, "new")


@pytest.mark.weights
@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_the_python_examples_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    Image.fromarray(noise[:6, :8]).save("in.png")
    (tmp_path / "photos").mkdir()
    for number in range(2):
        Image.fromarray(np.roll(noise.repeat(2, 0).repeat(2, 1), number)).save(tmp_path / "photos" / f"{number}.png")
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", read(page), re.MULTILINE | re.DOTALL):
        exec(block.replace("(1920, 1080)", "(80, 45)"), names)  # as large as a test needs
    assert names["large"].size == (60, 45)
    if page != "README.md":
        assert names["small"].size == (80, 45) and names["colours"].shape == (100, 3)
        assert [each.size for each in names["pyramid"]] == [(round(8 * s), round(6 * s)) for s in names["scales"]]
        assert (
            names["detail"].size == (64, 48) and names["slope"].shape == (1, 2) and names["latent"].shape[:2] == (6, 8)
        )
        with Image.open("heat.png") as heat:
            assert heat.size == (8, 6)
        assert names["tuned"].size == (32, 24)
        assert names["losses"][-1] < names["losses"][0]
        assert names["row"].scale == 2 and len(names["row"].scores) == 2

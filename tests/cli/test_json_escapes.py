"""JSON for programs: plain ASCII, whatever a path, a licence or a header holds."""

import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_models import tiny_config

from liif_cli.models import describe, store
from liif_cli.models.checkpoints import save_model
from liif_cli.models.model import SRModel

Run = Callable[..., Any]
HOSTILE = "\x1b[31m\x07\x7f\x9b\u202e\u2066\u200f\u2028caf\u00e9"
"""Control characters of both sets, a delete, marks of direction, a separator of lines, and a letter."""
ROOT = Path(__file__).parents[2] / "liif_cli"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A checkpoint whose licence and provenance are hostile."""
    path = tmp_path / f"model{HOSTILE[2:6]}.safetensors"
    save_model(SRModel(tiny_config()), path, licence=HOSTILE, provenance={"notice": HOSTILE, HOSTILE: [HOSTILE]})
    return path


def test_json_is_ascii_and_comes_back(liif: Run, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (store, describe):  # both have been imported, so that what they share is not kept after this test
        monkeypatch.setattr(module, "pulled", lambda: {HOSTILE: model})
    name = f"a{HOSTILE[:-4]}.png"
    Image.fromarray(np.zeros((8, 12, 3), np.uint8)).save("in.png")
    Path("in.png").rename(name)
    calls = {
        ("models", "--json"): ("licence", HOSTILE),
        ("models", "show", str(model), "--json"): ("notice", HOSTILE),
        ("models", "path", str(model), "--json"): ("path", str(model)),
        ("models", "verify", str(model), "--json"): ("path", str(model)),
        ("upscale", name, "-s", "2", "-m", str(model), "--json"): ("input", name),
        ("upscale", name, "-s", "2", "-m", str(model), "--json", "--dry-run", "--overwrite"): ("input", name),
        ("compare", name, "-s", "2", "-m", str(model), "--json"): (None, None),
    }
    for call, (key, value) in calls.items():
        ran = liif(*call)
        assert ran.code == 0, (call, ran.err)
        text = "\n".join(ran.out)
        assert text.isascii() and text.replace("\n", "").isprintable(), call
        found = [json.loads(line) for line in ran.out]
        assert key is None or any(each.get(key) == value for each in found), (call, found)


def test_no_json_of_ours_leaves_other_characters_unescaped() -> None:
    """`ensure_ascii=False` is for files alone, and there is none."""
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "ensure_ascii":
                raise AssertionError(f"{path}: {node.lineno}")

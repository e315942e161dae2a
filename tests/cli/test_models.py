"""`liif models`: what is listed, shown and checked; conversion and the network have tests of their own under tests/models."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from liif_cli.models.checkpoints import save_model
from liif_cli.models.known import KNOWN
from liif_cli.models.model import SRModel
from liif_cli.models.store import pull_folder, shipped

Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def caches(desk: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches, on the desk."""
    for name in ("HF_HUB_CACHE", "HF_ASSETS_CACHE"):
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", str(desk / name))
    return desk / "HF_HUB_CACHE"


def put(tiny: SRModel, path: Path, **provenance: Any) -> Path:
    save_model(tiny, path, licence="CC0-1.0", provenance=provenance)
    return path


def test_the_list_has_what_is_here_and_what_can_be_pulled(liif: Run, caches: Path, tiny: SRModel) -> None:
    nice = caches / "models--someone--nice" / "snapshots" / "0123"
    put(tiny, nice / "model.safetensors", validation_psnr={"2": 31.0, "8": 20.0})
    put(tiny, nice / "more" / "small.safetensors")
    put(tiny, pull_folder() / f"{KNOWN[0].name}.safetensors")
    other = caches / "models--someone--other" / "snapshots" / "0123" / "model.safetensors"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    found = {entry["name"]: entry for entry in map(json.loads, liif("models", "--json").out)}
    cached = found["hf://someone/nice"]
    assert cached["where"] == "cached" and cached["licence"] == "CC0-1.0"
    assert cached["parameters"] == sum(p.numel() for p in tiny.parameters())
    assert cached["bytes"] == Path(cached["path"]).stat().st_size
    assert cached["scores"] == {"validation": {"2": 31.0, "8": 20.0}}
    assert "hf://someone/nice/more/small.safetensors" in found and len(found) == 2 + len(shipped()) + len(KNOWN)
    assert (found[KNOWN[0].name]["where"], found[KNOWN[1].name]["where"]) == ("pulled", "known")
    assert found[KNOWN[1].name]["path"] is None and found[KNOWN[1].name]["licence"] == KNOWN[1].licence
    table = liif("models").out
    assert table[0].split() == ["NAME", "WHERE", "SIZE", "PARAMETERS", "LICENCE", "PSNR"]
    assert len(table) == len(found) + 1 and any(line.endswith("validation x2 31.00") for line in table)
    assert liif("models", "list").out == table


def test_show_needs_no_tensors(liif: Run, desk: Path, tiny: SRModel, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tiny, desk / "mine.safetensors", iterations=3)
    monkeypatch.setattr("liif_cli.models.checkpoints._read_tensors", None)
    found = json.loads(liif("models", "show", path, "--json").out[0])
    assert found["model"]["encoder"]["features"] == 8 and found["provenance"] == {"iterations": 3}
    assert len(found["sha256"]) == 64 and "not the images" in found["outputs"]
    text = liif("models", "show", path).out
    assert f"sha256: {found['sha256']}" in text and "    features: 8" in text


def test_show_knows_what_can_be_pulled(liif: Run) -> None:
    found = json.loads(liif("models", "show", KNOWN[0].name, "--json").out[0])
    assert found["path"] is None and found["source"] == KNOWN[0].source and "DIV2K" in found["notice"]


@pytest.mark.parametrize(
    ("licence", "says"),
    [("unknown", "ask the author"), ("CC-BY-NC-4.0", "forbids commercial"), ("CC-BY-SA-4.0", "not the images")],
)
def test_what_a_licence_means_for_outputs(licence: str, says: str) -> None:
    from liif_cli.models.describe import what_licence_means

    assert says in what_licence_means(licence)


def test_path(liif: Run, desk: Path, tiny: SRModel) -> None:
    path = put(tiny, pull_folder() / "pulled-one.safetensors")
    assert liif("models", "path", "pulled-one").out == [str(path)]
    assert json.loads(liif("models", "path", "pulled-one", "--json").out[0])["name"] == "pulled-one"
    ran = liif("models", "path", KNOWN[0].name)
    assert ran.code == 5 and ran.err[1] == f"Hint: liif models pull {KNOWN[0].name}"


def test_verify_reads_everything(liif: Run, desk: Path, tiny: SRModel) -> None:
    good, bad = put(tiny, pull_folder() / "good.safetensors"), put(tiny, pull_folder() / "bad.safetensors")
    data = bytearray(bad.read_bytes())
    data[-4:] = torch.tensor([float("nan")]).numpy().tobytes()
    bad.write_bytes(data)
    ran = liif("models", "verify")
    assert ran.code == 6 and f"of {2 + len(shipped())} models cannot be used: bad" in ran.err[0]
    found = {entry["name"]: entry for entry in map(json.loads, liif("models", "verify", "--json").out)}
    assert found["good"]["ok"] and not found["bad"]["ok"] and "NaN" in found["bad"]["problem"]
    digest = found["good"]["sha256"]
    assert liif("models", "verify", good, "--sha256", digest[:8]).out == [f"good: ok  {digest}"]
    ran = liif("models", "verify", good, "--sha256", "0" * 64)
    assert (ran.code, ran.out) == (6, []) and "checksum mismatch" in ran.err[0]
    assert liif("models", "verify", "--sha256", "0").code == 2


def test_the_group_s_own_json_stands_alone(liif: Run) -> None:
    ran = liif("models", "--json", "show", "x")
    assert ran.code == 2 and ran.err[1] == "Hint: liif models show --json"
    ran = liif("models", "lst")
    assert ran.code == 2 and ran.err[1] == "Hint: did you mean liif models list?"


def test_options_of_commands_in_a_group_from_files_and_variables(
    liif: Run, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("liif.toml").write_text("[models.list]\njson = true\n")
    assert liif("models", "list").out[0].startswith("{") and not liif("models").out[0].startswith("{")
    assert liif("config", "models list").out == ["models list --json = true  (liif.toml)"]
    Path("liif.toml").write_text("[models.list]\njsn = true\n")
    ran = liif("models")
    assert ran.code == 2 and ran.err == [
        "Error: liif.toml: models.list.jsn is not an option of liif models list",
        *ran.err[1:],
    ]
    Path("liif.toml").unlink()
    monkeypatch.setenv("LIIF_MODELS_LIST_JSON", "1")
    assert liif("models", "list").out[0].startswith("{") and not liif("models").out[0].startswith("{")

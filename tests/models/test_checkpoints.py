"""Checkpoints: found by name, file or Hub reference; whole and understood, or refused with a sentence."""

import json
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_server import HubServer
from safetensors.torch import load_file, save
from tiny_models import golden_model, tiny_config

from liif_cli.errors import CheckpointError, ModelNotFound, OutputError
from liif_cli.models.checkpoints import read_header, save_model
from liif_cli.models.model import SRModel
from liif_cli.models.registry import PRESETS, ModelConfig
from liif_cli.models.schema import ConfigError, parse, to_dict
from liif_cli.models.store import DEFAULT, find, load_model, shipped


@pytest.fixture
def file(tiny: SRModel, tmp_path: Path) -> Path:
    """A checkpoint of the tiny model."""
    path = tmp_path / "tiny.safetensors"
    save_model(tiny, path, licence="CC0-1.0", provenance={"iterations": 3})
    return path


def raw(path: Path, header: object, tensors: dict[str, torch.Tensor] | None = None) -> Path:
    """A safetensors file with any text as the header's entry."""
    text = header if isinstance(header, str) else json.dumps(header)
    path.write_bytes(save(tensors or {}, {"liif": text}))
    return path


def test_round_trip(tiny: SRModel, file: Path) -> None:
    found = find(file)
    assert (found.name, found.revision) == ("tiny", None)
    assert (found.header.licence, found.header.provenance) == ("CC0-1.0", {"iterations": 3})
    loaded = load_model(file)
    assert loaded.config == tiny.config
    assert not loaded.training
    for name, tensor in tiny.export().items():
        assert torch.equal(loaded.export()[name], tensor)
    image = torch.rand(1, 3, 9, 8)
    grid = torch.rand(1, 5, 2, dtype=torch.float64)
    with torch.no_grad():
        assert torch.equal(loaded(image, grid, grid), tiny(image, grid, grid))


def test_the_same_model_gives_the_same_bytes_and_the_authors_names(tiny: SRModel, file: Path, tmp_path: Path) -> None:
    save_model(tiny, tmp_path / "again.safetensors", licence="CC0-1.0", provenance={"iterations": 3})
    assert (tmp_path / "again.safetensors").read_bytes() == file.read_bytes()
    assert {name.split(".")[0] for name in load_file(file)} == {"encoder", "imnet"}


def test_half_precision_files_load_as_float32(tiny: SRModel, tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    save_model(tiny, path, licence="CC0-1.0", provenance={}, dtype=torch.float16)
    assert load_file(path)["imnet.layers.0.weight"].dtype == torch.float16
    assert {p.dtype for p in load_model(path).parameters()} == {torch.float32}


def test_a_file_appears_whole_or_not_at_all(tiny: SRModel, tmp_path: Path) -> None:
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(OutputError):
        save_model(tiny, tmp_path / "folder.safetensors", licence="CC0-1.0", provenance={})
    assert [path.name for path in tmp_path.iterdir()] == ["folder.safetensors"]


@pytest.mark.parametrize("keep", [0, 4, 8, 100, 3000, -1])
def test_truncated(file: Path, keep: int) -> None:
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(CheckpointError):
        load_model(file)


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps({"model": 1}),
        b"PK\x03\x04" + bytes(100),
        b"",
        b"\xff" * 64,
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 4) + b"null",
    ],
)
def test_no_safetensors_at_all(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "pickle.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError):
        load_model(path)


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ({}, "model: Field required"),
        ([], "is invalid"),
        ({"schema": 99}, "newer liif"),
        ({"model": {"encoder": {"name": "unet"}}, "licence": "x"}, "model.encoder"),
        ({"model": {"encoder": {"name": "edsr", "depth": 3}}, "licence": "x"}, "depth"),
        ({"model": {"encoder": {"name": "edsr", "blocks": 10**9}}, "licence": "x"}, "blocks"),
        ({"model": {"encoder": {"name": "edsr", "blocks": -1}}, "licence": "x"}, "blocks"),
        ({"model": {"std": [0.5, 0.5]}, "licence": "x"}, "std"),
        ({"model": {"decoder": {"name": "liif", "hidden": []}}, "licence": "x"}, "hidden"),
        ({"model": {"std": [0.5, 0.5, 0]}, "licence": "x"}, "std"),
    ],
)
def test_headers_that_are_not_understood(tmp_path: Path, header: object, says: str) -> None:
    with pytest.raises(CheckpointError, match=says):
        load_model(raw(tmp_path / "x.safetensors", header))


def test_a_safetensors_file_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes(save({"weight": torch.zeros(3)}))
    with pytest.raises(CheckpointError, match="not a liif checkpoint"):
        read_header(path)


def change(tensors: dict[str, torch.Tensor], how: str) -> None:
    name = "encoder.head.0.weight"
    if how == "lacks":
        del tensors[name]
    elif how == "unknown":
        tensors["encoder.tail.weight"] = torch.zeros(3)
    elif how == "shape":
        tensors[name] = tensors[name][:4].clone()
    elif how == "NaN":
        tensors[name][0, 0, 0, 0] = float("nan")
    elif how == "floating-point":
        tensors[name] = tensors[name].to(torch.int32)


@pytest.mark.parametrize("how", ["lacks", "unknown", "shape", "NaN", "floating-point"])
def test_tensors_that_do_not_fit_the_config(tiny: SRModel, tmp_path: Path, how: str) -> None:
    tensors = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tiny.export().items()}
    change(tensors, how)
    header = {"schema": 1, "model": to_dict(tiny.config), "licence": "CC0-1.0", "provenance": {}}
    with pytest.raises(CheckpointError, match=how):
        load_model(raw(tmp_path / "x.safetensors", header, tensors))


def test_configs_are_strict_and_come_back() -> None:
    for config in PRESETS.values():
        assert parse(ModelConfig, json.loads(json.dumps(to_dict(config)))) == config
    with pytest.raises(ConfigError, match="encoder"):
        parse(ModelConfig, {"encoder": "edsr"})


@pytest.mark.parametrize(
    "reference", ["nothing-like-it", "no/such/file.safetensors", "hf://", "hf://only-one", "a b/c", ""]
)
def test_no_such_model(reference: str) -> None:
    with pytest.raises(ModelNotFound):
        find(reference)


def test_a_name_that_is_nearly_right_is_suggested() -> None:
    with pytest.raises(ModelNotFound) as caught:
        find("edsr-baseline-lif")
    assert "edsr-baseline-liif" in str(caught.value.hint)


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        find(tmp_path)


@pytest.mark.weights
@pytest.mark.parametrize(
    ("name", "parameters"),
    [("edsr-baseline-liif", 1_567_299), ("light", 410_885), ("light-photo", 410_885), ("light-large", 1_179_605)],
)
def test_the_shipped_models_are_the_presets(name: str, parameters: int) -> None:
    if not shipped():
        pytest.skip("no weights are shipped here")
    assert find().name == DEFAULT == "light"
    found = find(name)
    assert found.name == name and found.config == PRESETS[name.replace("-photo", "")]
    assert sum(p.numel() for p in found.load().parameters()) == parameters
    assert found.header.licence
    assert found.header.provenance["iterations"] > 0


@pytest.mark.weights
def test_bf16_holds_the_hidden_layers_that_are_shipped() -> None:
    if not shipped():
        pytest.skip("no weights are shipped here")
    for linear in find("edsr-baseline-liif").load().decoder.imnet.linears[1:]:
        for parameter in linear.parameters():
            assert torch.equal(parameter, parameter.bfloat16().float())


class TestHub:
    """The real client against a server that answers as the Hub does."""

    @pytest.fixture
    def hub(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: Path) -> Any:
        with HubServer() as hub:
            hub.add(
                "model",
                "someone/tiny",
                {"model.safetensors": file.read_bytes(), "other/half.safetensors": file.read_bytes()},
            )
            hub.use(monkeypatch, tmp_path / "cache")
            monkeypatch.chdir(tmp_path)
            yield hub

    @pytest.mark.parametrize(
        "reference",
        ["someone/tiny", "hf://someone/tiny", "hf://someone/tiny@main", "hf://someone/tiny/other/half.safetensors"],
    )
    def test_references(self, hub: HubServer, reference: str) -> None:
        found = find(reference)
        assert found.name == "someone/tiny"
        assert found.revision == hub.repos["model", "someone/tiny"].commit
        assert found.load().config == tiny_config()

    def test_a_path_that_exists_is_a_path(self, hub: HubServer, file: Path, tmp_path: Path) -> None:
        (tmp_path / "someone").mkdir()
        file.rename(tmp_path / "someone" / "tiny")
        assert find("someone/tiny").revision is None
        assert not hub.requests

    def test_revision_by_commit(self, hub: HubServer) -> None:
        commit = hub.repos["model", "someone/tiny"].commit
        assert find(f"hf://someone/tiny@{commit}").revision == commit

    @pytest.mark.parametrize(
        "reference",
        ["someone/absent", "hf://someone/tiny@v9", "hf://someone/tiny/absent.safetensors", "hf://some one/x"],
    )
    def test_absent(self, hub: HubServer, reference: str) -> None:
        with pytest.raises(ModelNotFound):
            find(reference)

    def test_cached_files_serve_when_the_hub_is_gone(self, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
        from huggingface_hub import constants

        find("someone/tiny")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        assert find("someone/tiny").name == "someone/tiny"
        with pytest.raises(ModelNotFound, match="cannot be reached"):
            find("someone/other")

    def test_wrong_bytes_of_the_right_length(self, hub: HubServer) -> None:
        hub.corrupt("model", "someone/tiny", "model.safetensors")
        with pytest.raises(CheckpointError, match="checksum"):
            find("someone/tiny")


def test_loading_takes_no_random_numbers(file: Path) -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    load_model(file)
    assert torch.equal(torch.rand(1), expected)


def test_a_model_of_another_size_is_refused(file: Path) -> None:
    other = golden_model(tiny_config(hidden=(16,)))
    with pytest.raises(CheckpointError, match=r"lacks|unknown"):
        other.load(load_file(file))

"""The stand-in for the Hub must satisfy the real client, or the tests built on it show nothing."""

from pathlib import Path

import pytest
from hub_server import HubServer
from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError

PAYLOAD = bytes(range(256)) * 40


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with HubServer() as server:
        server.add("model", "who/model", {"model.safetensors": PAYLOAD, "README.md": b"# a card\n"})
        server.add("dataset", "who/set", {"data/set_HR.tar.gz": PAYLOAD[::-1]})
        server.use(monkeypatch, tmp_path)
        yield server


def test_single_files_of_both_kinds(hub):
    assert Path(hf_hub_download("who/model", "model.safetensors")).read_bytes() == PAYLOAD
    other = hf_hub_download("who/set", "data/set_HR.tar.gz", repo_type="dataset")
    assert Path(other).read_bytes() == PAYLOAD[::-1]


def test_a_whole_snapshot(hub, tmp_path):
    snapshot_download("who/model", local_dir=tmp_path / "copy")
    files = sorted(file.name for file in (tmp_path / "copy").iterdir() if file.is_file())
    assert files == ["README.md", "model.safetensors"]


def test_an_unknown_repository(hub):
    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download("who/nothing", "model.safetensors")


def test_a_cached_file_asks_nothing_offline(hub):
    hf_hub_download("who/model", "README.md")
    asked = len(hub.requests)
    hf_hub_download("who/model", "README.md", local_files_only=True)
    assert len(hub.requests) == asked
    with pytest.raises(LocalEntryNotFoundError):
        hf_hub_download("who/model", "model.safetensors", local_files_only=True)


def test_corrupt_bytes_have_the_right_length(hub):
    hub.corrupt("model", "who/model", "model.safetensors")
    data = Path(hf_hub_download("who/model", "model.safetensors")).read_bytes()
    assert len(data) == len(PAYLOAD) and data != PAYLOAD

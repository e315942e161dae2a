"""Fetching from the Hub: the real client against a local server."""

import pytest
from hub_server import HubServer

from liif_cli.errors import CheckpointError, ModelNotFound
from liif_cli.models import hub

PAYLOAD = bytes(range(256)) * 40
FILES = {"data/set.tar.gz": PAYLOAD, "README.md": b"# a card\n"}


@pytest.fixture
def server(monkeypatch, tmp_path):
    with HubServer() as server:
        server.add("dataset", "who/set", FILES)
        server.use(monkeypatch, tmp_path)
        yield server


@pytest.mark.parametrize("name", FILES)
def test_a_file_comes_with_its_commit_and_hash(server, name):
    file = hub.fetch("who/set", name, kind="dataset")
    assert file.path.read_bytes() == FILES[name]
    assert file.commit == server.repos["dataset", "who/set"].commit
    assert len(file.etag) == (64 if name.endswith("gz") else 40)


def test_a_second_fetch_at_a_commit_is_silent(server):
    commit = hub.fetch("who/set", "data/set.tar.gz", kind="dataset").commit
    asked = len(server.requests)
    assert hub.fetch("who/set", "data/set.tar.gz", kind="dataset", revision=commit).path.read_bytes() == PAYLOAD
    assert len(server.requests) == asked


@pytest.mark.parametrize("name", FILES)
def test_wrong_bytes_of_the_right_length_are_found_out(server, name):
    server.corrupt("dataset", "who/set", name)
    with pytest.raises(CheckpointError, match="does not have the hash") as caught:
        hub.fetch("who/set", name, kind="dataset")
    assert "delete" in caught.value.hint


def test_a_blob_that_lives_in_a_shared_store_is_known_by_its_own_name(server, tmp_path):
    file = hub.fetch("who/set", "data/set.tar.gz", kind="dataset")
    blob = file.path.resolve()
    stored = tmp_path / "store" / ("f" * 64)
    stored.parent.mkdir()
    blob.rename(stored)
    blob.symlink_to(stored)
    assert hub.fetch("who/set", "data/set.tar.gz", kind="dataset").etag == file.etag


def test_a_cache_without_links_asks_for_the_hash(server):
    file = hub.fetch("who/set", "data/set.tar.gz", kind="dataset")
    file.path.unlink()
    file.path.write_bytes(PAYLOAD)
    assert hub.fetch("who/set", "data/set.tar.gz", kind="dataset") == file
    file.path.write_bytes(PAYLOAD[::-1])
    with pytest.raises(CheckpointError, match="does not have the hash"):
        hub.fetch("who/set", "data/set.tar.gz", kind="dataset")


def test_what_is_not_there(server):
    with pytest.raises(ModelNotFound, match="does not exist or is private"):
        hub.fetch("who/nothing", "model.safetensors")
    with pytest.raises(ModelNotFound, match=r"has no file data/other.tar.gz"):
        hub.fetch("who/set", "data/other.tar.gz", kind="dataset")
    with pytest.raises(ModelNotFound, match="no such revision"):
        hub.fetch("who/set", "README.md", kind="dataset", revision="v9")
    with pytest.raises(ModelNotFound, match="not a place on the Hub"):
        hub.fetch("who/set/../..", "README.md", kind="dataset")


def test_offline_and_unreachable(server, monkeypatch):
    from huggingface_hub import constants

    hub.fetch("who/set", "README.md", kind="dataset")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub.fetch("who/set", "README.md", kind="dataset").path.read_bytes() == FILES["README.md"]
    with pytest.raises(ModelNotFound, match="not in the cache and the Hub cannot be reached"):
        hub.fetch("who/set", "data/set.tar.gz", kind="dataset")
    with pytest.raises(ModelNotFound, match="cannot be reached"):
        hub.list_files("who/set", kind="dataset")


def test_the_list_of_files(server):
    assert hub.list_files("who/set", kind="dataset") == sorted(FILES)

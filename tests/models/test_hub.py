"""Fetching from the Hub: the real client against a local server."""

import errno
from pathlib import Path

import pytest
from hub_server import READER, HubServer

from liif_cli.errors import CheckpointError, ModelNotFound, OutputError
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
    with pytest.raises(CheckpointError, match="checksum mismatch"):
        hub.fetch("who/set", name, kind="dataset")
    assert left_in_cache(server) == []
    server.add("dataset", "who/set", FILES)
    assert hub.fetch("who/set", name, kind="dataset").path.read_bytes() == FILES[name]


def left_in_cache(server):
    """Blobs and snapshots in the cache that `server.use` set; what the client goes on with, and its notes, aside."""
    from huggingface_hub import constants

    places = [*Path(constants.HF_HUB_CACHE).rglob("blobs/*"), *Path(constants.HF_HUB_CACHE).rglob("snapshots/*/**/*")]
    return [path for path in places if (path.is_file() or path.is_symlink()) and path.suffix != ".incomplete"]


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
    with pytest.raises(CheckpointError, match="checksum mismatch"):
        hub.fetch("who/set", "data/set.tar.gz", kind="dataset")


def test_what_is_not_there(server):
    with pytest.raises(ModelNotFound, match="does not exist or is private"):
        hub.fetch("who/nothing", "model.safetensors")
    with pytest.raises(ModelNotFound, match=r"has no file data/other.tar.gz"):
        hub.fetch("who/set", "data/other.tar.gz", kind="dataset")
    with pytest.raises(ModelNotFound, match="no such revision"):
        hub.fetch("who/set", "README.md", kind="dataset", revision="v9")
    with pytest.raises(ModelNotFound, match="not a repository on the Hub"):
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


# What the Hub may answer, with and without the file in the cache: each its own sentence, never the cached file without a word.

ANSWERS = {
    "wrong token": (401, "", "Invalid credentials in Authorization header", "rejected the token"),
    "gated": (403, "GatedRepo", "Access to model is restricted", "is gated"),
    "forbidden": (403, "", "Forbidden", "denied access"),
    "private or gone": (401, "RepoNotFound", "Repository not found", "does not exist or is private"),
    "gone": (404, "RepoNotFound", "Repository not found", "does not exist or is private"),
    "no such file": (404, "EntryNotFound", "Entry not found", "has no file"),
    "no such revision": (404, "RevisionNotFound", "Invalid rev id", "no such revision"),
    "rate limit": (429, "", "", "too many requests"),
}


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("answer", ANSWERS)
def test_each_refusal_has_its_own_sentence(server, answer, cached):
    if cached:
        hub.fetch("who/set", "data/set.tar.gz", kind="dataset")
    before = left_in_cache(server)
    status, code, message, says = ANSWERS[answer]
    limits = {"RateLimit": '"api";r=0;t=55'} if status == 429 else {}
    server.refuse("who/set/resolve", status, code, message, **limits)
    with pytest.raises(ModelNotFound, match=says) as caught:
        hub.fetch("who/set", "data/set.tar.gz", kind="dataset")
    assert left_in_cache(server) == before
    assert status != 429 or "in 55 seconds" in caught.value.hint


def test_a_private_model_takes_a_token(server, monkeypatch):
    server.add("model", "who/private", {"model.safetensors": PAYLOAD}, private=True)
    with pytest.raises(ModelNotFound, match="private") as caught:
        hub.fetch("who/private", "model.safetensors")
    assert "HF_TOKEN" in caught.value.hint
    monkeypatch.setenv("HF_TOKEN", READER)
    assert hub.fetch("who/private", "model.safetensors").path.read_bytes() == PAYLOAD


@pytest.mark.parametrize("how", ["down", "away"])
def test_a_hub_that_does_not_answer_is_said(server, monkeypatch, caplog, how):
    from huggingface_hub import constants

    commit = hub.fetch("who/set", "data/set.tar.gz", kind="dataset").commit
    if how == "down":
        server.refuse("who/set", 503)
    else:
        template = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    assert hub.fetch("who/set", "data/set.tar.gz", kind="dataset").commit == commit
    (record,) = caplog.records
    assert "cannot reach the Hub" in record.getMessage() and commit[:12] in record.getMessage()
    with pytest.raises(ModelNotFound, match=r"cannot fetch|not in the cache"):
        hub.fetch("who/set", "README.md", kind="dataset")


def test_a_download_that_ends_early(server, monkeypatch):
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    server.truncate("dataset", "who/set", "data/set.tar.gz")
    with pytest.raises(ModelNotFound, match=r"data/set.tar.gz of the data set who/set on the Hub is incomplete"):
        hub.fetch("who/set", "data/set.tar.gz", kind="dataset")
    assert left_in_cache(server) == []
    server.truncated.clear()
    assert hub.fetch("who/set", "data/set.tar.gz", kind="dataset").path.read_bytes() == PAYLOAD


def test_a_full_disk(server, monkeypatch):
    """The client's own writing fails as it does on a full disk."""

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    with pytest.raises(OutputError, match="No space left"):
        hub.fetch("who/set", "data/set.tar.gz", kind="dataset")
    assert left_in_cache(server) == []

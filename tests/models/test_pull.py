"""Published models by their name, from a real HTTP server that breaks off, lies about lengths and sends wrong files."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from hub_server import HubServer
from test_convert import mmediting, same
from tiny_models import golden_model, tiny_config

from liif_cli.models import download, known
from liif_cli.models.checkpoints import save_model
from liif_cli.models.pull import pull_folder
from liif_cli.models.store import load_model

Run = Callable[..., Any]


class FileServer:
    """Serves one file, /model.pth, in the way that `faults` asks for: one for each request, then as it should be.

    "break": half of what is left, then the connection ends. "short" and "long": another Content-Length. "wrong": other bytes of
    the same length. "whole": all of it, whatever the Range. "endless": no length, and the connection ends half-way. A number:
    that status.
    """

    def __init__(self, data: bytes) -> None:
        self.data, self.faults, self.ranges = data, list[Any](), list[str | None]()
        handler = type("Handler", (_Handler,), {"site": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/model.pth"
        self.thread = Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> "FileServer":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class _Handler(BaseHTTPRequestHandler):
    site: FileServer

    def log_message(self, *_: object) -> None:
        """Stay silent."""

    def do_GET(self) -> None:
        site, asked = self.site, self.headers.get("Range")
        site.ranges.append(asked)
        fault = site.faults.pop(0) if site.faults else None
        if isinstance(fault, int):
            self.send_response(fault)
            self.send_header("Retry-After", "7")
            self.end_headers()
            return
        start = int(re.match(r"bytes=(\d+)-", asked)[1]) if asked and fault != "whole" else 0  # type: ignore[index]
        body = bytes(len(site.data)) if fault == "wrong" else site.data
        if start >= len(body):
            self.send_response(416)
            self.end_headers()
            return
        self._send(body[start:], start, len(body), fault)

    def _send(self, body: bytes, start: int, total: int, fault: Any) -> None:
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        length = {"short": len(body) - 9, "long": len(body) + 9}.get(fault, len(body))
        if fault != "endless":
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if fault in ("break", "endless") else body)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """MMEditing's file of the tiny model."""
    path = tmp_path_factory.mktemp("site") / "model.pth"
    torch.save(mmediting(tiny_config()), path)
    return path.read_bytes()


@pytest.fixture
def site(published: bytes, desk: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """The server, and a table of known models with its file as `theirs`."""
    monkeypatch.setattr("huggingface_hub.constants.HF_ASSETS_CACHE", str(desk / "assets"))
    monkeypatch.setattr(download, "PAUSE", 0)
    with FileServer(published) as server:
        table(monkeypatch, server.url, hashlib.sha256(published).hexdigest())
        yield server


def table(monkeypatch: pytest.MonkeyPatch, source: str, sha256: str, **more: Any) -> known.Known:
    entry = known.Known("theirs", source, sha256, "CC-BY-NC-4.0", "them", 1, notice="for cats only", **more)
    for module in ("known", "pull", "store"):
        monkeypatch.setattr(f"liif_cli.models.{module}.KNOWN", (entry,))
    return entry


def kept() -> list[str]:
    """What lies in the folder of pulled models, the lock aside."""
    return sorted(path.name for path in pull_folder().iterdir() if path.suffix != ".lock")


def test_a_pulled_model_is_converted_and_has_a_name(liif: Run, site: FileServer) -> None:
    ran = liif("models", "pull", "theirs")
    assert (ran.code, ran.out) == (0, [str(pull_folder() / "theirs.safetensors")])
    assert ran.err == ["Note: theirs is from them; licence: CC-BY-NC-4.0; no commercial use; for cats only"]
    assert kept() == ["theirs.safetensors"]
    same(load_model("theirs"), load_model(pull_folder() / "theirs.safetensors"))
    shown = json.loads(liif("models", "show", "theirs", "--json").out[0])
    assert shown["licence"] == "CC-BY-NC-4.0" and shown["provenance"]["known"] == "theirs"
    found = json.loads(liif("models", "pull", "theirs", "--json").out[0])
    assert found["fetched"] is False and len(site.ranges) == 1
    assert found["sha256"] == hashlib.sha256(site.data).hexdigest()
    assert liif("models", "pull", "theirs", "--overwrite").code == 0 and len(site.ranges) == 2


def test_the_licence_is_shown_before_the_first_byte(liif: Run, site: FileServer) -> None:
    site.faults = [404]
    ran = liif("models", "pull", "theirs")
    assert ran.code == 5 and "no commercial use" in ran.err[0]


def test_a_prefix_of_the_hash_is_enough(liif: Run, site: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    table(monkeypatch, site.url, hashlib.sha256(site.data).hexdigest()[:8])
    assert liif("models", "pull", "theirs").code == 0


@pytest.mark.parametrize("fault", ["break", "long", 503])
def test_a_connection_that_breaks_off_is_gone_on_with(liif: Run, site: FileServer, fault: Any) -> None:
    site.faults = [fault, "break", fault]
    assert liif("models", "pull", "theirs").code == 0
    half = len(site.data) // 2
    assert site.ranges[0] is None and any(asked and int(asked[6:-1]) >= half for asked in site.ranges)
    assert kept() == ["theirs.safetensors"]


def test_the_next_call_resumes(liif: Run, site: FileServer) -> None:
    site.faults = ["break", *[503] * download.TRIES]
    ran = liif("models", "pull", "theirs")
    assert ran.code == 5 and "503" in ran.err[1] and "resumes where it stopped" in ran.err[2]
    assert kept() == [".theirs.part"]
    del site.ranges[:]
    assert liif("models", "pull", "theirs").code == 0
    assert site.ranges == [f"bytes={len(site.data) // 2}-"] and kept() == ["theirs.safetensors"]


def test_a_server_that_knows_no_ranges(liif: Run, site: FileServer) -> None:
    site.faults = ["break", "whole"]
    assert liif("models", "pull", "theirs").code == 0 and len(site.ranges) == 2


def test_what_was_there_before_and_is_of_another_file_is_fetched_anew(liif: Run, site: FileServer) -> None:
    part = pull_folder() / ".theirs.part"
    part.parent.mkdir(parents=True)
    for old in (b"other", bytes(2 * len(site.data))):
        part.write_bytes(old)
        assert liif("models", "pull", "theirs", "--overwrite").code == 0
    assert kept() == ["theirs.safetensors"]


@pytest.mark.parametrize("fault", ["wrong", "short", "endless"])
def test_a_wrong_file_is_not_used(liif: Run, site: FileServer, fault: str) -> None:
    site.faults = [fault]
    ran = liif("models", "pull", "theirs")
    assert ran.code == 6 and "checksum mismatch" in ran.err[1]
    assert kept() == [] and ran.out == []


def test_a_lie_about_the_length_is_noticed_before_the_download(
    liif: Run, site: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len(site.data)
    table(monkeypatch, site.url, hashlib.sha256(site.data).hexdigest(), bytes=size)
    site.faults = ["short"]
    ran = liif("models", "pull", "theirs")
    assert ran.code == 6 and f"{size - 9:,} bytes, expected {size:,}" in ran.err[1] and kept() == []
    assert liif("models", "pull", "theirs").code == 0


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (401, "login"),
        (403, "access denied"),
        (404, "not found"),
        (410, "no longer available"),
        (429, "too many requests"),
    ],
)
def test_refusals(liif: Run, site: FileServer, status: int, says: str) -> None:
    site.faults = [status]
    ran = liif("models", "pull", "theirs")
    assert ran.code == 5 and says in ran.err[1] and len(site.ranges) == 1
    assert status != 429 or "7 seconds" in ran.err[2]


def test_nobody_answers(liif: Run, site: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    table(monkeypatch, "http://127.0.0.1:9/model.pth", "00000000")
    ran = liif("models", "pull", "theirs")
    assert ran.code == 5 and ran.err[1].startswith("Error: cannot download http://127.0.0.1:9/model.pth: ")


def test_an_unknown_name(liif: Run, site: FileServer) -> None:
    ran = liif("models", "pull", "zzz")
    assert ran.code == 5 and ran.err[1].startswith("Hint: use one of theirs")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk here that is always full")
def test_a_full_disk(liif: Run, site: FileServer) -> None:
    """/dev/full refuses every byte, as a full disk does."""
    part = pull_folder() / ".theirs.part"
    part.parent.mkdir(parents=True)
    part.symlink_to("/dev/full")
    ran = liif("models", "pull", "theirs")
    assert ran.code == 4 and "No space left" in ran.err[1]


@pytest.mark.parametrize("ours", [True, False])
def test_a_known_repository_on_the_hub_by_commit_and_hash(
    liif: Run, published: bytes, desk: Path, monkeypatch: pytest.MonkeyPatch, ours: bool
) -> None:
    save_model(golden_model(tiny_config()), desk / "ours.safetensors", licence="CC0-1.0", provenance={})
    data = (desk / "ours.safetensors").read_bytes() if ours else published
    with HubServer() as hub:
        commit = hub.add("model", "who/liif", {"model.pth": data}).commit
        hub.use(monkeypatch, desk / "cache")
        table(monkeypatch, f"hf://who/liif@{commit}/model.pth", hashlib.sha256(data).hexdigest())
        assert liif("models", "pull", "theirs").code == 0
        assert load_model("theirs").config.encoder == tiny_config().encoder
        table(monkeypatch, f"hf://who/liif@{commit}/model.pth", "0" * 64)
        ran = liif("models", "pull", "theirs", "--overwrite")
        assert ran.code == 6 and "checksum mismatch" in ran.err[1]


def test_a_repository_is_pulled_into_the_cache(liif: Run, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_model(golden_model(tiny_config()), desk / "ours.safetensors", licence="CC0-1.0", provenance={})
    files = {"model.safetensors": (desk / "ours.safetensors").read_bytes(), "README.md": b"---\nlicense: mit\n---\n"}
    with HubServer() as hub:
        commit = hub.add("model", "who/liif", files).commit
        hub.use(monkeypatch, desk / "cache")
        ran = liif("models", "pull", "hf://who/liif", "--json")
        found = json.loads(ran.out[0])
        assert found["revision"] == commit and found["licence"] == "CC0-1.0" and commit in found["path"]
        assert ran.err[0] == "Note: licence stated by hf://who/liif: mit"

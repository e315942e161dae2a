"""`liif upscale` with an S3 server on loopback and the real client: trees, faults, races, interruptions, secrets."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from s3_server import Server

from liif_cli.errors import ExitCode, OutputError
from liif_cli.images.write import write
from liif_cli.stores import objects
from liif_cli.stores.addresses import Address

s3fs = pytest.importorskip("s3fs", reason="the extra `remote` is not installed")
pytest.importorskip("moto.server", reason="moto, an S3 server for tests, is not installed")
pytest.importorskip("flask", reason="moto's server is not installed")

pytestmark = [pytest.mark.remote, pytest.mark.filterwarnings("ignore")]
SECRET = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"
Run = Callable[..., Any]


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server with an empty bucket `bkt`; the client finds it by its own variables."""
    from moto.core.models import DEFAULT_ACCOUNT_ID  # noqa: F401 loads moto before the clock runs

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = Server()
    for name, value in (
        ("AWS_ENDPOINT_URL", server.url),
        ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ):
        monkeypatch.setenv(name, value)
    forget()
    client().mkdir("bkt")
    server.log.clear()
    yield server
    reset(server)
    forget()
    server.close()


def forget() -> None:
    """Clients remember their server."""
    s3fs.S3FileSystem.clear_instance_cache()
    objects.kind.cache_clear()


def client() -> Any:
    """The client that looks at results."""
    return s3fs.S3FileSystem(use_listings_cache=False)


def reset(server: Server) -> None:
    """Remove all objects: moto's servers of one process share them."""
    import urllib.request

    server.failing, server.hold = 0, None
    urllib.request.urlopen(urllib.request.Request(f"{server.url}/moto-api/reset", method="POST")).close()


@pytest.fixture
def image(tmp_path: Path) -> bytes:
    """A PNG of 12x10 pixels."""
    write(tmp_path / "image.png", np.random.default_rng(1).integers(0, 256, (10, 12, 3), np.uint8))
    return (tmp_path / "image.png").read_bytes()


@pytest.fixture
def up(liif: Run, tiny_file: Path) -> Run:
    """Runs `liif upscale -s 2`."""
    return lambda *arguments: liif("upscale", "-s", 2, "-m", tiny_file, *arguments)


def fill(fs: Any, image: bytes, count: int, folder: str = "in") -> None:
    """`count` images in ten folders."""
    fs.pipe({f"bkt/{folder}/{index % 10}/{index:04}.png": image for index in range(count)})


def made(fs: Any) -> list[str]:
    """Outputs."""
    return sorted(fs.find("bkt/out"))


def uploads(fs: Any) -> list[Any]:
    """Unfinished uploads."""
    return list(fs.call_s3("list_multipart_uploads", Bucket="bkt").get("Uploads", []))


def test_a_tree_and_then_nothing_more(up: Run, s3: Server, image: bytes) -> None:
    fs = client()
    fill(fs, image, 30)
    s3.log.clear()
    ran = up("s3://bkt/in/**/*.png", "-o", "s3://bkt/out", "--json")
    assert (ran.code, len(ran.out)) == (0, 30), ran.err
    assert made(fs)[0] == "bkt/out/0/0000_2x.png" and len(made(fs)) == 30
    gets, puts = s3.count("GET", "/bkt/in/"), s3.count("PUT", "/bkt/out/")
    assert (gets, puts, s3.count("HEAD", ".png")) == (30, 30, 1)  # and one for the pattern, which may be a name
    s3.log.clear()
    again = up("s3://bkt/in/**/*.png", "-o", "s3://bkt/out", "--skip-existing")
    assert (again.code, again.out) == (0, []) and "30 skipped" in again.err[-1]
    assert len(s3.log) <= 6 and not [
        each for each in s3.log if each.startswith(("GET /bkt/", "HEAD /bkt/")) and ".png" in each.split("?")[0]
    ]


def test_a_server_that_fails_and_is_slow_for_a_while(up: Run, s3: Server, image: bytes, monkeypatch: Any) -> None:
    monkeypatch.setattr(objects, "PAUSES", (0.1, 0.2, 0.3))
    fs = client()
    fill(fs, image, 6)
    s3.matches, s3.failing, s3.slow = lambda request: ".png" in request.partition("?")[0], 14, 0.05
    ran = up("s3://bkt/in/**/*.png", "-o", "s3://bkt/out")
    assert (ran.code, s3.failing) == (0, 0), ran.err
    assert len(made(fs)) == 6


def test_a_server_that_stays_broken(up: Run, s3: Server, image: bytes, monkeypatch: Any) -> None:
    monkeypatch.setattr(objects, "PAUSES", (0.0,))
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    forget()
    fs = client()
    fill(fs, image, 2)
    fs.pipe("bkt/out/0/0000_2x.png", b"kept")
    s3.matches, s3.failing = lambda request: request.startswith("PUT /bkt/out/0"), 1000
    ran = up("s3://bkt/in/**/*.png", "-o", "s3://bkt/out", "--overwrite")
    assert ran.code == ExitCode.SOME_FAILED and "cannot write s3://bkt/out/0/0000_2x.png" in ran.err[0]
    s3.failing = 0
    assert fs.cat("bkt/out/0/0000_2x.png") == b"kept" and len(made(fs)) == 2


@pytest.mark.slow
def test_two_runs_at_once(s3: Server, image: bytes, tiny_file: Path, desk: Path) -> None:
    fs = client()
    fill(fs, image, 20)
    runs = [start(tiny_file, "s3://bkt/in/**/*.png", "-o", "s3://bkt/out", "--json") for _ in range(2)]
    ended = [(run.communicate(timeout=100), run.returncode) for run in runs]
    assert len(made(fs)) == 20 and len({fs.cat(key) for key in made(fs)}) == 1
    for (out, err), code in ended:  # the same bytes are no conflict; a run that begins late is told so at once
        rows = [json.loads(line) for line in out.splitlines()]
        assert (code == 0 and len(rows) == 20) or (code == ExitCode.OUTPUT and "exist" in err), err


def start(model: Path, *arguments: str) -> "subprocess.Popen[str]":
    """The program in a process of its own."""
    command = [sys.executable, "-m", "liif_cli", "upscale", "-s", "2", "-m", str(model), *arguments]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


@pytest.mark.slow
def test_ctrl_c_leaves_whole_objects(s3: Server, image: bytes, tiny_file: Path, desk: Path) -> None:
    fs = client()
    fill(fs, image, 10)
    s3.hold, s3.matches = threading.Event(), lambda request: request.startswith("PUT /bkt/out/5")
    run = start(tiny_file, "s3://bkt/in/**/*.png", "-o", "s3://bkt/out", "--json")
    while not any(each.startswith("PUT /bkt/out/5") for each in s3.log):
        assert run.poll() is None, run.communicate()
        time.sleep(0.05)
    run.send_signal(signal.SIGINT)
    time.sleep(0.5)
    s3.hold.set()
    out, err = run.communicate(timeout=60)
    assert run.returncode == ExitCode.INTERRUPTED, err
    told = {json.loads(line)["output"].removeprefix("s3://") for line in out.splitlines()}
    assert told == set(made(fs)) and uploads(fs) == []


def test_an_upload_in_parts_is_taken_back(s3: Server, tmp_path: Path) -> None:
    fs = client()
    fs.pipe("bkt/out/large.png", b"kept")
    part, cancelled = 50 * 2**20, threading.Event()
    s3.matches, s3.hold = lambda request: "partNumber=2" in request, threading.Event()

    def interrupt() -> None:
        while s3.count("PUT", "partNumber=2") == 0:
            time.sleep(0.01)
        cancelled.set()
        s3.hold.set()  # type: ignore[union-attr]

    thread = threading.Thread(target=interrupt)
    thread.start()
    with (
        pytest.raises(OutputError, match="interrupted"),
        objects.ObjectFile(Address.parse("s3://bkt/out/large.png"), True, cancelled) as draft,
    ):
        draft.write_bytes(bytes(2 * part))
    thread.join()
    assert fs.cat("bkt/out/large.png") == b"kept" and uploads(fs) == [] and s3.count("DELETE", "uploadId") == 1


def test_errors_hold_no_secret(up: Run, s3: Server, image: bytes, monkeypatch: Any) -> None:
    client().pipe("bkt/a.png", image)
    ran = up("s3://bkt/none.png", "s3://nobody/a.png", "-o", "out")
    assert ran.code == ExitCode.SOME_FAILED and "s3://bkt/none.png" in ran.err[0]
    monkeypatch.setattr(objects, "PAUSES", ())
    url = client().url("bkt/gone.png", expires=60)
    assert "Signature" in url
    refused = up(url, "-o", "out/")
    said = "\n".join(refused.err + refused.out)
    assert refused.code == ExitCode.INPUT and "Signature" not in said and SECRET not in said and "AKIA" not in said
    monkeypatch.setenv("LIIF_DEBUG", "1")
    debug = "\n".join(up(url, "-o", "out/").err)
    assert "Traceback" in debug and "Signature" not in debug and "AKIA" not in debug


def test_without_credentials(up: Run, s3: Server, monkeypatch: Any) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    forget()
    ran = up("s3://bkt/a.png", "-o", "out/")
    assert ran.code == ExitCode.INPUT and ran.err[1].startswith("Hint: set the credentials as usual for this store")


def test_https_as_a_single_input(up: Run, s3: Server, image: bytes) -> None:
    fs = client()
    fs.pipe("bkt/photos/my image.png", image)
    ran = up(fs.url("bkt/photos/my image.png", expires=600))  # a signed address, as a browser would open it
    assert (ran.code, ran.out) == (0, ["my image_2x.png"]), ran.err
    assert Path("my image_2x.png").is_file()

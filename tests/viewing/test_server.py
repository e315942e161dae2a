"""The server, over real connections: its responses, refusals and resources."""

import io
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import forked
import numpy as np
import pytest
from PIL import Image

from liif_cli import encode

IMAGE = "/iiif/3/rgb.png"


def pixels(body: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(body)))


@pytest.fixture(scope="module")
def exact(served: Any, tiny: Any) -> Any:
    """The same image by the public API."""
    return encode(np.asarray(Image.open(served.folder / "rgb.png")), model=tiny)


@pytest.mark.parametrize(
    ("path", "render"),
    [
        ("full/^60,/0/default.png", {"scale": 2}),
        ("full/^!75,75/0/color.png", {"scale": 2.5}),
        ("5,3,10,8/^100,80/0/default.png", {"size": (100, 80), "region": (5, 3, 10, 8)}),
        ("full/15,10/0/default.png", {"scale": 0.5}),
    ],
)
def test_pixels_are_those_of_the_python_api(served: Any, exact: Any, path: str, render: dict[str, Any]) -> None:
    answer = served.get(f"{IMAGE}/{path}")
    assert answer.status == 200 and answer.headers["content-type"] == "image/png"
    assert np.abs(pixels(answer.body).astype(int) - exact.render(**render)).max() <= 1


def test_tiles_of_the_enlarged_image_join_to_the_whole(served: Any, exact: Any) -> None:
    whole = exact.render(scale=16)
    parts = [f"{x},0,{min(256, 480 - x)},256/max" for x in (0, 256)]
    tiles = [pixels(served.get(f"/iiif/x16/rgb.png/{part}/0/default.png").body) for part in parts]
    assert np.abs(np.concatenate(tiles, 1).astype(int) - whole[:256]).max() <= 1


@pytest.mark.parametrize(("method", "chosen"), [("bicubic", Image.BICUBIC), ("lanczos", Image.LANCZOS)])
def test_filters_are_pillow_s(served: Any, method: str, chosen: Any) -> None:
    whole = np.asarray(Image.open(served.folder / "rgb.png").resize((480, 320), chosen))
    answer = served.get(f"/iiif/x16/rgb.png/128,64,200,100/max/0/default.png?method={method}")
    assert np.abs(pixels(answer.body).astype(int) - whole[64:164, 128:328]).max() <= 1


def test_turning_mirroring_and_qualities(served: Any) -> None:
    plain = pixels(served.get(f"{IMAGE}/full/max/0/default.png").body)
    for turn in (0, 90, 180, 270):
        for mark, base in (("", plain), ("!", plain[:, ::-1])):
            turned = pixels(served.get(f"{IMAGE}/full/max/{mark}{turn}/default.png").body)
            assert np.array_equal(turned, np.rot90(base, -turn // 90))
    gray = pixels(served.get(f"{IMAGE}/full/max/0/gray.png").body)
    assert gray.ndim == 2 and gray.std() > 10
    assert set(np.unique(pixels(served.get(f"{IMAGE}/full/max/0/bitonal.png").body))) == {False, True}
    assert pixels(served.get("/iiif/3/gray.png/full/max/0/color.png").body).shape == (9, 8, 3)


@pytest.mark.parametrize(("form", "media"), [("png", "image/png"), ("jpg", "image/jpeg"), ("webp", "image/webp")])
@pytest.mark.parametrize("name", ["rgb.png", "gray.png", "a b/ü 100%.png"])
@pytest.mark.parametrize("quality", ["default", "color", "gray", "bitonal"])
def test_every_quality_in_every_format(served: Any, name: str, form: str, media: str, quality: str) -> None:
    answer = served.get(f"/iiif/3/{quote(name, safe='')}/full/^40,/0/{quality}.{form}")
    assert answer.status == 200 and answer.headers["content-type"] == media
    assert Image.open(io.BytesIO(answer.body)).size[0] == 40


def test_information_and_its_headers(served: Any) -> None:
    answer = served.get(f"{IMAGE}/info.json")
    content = json.loads(answer.body)
    assert content["id"] == f"http://127.0.0.1:{served.port}{IMAGE}"
    assert (content["width"], content["height"], content["maxArea"]) == (30, 20, 400_000)
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["content-type"] == "application/json"
    linked = served.get(f"{IMAGE}/info.json", Accept="application/ld+json").headers["content-type"]
    assert linked == 'application/ld+json;profile="http://iiif.io/api/image/3/context.json"'
    moved = served.get(IMAGE)
    assert moved.status == 303 and moved.headers["location"] == f"{content['id']}/info.json"
    asked = served.get(f"{IMAGE}/info.json", "OPTIONS", Origin="http://a.example")
    assert asked.status == 204 and "GET" in asked.headers["access-control-allow-methods"]
    assert json.loads(served.get("/iiif/x8/rgb.png/info.json").body)["width"] == 240


def test_a_manifest_shows_the_image(served: Any) -> None:
    content = json.loads(served.get("/iiif/x8/rgb.png/manifest.json").body)
    (canvas,) = content["items"]
    (note,) = canvas["items"][0]["items"]
    assert (content["type"], canvas["width"], canvas["height"]) == ("Manifest", 240, 160)
    assert note["motivation"] == "painting" and note["target"] == canvas["id"]
    service = note["body"]["service"][0]["id"].partition(f":{served.port}")[2]
    assert json.loads(served.get(f"{service}/info.json").body)["width"] == 240
    image = pixels(served.get(note["body"]["id"].partition(f":{served.port}")[2]).body)
    assert image.shape[:2] == (note["body"]["height"], note["body"]["width"])


def test_identifiers_are_paths_below_the_folder_in_percent_signs(served: Any) -> None:
    content = json.loads(served.get(f"/iiif/3/{quote('a b/ü 100%.png', safe='')}/info.json").body)
    assert content["width"] == 10 and content["id"].endswith("/a%20b%2F%C3%BC%20100%25.png")


def test_a_known_version_is_neither_sent_nor_rendered(served: Any) -> None:
    path = f"{IMAGE}/1,1,7,7/^77,77/0/default.png"
    first = served.get(path)
    assert "max-age" in first.headers["cache-control"] and "canonical" in first.headers["link"]
    made = served.service.queue.made
    again = served.get(path, If_None_Match=first.headers["etag"])
    assert again.status == 304 and not again.body and served.service.queue.made == made
    others = {served.get(f"{path}?{query}").headers["etag"] for query in ("cell=clip", "method=bicubic", "cell=1/2")}
    assert len(others | {first.headers["etag"]}) == 4


def test_a_changed_file_is_another_version(served: Any) -> None:
    target = served.folder / "changing.png"
    Image.new("RGB", (8, 8), "red").save(target)
    time.sleep(2.1)  # a folder is listed anew after two seconds
    first = served.get("/iiif/3/changing.png/full/max/0/default.png")
    Image.new("RGB", (9, 9), "blue").save(target)
    second = served.get("/iiif/3/changing.png/full/max/0/default.png", If_None_Match=first.headers["etag"])
    assert second.status == 200 and pixels(second.body).shape == (9, 9, 3)
    target.unlink()
    assert served.get("/iiif/3/changing.png/info.json").status == 404


def test_a_file_asked_for_by_many_is_made_once(served: Any) -> None:
    made, path = served.service.queue.made, f"{IMAGE}/0,0,9,9/^599,599/0/default.png"
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: served.get(path), range(8)))
    assert {answer.status for answer in answers} == {200} and len({answer.body for answer in answers}) == 1
    assert served.service.queue.made == made + 1


def test_what_clients_gave_up_is_not_rendered(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    service, may_go, rendered = served.service, threading.Event(), []
    real = type(service.images).render

    def slow(self: Any, path: Any, grid: Any, look: Any) -> Any:
        rendered.append(grid.shape)
        may_go.wait(10)
        return real(self, path, grid, look)

    monkeypatch.setattr(type(service.images), "render", slow)
    sockets = []
    for number in range(12):
        client = socket.create_connection(("127.0.0.1", served.port))
        client.sendall(f"GET {IMAGE}/full/^{100 + number},/0/default.png HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        sockets.append(client)
    wait_for(lambda: len(service.queue._jobs) == 12)
    running = len(rendered)
    for client in sockets:
        client.close()
    wait_for(lambda: len(service.queue._jobs) == running)
    may_go.set()
    wait_for(lambda: not service.queue._jobs)
    assert 0 < running < 12 and len(rendered) == running


def wait_for(condition: Any, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("localhost:99", 200),
        ("[::1]:8080", 200),
        ("evil.example", 400),
        ("localhost.evil.example", 400),
        ("8.8.8.8", 400),
        ("", 400),
        ("127.0.0.1:80@evil.example", 400),
    ],
)
def test_the_host_is_checked(served: Any, host: str, status: int) -> None:
    assert served.get(f"{IMAGE}/info.json", Host=host).status == status


NAMED = [
    ("/iiif/3/..%2Fsecret.png/info.json", 404),
    ("/iiif/3/../secret.png/info.json", 404),
    ("/iiif/3/%2e%2e%2fsecret.png/full/max/0/default.png", 404),
    ("/iiif/3/a%20b%2F..%2Frgb.png/info.json", 404),
    ("/iiif/3/link.png/info.json", 404),
    ("/iiif/3/out%2Fsecret.png/info.json", 404),
    ("/iiif/3/.hidden.png/info.json", 404),
    ("/iiif/3/notes.txt/info.json", 404),
    ("/iiif/3/broken.png/info.json", 404),
    ("/iiif/3/%2Fetc%2Fpasswd/info.json", 404),
    ("/iiif/3/a%20b/info.json", 404),
    ("/iiif/3/rgb.png%00/info.json", 400),
    ("/iiif/3/%ff/info.json", 400),
    ("/iiif/3/rgb.png/full/^3000,/0/default.png", 400),
    ("/iiif/3/rgb.png/full/max/0/default.png?method=magic", 400),
    ("/iiif/3/rgb.png/full/max/0/default.png?model=/etc/passwd", 400),
    ("/iiif/3/rgb.png/full/max/0/default.png?cell=1/0", 400),
    ("/iiif/3/rgb.png/full/max/0/default.png?restore=7", 400),
    ("/iiif/x65/rgb.png/info.json", 404),
    ("/iiif/2/rgb.png/info.json", 404),
    ("/iiif/", 404),
    ("/viewer.py", 404),
    ("/..%2fserver.py", 404),
    ("/iiif/3/" + "a" * 5000, 414),
]


@pytest.mark.parametrize(("path", "status"), NAMED)
def test_missing_images_and_invalid_requests(served: Any, path: str, status: int) -> None:
    answer = served.get(path)
    assert (answer.status, json.loads(answer.body)["status"]) == (status, status)
    assert str(served.folder.parent).encode() not in answer.body


def hostile(seed: int, count: int) -> list[str]:
    """Addresses that an attacker or a broken client might send."""
    chosen = random.Random(seed)
    names = ["rgb.png", "link.png", "..", ".", "", "out", "secret.png", "etc", "passwd", "con", "a b", "\0", "%", "~"]
    numbers = ["0", "-1", "9" * 12, "9" * 60, "1e309", "nan", "inf", "0x10", "½", "1.5", "", " ", "3", "29"]
    ends = ["default.png", "default.tif", "bitonal.pdf", "../../x.png", "default.png%00.jpg", "default"]
    slashes = ["/", "%2f", "%2F", "%252f", "\\", "%5c", "..%2f", "/../", "%c0%af", "//"]

    def numbers_of(count: int) -> str:
        return ",".join(chosen.choice(numbers) for _ in range(count))

    def one() -> str:
        name = chosen.choice(slashes).join(quote(chosen.choice(names)) for _ in range(chosen.randint(1, 4)))
        region = chosen.choice(["full", "square", f"pct:{numbers_of(4)}", numbers_of(4), numbers_of(3)])
        size = chosen.choice(["max", "^max", f"^{numbers_of(2)}", f"!{numbers_of(2)}", f"^pct:{numbers_of(1)}"])
        turn = chosen.choice(["0", "90", "!270", "45", *numbers])
        start = chosen.choice(["/iiif/3/", "/iiif/x64/", "/iiif/x64/", "/iiif//", "/", "/iiif/3/../../"])
        tail = "/".join(quote(part, safe="%,:^!") for part in (region, size, turn, chosen.choice(ends)))
        return f"{start}{name}/{tail}"

    return [one() for _ in range(count)]


@pytest.mark.parametrize("count", [500, pytest.param(2000, marks=pytest.mark.slow)])
def test_hostile_addresses_get_nothing_from_outside(served: Any, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    opened, outside = [], served.folder.parent
    hook = lambda event, arguments: opened.append(arguments[0]) if event == "open" and recording else None  # noqa: E731
    served.service.images._headers.clear()
    recording = True
    sys.addaudithook(hook)
    assert served.get(f"{IMAGE}/info.json").status == 200
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(served.get, hostile(1, count)))
    recording = False
    counts = {answer.status for answer in answers}
    assert str(served.folder / "rgb.png") in map(str, opened)  # the hook hears what the server opens
    assert counts <= {200, 303, 400, 404, 414} and {400, 404} <= counts
    assert all(
        answer.headers["content-type"].startswith("application/json") for answer in answers if answer.status >= 400
    )
    paths = [Path(os.fsdecode(name)) for name in opened if not isinstance(name, int)]
    assert not [path for path in paths if path.is_relative_to(outside) and not path.is_relative_to(served.folder)]
    assert not [path for path in paths if path.name in ("passwd", "secret.png")]
    assert served.get(f"{IMAGE}/info.json").status == 200


@pytest.mark.skipif(sys.platform == "win32", reason="signals are Unix's")
@pytest.mark.weights
def test_the_command_says_its_address_first_and_ends_on_ctrl_c(served: Any, tiny_file: Path) -> None:
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": os.environ | {"LIIF_NO_CONFIG": "1"}}
    process = forked.start("serve", served.folder, "-m", tiny_file, "--port", 0, text=True, **options)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        port = int(address.rstrip("/").rpartition(":")[2])
        assert address == f"http://127.0.0.1:{port}/"
        idle = socket.create_connection(("127.0.0.1", port))  # a client that says nothing holds nothing up
        assert type(served)(served.service, served.folder, port).get(f"{IMAGE}/info.json").status == 200
        began = time.monotonic()
        process.send_signal(2)
        _, said = process.communicate(timeout=20)
        assert (process.returncode, said) == (130, "") and time.monotonic() - began < 5
        idle.close()
    finally:
        process.kill()


def test_a_busy_server_says_so(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served.service.queue, "_queue", 0)
    answer = served.get(f"{IMAGE}/full/^333,/0/default.png")
    assert answer.status == 503 and answer.headers["retry-after"] == "1"


def test_images_are_closed_before_memory_runs_out(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    images = served.service.images
    for name in ("rgb.png", "gray.png"):
        assert served.get(f"/iiif/3/{name}/full/^31,/0/default.png").status == 200
    monkeypatch.setattr(images, "memory", 4000)
    assert served.get(f"{IMAGE}/full/^32,/0/default.png").status == 200
    assert len(images._open) == 1
    monkeypatch.setattr(images, "memory", 1000)
    images._open.clear()
    assert served.get(f"{IMAGE}/full/^34,/0/default.png").status == 404
    assert not images._open

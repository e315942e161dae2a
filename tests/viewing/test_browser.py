"""The page in a real browser, Debian's Chromium without a screen."""

import io
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from liif_cli import encode

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("no Chromium is installed", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api", reason="the browser is driven by playwright: pip install it")

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LOADED = """() => !!window.liif && liif.viewer.world.getItemCount() === 2 &&
  [0, 1].every((i) => { const t = liif.viewer.world.getItemAt(i); return !t.getOpacity() || t.getFullyLoaded(); }) &&
  liif.viewer.viewport.getBounds(true).equals(liif.viewer.viewport.getBounds(false))"""
FIT = "(part) => liif.look(liif.rectangle(part))"
CANVAS = """() => liif.viewer.drawer.canvas.toDataURL("image/png")"""


@dataclass
class Browser:
    """A page of the viewer, with its console messages and the hosts that it requested."""

    page: Any
    address: str
    said: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)

    def hear(self, message: Any) -> None:
        """Keep what the console says, but for the broken image in the folder, which has no thumbnail."""
        if "broken.png" not in message.location.get("url", ""):
            self.said.append(message.text)

    def open(self, fragment: str = "") -> None:
        self.page.goto("about:blank")
        self.page.goto(f"{self.address}{fragment}")
        self.settle()

    def settle(self) -> None:
        """Wait until all tiles are there and the view stands still."""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            time.sleep(0.05)
            if self.page.evaluate(LOADED):
                time.sleep(0.05)  # for the address, which is written when the animation has finished
                return
        raise AssertionError("the page never came to rest")

    def fragment(self) -> str:
        return str(self.page.evaluate("() => location.hash"))

    def canvas(self) -> np.ndarray:
        """The pixels that OpenSeadragon has drawn, (h, w, 3)."""
        import base64

        data = base64.b64decode(self.page.evaluate(CANVAS).partition(",")[2])
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as drivers:
        chromium = drivers.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def shown(browser: Any, served: Any) -> Iterator[Browser]:
    context = browser.new_context(viewport={"width": 800, "height": 560})
    page = context.new_page()
    seen = Browser(page, f"http://127.0.0.1:{served.port}/")
    page.on("console", lambda message: seen.hear(message))
    page.on("pageerror", lambda error: seen.said.append(str(error)))
    page.on("request", lambda request: seen.hosts.add(urlsplit(request.url).netloc))
    yield seen
    context.close()
    assert seen.said == []
    assert seen.hosts <= {f"127.0.0.1:{served.port}", ""}


WHOLE = "#id=rgb.png&left=network&right=network"


def test_the_canvas_shows_what_upscale_renders(shown: Browser, served: Any, tiny: Any) -> None:
    shown.open(WHOLE)
    shown.page.evaluate("() => liif.viewer.viewport.zoomTo(1e9, null, true)")  # as far as it goes: x64
    shown.page.evaluate("() => liif.viewer.viewport.applyConstraints(true)")
    shown.settle()
    part = shown.page.evaluate(
        """() => { const t = liif.viewer.world.getItemAt(1), v = liif.viewer.viewport;
        const a = t.viewportToImageCoordinates(v.getBounds(true).getTopLeft()); return [a.x, a.y]; }"""
    )
    drawn = shown.canvas()
    image = encode(np.asarray(Image.open(served.folder / "rgb.png")), model=tiny)
    whole = image.render(scale=64).astype(int)
    left, top = (round(value) for value in part)
    # The view begins between two pixels: the browser interpolates, so the nearest of its neighbours is compared.
    best = min(
        np.abs(
            drawn[50:-50, 50:-50].astype(int)
            - whole[y + 50 : y + drawn.shape[0] - 50, x + 50 : x + drawn.shape[1] - 50]
        ).mean()
        for y in (top - 1, top, top + 1)
        for x in (left - 1, left, left + 1)
    )
    bicubic = np.asarray(Image.open(served.folder / "rgb.png").resize((1920, 1280), Image.BICUBIC)).astype(int)
    other = np.abs(drawn.astype(int) - bicubic[top : top + drawn.shape[0], left : left + drawn.shape[1]]).mean()
    assert best < 1.5 and other > 5 * best


def test_from_the_whole_to_x32(shown: Browser) -> None:
    shown.open("#id=rgb.png")
    shown.page.evaluate(FIT, [5, 5, 800 / 32, 10])
    shown.settle()
    text = shown.page.inner_text("#readout")
    assert text.startswith("×32.0 ·") and "of 30×20" in text and "tiny" in text


def test_the_divider_moves_and_both_sides_show_their_method(shown: Browser) -> None:
    shown.open(f"{WHOLE}&split=0.5")
    network = shown.canvas().astype(int)
    assert shown.page.is_hidden("#divider")
    shown.open("#id=rgb.png&left=bicubic&right=bicubic")
    bicubic = shown.canvas().astype(int)
    shown.open("#id=rgb.png&left=bicubic&right=network&split=0.5")
    box = shown.page.locator("#divider").bounding_box()
    shown.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    shown.page.mouse.down()
    shown.page.mouse.move(240, 250, steps=4)
    shown.page.mouse.up()
    shown.settle()
    assert "split=0.3000" in shown.fragment()
    both = shown.canvas().astype(int)
    assert np.abs(both[:, :230] - bicubic[:, :230]).mean() < 0.5 < np.abs(network[:, :230] - bicubic[:, :230]).mean()
    assert np.abs(both[:, 250:] - network[:, 250:]).mean() < 0.5


def test_a_double_click_zooms_and_a_single_one_does_not(shown: Browser) -> None:
    shown.open("#id=rgb.png")
    width = "() => liif.viewer.viewport.getBounds().width"
    before = shown.page.evaluate(width)
    shown.page.mouse.click(300, 250)
    shown.settle()
    assert shown.page.evaluate(width) == pytest.approx(before)
    shown.page.mouse.dblclick(300, 250)
    shown.settle()
    assert shown.page.evaluate(width) == pytest.approx(before / 2)


def test_the_link_opens_the_same_view(shown: Browser) -> None:
    shown.open("#id=rgb.png&left=lanczos&right=network&split=0.4&cell=1%2F4")
    shown.page.evaluate(FIT, [7, 6, 9, 6])
    shown.settle()
    link, first = shown.fragment(), shown.canvas()
    assert "view=" in link and "cell=1%2F4" in link
    shown.open(link)
    assert shown.fragment() == link
    assert np.abs(shown.canvas().astype(int) - first).mean() < 0.5


def test_keys_choose_methods_and_images(shown: Browser) -> None:
    shown.open("#id=rgb.png")
    for key, method in (("2", "bicubic"), ("3", "lanczos"), ("1", "network")):
        shown.page.keyboard.press(key)
        shown.settle()
        assert f"left={method}&right={method}" in shown.fragment()
    shown.page.keyboard.press("d")
    shown.settle()
    assert "left=bicubic&right=network" in shown.fragment()
    shown.page.keyboard.press("p")
    shown.settle()
    assert "id=gray.png" in shown.fragment()
    assert shown.page.locator("#strip button").count() >= 4


def test_a_saved_view_is_the_file_of_the_command_that_is_shown(
    shown: Browser, served: Any, tmp_path: Path, tiny: Any
) -> None:
    shown.open("#id=rgb.png")
    shown.page.evaluate(FIT, [3, 2, 20, 14])
    shown.settle()
    shown.page.keyboard.press("s")
    shown.page.fill("#width", "123")
    with shown.page.expect_download() as download:
        shown.page.click("#download")
    download.value.save_as(tmp_path / "saved.png")
    command = shown.page.input_value("#command").split()
    region = tuple(map(int, command[command.index("--region") + 1].split(",")))
    width, height = map(int, command[command.index("--size") + 1].split("x"))
    image = encode(np.asarray(Image.open(served.folder / "rgb.png")), model=tiny)
    wanted = image.render(size=(width, height), region=region)
    saved = np.asarray(Image.open(tmp_path / "saved.png"))
    assert saved.shape == wanted.shape == (height, 123, 3) and np.abs(saved.astype(int) - wanted).max() <= 1
    shown.page.fill("#width", "99999")
    assert shown.page.is_hidden("#download") and "at most" in shown.page.inner_text("#limit")


@pytest.mark.parametrize(("width", "height", "scheme"), [(360, 640, "dark"), (1400, 900, "light")])
def test_everything_fits_into_the_window(browser: Any, served: Any, width: int, height: int, scheme: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, has_touch=True)
    page = context.new_page()
    shown = Browser(page, f"http://127.0.0.1:{served.port}/")
    shown.open("#id=rgb.png")
    sizes = page.evaluate("() => [document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
    assert sizes == [width, height]
    assert page.locator("main").bounding_box()["height"] > height / 3
    back = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, back[4:-1].split(","))) < 200) == (scheme == "dark")
    context.close()


@dataclass
class Fingers:
    """Fingers on the page of a phone, through the browser's own input events."""

    session: Any

    def move(self, *paths: tuple[tuple[float, float], tuple[float, float]], steps: int = 12) -> None:
        """Put down one finger for each (start, end), move them together, and lift them."""
        for kind, share in (("touchStart", 0.0), *(("touchMove", step / steps) for step in range(1, steps + 1))):
            points = [
                {"x": a + (c - a) * share, "y": b + (d - b) * share, "id": index}
                for index, ((a, b), (c, d)) in enumerate(paths)
            ]
            self.session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
            time.sleep(0.02)
        time.sleep(0.2)  # no flick
        self.session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    def tap_twice(self, x: float, y: float) -> None:
        """A double tap."""
        for points in ([{"x": x, "y": y}], [], [{"x": x, "y": y}], []):
            self.session.send(
                "Input.dispatchTouchEvent", {"type": "touchStart" if points else "touchEnd", "touchPoints": points}
            )


@pytest.fixture
def phone(browser: Any, served: Any) -> Iterator[tuple[Browser, Fingers]]:
    context = browser.new_context(viewport={"width": 390, "height": 700}, has_touch=True, is_mobile=True)
    page = context.new_page()
    seen = Browser(page, f"http://127.0.0.1:{served.port}/")
    page.on("console", lambda message: seen.hear(message))
    page.on("pageerror", lambda error: seen.said.append(str(error)))
    yield seen, Fingers(context.new_cdp_session(page))
    context.close()
    assert seen.said == []


def test_fingers_zoom_move_and_drag_the_divider(phone: tuple[Browser, Fingers]) -> None:
    shown, fingers = phone
    shown.open("#id=rgb.png&left=bicubic&right=network&split=0.5")
    box = shown.page.locator("#viewer").bounding_box()
    x, y = box["x"] + box["width"] / 4, box["y"] + box["height"] / 2
    bounds = "() => { const b = liif.viewer.viewport.getBounds(); return [b.x, b.y, b.width, b.height]; }"
    first = shown.page.evaluate(bounds)
    fingers.move(((x - 30, y), (x - 75, y)), ((x + 30, y), (x + 75, y)))
    shown.settle()
    pinched = shown.page.evaluate(bounds)
    assert pinched[2] == pytest.approx(first[2] / 2.5, rel=0.1)  # the fingers are 2.5 times as far apart
    under = [each[0] + each[2] * 0.25 for each in (first, pinched)]
    assert under[0] == pytest.approx(under[1], abs=0.1 * first[2])  # what was between them still is
    fingers.move(((x, y), (x - 60, y + 40)))
    shown.settle()
    dragged = shown.page.evaluate(bounds)
    assert dragged[0] - pinched[0] == pytest.approx(60 * pinched[2] / box["width"], rel=0.3)
    assert dragged[1] - pinched[1] == pytest.approx(-40 * pinched[2] / box["width"], rel=0.3)
    assert dragged[2] == pytest.approx(pinched[2])
    handle = shown.page.locator("#divider").bounding_box()
    middle = handle["x"] + handle["width"] / 2
    fingers.move(((middle, y), (box["x"] + 0.8 * box["width"], y)))
    shown.settle()
    assert "split=0.8" in shown.fragment() and shown.page.evaluate(bounds) == pytest.approx(dragged)
    fingers.tap_twice(x, y)
    shown.settle()
    assert shown.page.evaluate(bounds)[2] < 0.6 * dragged[2]


def test_buttons_are_large_enough_for_fingers(phone: tuple[Browser, Fingers]) -> None:
    """At least 24 pixels per side, as WCAG 2.2 asks."""
    shown, _ = phone
    shown.open("#id=rgb.png")
    for each in shown.page.locator(
        "footer button:visible, footer select:visible, #strip button:visible, #divider"
    ).all():
        box = each.bounding_box()
        assert min(box["width"], box["height"]) >= 24, each.inner_text()

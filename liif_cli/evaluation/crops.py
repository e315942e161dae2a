"""The crop figure: the same crop by every method, next to the ground truth (the paper's figure 5)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from liif_cli.errors import UsageError
from liif_cli.images.panels import Panel, draw_sheet, enlarged

Bytes = NDArray[np.uint8]
Floats = NDArray[np.floating[Any]]
PANEL = 240
"""Height of each panel in pixels."""
_RED = (230, 30, 30)


@dataclass(frozen=True)
class Box:
    """A rectangle of the ground truth, in its pixels."""

    left: int
    top: int
    width: int
    height: int

    @classmethod
    def parse(cls, text: str) -> "Box":
        """Read `X,Y,W,H`. Raises UsageError for anything else."""
        parts = text.replace(" ", "").split(",")
        if len(parts) != 4 or not all(part.isdecimal() for part in parts) or "0" in (parts[2], parts[3]):
            raise UsageError(
                f"{text!r} is not a crop",
                hint="use X,Y,WIDTH,HEIGHT in pixels, for example 40,60,64,64",
                argument="crop",
            )
        return cls(*map(int, parts))

    def check(self, height: int, width: int) -> None:
        """Raises UsageError unless the box is inside an image of `height` x `width`."""
        if self.left + self.width > width or self.top + self.height > height:
            raise UsageError(
                f"{self.left},{self.top},{self.width},{self.height} extends beyond the {width}x{height} image",
                argument="crop",
            )

    def of(self, image: NDArray[Any]) -> NDArray[Any]:
        """The part of an (H, W, ...) image inside the box."""
        return image[self.top : self.top + self.height, self.left : self.left + self.width]


def box_of_largest_difference(first: Floats, second: Floats, side: int | None = None) -> Box:
    """The square in which two (H, W, 3) images differ most on average (sum of absolute differences).

    side: in pixels; default: a quarter of the image's shorter side, at least 16.
    """
    height, width = first.shape[:2]
    side = min(side or max(min(height, width) // 4, 16), height, width)
    sums = np.zeros((height + 1, width + 1))
    sums[1:, 1:] = np.abs(first.astype(np.float64) - second).sum(axis=2).cumsum(axis=0).cumsum(axis=1)
    windows = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = np.unravel_index(int(np.argmax(windows)), windows.shape)
    return Box(int(left), int(top), side, side)


def draw_figure(truth: Panel, panels: Sequence[Panel], box: Box) -> Bytes:
    """The whole ground truth with the box marked, then the box of each panel and of the truth, enlarged without smoothing.

    Returns (h, w, 3) uint8. Raises UsageError if the box is not inside the image, ValueError if the panels differ in size.
    """
    if any(panel.pixels.shape != truth.pixels.shape for panel in panels):
        raise ValueError("the panels of a figure differ in size")
    box.check(*truth.pixels.shape[:2])
    crops = [replace(panel, pixels=enlarged(box.of(panel.pixels), PANEL)) for panel in (*panels, truth)]
    return draw_sheet([_overview(truth, box), *crops])


def _overview(truth: Panel, box: Box) -> Panel:
    """The whole image, resized to the panels' height, with the box drawn on it."""
    height, width = truth.pixels.shape[:2]
    ratio = PANEL / height
    size = (max(round(width * ratio), 1), PANEL)
    shown = Image.fromarray(truth.pixels).resize(size, Image.Resampling.LANCZOS)
    corners = [n * ratio for n in (box.left, box.top, box.left + box.width, box.top + box.height)]
    ImageDraw.Draw(shown).rectangle(corners, outline=_RED, width=2)
    return Panel(f"whole image\n{width}x{height}", np.asarray(shown))

"""Draws docs/line_art.png, and docs/line_art.gif with 16 colours: thin lines, small text and flat colours with outlines.

python tests/tools/make_line_art.py
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from liif_cli.images.panels import load_font

DOCS = Path(__file__).parents[2] / "docs"
WIDTH, HEIGHT, FINE = 384, 264, 4  # FINE: the factor by which lines are drawn larger, for smooth edges
WORDS = "Thin lines, small text & rims @ 100%"


def draw() -> Image.Image:
    """The sample, 384x264 RGB."""
    image = Image.new("RGB", (FINE * WIDTH, FINE * HEIGHT), "white")
    pen = ImageDraw.Draw(image)
    _lines(pen)
    _shapes(pen)
    image = image.resize((WIDTH, HEIGHT), Image.Resampling.BOX)
    _text(ImageDraw.Draw(image))
    return image


def _lines(pen: ImageDraw.ImageDraw) -> None:
    """Top left: a fan and circles, one to two pixels wide."""
    for turn in np.linspace(0, np.pi / 2, 15):
        pen.line((20, 20, 20 + 700 * np.cos(turn), 20 + 500 * np.sin(turn)), fill="black", width=5)
    for radius in range(40, 320, 40):
        pen.ellipse((420 - radius, 300 - radius, 420 + radius, 300 + radius), outline=(20, 40, 160), width=6)


def _shapes(pen: ImageDraw.ImageDraw) -> None:
    """Right: flat colours with outlines."""
    colours = ["crimson", "gold", "seagreen", "navy", "white", "darkorange", "black", "skyblue"]
    for index, colour in enumerate(colours):
        x, y = 860 + index % 3 * 220, 30 + index // 3 * 190
        shape = (pen.rectangle, pen.ellipse)[index % 2]
        shape((x, y, x + 180, y + 150), fill=colour, outline="black", width=5)


def _text(pen: ImageDraw.ImageDraw) -> None:
    """Below: letters of 9 to 22 pixels."""
    y = 152
    for size, colour in ((9, "black"), (11, "black"), (13, (20, 40, 160)), (16, "black"), (22, "crimson")):
        pen.text((6, y), WORDS, fill=colour, font=load_font(size))
        y += size + 8


def flat(image: Image.Image) -> Image.Image:
    """The image with a palette of 16 colours, for the GIF."""
    return image.quantize(16, dither=Image.Dither.NONE)


def main() -> None:
    """Write both files."""
    draw().save(DOCS / "line_art.png", optimize=True)
    flat(draw()).save(DOCS / "line_art.gif")


if __name__ == "__main__":
    main()

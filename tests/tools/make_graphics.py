"""Draw training images for a network that otherwise learns only from photographs.

    python tests/tools/make_graphics.py FOLDER [--count 160]

Text, thin lines, shapes with hard edges, halftone screens, dithers, checkerboards, stripes and noise, some in few colours. A
network trained only on photographs gives unpredictable results for halftones and screenshots. The same count gives the same
files.
"""

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

SIDE = 320
TEXT = "The quick brown fox jumps over the lazy dog 0123456789 Ååßéñ {}[]()<>?!&%$#@ fi WMiIl1|"
Pixels = NDArray[np.uint8]
Random = np.random.Generator


def colours(rng: Random) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two colours, random or, in 40% of the cases, black and white."""
    if rng.random() < 0.4:
        pair = [(0, 0, 0), (255, 255, 255)]
    else:
        pair = [tuple(int(n) for n in rng.integers(0, 256, 3)) for _ in range(2)]
    return (pair[0], pair[1]) if rng.random() < 0.5 else (pair[1], pair[0])


def text(rng: Random) -> Image.Image:
    """Lines of text in many sizes; in 30% of the images, they are rotated."""
    paper, ink = colours(rng)
    image = Image.new("RGB", (SIDE, SIDE), paper)
    draw, y = ImageDraw.Draw(image), 0
    while y < SIDE:
        size = int(rng.integers(7, 40))
        words = [TEXT.split()[i] for i in rng.integers(0, len(TEXT.split()), 12)]
        draw.text((int(rng.integers(-20, 10)), y), " ".join(words), ink, ImageFont.load_default(size))
        y += int(size * rng.uniform(1.1, 1.6))
    turn = rng.uniform(-25, 25) if rng.random() < 0.3 else 0
    return image.rotate(turn, Image.Resampling.BICUBIC, fillcolor=paper)


def lines(rng: Random) -> Image.Image:
    """Lines and circles, one to four pixels wide, antialiased or not."""
    smooth = 4 if rng.random() < 0.6 else 1
    paper, ink = colours(rng)
    image = Image.new("RGB", (SIDE * smooth, SIDE * smooth), paper)
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(15, 60))):
        box = [int(n) for n in rng.integers(0, SIDE * smooth, 4)]
        width = int(rng.integers(1, 5)) * smooth
        colour = ink if rng.random() < 0.7 else colours(rng)[0]
        if rng.random() < 0.3:
            x, y, r = box[0], box[1], 1 + box[2] // 4
            draw.ellipse((x - r, y - r, x + r, y + r), outline=colour, width=width)
        else:
            draw.line(box, colour, width)
    return image.resize((SIDE, SIDE), Image.Resampling.BOX)


def shapes(rng: Random) -> Image.Image:
    """Flat areas with hard edges, as in charts and icons."""
    image = Image.new("RGB", (SIDE, SIDE), colours(rng)[0])
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(10, 40))):
        points = [(int(x), int(y)) for x, y in rng.integers(0, SIDE, (int(rng.integers(3, 7)), 2))]
        x, y, w, h = (int(n) for n in rng.integers(4, SIDE // 2, 4))
        kind = rng.random()
        if kind < 0.4:
            draw.rectangle((x, y, x + w, y + h), colours(rng)[0])
        elif kind < 0.7:
            draw.ellipse((x, y, x + w, y + h), colours(rng)[0])
        else:
            draw.polygon(points[:3] if rng.random() < 0.5 else points, colours(rng)[0])
    return image


def waves(rng: Random) -> Image.Image:
    """Stripes or rings of growing frequency, sinusoidal or with hard edges."""
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float64)
    angle, period = rng.uniform(0, math.pi), rng.uniform(2, 9)
    along = np.cos(angle) * x + np.sin(angle) * y if rng.random() < 0.6 else np.hypot(x - SIDE / 2, y - SIDE / 2)
    phase = 2 * math.pi * along / (period * (1 + rng.uniform(0, 2) * along / SIDE))
    wave = np.cos(phase)
    return mixed(np.sign(wave) if rng.random() < 0.5 else wave, rng)


def screen(rng: Random) -> Image.Image:
    """A gradient as a checkerboard, an ordered dither or random dots, in cells of one to four pixels."""
    cell = int(rng.integers(1, 5))
    n = -(-SIDE // cell)
    y, x = np.mgrid[0:n, 0:n]
    level = (np.cos(rng.uniform(0, 6)) * x + np.sin(rng.uniform(0, 6)) * y) / n * 0.9 + rng.uniform(0.2, 0.8)
    bayer = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]) / 16 + 1 / 32
    threshold = [bayer[y % 4, x % 4], ((x + y) % 2) * 0.5 + 0.25, rng.random((n, n))][int(rng.integers(3))]
    return mixed(np.kron(np.where(level > threshold, 1.0, -1.0), np.ones((cell, cell)))[:SIDE, :SIDE], rng)


def noise(rng: Random) -> Image.Image:
    """White noise, gray or coloured, in cells of one to four pixels."""
    cell, depth = int(rng.integers(1, 5)), int(rng.choice((1, 3)))
    n = -(-SIDE // cell)
    small = np.clip(rng.normal(rng.uniform(60, 200), rng.uniform(10, 90), (n, n, depth)), 0, 255)
    wide = np.broadcast_to(small, (n, n, 3)).repeat(cell, 0).repeat(cell, 1)[:SIDE, :SIDE]
    return Image.fromarray(np.rint(wide).astype(np.uint8))


def mixed(wave: NDArray[np.float64], rng: Random) -> Image.Image:
    """An image that interpolates between two random colours. wave: (H, W), from -1 to 1."""
    low, high = (np.array(colour, float) for colour in colours(rng))
    return Image.fromarray(np.rint(low + (high - low) * (wave[..., None] + 1) / 2).astype(np.uint8))


KINDS: tuple[Callable[[Random], Image.Image], ...] = (text, lines, shapes, text, waves, screen, lines, noise)


def draw(index: int) -> Image.Image:
    """Image number `index`, `SIDE` pixels per side."""
    rng = np.random.default_rng(index)
    image = KINDS[index % len(KINDS)](rng)
    return image.quantize(int(rng.integers(3, 17))).convert("RGB") if rng.random() < 0.15 else image


def main() -> None:
    """Write the images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=160)
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    for index in range(chosen.count):
        draw(index).save(chosen.folder / f"{index:04}.png")


if __name__ == "__main__":
    main()

"""Compares the network with the bicubic filter for scaling alpha: `python tests/benchmarks/bench_alpha.py [MODEL]`.

Masks are drawn as shapes at 16 times the input's size, so that the ground truth is known. `soft` masks are feathered,
`antialiased` ones have the edges of cut-outs, and `hard` ones have only the values 0 and 255 in the input. Both methods are
measured as they are and clamped to the range of the four neighbours (`ScaledAlpha`). Prints PSNR in dB, and the largest error
of the unclamped network in constant areas.
"""

import sys

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

import liif_cli
from liif_cli.coords import Grid
from liif_cli.rendering.alpha import ScaledAlpha

SIDE, FINE = 96, 16
Plane = NDArray[np.float64]


def shapes(kind: int, side: int) -> Image.Image:
    """A shape on a square of `side` pixels: disc, star, ring, stripes, hair or letters."""
    image = Image.new("L", (side, side))
    draw = ImageDraw.Draw(image)
    unit = side / 96
    if kind == 0:
        draw.ellipse((13.3 * unit, 20.1 * unit, 80.4 * unit, 83.2 * unit), fill=255)
    elif kind == 1:
        angle = np.arange(10) * np.pi / 5 + 0.3
        radius = np.where(np.arange(10) % 2, 16, 42) * unit
        draw.polygon(
            [(48 * unit + r * np.cos(a), 48 * unit + r * np.sin(a)) for r, a in zip(radius, angle, strict=True)],
            fill=255,
        )
    elif kind == 2:
        draw.ellipse((10 * unit, 12 * unit, 86 * unit, 80 * unit), outline=255, width=round(5 * unit))
    elif kind == 3:
        for index in range(9):
            draw.line((index * 11 * unit, 0, (index * 11 + 24) * unit, side), fill=255, width=round(4 * unit))
    elif kind == 4:
        for index in range(14):
            draw.arc(
                (-40 * unit + index * 7 * unit, 5 * unit, 60 * unit + index * 7 * unit, 150 * unit),
                180,
                290,
                255,
                round(1.6 * unit),
            )
    else:
        draw.text((6 * unit, 12 * unit), "Liif\n&8g", font=ImageFont.load_default(36 * unit), fill=255, spacing=0)
    return image


def pair(kind: int, scale: int, softness: str) -> tuple[NDArray[np.uint8], Plane]:
    """The input mask, (96, 96) uint8, and the ground truth at `scale` times the size, in [0, 1]."""
    fine = shapes(kind, SIDE * FINE)
    if softness == "soft":
        fine = fine.filter(ImageFilter.GaussianBlur(3 * FINE))
    truth = fine.resize((SIDE * scale, SIDE * scale), Image.Resampling.BOX)
    given = fine.resize((SIDE, SIDE), Image.Resampling.BOX)
    if softness == "hard":
        given = given.point(lambda v: 255 * (v > 127))
    return np.asarray(given), np.asarray(truth) / 255


def clamped(plane: Plane, given: NDArray[np.uint8], grid: Grid) -> Plane:
    """A scaled mask, clamped to the range of each pixel's four neighbours in the input."""
    row, column = (axis.split()[0] for axis in (grid.rows, grid.columns))
    y = [np.clip(row + step, 0, SIDE - 1) for step in (0, 1)]
    x = [np.clip(column + step, 0, SIDE - 1) for step in (0, 1)]
    corners = [given[np.ix_(i, j)] / 255 for i in y for j in x]
    return np.clip(plane, np.minimum.reduce(corners), np.maximum.reduce(corners))


def psnr(a: Plane, b: Plane) -> float:
    """PSNR in dB after rounding `a` to 8 bits."""
    return float(-10 * np.log10(np.mean((np.rint(a * 255) / 255 - b) ** 2)))


def main(model_name: str | None) -> None:
    """Print the table."""
    model = liif_cli.load_model(model_name) if model_name else liif_cli.load_model()
    print("masks        scale  bicubic  bic. clamped  network  net. clamped   network: worst in constant areas")
    for softness in ("soft", "antialiased", "hard"):
        for scale in (2, 3, 4):
            found = []
            for kind in range(6):
                given, truth = pair(kind, scale, softness)
                grid = Grid.whole(given.shape, truth.shape)
                free = np.asarray(
                    Image.fromarray(given / np.float32(255)).resize(truth.shape[::-1], Image.Resampling.BICUBIC)
                )
                filtered = ScaledAlpha.over(given, grid).part(0, 0, *grid.shape).astype(float)
                network = np.asarray(liif_cli.upscale(given, scale=scale, model=model)) / 255
                constant = clamped(truth * 0 + 9, given, grid) == clamped(truth * 0 - 9, given, grid)
                worst = np.abs(network - clamped(network, given, grid))[constant].max(initial=0) * 255
                kept = clamped(network, given, grid)
                found.append(
                    [*(psnr(p, truth) for p in (free.clip(0, 1).astype(float), filtered, network, kept)), worst]
                )
            mean = np.mean(found, axis=0)
            figures = f"{mean[0]:8.2f} {mean[1]:12.2f} {mean[2]:9.2f} {mean[3]:12.2f}"
            print(f"{softness:12} x{scale}   {figures}    {max(f[4] for f in found):8.0f} of 255")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)

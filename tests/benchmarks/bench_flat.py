"""Scores Lanczos and models on drawn images: text, line art and a palette image. Also draws a sheet of the results.

    python tests/benchmarks/bench_flat.py [--model light --model light-photo] [--sheet flat.png]

The images are drawn, downsampled with Pillow's bicubic filter for x2 and x4, compressed as JPEG of quality 75 or not at all,
and upscaled again. PSNR in RGB of 8-bit results, without border shave. docs/photo.md quotes the table. It takes half a minute
on one core.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from liif_cli.images.degrade import Degradation
from liif_cli.images.panels import Panel, draw_sheet, load_font
from liif_cli.images.resize import resample
from liif_cli.models.store import load_model
from liif_cli.training.validation import Case, make_case, render

SIDE = 288
WORDS = "The quick brown fox jumps over the lazy dog 0123456789 and reads: thin rims, fine serifs, (brackets) & commas; @ 100%"


def text() -> Image.Image:
    """Black and blue text on white, in sizes from 13 to 40 pixels."""
    image = Image.new("RGB", (SIDE, SIDE), "white")
    draw, y = ImageDraw.Draw(image), 4
    for size in (13, 16, 20, 24, 30, 40):
        draw.text((6 - size // 3, y), WORDS, fill="black", font=load_font(size))
        draw.text((6, y + size + 2), WORDS[size:], fill=(20, 40, 160), font=load_font(size))
        y += 2 * size + 6
    return image


def line_art() -> Image.Image:
    """Thin lines at many angles, circles and a grid; drawn at four times the size for smooth edges."""
    image = Image.new("RGB", (4 * SIDE, 4 * SIDE), "white")
    draw, centre = ImageDraw.Draw(image), 2 * SIDE
    for turn in np.linspace(0, np.pi, 24, endpoint=False):
        dx, dy = np.cos(turn) * centre * 0.9, np.sin(turn) * centre * 0.9
        draw.line((centre - dx, centre - dy, centre + dx, centre + dy), fill="black", width=6)
    for radius in range(80, 560, 48):
        draw.ellipse((centre - radius, centre - radius, centre + radius, centre + radius), outline="black", width=8)
    for at in range(0, 4 * SIDE, 64):
        draw.line((at, 0, at, 160), fill="black", width=4)
    return image.resize((SIDE, SIDE), Image.Resampling.BOX)


def palette() -> Image.Image:
    """Eight flat colours with hard edges, as in a GIF or a chart."""
    image = Image.new("RGB", (SIDE, SIDE), (250, 240, 200))
    draw = ImageDraw.Draw(image)
    colours = ["red", "navy", "gold", "black", "green", "white", (120, 30, 140)]
    for index, colour in enumerate(colours * 3):
        x, y = 14 + index % 5 * 54, 10 + index // 5 * 54
        (draw.ellipse if index % 2 else draw.rectangle)((x, y, x + 44, y + 40), fill=colour, outline="black")
    for index, height in enumerate((20, 44, 31, 58, 12, 37)):
        draw.rectangle((20 + 40 * index, SIDE - 6 - height, 46 + 40 * index, SIDE - 6), fill=colours[index])
    return image


def decibels(shown: np.ndarray, case: Case) -> float:
    """PSNR in dB, in RGB."""
    return float(-10 * np.log10(np.square((shown.astype(float) - case.hr) / 255).mean()))


def main() -> None:
    """Print the table, and draw the sheet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append")
    parser.add_argument("--sheet", type=Path)
    arguments = parser.parse_args()
    names = arguments.model or ["light", "light-photo"]
    models, panels = {name: load_model(name) for name in names}, []
    print(f"| image | scale | as | Lanczos | {' | '.join(names)} |\n| --- | --: | --- | --: |{' --: |' * len(names)}")
    for draw in (text, line_art, palette):
        for scale in (2.0, 4.0):
            clean = make_case(np.asarray(draw()), SIDE, scale)
            for how in ("clean", "jpeg:75"):
                case = Case(scale, Degradation.parse(how).apply(clean.lr, draw.__name__), clean.hr)
                shown = {"Lanczos": resample(case.lr, *case.hr.shape[:2], "lanczos")}
                shown |= {name: render(model, case) for name, model in models.items()}
                scores = {name: decibels(pixels, case) for name, pixels in shown.items()}
                values = " | ".join(f"{score:.2f}" for score in scores.values())
                print(f"| {draw.__name__.replace('_', ' ')} | x{scale:g} | {how} | {values} |", flush=True)
                panels += [
                    Panel(f"{name} x{scale:g} {how} {scores[name]:.1f} dB", pixels[:SIDE, :SIDE])
                    for name, pixels in shown.items()
                ]
    if arguments.sheet:
        Image.fromarray(draw_sheet(panels, 2 * (1 + len(names)))).save(arguments.sheet)


if __name__ == "__main__":
    main()

"""Finds the best strength of restoration: PSNR of models between `light` and `light-photo`, by compression quality.

    python tests/benchmarks/bench_restore.py FOLDER [--count 24] [--side 192] [--scale 2 --scale 4] [--form jpeg]

The central squares of the photographs in FOLDER are downsampled with Pillow's bicubic filter and then compressed. PSNR in RGB
of 8-bit results, without border shave, averaged over the images. `best` is the position of the maximum of a parabola through
the three strengths around the best one. docs/photo.md has the table, and `models/restore.py: CURVES` is derived from it. It
takes a few minutes on one core.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from liif_cli.images.degrade import Degradation
from liif_cli.images.resize import resample
from liif_cli.models.restore import between
from liif_cli.models.store import load_model
from liif_cli.training.sources import ImageFolders
from liif_cli.training.validation import Case, make_case, render

QUALITIES = ("30", "40", "50", "60", "70", "75", "80", "85", "90", "95", "98", "clean")


def decibels(shown: np.ndarray, case: Case) -> float:
    """PSNR in dB, in RGB."""
    return float(-10 * np.log10(np.square((shown.astype(float) - case.hr) / 255).mean()))


def degraded(cases: list[Case], quality: str, form: str) -> list[Case]:
    """The cases with compressed LR images."""
    if quality == "clean":
        return cases
    how = Degradation.parse(quality if ":" in quality else f"{form}:{quality}")
    return [Case(case.scale, how.apply(case.lr, str(index)), case.hr) for index, case in enumerate(cases)]


def best(strengths: list[float], scores: list[float]) -> float:
    """The strength at the maximum of a parabola through the best strength and its neighbours, within the range."""
    at = int(np.argmax(scores))
    if at in (0, len(scores) - 1):
        return strengths[at]
    a, b, _ = np.polyfit(strengths[at - 1 : at + 2], scores[at - 1 : at + 2], 2)
    return float(-b / (2 * a))


def main() -> None:
    """Print a table per scale."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--side", type=int, default=192)
    parser.add_argument("--scale", type=float, action="append")
    parser.add_argument("--form", default="jpeg", choices=("jpeg", "webp", "avif"))
    parser.add_argument("--quality", action="append", help=f"a quality, or a degradation; default: {QUALITIES}")
    parser.add_argument("--strength", type=float, action="append")
    arguments = parser.parse_args()
    strengths = arguments.strength or [0.0, 0.25, 0.5, 0.75, 1.0]
    images = ImageFolders([arguments.folder], 2 * arguments.side // 2)
    plain, photo = load_model("light"), load_model("light-photo")
    models = [between(plain, photo, strength) for strength in strengths]
    for scale in arguments.scale or [2.0, 4.0]:
        cases = [make_case(images[i], arguments.side, scale) for i in range(min(arguments.count, len(images)))]
        print(f"\n| x{scale:g}, {arguments.form} | Lanczos | {' | '.join(f'{s:g}' for s in strengths)} | best |")
        print("| --: |" + " --: |" * (len(strengths) + 2), flush=True)
        for quality in arguments.quality or QUALITIES:
            seen = degraded(cases, quality, arguments.form)
            filtered = np.mean([decibels(resample(case.lr, *case.hr.shape[:2], "lanczos"), case) for case in seen])
            with torch.no_grad():
                scores = [float(np.mean([decibels(render(model, case), case) for case in seen])) for model in models]
            cells = " | ".join(f"{score:.2f}" for score in scores)
            print(f"| {quality} | {filtered:.2f} | {cells} | {best(strengths, scores):.2f} |", flush=True)


if __name__ == "__main__":
    main()

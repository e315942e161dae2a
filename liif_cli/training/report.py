"""The report of a run: curves of its loss and scores, and the model card."""

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw

from liif_cli import __version__
from liif_cli.images.panels import load_font
from liif_cli.models.schema import to_dict
from liif_cli.training.recipe import TrainConfig

COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#7f7f7f")
Points = Sequence[tuple[float, float]]


def curves(charts: Sequence[tuple[str, Mapping[str, Points]]], width: int = 720, height: int = 300) -> Image.Image:
    """Line charts one below the other. Each has a title and lines of (iteration, value) points, by name.

    width, height: of one chart, in pixels. A chart without points shows the text "no data yet".
    """
    out = Image.new("RGB", (width, height * len(charts)), "white")
    for index, (title, lines) in enumerate(charts):
        out.paste(_chart(title, lines, width, height), (0, index * height))
    return out


def _chart(title: str, lines: Mapping[str, Points], width: int, height: int) -> Image.Image:
    out = Image.new("RGB", (width, height), "white")
    pen, font = ImageDraw.Draw(out), load_font(12)
    pen.text((width / 2, 4), title, "black", load_font(14), anchor="ma")
    points = [point for line in lines.values() for point in line]
    if not points:
        pen.text((width / 2, height / 2), "no data yet", "gray", font, anchor="mm")
        return out
    (x0, x1), (y0, y1) = (_range([p[axis] for p in points]) for axis in (0, 1))
    box = (64, 28, width - 110, height - 34)

    def place(x: float, y: float) -> tuple[float, float]:
        return box[0] + (x - x0) / (x1 - x0) * (box[2] - box[0]), box[3] - (y - y0) / (y1 - y0) * (box[3] - box[1])

    for i in range(5):
        x, y = x0 + (x1 - x0) * i / 4, y0 + (y1 - y0) * i / 4
        pen.line([place(x0, y), place(x1, y)], "#dddddd")
        pen.text((box[0] - 6, place(x0, y)[1]), f"{y:.4g}", "black", font, anchor="rm")
        pen.text((place(x, y0)[0], box[3] + 6), f"{x:,.0f}", "black", font, anchor="ma")
    pen.rectangle(box, outline="black")
    for i, (name, line) in enumerate(lines.items()):
        colour = COLOURS[i % len(COLOURS)]
        pen.line([place(*point) for point in line], colour, 2)
        for point in line if len(line) < 3 else ():
            x, y = place(*point)
            pen.ellipse((x - 2, y - 2, x + 2, y + 2), colour)
        pen.text((box[2] + 8, box[1] + 16 * i), name, colour, font)
    return out


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Smallest and largest value; widened if they are equal."""
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def provenance(
    config: TrainConfig,
    iterations: int,
    source: str,
    images: int,
    scores: Mapping[str, float],
    bicubic: Mapping[str, float],
) -> dict[str, Any]:
    """How a checkpoint was made, for its header: serialisable as JSON. It names the data folders, but contains no paths."""
    recipe = to_dict(config)
    recipe.pop("model")
    for key in ("folders", "val"):
        recipe["data"][key] = [Path(folder).name for folder in recipe["data"][key]]
    return {
        "iterations": iterations,
        "started_from": source,
        "pictures": images,
        "recipe": recipe,
        "validation_psnr": dict(scores),
        "validation_bicubic": {scale: bicubic[scale] for scale in scores if scale in bicubic},
        "software": f"liif {__version__}, torch {torch.__version__}, Python {platform.python_version()}",
    }


def card(config: TrainConfig, made: Mapping[str, Any], parameters: int) -> str:
    """The model card, in Markdown. made: the provenance of the same checkpoint."""
    data, optimiser, schedule = config.data, config.optimiser, config.schedule
    encoder, decoder = (part.name.upper() for part in (config.model.encoder, config.model.decoder))
    averaged = f"moving average of the weights, decay {config.ema.decay:g}" if config.ema.decay else "the last weights"
    scale = f"x{data.scale[0]:g}" + (f" to x{data.scale[1]:g}, uniform" if data.scale[1] != data.scale[0] else "")
    scale += f", {data.identity:.0%} at x1" if data.identity else ""
    crops = f", the most detailed of {data.candidates} crops" if data.candidates > 1 else ""
    weight = config.adversarial.weight
    against = f", structure, colours, and a discriminator (weight {weight:g})" if weight else ""
    lines = [
        f"# {config.name}",
        "",
        f"{encoder} encoder and {decoder} decoder, {parameters:,} parameters.",
        f"Licence of the weights: {config.licence}.",
        "",
        "## Use",
        "",
        "```sh",
        f"liif upscale photo.jpg --scale 4 --model {config.name}.safetensors",
        "```",
        "",
        "## How it was made",
        "",
        "| | |",
        "|---|---|",
        f"| started from | {made['started_from']} |",
        f"| iterations | {made['iterations']:,} of batch {config.batch} |",
        f"| data | {made['pictures']:,} images from {', '.join(made['recipe']['data']['folders'])} |",
        f"| patches | {data.patch}x{data.patch} LR, {scale}{crops}, {data.degrade}; {data.queries:,} queries each |",
        f"| loss | {config.loss}{against}, in {config.precision} |",
        f"| optimiser | {optimiser.name}, peak rate {optimiser.lr:g}, betas {optimiser.betas}, clip {optimiser.clip:g} |",
        f"| schedule | {schedule.name}, {schedule.warmup} iterations of warm-up, {config.iterations:,} in total |",
        f"| published | {averaged} |",
        f"| software | {made['software']} |",
        "",
        "## Validation",
        "",
        *_scores(made["validation_psnr"], made["validation_bicubic"], config),
    ]
    return "\n".join(lines) + "\n"


def verdict(scores: Mapping[str, float], bicubic: Mapping[str, float]) -> str | None:
    """A warning that names the scales at which a model scores below bicubic (PSNR in dB by scale); None if there are none."""
    under = [
        f"x{k} ({v:.2f} dB, bicubic {bicubic[k]:.2f})" for k, v in scores.items() if k in bicubic and v < bicubic[k]
    ]
    if not under:
        return None
    return f"this model is worse than bicubic at {', '.join(under)}; try more iterations or another learning rate"


def _scores(scores: Mapping[str, float], bicubic: Mapping[str, float], config: TrainConfig) -> list[str]:
    if not scores:
        return ["Not measured."]
    what = f"PSNR in RGB, mean over the centres ({config.validation.crop} pixels) of validation images, without border shave."
    rows = [f"| x{k} | {v:.3f} | {f'{bicubic[k]:.3f}' if k in bicubic else ''} |" for k, v in scores.items()]
    below = verdict(scores, bicubic)
    warning = [f"**{below[0].upper()}{below[1:]}.**", ""] if below else []
    return [*warning, what, "", "| scale | PSNR, dB | bicubic, dB |", "|---|---|---|", *rows]

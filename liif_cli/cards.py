"""The card of a trained model: what it is, how it was made, what it was measured at, how to use it."""

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from liif_cli import __version__
from liif_cli.config import to_dict
from liif_cli.recipe import TrainConfig


def provenance(
    config: TrainConfig, iterations: int, source: str, pictures: int, scores: Mapping[str, float]
) -> dict[str, Any]:
    """How a checkpoint came about, for its header: no paths of this machine, only the folders' names."""
    recipe = to_dict(config)
    recipe.pop("model")
    for key in ("folders", "val"):
        recipe["data"][key] = [Path(folder).name for folder in recipe["data"][key]]
    return {
        "iterations": iterations,
        "started_from": source,
        "pictures": pictures,
        "recipe": recipe,
        "validation_psnr": dict(scores),
        "software": f"liif {__version__}, torch {torch.__version__}, Python {platform.python_version()}",
    }


def card(config: TrainConfig, made: Mapping[str, Any], parameters: int) -> str:
    """The card, Markdown. made: the provenance of the same checkpoint."""
    data, optimiser, schedule = config.data, config.optimiser, config.schedule
    encoder, decoder = (part.name.upper() for part in (config.model.encoder, config.model.decoder))
    averaged = f"moving average of the weights, decay {config.ema.decay:g}" if config.ema.decay else "the last weights"
    scale = f"x{data.scale[0]:g}" + (f" to x{data.scale[1]:g}, uniform" if data.scale[1] != data.scale[0] else "")
    scale += f", {data.identity:.0%} at x1" if data.identity else ""
    crops = f", of {data.candidates} crops the one with the most detail" if data.candidates > 1 else ""
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
        f"| data | {made['pictures']:,} pictures of {', '.join(made['recipe']['data']['folders'])} |",
        f"| patches | {data.patch}x{data.patch} LR, {scale}{crops}, {data.degrade}; {data.queries:,} queries each |",
        f"| loss | {config.loss}, in {config.precision} |",
        f"| optimiser | {optimiser.name}, peak rate {optimiser.lr:g}, betas {optimiser.betas}, clip {optimiser.clip:g} |",
        f"| schedule | {schedule.name}, {schedule.warmup} iterations of warm-up, of {config.iterations:,} in all |",
        f"| published | {averaged} |",
        f"| software | {made['software']} |",
        "",
        "## Validation",
        "",
        *_scores(made["validation_psnr"], config),
    ]
    return "\n".join(lines) + "\n"


def _scores(scores: Mapping[str, float], config: TrainConfig) -> list[str]:
    if not scores:
        return ["Not measured."]
    what = f"PSNR in RGB, mean over the centres ({config.validation.crop} pixels) of validation pictures, no border shaved."
    return [what, "", "| scale | PSNR, dB |", "|---|---|", *(f"| x{k} | {v:.3f} |" for k, v in scores.items())]

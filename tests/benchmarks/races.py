"""Compare variants of `light` by the scores of equal short runs from random weights.

    python tests/benchmarks/races.py --data FOLDER --val FOLDER --out RUNS [--iterations 400] [--only depth --only gate-none]

Each variant changes one property of the recipe or of the network. All runs have the same seed, and therefore the same data in
the same order, and a cosine schedule from `--lr` to 0. The moving average of the weights is scored on the central squares of
192 pixels of all images in --val (PSNR in dB, RGB). Finished runs in --out are not repeated and stopped runs continue, so
variants can be added later. Note that 400 iterations show only the start of training.
"""

import argparse
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from liif_cli.models.decoders.fourier import Fourier, blocks
from liif_cli.models.encoders import gated
from liif_cli.models.kernels.banded import Taps
from liif_cli.training.recipe import merge, read
from liif_cli.training.run_folder import Run
from liif_cli.training.train import train


class Ungated(gated.GatedBlock):
    """A plain residual block: x + f."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, features, H, W) -> the same shape. The gate has the weight 0, so that its parameters have gradients."""
        f: Tensor = self.third(torch.relu(self.second(torch.relu(self.first(x)))))
        return x + f + 0 * self.gate(f)


class SelfGated(gated.GatedBlock):
    """SPAN's block (Wan et al., NTIRE 2024): SiLU, and the residual itself as the gate: (x + f) * (sigmoid(f) - 1/2)."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, features, H, W) -> the same shape."""
        act = nn.functional.silu
        f: Tensor = self.third(act(self.second(act(self.first(x)))))
        return (x + f) * (torch.sigmoid(f) - 0.5) + 0 * self.gate(f)


def hat(self: Fourier, lower: Tensor, fraction: Tensor, cell: Tensor, size: int, origin: int) -> Taps:
    """`Fourier.weigh` with linear windows instead of cos^2."""
    with patch.object(torch, "cos", lambda angle: 1 - 2 * angle / math.pi):  # so that 0.5 - 0.5 cos(pi f) is f
        return WEIGH(self, lower, fraction, cell, size, origin)


WEIGH = Fourier.weigh


@dataclass(frozen=True)
class Variant:
    """The changes of one run. recipe: its values. patches: (object, attribute, replacement), during training and scoring."""

    label: str
    recipe: dict[str, Any] = field(default_factory=dict)
    patches: tuple[tuple[object, str, Callable[..., Any]], ...] = ()


def encoder(features: int, blocks: int) -> dict[str, Any]:
    """The recipe's values for another encoder."""
    return {"model": {"encoder": {"features": features, "blocks": blocks}}}


VARIANTS = {
    "base": Variant("48 x 6, as `light`"),
    "seed": Variant("the same with another seed", {"seed": 1}),
    "gate-none": Variant("no gates: x + f", patches=((gated, "GatedBlock", Ungated),)),
    "gate-self": Variant(
        "SPAN's gate: (x + f) * (sigmoid(f) - 1/2), SiLU", patches=((gated, "GatedBlock", SelfGated),)
    ),
    "wide": Variant("64 x 4", encoder(64, 4)),
    "narrow": Variant("32 x 12", encoder(32, 12)),
    "depth": Variant("48 x 10", encoder(48, 10)),
    "large": Variant("64 x 8", encoder(64, 8)),
    "fourier-loss": Variant("L1 + 0.05 Fourier loss", {"fourier": 0.05}),
    "fixed-basis": Variant(
        "base frequency and damping fixed", {"frozen": ["decoder.correction", "decoder.frequency", "decoder.damping"]}
    ),
    "frequencies-2": Variant("2 frequencies: 5 x 5 functions", {"model": {"decoder": {"frequencies": 2}}}),
    "frequencies-4": Variant("4 frequencies: 9 x 9 functions", {"model": {"decoder": {"frequencies": 4}}}),
    "hat": Variant("linear windows", patches=((Fourier, "weigh", hat),)),
    "scales": Variant("scales from 2 to 4", {"data": {"scale": [2.0, 4.0]}}),
}


@contextmanager
def patched(variant: Variant) -> Iterator[None]:
    """Context manager: apply the patches of a variant."""
    if not variant.patches:
        yield
        return
    (target, name, replacement), *others = variant.patches
    with patch.object(target, name, replacement), patched(Variant(variant.label, patches=tuple(others))):
        yield


def race(name: str, chosen: argparse.Namespace) -> dict[str, float]:
    """Train a variant unless its run is finished, and return its scores by scale."""
    common = {
        "data": {"folders": chosen.data, "val": [chosen.val]},
        "validation": {"every": 10**9, "pictures": 0},
        "schedule": {"name": "cosine", "warmup": max(1, chosen.iterations // 10)},
        "optimiser": {"lr": chosen.lr},
        "iterations": chosen.iterations,
        "batch": chosen.batch,
        "device": chosen.device,
    }
    folder, variant = chosen.out / f"{name}-{chosen.iterations}", VARIANTS[name]
    config = read("light", merge(common, variant.recipe))
    run = Run.open(folder) if folder.exists() else Run.create(folder, config)
    blocks.cache_clear()  # it may contain the windows of the previous run
    with patched(variant):
        if not any(entry.get("event") == "end" and entry.get("reason") == "done" for entry in run.entries()):
            train(run, config)
    scores: dict[str, float] = [entry for entry in run.entries() if entry.get("event") == "validate"][-1]["scores"]
    return scores


def main() -> None:
    """Print a row for each variant as soon as it is finished."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--val", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--iterations", type=int, default=400)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--only", action="append", choices=[*VARIANTS], help="repeatable; default: all")
    chosen = parser.parse_args()
    base: list[float] = []
    print(
        f"| {chosen.iterations:,} iterations | ×2 / ×3 / ×4, dB | compared with the first |\n|---|---|---|", flush=True
    )
    for name in chosen.only or VARIANTS:
        scores = list(race(name, chosen).values())
        base = base or scores
        shown = " / ".join(f"{score:.2f}" for score in scores)
        apart = " / ".join(f"{score - first:+.2f}" for score, first in zip(scores, base, strict=True))
        print(f"| {VARIANTS[name].label} | {shown} | {apart} |", flush=True)


if __name__ == "__main__":
    main()

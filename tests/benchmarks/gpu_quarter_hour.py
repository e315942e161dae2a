"""Train the `light` family on one CUDA device within a few minutes, in stages.

    python tests/benchmarks/gpu_quarter_hour.py --data FOLDER --val FOLDER --out RUNS --keep FOLDER --stages light=14000 ...

Every stage is a run like those of `liif train`. All share one process, in which images are decoded once. Each stage has a fixed
number of iterations, NAME=ITERATIONS, so that its cosine schedule is completed. If a stage fails, the error is printed and the
next stage begins. If the stage from whose weights a stage starts was not run, it starts from the shipped weights. Finished
checkpoints and states are copied to --keep immediately. It also runs on the CPU, for a trial: --device cpu --batch 2 --stages
light=20.
"""

import argparse
import functools
import shutil
import time
import traceback
from pathlib import Path
from typing import Any

import torch

from liif_cli.models.registry import PRESETS
from liif_cli.models.schema import to_dict
from liif_cli.models.store import find
from liif_cli.training import train as training
from liif_cli.training.events import Ended, Event, Started, Trained, Validated
from liif_cli.training.recipe import merge, read
from liif_cli.training.run_folder import Run

# name: (architecture, start, overrides of the recipe)
LARGE_PATCHES = {"data": {"patch": 96}, "batch": 16, "schedule": {"name": "cosine", "warmup": 0}}
PHOTO = {"name": "light-photo", "data": {"degrade": "photo"}, "frozen": [], "fourier": 0.05}
DEEP = {"model": {"encoder": {"blocks": 16}}}
STAGES: dict[str, tuple[str, str | None, dict[str, Any]]] = {
    "light": (
        "light",
        None,
        {"optimiser": {"lr": 1.5e-3}, "schedule": {"name": "cosine", "warmup": 500, "floor": 0.3}},
    ),
    "light-end": ("light", "fork light", {**LARGE_PATCHES, "optimiser": {"lr": 4.5e-4}}),
    "light-photo": (
        "light",
        "init light-end",
        {**PHOTO, "optimiser": {"lr": 8e-4}, "schedule": {"name": "cosine", "warmup": 200, "floor": 0.3}},
    ),
    "light-photo-end": (
        "light",
        "fork light-photo",
        {**PHOTO, **LARGE_PATCHES, "data": {"degrade": "photo", "patch": 96}, "optimiser": {"lr": 2.4e-4}},
    ),
    "light-large": (
        "light-large",
        None,
        {
            "name": "light-large",
            "optimiser": {"lr": 1.5e-3},
            "schedule": {"name": "cosine", "warmup": 500, "floor": 0.3},
        },
    ),
    "light-large-end": (
        "light-large",
        "fork light-large",
        {"name": "light-large", **LARGE_PATCHES, "optimiser": {"lr": 4.5e-4}},
    ),
    # more blocks after those of `light-photo`; they initially return their input
    "light-photo-deep": (
        "light",
        "init light-photo-end",
        {
            **PHOTO,
            **DEEP,
            "optimiser": {"lr": 8e-4},
            "schedule": {"name": "cosine", "warmup": 200, "floor": 0.3},
        },
    ),
    "light-photo-deep-end": (
        "light",
        "fork light-photo-deep",
        {
            **PHOTO,
            **DEEP,
            **LARGE_PATCHES,
            "data": {"degrade": "photo", "patch": 96},
            "optimiser": {"lr": 2.4e-4},
        },
    ),
}


def settings(stage: str, iterations: int, chosen: argparse.Namespace) -> dict[str, Any]:
    """The values of a stage that override the recipe."""
    architecture, _, more = STAGES[stage]
    base: dict[str, Any] = {
        "model": to_dict(PRESETS[architecture]),
        "data": {"folders": chosen.data, "val": [chosen.val], "candidates": 4},
        "validation": {"every": 10**9},
        "iterations": iterations,
        "batch": chosen.batch,
        "precision": "bf16",
        "device": chosen.device,
        "workers": 4,
        "checkpoint_minutes": 1.0,
        "licence": "CC-BY-SA-4.0",
        "seed": 100 + list(STAGES).index(stage),
    }
    merged = merge(base, more)
    if chosen.batch < 16:
        merged["batch"] = chosen.batch
    return merged


def perform(stage: str, iterations: int, chosen: argparse.Namespace) -> None:
    """Train one stage and copy its checkpoint and state."""
    began = time.monotonic()
    config = read("light", settings(stage, iterations, chosen))
    run = Run.create(chosen.out / stage, config)
    how, _, origin = (STAGES[stage][1] or "").partition(" ")
    init = start(chosen.out, origin) if how == "init" else None
    fork = Run.open(chosen.out / origin) if how == "fork" else None

    def watch(event: Event) -> None:
        if isinstance(event, Started | Validated | Ended) or (
            isinstance(event, Trained) and event.iteration % 2000 == 0
        ):
            brief = {k: round(v, 5) if isinstance(v, float) else v for k, v in event.entry().items() if k != "skipped"}
            print(f"  {time.monotonic() - began:6.1f} s {brief}", flush=True)

    reason = training.train(run, config, init=init, fork=fork, watch=watch)
    print(f"{stage}: {reason}, {time.monotonic() - began:.1f} s", flush=True)
    chosen.keep.mkdir(parents=True, exist_ok=True)
    shutil.copy(run.model_path(config.name), chosen.keep / f"{config.name}.safetensors")
    shutil.copy(run.state_path, chosen.keep / f"{config.name}.pt")


def start(runs: Path, stage: str) -> Path:
    """The file of a stage's weights, or the shipped weights with its name if it was not run."""
    if (runs / stage).exists():
        return Run.open(runs / stage).model_path(_name(stage))
    return find(_name(stage)).path


def _name(stage: str) -> str:
    """The name of a stage's checkpoint."""
    return stage.removesuffix("-end").removesuffix("-deep")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--val", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--stages", nargs="+", required=True, metavar="NAME=ITERATIONS")
    chosen = parser.parse_args()
    training.ImageFolders = shared_images  # type: ignore[misc,assignment]
    for text in chosen.stages:
        stage, _, iterations = text.partition("=")
        try:
            perform(stage, int(iterations), chosen)
        except Exception:
            print(f"{stage} FAILED\n{traceback.format_exc()}", flush=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


ORIGINAL = training.ImageFolders


@functools.cache
def decoded(folders: tuple[str, ...]) -> Any:
    """The images, decoded once; only those that are large enough for the largest patches."""
    return ORIGINAL([Path(f) for f in folders], 384)


def shared_images(folders: Any, smallest: int, budget: float) -> Any:
    """Replaces `ImageFolders`."""
    return decoded(tuple(map(str, folders)))


if __name__ == "__main__":
    main()

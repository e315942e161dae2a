"""Many images on many machines: Ray Data over the list of tasks, one model per actor.

The driver decides which outputs are made and where (`jobs.resolve`), the actors do the rest with the same `Batch` that one
machine uses, and what became of each output returns as a row. Loads neither Ray nor torch before `run`.
"""

import json
import logging
import math
import pickle
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from liif_cli.errors import DeviceError, LiifError
from liif_cli.machine.signals import heard
from liif_cli.models.checkpoints import Checkpoint
from liif_cli.rendering.sizes import Target
from liif_cli.upscaling.actors import Stop, Worker
from liif_cli.upscaling.cluster import connected, first_line
from liif_cli.upscaling.jobs import Work
from liif_cli.upscaling.messages import Settings, Times, Untold, as_error, as_result, pack
from liif_cli.upscaling.options import Options
from liif_cli.upscaling.results import Result
from liif_cli.upscaling.shares import Fleet, share

MOST = 64
"""Images of a block at most. A block is what is done again when its worker dies."""
SHARES = 8
"""Blocks per actor at least, if there are images enough, so that all of them end at about the same time."""
RETRIES = 2
"""How often a block is done again whose worker died, before its images are tried one by one."""
GOODBYE = 10.0
"""Seconds that actors have to remove what is unfinished."""


class Watcher(Protocol):
    """Who is told what happens, in the driver."""

    def counted(self, pixels: int) -> None:
        """An image was made or has failed; output pixels."""

    def finished(self, result: Result, timing: Any, tally: Any) -> None:
        """See `batch.Watcher`."""

    def failed(self, task: Any, error: Exception) -> None:
        """See `batch.Watcher`."""


def run(
    work: Work, targets: Sequence[Target], checkpoint: Checkpoint, options: Options, fleet: Fleet, watcher: Watcher
) -> None:
    """Do all tasks on a cluster. Whatever an image raises goes to `watcher.failed`.

    On Ctrl-C (KeyboardInterrupt) nothing new is begun, the actors remove what is unfinished, and it is raised again. Raises
    `UsageError` without Ray or if the actors do not fit, `DeviceError` if the cluster cannot be reached or is lost.
    """
    with connected(fleet.address) as ray, heard():
        found = share([node["Resources"] for node in ray.nodes() if node["Alive"]], fleet, options.memory)
        stop = ray.remote(num_cpus=0)(Stop).remote()
        left = dict(enumerate(work.tasks))
        try:
            for retry in (False, True):
                settings = Settings(checkpoint, ray.put(checkpoint.path.read_bytes()), options, tuple(targets), found)
                settings = replace(settings, make_folders=work.make_folders, folder=Path.cwd(), stop=stop)
                for row in _rows(ray, left, settings, alone=retry):
                    _tell(row, left, watcher)
                if not left:
                    return
        except KeyboardInterrupt:
            _farewell(ray, stop)
            raise
        except ray.exceptions.RayError as error:
            raise DeviceError(f"the cluster failed: {first_line(error)}") from error
        for task in left.values():
            watcher.failed(task, LiifError(f"the worker that had it died {RETRIES + 2} times"))


def _rows(ray: Any, tasks: Mapping[int, Any], settings: Settings, *, alone: bool) -> Iterator[dict[str, Any]]:
    """What became of each output, in any order. alone: each image is a block of its own."""
    _hush(ray)
    options, found = settings.options, settings.share
    packed = [{"task": pickle.dumps(pack(index, task, settings.targets))} for index, task in tasks.items()]
    size = 1 if alone else max(1, min(MOST, len(packed) // (found.actors * SHARES)))
    data = ray.data.from_items(packed, override_num_blocks=math.ceil(len(packed) / size))
    held: dict[str, Any] = {"memory": found.memory} if options.memory or not alone else {}
    with warnings.catch_warnings():  # of other ways that are to come
        warnings.simplefilter("ignore")
        made = data.map_batches(
            Worker,
            fn_constructor_args=(settings,),
            batch_size=None,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=min(found.actors, math.ceil(len(packed) / size))),
            num_cpus=found.cpus,
            num_gpus=found.gpus,
            max_restarts=-1,
            max_task_retries=0 if alone else RETRIES,
            **held,
        )
    for row in made.iter_rows():
        yield json.loads(row["row"])


def _hush(ray: Any) -> None:
    """No progress bars, no advice, no end at the first error of a block."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1
    context.issue_detectors_config.detectors = []
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)


def _tell(row: dict[str, Any], left: dict[int, Any], watcher: Watcher) -> None:
    """Pass a row on, once: a block that was done again may repeat some."""
    if "fatal" in row:
        raise as_error(row["fatal"])
    task = left.get(row["index"])
    if task is None:
        return
    if row["last"]:
        del left[row["index"]]
    if "error" in row:
        outputs = tuple(output for output, name in zip(task.outputs, task.names, strict=True) if name in row["outputs"])
        watcher.failed(replace(task, outputs=outputs), as_error(row["error"]))
        return
    result = as_result(row["result"])
    watcher.counted(result.width * result.height)
    watcher.finished(result, Times(*row["timing"]), Untold())


def _farewell(ray: Any, stop: Any) -> None:
    """Ask all actors to remove what is unfinished, and give them time for it."""
    with suppress(ray.exceptions.RayError):
        ray.get(stop.stop.remote(), timeout=GOODBYE)
        end = time.monotonic() + GOODBYE
        while ray.get(stop.working.remote(), timeout=GOODBYE) and time.monotonic() < end:
            time.sleep(0.1)

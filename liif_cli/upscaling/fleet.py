"""Processes many images on many machines: Ray Data over the list of tasks, with one model per actor.

The driver decides which outputs are made and where (`jobs.resolve`). The actors process the tasks with the same `Batch` as a
single machine, and return the result of each output as a row. Does not load Ray or torch before `run`.
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
from liif_cli.machine.signals import interruptible
from liif_cli.models.checkpoints import Checkpoint
from liif_cli.rendering.sizes import Target
from liif_cli.upscaling.actors import Stop, Worker
from liif_cli.upscaling.cluster import connected, first_line
from liif_cli.upscaling.jobs import Work
from liif_cli.upscaling.messages import NoTally, Settings, Times, as_error, as_result, pack
from liif_cli.upscaling.options import Options
from liif_cli.upscaling.results import Result
from liif_cli.upscaling.shares import Fleet, share

MOST = 64
"""The maximum number of images in a block. If a worker dies, its whole block is repeated."""
SHARES = 8
"""The minimum number of blocks per actor, if there are enough images, so that all actors finish at about the same time."""
RETRIES = 2
"""How often a block whose worker died is repeated before its images are tried one by one."""
SHUTDOWN = 10.0
"""Seconds that actors have to remove unfinished outputs."""


class Watcher(Protocol):
    """Receives progress events in the driver."""

    def counted(self, pixels: int) -> None:
        """Called when an output of `pixels` pixels has been made."""

    def finished(self, result: Result, timing: Any, stats: Any) -> None:
        """See `batch.Watcher`."""

    def failed(self, task: Any, error: Exception) -> None:
        """See `batch.Watcher`."""


def run(
    work: Work, targets: Sequence[Target], checkpoint: Checkpoint, options: Options, fleet: Fleet, watcher: Watcher
) -> None:
    """Process all tasks on a cluster. An image's error goes to `watcher.failed`.

    On Ctrl-C (KeyboardInterrupt) no new image is started, the actors remove unfinished outputs, and it is raised again. Raises
    `UsageError` if Ray is not installed or the actors do not fit, and `DeviceError` if the cluster cannot be reached or fails.
    """
    with connected(fleet.address) as ray, interruptible():
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
            _wait_for_actors(ray, stop)
            raise
        except ray.exceptions.RayError as error:
            raise DeviceError(f"the cluster failed: {first_line(error)}") from error
        for task in left.values():
            watcher.failed(task, LiifError(f"its worker died {RETRIES + 2} times"))


def _rows(ray: Any, tasks: Mapping[int, Any], settings: Settings, *, alone: bool) -> Iterator[dict[str, Any]]:
    """The row of each output, in any order. alone: make each image a block of its own."""
    _silence(ray)
    options, found = settings.options, settings.share
    packed = [{"task": pickle.dumps(pack(index, task, settings.targets))} for index, task in tasks.items()]
    size = 1 if alone else max(1, min(MOST, len(packed) // (found.actors * SHARES)))
    data = ray.data.from_items(packed, override_num_blocks=math.ceil(len(packed) / size))
    held: dict[str, Any] = {"memory": found.memory} if options.memory or not alone else {}
    with warnings.catch_warnings():  # about arguments that Ray deprecates
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


def _silence(ray: Any) -> None:
    """Switch off progress bars and hints, and make Ray continue after the error of a block."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1
    context.issue_detectors_config.detectors = []
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)


def _tell(row: dict[str, Any], left: dict[int, Any], watcher: Watcher) -> None:
    """Pass a row to the watcher, once: a block that was repeated can repeat rows."""
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
    watcher.finished(result, Times(*row["timing"]), NoTally())


def _wait_for_actors(ray: Any, stop: Any) -> None:
    """Ask all actors to remove unfinished outputs, and wait for them."""
    with suppress(ray.exceptions.RayError):
        ray.get(stop.stop.remote(), timeout=SHUTDOWN)
        end = time.monotonic() + SHUTDOWN
        while ray.get(stop.working.remote(), timeout=SHUTDOWN) and time.monotonic() < end:
            time.sleep(0.1)

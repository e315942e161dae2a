"""The actors of a cluster: workers, each with a model, and one that signals them to stop."""

import json
import os
import pickle
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from liif_cli.errors import LiifError, OutputError
from liif_cli.models.checkpoints import Checkpoint
from liif_cli.upscaling.jobs import Deferred
from liif_cli.upscaling.messages import Settings, Times, from_error, from_result, unpack
from liif_cli.upscaling.results import Result

MEANWHILE = "it already existed when it was about to be written, and was left unchanged"


class Stop:
    """An actor that knows whether the run is to stop, and which workers are active."""

    def __init__(self) -> None:
        self._stopping, self._working = False, set[str]()

    def stop(self) -> None:
        """Make all workers stop."""
        self._stopping = True

    def working(self) -> int:
        """The number of active workers."""
        return len(self._working)

    def report(self, worker: str, working: bool) -> bool:
        """Record that a worker is active or idle. Returns whether it must stop."""
        (self._working.add if working else self._working.discard)(worker)
        return self._stopping


class Worker:
    """An actor with a model of its own, which processes blocks of tasks."""

    def __init__(self, settings: Settings) -> None:
        import ray
        import torch

        from liif_cli.upscaling.upscaler import Upscaler

        if settings.folder.is_dir():
            os.chdir(settings.folder)
        torch.set_num_threads(max(1, settings.share.cpus))
        options = replace(settings.options, memory=settings.share.memory)
        self.settings = settings = replace(settings, options=options)
        self.upscaler = Upscaler(_with_file(settings.checkpoint, ray.get(settings.weights)), options)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[str]]:
        """Process a block of tasks. batch: `task` has them pickled. Returns a JSON object for each output in `row`."""
        from liif_cli.upscaling.batch import Batch

        tasks = [unpack(pickle.loads(each), self.settings) for each in batch["task"]]
        recorder = Recorder(self.upscaler, tasks)
        with self._stoppable():
            try:
                Batch(self.upscaler, recorder, make_folders=self.settings.make_folders).run([task for _, task in tasks])
            except LiifError as error:  # raised by loading the model, so it affects all images
                return {"row": [json.dumps({"fatal": from_error(error)})]}
        return {"row": [json.dumps(row) for row in recorder.rows()]}

    @contextmanager
    def _stoppable(self) -> Iterator[None]:
        """Raises KeyboardInterrupt inside the block if the run is to stop."""
        import _thread

        import ray

        name, over = ray.get_runtime_context().get_worker_id(), threading.Event()
        ask: Callable[[bool], bool] = lambda working: bool(ray.get(self.settings.stop.report.remote(name, working)))  # noqa: E731

        def listen() -> None:
            while not over.wait(0.5):
                if ask(True):
                    _thread.interrupt_main()
                    return

        ask(True)
        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            ask(False)


def _with_file(checkpoint: Checkpoint, weights: bytes) -> Checkpoint:
    """The checkpoint with a file on this machine, written from its bytes unless it exists at the driver's path."""
    if checkpoint.path.is_file() and checkpoint.path.stat().st_size == len(weights):
        return checkpoint
    folder = Path(tempfile.mkdtemp(prefix="liif-model-"))
    (folder / checkpoint.path.name).write_bytes(weights)
    return replace(checkpoint, path=folder / checkpoint.path.name)


class Recorder:
    """A `batch.Watcher` that records all results and errors as rows."""

    def __init__(self, upscaler: Any, tasks: Sequence[tuple[int, Deferred]]) -> None:
        self._upscaler = upscaler
        self._index = {name: index for index, task in tasks for name in task.names}
        self._rows: list[dict[str, Any]] = []

    def rows(self) -> list[dict[str, Any]]:
        """A row for each output. `last` in a row says whether it is the last one of its image."""
        last = {row["index"]: number for number, row in enumerate(self._rows)}
        return [row | {"last": last[row["index"]] == number} for number, row in enumerate(self._rows)]

    def started(self, task: Any, stats: Any) -> None:
        """Not recorded."""

    def advanced(self, pixels: int) -> None:
        """Not recorded."""

    def finished(self, result: Result, timing: Any, stats: Any) -> None:
        """Record an output."""
        times = (timing.read, timing.encode, timing.decode, timing.file)
        self._rows.append({"index": self._index[result.output], "result": from_result(result), "timing": times})

    def failed(self, task: Any, error: Exception) -> None:
        """Record outputs that failed. Outputs that have appeared meanwhile (made by a worker that died, or by another run) are
        recorded as finished."""
        if isinstance(error, OutputError) and error.remedy == "overwrite" and not isinstance(task, Deferred):
            for output in task.outputs:
                self.finished(self._meanwhile(task, output), Times(), None)
            return
        index = self._index[task.names[0]]
        self._rows.append({"index": index, "outputs": task.names, "error": from_error(error)})

    def _meanwhile(self, task: Any, output: Any) -> Result:
        height, width = output.grid.shape
        scale = (
            output.grid.columns.count / output.grid.columns.extent,
            output.grid.rows.count / output.grid.rows.extent,
        )
        upscaler = self._upscaler
        about = (upscaler.name, upscaler.checkpoint.revision, str(next(upscaler.load().parameters()).device), "")
        return Result(task.source.name, output.name, width, height, scale, *about, 0.0, notes=(MEANWHILE,))

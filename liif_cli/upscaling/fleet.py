"""Many images on many machines: Ray Data over the list of tasks, one model per actor.

The driver decides which outputs are made and where (`jobs.resolve`), the actors do the rest with the same `Batch` that one
machine uses, and what became of each output returns as a row. Loads neither Ray nor torch before `run`.
"""

import importlib.metadata
import io
import json
import logging
import math
import os
import pickle
import socket
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from liif_cli import errors
from liif_cli.errors import DeviceError, LiifError, OutputError, UsageError
from liif_cli.images.formats.table import format_of
from liif_cli.machine.signals import heard
from liif_cli.models.checkpoints import Checkpoint
from liif_cli.rendering.sizes import Target
from liif_cli.stores.addresses import Place, clean
from liif_cli.upscaling.inputs import Source
from liif_cli.upscaling.jobs import Deferred, Work
from liif_cli.upscaling.options import Options
from liif_cli.upscaling.results import Result

CPUS = 2
"""CPUs of an actor without a GPU, unless their number is given: one renders while the other reads and compresses."""
MOST = 64
"""Images of a block at most. A block is what is done again when its worker dies."""
SHARES = 8
"""Blocks per actor at least, if there are images enough, so that all of them end at about the same time."""
RETRIES = 2
"""How often a block is done again whose worker died, before its images are tried one by one."""
GOODBYE = 10.0
"""Seconds that actors have to remove what is unfinished."""
MEANWHILE = "it was there when it was about to be written, and is left as it is"


@dataclass(frozen=True)
class Fleet:
    """Where to run. address: `auto` (a running cluster, otherwise this machine), `local`, or a cluster's. actors: how many,
    None for as many as fit. gpus: of each actor, may be a fraction; None for one where there are any."""

    address: str = "auto"
    actors: int | None = None
    gpus: float | None = None


@dataclass(frozen=True)
class Share:
    """What each of `actors` gets. memory: bytes that it may hold."""

    actors: int
    cpus: int
    gpus: float
    memory: int


class Watcher(Protocol):
    """Who is told what happens, in the driver."""

    def counted(self, pixels: int) -> None:
        """An image was made or has failed; output pixels."""

    def finished(self, result: Result, timing: Any, tally: Any) -> None:
        """See `batch.Watcher`."""

    def failed(self, task: Any, error: Exception) -> None:
        """See `batch.Watcher`."""


def share(nodes: Sequence[Mapping[str, float]], fleet: Fleet, memory: int | None) -> Share:
    """Divide a cluster's nodes, each given by its resources (CPU, GPU, memory in bytes), among actors.

    memory: bytes per actor, None to divide what each node has. Raises `UsageError` if the actors do not fit.
    """
    gpus = fleet.gpus if fleet.gpus is not None else float(any(node.get("GPU", 0) >= 1 for node in nodes))
    able = [node for node in nodes if node.get("CPU", 0) >= 1 and node.get("GPU", 0) >= gpus]
    if not able:
        raise UsageError(f"no node of the cluster has a CPU and {gpus:g} GPUs for an actor", argument="gpus_per_actor")
    cpus = _cpus(able, fleet.actors, gpus)
    slots = [_slots(node, cpus, gpus, memory) for node in able]
    actors = fleet.actors or sum(slots)
    if not 1 <= actors <= sum(slots):
        raise UsageError(f"{actors} actors do not fit: the cluster has room for {sum(slots)}", argument="actors")
    held = memory or int(
        min(node["memory"] / min(slot, actors) for node, slot in zip(able, slots, strict=True) if slot)
    )
    return Share(actors, cpus, gpus, held)


def _cpus(nodes: Sequence[Mapping[str, float]], actors: int | None, gpus: float) -> int:
    if gpus:
        return max(1, min(int(node["CPU"] // (node["GPU"] // gpus)) for node in nodes))
    if actors is None:
        return max(1, min(CPUS, *(int(node["CPU"]) for node in nodes)))
    return max(1, min(int(sum(node["CPU"] for node in nodes) // actors), *(int(node["CPU"]) for node in nodes)))


def _slots(node: Mapping[str, float], cpus: int, gpus: float, memory: int | None) -> int:
    fits = [node["CPU"] // cpus]
    fits += [node["GPU"] // gpus] if gpus else []
    fits += [node["memory"] // memory] if memory else []
    return int(min(fits))


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
                settings = _Settings(checkpoint, ray.put(checkpoint.path.read_bytes()), options, tuple(targets), found)
                settings = replace(settings, make_folders=work.make_folders, folder=Path.cwd(), stop=stop)
                for row in _rows(ray, left, settings, alone=retry):
                    _tell(row, left, watcher)
                if not left:
                    return
        except KeyboardInterrupt:
            _farewell(ray, stop)
            raise
        except ray.exceptions.RayError as error:
            raise DeviceError(f"the cluster failed: {_first_line(error)}") from error
        for task in left.values():
            watcher.failed(task, LiifError(f"the worker that had it died {RETRIES + 2} times"))


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Ray, connected to a cluster or started here, until the end of the block. Raises `UsageError`, `DeviceError`."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers
    try:
        import ray
        import ray.data
    except ImportError:
        raise UsageError("cannot use Ray: it is not installed", hint="pip install 'liif[ray]'") from None
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    with own_streams():
        try:
            with heard_again():
                _connect(ray, address, quiet)
            yield ray
        finally:
            with redirect_stdout(io.StringIO()):  # it prints what its nodes have said and nobody has heard
                ray.shutdown()


def _connect(ray: Any, address: str, quiet: dict[str, Any]) -> None:
    if address == "auto":
        with suppress(ConnectionError):
            ray.init(address="auto", **quiet)
            return
    local = address in ("auto", "local")
    try:
        _knock(address)
        ray.init(address="local" if local else address, **quiet, **({"include_dashboard": False} if local else {}))
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = "start Ray here" if local else f"reach a Ray cluster at {clean(address)}"
        raise DeviceError(f"cannot {where}: {_first_line(error)}") from None


def _knock(address: str) -> None:
    """Raises `OSError` if nobody listens at `HOST:PORT`: Ray itself would go on trying for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=GOODBYE).close()


@contextmanager
def own_streams() -> Iterator[None]:
    """Keep what Ray's threads print off standard output, and what its core writes off standard error: those are for results
    and for messages. With LIIF_DEBUG=1 all of it is shown, on standard error."""
    if os.environ.get("LIIF_DEBUG") == "1":
        yield
        return
    before, messages, number = sys.stdout, sys.stderr, os.dup(2)
    own = os.fdopen(os.dup(2), "w", encoding=messages.encoding, errors=messages.errors, buffering=1)
    sys.stdout, sys.stderr = _MainThread(before), own
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before, messages
        os.dup2(number, 2)
        for each in (number, nowhere):
            os.close(each)
        own.close()


class _MainThread:
    """A stream that takes what the main thread writes."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write it, or let it go."""
        main = threading.current_thread() is threading.main_thread()
        return int(self._stream.write(text)) if main else len(text)


@contextmanager
def heard_again() -> Iterator[None]:
    """Ray takes SIGTERM for itself when it starts: put back what there was."""
    import signal

    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM) if main else None
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in clean(str(error)).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


@dataclass(frozen=True)
class _Settings:
    """What every actor is told once. weights: the checkpoint's bytes, a reference. folder: the driver's. stop: the actor that
    tells when to stop."""

    checkpoint: Checkpoint
    weights: Any
    options: Options
    targets: tuple[Target, ...]
    share: Share
    make_folders: bool = False
    folder: Path = Path()
    stop: Any = None


def _rows(ray: Any, tasks: Mapping[int, Any], settings: _Settings, *, alone: bool) -> Iterator[dict[str, Any]]:
    """What became of each output, in any order. alone: each image is a block of its own."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1
    context.issue_detectors_config.detectors = []
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
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


Packed = tuple[int, Source, list[tuple[int, Place]], frozenset[Place]]


def pack(index: int, task: Deferred, targets: Sequence[Target]) -> Packed:
    """A task as few bytes: what all tasks have in common is in `_Settings`."""
    source = Source(task.source.path, task.source.inside, task.source.found, task.source.entry)
    outputs = [(targets.index(target), place) for target, place, _ in task.outputs if isinstance(place, Place)]
    return index, source, outputs, task.replaced


def unpack(packed: Packed, settings: _Settings) -> tuple[int, Deferred]:
    """The task that `pack` was given."""
    index, source, outputs, replaced = packed
    options, targets = settings.options, settings.targets
    whole = tuple((targets[which], place, format_of(place, options.save.format)) for which, place in outputs)
    return index, Deferred(source, options, whole, replaced)


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
    told = row["result"]
    result = Result(**{**told, "scale": tuple(told["scale"]), "notes": tuple(map(_as_note, told["notes"]))})
    watcher.counted(result.width * result.height)
    watcher.finished(result, Times(*row["timing"]), Untold())


def from_error(error: Exception) -> dict[str, Any]:
    """An exception as values that any process can read."""
    told: dict[str, Any] = {"kind": type(error).__name__, "message": clean(str(error))}
    if isinstance(error, LiifError):
        told |= {"hint": error.hint, "argument": error.argument, "remedy": error.remedy}
    return told


def as_error(told: dict[str, Any]) -> Exception:
    """The exception of such values: of the same class if it is one of ours or Python's, otherwise of the same name."""
    kind = getattr(errors, told["kind"], None)
    if isinstance(kind, type) and issubclass(kind, LiifError):
        return kind(told["message"], hint=told["hint"], argument=told["argument"], remedy=told["remedy"])
    return (
        MemoryError(told["message"])
        if told["kind"] == "MemoryError"
        else type(told["kind"], (Exception,), {})(told["message"])
    )


def _as_note(told: Sequence[Any]) -> str:
    text, remedy = told
    return errors.Note.on(text, remedy) if remedy else text


class Stop:
    """An actor that knows whether the run is to stop, and who is still at work."""

    def __init__(self) -> None:
        self._stopping, self._working = False, set[str]()

    def stop(self) -> None:
        """Have all workers stop."""
        self._stopping = True

    def working(self) -> int:
        """How many are at work."""
        return len(self._working)

    def report(self, worker: str, working: bool) -> bool:
        """A worker begins or ends; whether it is to stop."""
        (self._working.add if working else self._working.discard)(worker)
        return self._stopping


def _farewell(ray: Any, stop: Any) -> None:
    """Ask all actors to remove what is unfinished, and give them time for it."""
    with suppress(ray.exceptions.RayError):
        ray.get(stop.stop.remote(), timeout=GOODBYE)
        end = time.monotonic() + GOODBYE
        while ray.get(stop.working.remote(), timeout=GOODBYE) and time.monotonic() < end:
            time.sleep(0.1)


class Worker:
    """An actor with a model."""

    def __init__(self, settings: _Settings) -> None:
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
        """Do some tasks; `row` has what became of each of their outputs, as JSON."""
        from liif_cli.upscaling.batch import Batch

        tasks = [unpack(pickle.loads(each), self.settings) for each in batch["task"]]
        notebook = Notebook(self.upscaler, tasks)
        with self._stoppable():
            try:
                Batch(self.upscaler, notebook, make_folders=self.settings.make_folders).run([task for _, task in tasks])
            except LiifError as error:  # of loading the model: it concerns all images
                return {"row": [json.dumps({"fatal": from_error(error)})]}
        return {"row": [json.dumps(row) for row in notebook.told()]}

    @contextmanager
    def _stoppable(self) -> Iterator[None]:
        """In its block, KeyboardInterrupt comes when the run is to stop."""
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
    """The checkpoint with its file on this machine, wherever the driver has it."""
    if checkpoint.path.is_file() and checkpoint.path.stat().st_size == len(weights):
        return checkpoint
    folder = Path(tempfile.mkdtemp(prefix="liif-model-"))
    (folder / checkpoint.path.name).write_bytes(weights)
    return replace(checkpoint, path=folder / checkpoint.path.name)


class Notebook:
    """A `batch.Watcher` that writes everything down."""

    def __init__(self, upscaler: Any, tasks: Sequence[tuple[int, Deferred]]) -> None:
        self._upscaler = upscaler
        self._index = {name: index for index, task in tasks for name in task.names}
        self._rows: list[dict[str, Any]] = []

    def told(self) -> list[dict[str, Any]]:
        """A row for each output. last: whether it is the last of its image."""
        last = {row["index"]: number for number, row in enumerate(self._rows)}
        return [row | {"last": last[row["index"]] == number} for number, row in enumerate(self._rows)]

    def started(self, task: Any, tally: Any) -> None:
        """Nothing to write down."""

    def advanced(self, pixels: int) -> None:
        """Nothing to write down."""

    def finished(self, result: Result, timing: Any, tally: Any) -> None:
        """Write down an output."""
        told = result.as_dict() | {"notes": [(str(note), getattr(note, "remedy", None)) for note in result.notes]}
        times = (timing.read, timing.encode, timing.decode, timing.file)
        self._rows.append({"index": self._index[result.output], "result": told, "timing": times})

    def failed(self, task: Any, error: Exception) -> None:
        """Write down outputs that were not made; those that came into being meanwhile (by a worker that died, or another
        run) are no failure."""
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


@dataclass(frozen=True)
class Untold:
    """Stands for a `rendering.timing.Tally`, which stays with the actor."""

    plans: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Times:
    """A `batch.Timing`, in a process that has no torch."""

    read: float = 0.0
    encode: float = 0.0
    decode: float = 0.0
    file: float = 0.0


def examine(address: str) -> dict[str, dict[str, str]]:
    """Facts on a cluster: its nodes, what each has, and which versions run there. Raises `UsageError`, `DeviceError`."""
    from liif_cli.machine.memory import format_bytes

    with connected(address) as ray:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        found = {"ray": {"version": ray.__version__, "nodes": str(len(nodes)), "share": _told_share(nodes)}}
        ask = ray.remote(num_cpus=0)(versions)
        for number, node in enumerate(nodes, 1):
            has = node["Resources"]
            where = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            facts = {"cpus": f"{has.get('CPU', 0):g}", "gpus": f"{has.get('GPU', 0):g}"}
            facts["memory"] = format_bytes(int(has.get("memory", 0)))
            try:
                facts |= ray.get(ask.options(scheduling_strategy=where).remote(), timeout=60)
            except ray.exceptions.RayError as error:
                facts["broken"] = _first_line(error)
            found[f"node {number}, {node['NodeName']}"] = facts
    return found


def _told_share(nodes: Sequence[Mapping[str, Any]]) -> str:
    from liif_cli.machine.memory import format_bytes

    try:
        found = share([node["Resources"] for node in nodes], Fleet(), None)
    except UsageError as error:
        return str(error)
    gpus = f", {found.gpus:g} GPUs" if found.gpus else ""
    return f"{found.actors} actors, each of {found.cpus} CPUs{gpus}, {format_bytes(found.memory)}"


def versions() -> dict[str, str]:
    """What is installed in this process's environment."""
    import platform

    found = {"python": platform.python_version()}
    for name in ("liif", "torch", "ray"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found

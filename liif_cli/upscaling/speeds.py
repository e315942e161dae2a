"""A cache of the speed of models on this machine, with the properties of the model that planning needs. Does not load torch.

It is stored in the user's cache folder, which `HF_HOME` moves. The key contains everything that can affect the speed, so that
an outdated speed is never found.
"""

import json
import os
import platform
import time
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from liif_cli import __version__
from liif_cli.coords import Grid
from liif_cli.errors import OutputError
from liif_cli.machine.files import write_bytes
from liif_cli.models.checkpoints import Checkpoint
from liif_cli.rendering.timing import RenderStats
from liif_cli.upscaling.options import Options

MOST = 100
"""The number of speeds in the cache; the oldest are dropped."""
ENOUGH = 0.05
"""The shortest meaningful measurement, in seconds."""
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")


@dataclass(frozen=True)
class Speed:
    """The speed of a model on a device. It can replace the model in `make_plan`.

    encode: seconds per input pixel, including halos. decode: seconds per output pixel. file: format name -> seconds per output
    pixel to finish, compress and write. start: seconds until the model is loaded. program: bytes that the process holds then.
    scratch: bytes. The other fields are those of `SRModel`.
    """

    device: str
    encode: float
    decode: float
    start: float
    program: int
    halo: int | None
    alignment: int
    bytes_per_pixel: int
    code_bytes: int
    scratch: int
    file: dict[str, float] = field(default_factory=dict)

    def supports(self, grid: Grid) -> str | None:
        """Always None, "supported": speeds of fixed-scale models are not cached."""
        return None

    def scratch_bytes(self, chunk: int | None = None) -> int:
        """The bytes of scratch memory. They hold for the chunk of the options, which is part of the cache's key."""
        return self.scratch


@dataclass
class Measured:
    """The time that a run spent, and the pixels that it was spent on.

    loaded: seconds until the model was loaded, and bytes that the process held then. encode, decode: seconds. encoded, decoded:
    pixels. files: format name -> (seconds, pixels).
    """

    loaded: tuple[float, int] = (0.0, 0)
    encode: float = 0.0
    encoded: int = 0
    decode: float = 0.0
    decoded: int = 0
    files: dict[str, tuple[float, int]] = field(default_factory=dict)

    def add(self, stats: RenderStats) -> None:
        """Add the rendering of an image."""
        self.encode, self.encoded = self.encode + stats.encode, self.encoded + stats.encoded
        self.decode, self.decoded = self.decode + stats.decode, self.decoded + stats.decoded

    def add_file(self, form: str, seconds: float, pixels: int) -> None:
        """Add the writing of an output. form: the name of its format."""
        before = self.files.get(form, (0.0, 0))
        self.files[form] = before[0] + seconds, before[1] + pixels

    @property
    def enough(self) -> bool:
        """Whether every part was measured for long enough."""
        return min(self.encode, self.decode, *(seconds for seconds, _ in self.files.values())) >= ENOUGH

    def onto(self, speed: Speed) -> Speed:
        """The speed, updated with everything that was measured for long enough."""
        file = {
            form: seconds / pixels for form, (seconds, pixels) in self.files.items() if seconds >= ENOUGH and pixels
        }
        return replace(
            speed,
            encode=self.encode / self.encoded if self.encode >= ENOUGH and self.encoded else speed.encode,
            decode=self.decode / self.decoded if self.decode >= ENOUGH and self.decoded else speed.decode,
            file=speed.file | file,
        )


def key(checkpoint: Checkpoint, options: Options, bits: int) -> str:
    """The cache key: the model's file, this machine and its threads, the versions, and the options. bits: per output sample."""
    stat = checkpoint.path.stat()
    model = (str(checkpoint.path.resolve()), stat.st_size, stat.st_mtime_ns)
    machine = (platform.node(), platform.machine(), _processors(), *(os.environ.get(name, "") for name in VARIABLES))
    versions = (__version__, _torch_version(), platform.python_version())
    how = (options.device, options.precision, options.chunk, bits)
    return json.dumps([model, machine, versions, how])


def process_age() -> float:
    """The seconds since this process started."""
    import psutil

    return time.time() - float(psutil.Process().create_time())


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _torch_version() -> str:
    try:
        return installed("torch")
    except PackageNotFoundError:
        return ""


def cache_file() -> Path:
    """The path of the cache file."""
    from huggingface_hub import constants

    return Path(constants.HF_ASSETS_CACHE) / "liif" / "speeds.json"


def recall(checkpoint: Checkpoint, options: Options, bits: int) -> Speed | None:
    """The cached speed for outputs with `bits` bits per sample, or None."""
    return _read().get(key(checkpoint, options, bits))


def remember(checkpoint: Checkpoint, options: Options, bits: int, speed: Speed) -> None:
    """Store a speed in the cache. Does nothing if the cache cannot be written."""
    path, name = cache_file(), key(checkpoint, options, bits)
    speeds = {each: value for each, value in _read().items() if each != name}
    kept = [*speeds.items(), (name, speed)][-MOST:]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, json.dumps({each: asdict(value) for each, value in kept}, indent=1).encode(), overwrite=True)
    except (OSError, OutputError):
        return


def _read() -> dict[str, Speed]:
    try:
        return TypeAdapter(dict[str, Speed]).validate_json(cache_file().read_bytes())
    except (OSError, ValidationError):  # the file does not exist yet, or is of another version
        return {}

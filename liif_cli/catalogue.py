"""Which models are on this machine: shipped with the package, and in the Hub's cache."""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from liif_cli.checkpoints import HEADER, HUB_FILE, read_header, shipped
from liif_cli.errors import CheckpointError

MAX_HEADER = 100 * 2**20  # safetensors' own limit


@dataclass(frozen=True)
class Entry:
    """A model. name: as `--model` takes it. bytes: of the file. where: "shipped" or "cached". licence: as its file says."""

    name: str
    where: str
    bytes: int
    parameters: int
    licence: str
    path: str

    def as_dict(self) -> dict[str, Any]:
        """Fit for JSON."""
        return asdict(self)


def entries() -> list[Entry]:
    """The models on this machine, the shipped ones first. Never asks the network."""
    found = [_entry(name, path, "shipped") for name, path in shipped().items()]
    return found + [_entry(name, path, "cached") for name, path in cached()]


def names() -> list[str]:
    """What `--model` can be given without the network; cheap enough for completion."""
    return [*shipped(), *(name for name, _ in cached())]


def cached() -> Iterator[tuple[str, Path]]:
    """(reference, file) of the models of ours in the Hub's cache, in the order of their names."""
    for repo in sorted(_repositories(), key=lambda path: path.name):
        _, owner, name = repo.name.split("--", 2)
        for revision in sorted((repo / "snapshots").glob("*")):
            for path in sorted(revision.rglob("*.safetensors")):
                inside = path.relative_to(revision).as_posix()
                if HEADER in _safetensors_header(path).get("__metadata__", {}):
                    yield f"hf://{owner}/{name}{'' if inside == HUB_FILE else '/' + inside}", path


def _repositories() -> list[Path]:
    from huggingface_hub.constants import HF_HUB_CACHE

    folder = Path(HF_HUB_CACHE)
    return [path for path in folder.glob("models--*--*") if path.is_dir()] if folder.is_dir() else []


def _entry(name: str, path: Path, where: str) -> Entry:
    tensors = {key: value for key, value in _safetensors_header(path).items() if key != "__metadata__"}
    parameters = sum(math.prod(tensor["shape"]) for tensor in tensors.values())
    try:
        licence = read_header(path).licence
    except CheckpointError as error:
        licence = f"unknown: {error}"
    return Entry(name, where, path.stat().st_size, parameters, licence, str(path))


def _safetensors_header(path: Path) -> dict[str, Any]:
    """The JSON at the start of a safetensors file, {} where it is none; read by hand, as completion must load no NumPy."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length <= MAX_HEADER else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return header if isinstance(header, dict) else {}

"""Which models there are: shipped with the package, in the Hub's cache, in a file, on the Hub."""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from liif_cli.errors import CheckpointError, ModelNotFound
from liif_cli.models.checkpoints import HEADER, Checkpoint, read_header
from liif_cli.models.hub import fetch

if TYPE_CHECKING:
    import torch

    from liif_cli.models.model import SRModel


DEFAULT = "edsr-baseline-liif"
HUB_FILE = "model.safetensors"
HUB_REFERENCE = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^/\s]+))?(?:/(?P<path>\S+))?")


def load_model(model: str | Path = DEFAULT, *, device: "str | torch.device" = "cpu") -> "SRModel":
    """Load a model by a shipped name, a file, or a Hub reference; float32, evaluation mode.

    Raises `ModelNotFound` (no such model, no network) and `CheckpointError` (corrupt, or not a checkpoint of liif).
    """
    return find(model).load(device)


def find(model: str | Path = DEFAULT) -> Checkpoint:
    """Find a checkpoint, fetching it from the Hub where the reference says so, and read its header."""
    reference = str(model)
    path = Path(model)
    if not reference.startswith("hf://"):
        if path.is_file():
            return _open(path.stem, path)
        if reference in shipped():
            return _open(reference, shipped()[reference])
        if path.is_dir() or path.suffix == ".safetensors" or "/" not in reference:
            raise _unknown(reference)
    match = HUB_REFERENCE.fullmatch(reference.removeprefix("hf://"))
    if match is None:
        raise _unknown(reference)
    file = fetch(match["repo"], match["path"] or HUB_FILE, revision=match["revision"])
    return _open(match["repo"], file.path, file.commit)


def shipped() -> dict[str, Path]:
    """The models that come with the package: name -> file."""
    package = Path(__file__).parents[1]
    folder = next((place for place in (package / "weights", package.parent / "weights") if place.is_dir()), package)
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def _unknown(reference: str) -> ModelNotFound:
    close = get_close_matches(reference, shipped(), n=1)
    hint = (
        f"did you mean {close[0]}?"
        if close
        else f"shipped models: {', '.join(shipped()) or 'none'}; see also hf://owner/repo"
    )
    return ModelNotFound(f"there is no model or file {reference!r}", hint=hint)


def _open(name: str, path: Path, revision: str | None = None) -> Checkpoint:
    return Checkpoint(name, path, read_header(path), revision)


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

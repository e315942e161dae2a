"""Finds models: shipped with the package, pulled by name, in the Hub's cache, in a file, or on the Hub."""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from liif_cli.errors import CheckpointError, ModelNotFound
from liif_cli.models.checkpoints import Checkpoint, check_file, count_parameters, is_ours, read_header
from liif_cli.models.hub import FileMissing, HubFile, fetch, list_files
from liif_cli.models.known import KNOWN, by_name

if TYPE_CHECKING:
    import torch

    from liif_cli.models.model import SRModel


DEFAULT = "light"
HUB_FILE = "model.safetensors"
HUB_REFERENCE = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^/\s]+))?(?:/(?P<path>\S+))?")


def load_model(model: str | Path = DEFAULT, *, device: "str | torch.device" = "cpu") -> "SRModel":
    """Load a model by a shipped or pulled name, a file, or a Hub reference; float32, evaluation mode.

    Raises `ModelNotFound` (no such model, no network) and `CheckpointError` (corrupt, or not a checkpoint of liif).
    """
    return find(model).load(device)


def find(model: str | Path = DEFAULT) -> Checkpoint:
    """Find a checkpoint, fetching it if it is a Hub reference, and read its header.

    Raises `ModelNotFound` and `CheckpointError`.
    """
    found = find_here(model)
    if found is not None:
        return _open(*found)
    file = fetch_reference(str(model))
    return _open(hub_parts(str(model))["repo"] or "", file.path, file.commit, str(model))


def find_here(model: str | Path) -> tuple[str, Path] | None:
    """(name, file) of a model on this machine, by name or path; None if `model` is a Hub reference.

    The file need not be a checkpoint. Raises `ModelNotFound` if it is neither.
    """
    reference, path = str(model), Path(model)
    if reference.startswith("hf://"):
        return None
    if path.is_file():
        return path.stem, path
    for place in (shipped(), pulled()):
        if reference in place:
            return reference, place[reference]
    if reference and os.path.lexists(path):
        check_file(path)
    if path.suffix == ".safetensors" or not HUB_REFERENCE.fullmatch(reference):
        raise _unknown(reference)
    return None


def hub_parts(reference: str) -> Mapping[str, str | None]:
    """`repo`, `revision` and `path` of hf://owner/repo[@revision][/path]. Raises `ModelNotFound` for anything else."""
    match = HUB_REFERENCE.fullmatch(reference.removeprefix("hf://"))
    if match is None:
        raise _unknown(reference)
    return match.groupdict()


def fetch_reference(reference: str) -> HubFile:
    """The file of a Hub reference, whatever its content. Raises `ModelNotFound`, `CheckpointError` and `OutputError`."""
    parts = hub_parts(reference)
    repo, revision, path = parts["repo"] or "", parts["revision"], parts["path"]
    try:
        return fetch(repo, path or HUB_FILE, revision=revision)
    except FileMissing as error:
        raise ModelNotFound(str(error), hint=_other_files(repo, revision, path)) from None


def _other_files(repo: str, revision: str | None, path: str | None) -> str | None:
    """A hint about the weights that a repository has instead of the requested file."""
    files = [name for name in list_files(repo, revision=revision) if name.endswith((".safetensors", ".pth", ".pt"))]
    if len(files) != 1:
        return f"the repository has {', '.join(files[:5])}" if files else "the repository has no weights"
    place = f"hf://{repo}{f'@{revision}' if revision else ''}/{files[0]}"
    convert = f"liif models convert {place}"
    if files[0].endswith((".pth", ".pt")):
        return convert
    return f"give its path: {place}; or, if it is not a liif checkpoint: {convert}"


def shipped() -> dict[str, Path]:
    """The models shipped with the package: name -> file."""
    package = Path(__file__).parents[1]
    folder = next((place for place in (package / "weights", package.parent / "weights") if place.is_dir()), package)
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def pulled() -> dict[str, Path]:
    """The models that `pull` has fetched: name -> file."""
    return {path.stem: path for path in sorted(pull_folder().glob("*.safetensors"))}


def pull_folder() -> Path:
    """The folder for models from `pull`, in the Hub client's folder for assets; HF_HOME moves it."""
    from huggingface_hub.constants import HF_ASSETS_CACHE

    return Path(HF_ASSETS_CACHE) / "liif" / "models"


def _unknown(reference: str) -> ModelNotFound:
    if by_name(reference):
        return ModelNotFound(f"the model {reference} is not on this machine", hint=f"liif models pull {reference}")
    here = [*shipped(), *pulled()]
    every = [*sorted(here, key=len), *sorted((known.name for known in KNOWN), key=len)]
    inside = [name for name in every if len(reference) > 2 and reference.lower() in name]
    close = inside or get_close_matches(reference, every, n=1)
    fetch_it = "" if not close or close[0] in here else f" liif models pull {close[0]} fetches it"
    shown = f"shipped models: {', '.join(shipped()) or 'none'}; see also liif models and hf://owner/repo"
    return ModelNotFound(
        f"there is no model or file {reference!r}", hint=f"did you mean {close[0]}?{fetch_it}" if close else shown
    )


def _open(name: str, path: Path, revision: str | None = None, reference: str | None = None) -> Checkpoint:
    return Checkpoint(name, path, read_header(path, reference), revision)


@dataclass(frozen=True)
class Entry:
    """A model. name: for `find`. where: "shipped", "pulled", "cached" or, if it is not on this machine, "known".

    bytes: of the file, None if unknown. licence: as stated in its file. path: None if it is not on this machine. scores: what
    they were measured on -> scale -> PSNR in dB.
    """

    name: str
    where: str
    bytes: int | None
    parameters: int
    licence: str
    path: str | None
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Serialisable as JSON."""
        return asdict(self)


def entries() -> list[Entry]:
    """The models on this machine, the shipped ones first, then those that `pull` knows. Never uses the network."""
    found = [_entry(name, path, "shipped") for name, path in shipped().items()]
    found += [_entry(name, path, "pulled") for name, path in pulled().items()]
    found += [_entry(name, path, "cached") for name, path in cached()]
    here = {entry.name for entry in found}
    absent = [known for known in KNOWN if known.name not in here]
    return found + [Entry(k.name, "known", k.bytes, k.parameters, k.licence, None, k.scores) for k in absent]


def names() -> list[str]:
    """The references that `find` accepts without the network; fast enough for completion."""
    return [*shipped(), *pulled(), *(name for name, _ in cached())]


def cached() -> Iterator[tuple[str, Path]]:
    """(reference, file) of the liif checkpoints in the Hub's cache, sorted by name."""
    for repo in sorted(_repositories(), key=lambda path: path.name):
        _, owner, name = repo.name.split("--", 2)
        for revision in sorted((repo / "snapshots").glob("*")):
            for path in sorted(revision.rglob("*.safetensors")):
                inside = path.relative_to(revision).as_posix()
                if is_ours(path):
                    yield f"hf://{owner}/{name}{'' if inside == HUB_FILE else '/' + inside}", path


def _repositories() -> list[Path]:
    from huggingface_hub.constants import HF_HUB_CACHE

    folder = Path(HF_HUB_CACHE)
    return [path for path in folder.glob("models--*--*") if path.is_dir()] if folder.is_dir() else []


def _entry(name: str, path: Path, where: str) -> Entry:
    try:
        header = read_header(path)
        licence, scores = header.licence, published_scores(header.provenance)
    except CheckpointError as error:
        licence, scores = f"unknown: {error}", {}
    return Entry(name, where, path.stat().st_size, count_parameters(path), licence, str(path), scores)


def published_scores(provenance: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The scores in a checkpoint's provenance: what they were measured on -> scale -> PSNR in dB. The provenance may hold
    anything; values that are not numbers are omitted."""
    published = provenance.get("published_psnr")
    scores = {"validation": provenance.get("validation_psnr"), **(published if isinstance(published, dict) else {})}
    numbers = {what: _numbers(values) for what, values in scores.items()}
    return {what: values for what, values in numbers.items() if values}


def _numbers(values: Any) -> dict[str, float]:
    """The entries of a mapping that are scores: a scale -> a finite number below 1,000."""
    if not isinstance(values, Mapping):
        return {}
    return {scale: psnr for scale, psnr in values.items() if _is_number(scale) and _is_number(psnr)}


def _is_number(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and abs(float(value)) < 1000 and (isinstance(value, str | int | float))
    except (TypeError, ValueError, OverflowError):
        return False

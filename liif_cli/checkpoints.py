"""Checkpoints: one safetensors file is one model.

The file's header carries one JSON string under `liif`: schema version, model config (with its normalisation), licence and
provenance. A reference to a model is a shipped name (no slash), an existing file, or a place on the Hugging Face Hub,
`hf://owner/repo[@revision][/path]`; a bare `owner/repo` is a Hub reference where no such path exists.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from liif_cli.config import ConfigError, ModelConfig, parse, to_dict
from liif_cli.errors import CheckpointError, ModelNotFound
from liif_cli.outputs import write_bytes

if TYPE_CHECKING:
    import torch

    from liif_cli.model import SRModel

DEFAULT = "edsr-baseline-liif"
SCHEMA = 1
HEADER = "liif"
HUB_REFERENCE = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^/\s]+))?(?:/(?P<path>\S+))?")


@dataclass(frozen=True)
class Header:
    """What a checkpoint says of itself. `provenance`: how it was made, free-form but fit for JSON."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 (a ClassVar annotation would be a field to pydantic)

    model: ModelConfig
    licence: str
    provenance: dict[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint file that was found, its header read and understood, its tensors not yet.

    name: what to call the model. revision: the Hub's commit, None elsewhere.
    """

    name: str
    path: Path
    header: Header
    revision: str | None = None

    def load(self, device: "str | torch.device" = "cpu") -> "SRModel":
        """Build the model, in float32 and evaluation mode, on `device`. Raises `CheckpointError`: all tensors fit, or none."""
        import torch

        from liif_cli.model import SRModel

        tensors = {name: tensor.to(torch.float32) for name, tensor in _read_tensors(self.path)}
        try:
            return SRModel.from_tensors(self.header.model, tensors).eval().to(device)
        except CheckpointError as error:
            raise CheckpointError(f"{self.path.name}: {error}") from None


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
    path, revision = _download(match["repo"], match["revision"], match["path"])
    return _open(match["repo"], path, revision)


def shipped() -> dict[str, Path]:
    """The models that come with the package: name -> file."""
    package = Path(__file__).parent
    folder = next((place for place in (package / "weights", package.parent / "weights") if place.is_dir()), package)
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def _unknown(reference: str) -> ModelNotFound:
    close = get_close_matches(reference, shipped(), n=1)
    hint = f"did you mean {close[0]}?" if close else f"shipped models: {', '.join(shipped()) or 'none'}; see also hf://owner/repo"
    return ModelNotFound(f"there is no model or file {reference!r}", hint=hint)


def save_model(
    model: "SRModel",
    path: Path,
    *,
    licence: str,
    provenance: Mapping[str, Any],
    dtype: "torch.dtype | None" = None,
) -> None:
    """Write `model` to one safetensors file, whole or not at all; an existing file is replaced.

    dtype: of the tensors in the file, default float32. The same model gives the same bytes. Raises `OutputError`.
    """
    import torch
    from safetensors.torch import save

    header = Header(model.config, licence, dict(provenance))
    tensors = {name: t.detach().to("cpu", dtype or torch.float32).contiguous() for name, t in model.export().items()}
    write_bytes(path, save(tensors, {HEADER: json.dumps(to_dict(header), sort_keys=True)}))


def _open(name: str, path: Path, revision: str | None = None) -> Checkpoint:
    return Checkpoint(name, path, read_header(path), revision)


def read_header(path: Path) -> Header:
    """The header of a checkpoint file. Raises `CheckpointError` when the file is not a whole checkpoint of liif."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise _corrupt(path, error) from None
    if HEADER not in metadata:
        raise CheckpointError(
            f"{path.name} is a safetensors file, but not a checkpoint of liif: its header has no {HEADER!r} entry"
        )
    return _parse_header(path, metadata[HEADER])


def _parse_header(path: Path, text: str) -> Header:
    try:
        data = json.loads(text)
        if isinstance(data, dict) and isinstance(data.get("schema"), int) and data["schema"] > SCHEMA:
            raise CheckpointError(f"{path.name} was made by a newer liif (schema {data['schema']})", hint="upgrade liif")
        return parse(Header, data)
    except (json.JSONDecodeError, RecursionError) as error:
        raise CheckpointError(f"the header of {path.name} is not JSON: {error}") from None
    except ConfigError as error:
        raise CheckpointError(f"the header of {path.name} is not understood: {error}") from None


def _read_tensors(path: Path) -> "Iterator[tuple[str, torch.Tensor]]":
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (safe_open is no mapping)
                tensor = file.get_tensor(name)
                if not tensor.is_floating_point():
                    raise CheckpointError(f"{path.name}: {name} holds {tensor.dtype}, not floating-point numbers")
                yield name, tensor
    except (SafetensorError, OSError, ValueError) as error:
        raise _corrupt(path, error) from None


def _corrupt(path: Path, error: Exception) -> CheckpointError:
    reason = str(error).removeprefix("Error while deserializing header: ")
    return CheckpointError(f"{path} is not a whole safetensors file: {reason}", hint="fetch or copy it again")


def _download(repo: str, revision: str | None, path: str | None) -> tuple[Path, str]:
    """Fetch a file of a Hub repository into the Hub's cache; returns its place and the commit it belongs to."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    wanted = path or "model.safetensors"
    where = f"hf://{repo}" + (f"@{revision}" if revision else "")
    try:
        file = Path(hf_hub_download(repo, wanted, revision=revision))
    except (LocalEntryNotFoundError, OSError) as error:
        if isinstance(error, HfHubHTTPError) and not isinstance(error, LocalEntryNotFoundError):
            raise _hub_refusal(where, wanted, error) from error
        hint = "check the network, HF_ENDPOINT and HF_HUB_OFFLINE, or give a file that is on this machine"
        raise ModelNotFound(f"{where} is not in the cache and the Hub cannot be reached", hint=hint) from error
    except (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError, HfHubHTTPError) as error:
        raise _hub_refusal(where, wanted, error) from error
    except HFValidationError as error:
        raise ModelNotFound(f"{where} is not a place on the Hub: {error}") from error
    _check_hash(file)
    return file, _commit(file)


def _hub_refusal(where: str, path: str, error: Exception) -> ModelNotFound:
    from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, EntryNotFoundError):
        return ModelNotFound(f"{where} has no file {path}", hint=f"name the file: {where}/FILE.safetensors")
    if isinstance(error, RevisionNotFoundError):
        return ModelNotFound(f"{where}: there is no such revision")
    if isinstance(error, RepositoryNotFoundError):
        return ModelNotFound(f"{where}: there is no such repository, or it is private", hint="for a private one set HF_TOKEN")
    return ModelNotFound(f"{where}: the Hub refused: {str(error).splitlines()[0]}")


def _check_hash(file: Path) -> None:
    """The client checks sizes only. The Hub names a large file's blob by its SHA-256, so we can check the rest."""
    expected = file.resolve().name
    if re.fullmatch(r"[0-9a-f]{64}", expected) and hashlib.sha256(file.read_bytes()).hexdigest() != expected:
        raise CheckpointError(
            f"{file.name} from the Hub does not have the SHA-256 that the Hub states",
            hint=f"delete {file.resolve()} and try again",
        )


def _commit(file: Path) -> str:
    """The commit from the cache's layout, `snapshots/COMMIT/...`."""
    parts = file.parts
    return parts[parts.index("snapshots") + 1] if "snapshots" in parts else ""

"""Checkpoints: one safetensors file is one model.

The file's header carries one JSON string under `liif`: schema version, model config (with its normalisation), licence and
provenance. A reference to a model is a shipped name (no slash), an existing file, or a place on the Hugging Face Hub,
`hf://owner/repo[@revision][/path]`; a bare `owner/repo` is a Hub reference where no such path exists.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from liif_cli.config import ConfigError, ModelConfig, parse, to_dict
from liif_cli.errors import CheckpointError, ModelNotFound
from liif_cli.hub import fetch
from liif_cli.outputs import write_bytes

if TYPE_CHECKING:
    import torch

    from liif_cli.model import SRModel

DEFAULT = "edsr-baseline-liif"
SCHEMA = 1
HEADER = "liif"
HUB_FILE = "model.safetensors"
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
    file = fetch(match["repo"], match["path"] or HUB_FILE, revision=match["revision"])
    return _open(match["repo"], file.path, file.commit)


def shipped() -> dict[str, Path]:
    """The models that come with the package: name -> file."""
    package = Path(__file__).parent
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
            raise CheckpointError(
                f"{path.name} was made by a newer liif (schema {data['schema']})", hint="upgrade liif"
            )
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

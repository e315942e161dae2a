"""Checkpoints: one safetensors file is one model.

The file's header carries one JSON string under `liif`: schema version, model config (with its normalisation), licence and
provenance. A reference to a model is a shipped name (no slash), an existing file, or a place on the Hugging Face Hub,
`hf://owner/repo[@revision][/path]`; a bare `owner/repo` is a Hub reference if no such path exists.
"""

import json
import math
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from liif_cli.errors import CheckpointError, ModelNotFound
from liif_cli.machine.files import write_bytes
from liif_cli.models.schema import ConfigError, parse, to_dict

if TYPE_CHECKING:
    import torch

    from liif_cli.models.model import SRModel
    from liif_cli.models.registry import ModelConfig

SCHEMA = 1
HEADER = "liif"


@dataclass(frozen=True)
class Header:
    """A checkpoint's own description, readable without torch.

    model: its config, as a dictionary; `Checkpoint.config` parses it. provenance: how it was made, free-form but
    serialisable as JSON.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 (a ClassVar annotation would be a field to pydantic)

    model: dict[str, Any]
    licence: str
    provenance: dict[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint file whose header has been read and parsed; its tensors have not been read yet.

    name: the model's name in messages. revision: the Hub's commit; None for other files.
    """

    name: str
    path: Path
    header: Header
    revision: str | None = None

    @property
    def config(self) -> "ModelConfig":
        """The model's config. Loads torch. Raises `CheckpointError` if this version of liif does not know such a model."""
        from liif_cli.models.registry import ModelConfig

        try:
            return parse(ModelConfig, self.header.model, "model")
        except ConfigError as error:
            raise CheckpointError(f"the header of {self.path.name} is invalid: {error}") from None

    @property
    def only_scale(self) -> float | None:
        """The scale of a model that renders only one, otherwise None. Loads torch. Raises `CheckpointError` like `config`."""
        from liif_cli.models.registry import only_scale

        return only_scale(self.config.decoder)

    def load(self, device: "str | torch.device" = "cpu") -> "SRModel":
        """Build the model in float32 and evaluation mode on `device`. Raises `CheckpointError` unless every tensor fits."""
        import torch

        from liif_cli.models.model import SRModel

        config, shapes = self.config, _shapes(self.path)
        if _least_tensors(self.header.model) > len(shapes):
            raise CheckpointError(f"{self.path.name}: the header describes more layers than its {len(shapes)} tensors")
        try:
            # names and shapes are checked from the header alone, before any tensor is read
            SRModel.from_tensors(config, {name: torch.empty(shape, device="meta") for name, shape in shapes.items()})
            tensors = {name: tensor.to(torch.float32) for name, tensor in _read_tensors(self.path)}
            return SRModel.from_tensors(config, tensors).eval().to(device)
        except CheckpointError as error:
            raise CheckpointError(f"{self.path.name}: {error}") from None


def save_model(
    model: "SRModel",
    path: Path,
    *,
    licence: str,
    provenance: Mapping[str, Any],
    dtype: "torch.dtype | None" = None,
    overwrite: bool = True,
) -> None:
    """Write `model` to one safetensors file atomically.

    dtype: of the tensors in the file, default float32. overwrite: whether an existing file may be replaced. The same model
    gives the same bytes. Raises `OutputError`.
    """
    import torch
    from safetensors.torch import save

    header = Header(to_dict(model.config), licence, dict(provenance))
    tensors = {name: t.detach().to("cpu", dtype or torch.float32).contiguous() for name, t in model.export().items()}
    write_bytes(path, save(tensors, {HEADER: json.dumps(to_dict(header), sort_keys=True)}), overwrite=overwrite)


def check_file(path: Path) -> None:
    """Check that `path` is a regular file that can be opened, before its content is read.

    Raises `ModelNotFound` if it is not one (missing, a loop of links, a folder, a pipe, a device), and `CheckpointError` if
    permission to read it is missing.
    """
    try:
        mode = path.stat().st_mode
        kinds = {"a folder": stat.S_ISDIR, "a pipe": stat.S_ISFIFO, "a socket": stat.S_ISSOCK}
        kind = next((name for name, test in kinds.items() if test(mode)), "a device")
        if not stat.S_ISREG(mode):
            raise ModelNotFound(f"{path} is {kind}, not a checkpoint file")
        path.open("rb").close()
    except FileNotFoundError:
        raise ModelNotFound(f"there is no file {path}") from None
    except PermissionError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ModelNotFound(f"cannot open {path}: {reason}") from None


def read_header(path: Path, reference: str | None = None) -> Header:
    """The header of a checkpoint file. Raises `CheckpointError` if the file is not a complete checkpoint of liif.

    reference: the file as the user named it, for the hint; default: its path.
    """
    from safetensors import SafetensorError, safe_open

    named = (
        reference if reference and reference.endswith(path.name) else f"{reference}/{path.name}" if reference else path
    )

    if is_pickle(path):
        raise CheckpointError(
            f"{path.name} is a PyTorch pickle, which liif does not load",
            hint=f"convert it once: liif models convert {named}",
        )
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise _corrupt(path, error) from None
    if HEADER not in metadata:
        raise CheckpointError(
            f"{path.name} is a safetensors file but not a liif checkpoint: its header has no {HEADER!r} entry",
            hint=f"if it holds a LIIF model: liif models convert {named}",
        )
    return _parse_header(path, metadata[HEADER])


def is_pickle(path: Path) -> bool:
    """Whether a file begins like a PyTorch file: as an archive or a bare pickle. False if it cannot be read."""
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError:
        return False
    pickles = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
    # a safetensors header of 640 bytes also begins like a pickle
    return start.startswith(pickles) and start[8:] != b"{"


MAX_HEADER = 100 * 2**20  # safetensors' own limit


def safetensors_header(path: Path) -> dict[str, Any]:
    """The JSON at the start of a safetensors file, {} for any other file; parsed here so that completion loads no NumPy."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            whole = length <= min(MAX_HEADER, path.stat().st_size)
            header = json.loads(file.read(length)) if whole else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return header if isinstance(header, dict) else {}


def is_ours(path: Path) -> bool:
    """Whether a file's header has our entry, valid or not."""
    metadata = safetensors_header(path).get("__metadata__")
    return isinstance(metadata, dict) and HEADER in metadata


def count_parameters(path: Path) -> int:
    """The number of values in all tensors of a safetensors file, from its header; impossible shapes are not counted."""
    tensors = (value for key, value in safetensors_header(path).items() if key != "__metadata__")
    shapes = (tensor.get("shape") if isinstance(tensor, dict) else None for tensor in tensors)
    return sum(math.prod(shape) for shape in shapes if _is_shape(shape))


def _is_shape(shape: Any) -> TypeGuard[list[int]]:
    """Whether a JSON value is a plausible tensor shape: a header may hold anything, even integers of a million digits."""
    plain = isinstance(shape, list) and len(shape) <= 8 and all(isinstance(side, int) for side in shape)
    return plain and all(0 <= side < 2**48 for side in shape)


def _parse_header(path: Path, text: str) -> Header:
    try:
        data = json.loads(text, parse_constant=lambda _: None, parse_float=_finite)
        if isinstance(data, dict) and isinstance(data.get("schema"), int) and data["schema"] > SCHEMA:
            raise CheckpointError(
                f"{path.name} was made by a newer liif (schema {data['schema']})", hint="upgrade liif"
            )
        return parse(Header, data)
    except (ValueError, RecursionError) as error:  # ValueError: not JSON, or an integer too long for Python
        raise CheckpointError(f"the header of {path.name} is not JSON: {error}") from None
    except ConfigError as error:
        raise CheckpointError(f"the header of {path.name} is invalid: {error}") from None


def _finite(text: str) -> float | None:
    """A JSON number; None for NaN and for overflow (1e999), which no config contains."""
    number = float(text)
    return number if math.isfinite(number) else None


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor, from the header."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise _corrupt(path, error) from None


def _least_tensors(part: Any) -> int:
    """A lower bound of the tensors that a config needs: one per layer in a list, or `blocks` times `layers`."""
    if isinstance(part, list):
        return len(part)
    if not isinstance(part, dict):
        return 0
    counts = [value for key in ("blocks", "layers") if isinstance(value := part.get(key), int)]
    inner = [_least_tensors(value) for key, value in part.items() if key not in ("mean", "std")]
    return max([math.prod(counts) if counts else 0, *inner])


def _read_tensors(path: Path) -> "Iterator[tuple[str, torch.Tensor]]":
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (safe_open is not a mapping)
                tensor = file.get_tensor(name)
                if not tensor.is_floating_point():
                    raise CheckpointError(f"{path.name}: tensor {name} is {tensor.dtype}, not floating-point")
                yield name, tensor
    except (SafetensorError, OSError, ValueError) as error:
        raise _corrupt(path, error) from None


def _corrupt(path: Path, error: Exception) -> CheckpointError:
    reason = str(error).removeprefix("Error while deserializing header: ")
    return CheckpointError(f"{path} is not a complete safetensors file: {reason}", hint="download or copy it again")

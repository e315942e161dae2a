"""Converts dictionaries from JSON and TOML to dataclasses; errors name the paths of unknown keys and wrong types.

Does not load torch: the config of each encoder and decoder is next to its network, and `registry` combines them.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar

from annotated_types import Gt, Interval

from liif_cli.errors import LiifError

if TYPE_CHECKING:
    from pydantic import ValidationError

T = TypeVar("T")
Width = Annotated[int, Interval(ge=1, le=4096)]
Depth = Annotated[int, Interval(ge=1, le=1024)]
Positive = Annotated[float, Gt(0)]


class ConfigError(LiifError):
    """A dictionary that does not fit its dataclass. The caller names the file."""


@dataclass(frozen=True)
class PartConfig:
    """The config of an encoder or a decoder. name: identifies the class, the same in all configs of one kind."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "allow_inf_nan": False}

    name: str


def parse(cls: type[T], data: object, place: str = "") -> T:
    """Build the dataclass `cls` from a dictionary (of JSON or TOML), strictly. place: the path of `data` itself.

    Raises `ConfigError` with the paths of the wrong keys, e.g. `model.encoder.blocks: Input should be ...`.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(cls).validate_python(data)
    except ValidationError as error:
        raise ConfigError("; ".join(_problems(error, place))) from None


MOST = 8
"""The most problems of a dictionary that are listed."""


def _problems(error: "ValidationError", place: str) -> Iterator[str]:
    """The problems of a dictionary with their paths, short whatever it contains."""
    for problem in error.errors(include_url=False, include_input=False)[:MOST]:
        path = ".".join(str(part)[:40] for part in (place, *problem["loc"]) if part != "")
        yield f"{path or 'config'}: {problem['msg'][:200]}"
    if error.error_count() > MOST:
        yield f"and {error.error_count() - MOST:,} more"


LARGEST = 2**20
"""The most bytes of a config file."""


def plain_text(path: Path) -> str:
    """The UTF-8 text of a JSON or TOML file, with or without a byte order mark.

    Raises `ConfigError` if it is not a regular file, too large or not UTF-8, and OSError like `open`.
    """
    if path.exists() and not path.is_file():  # opening a pipe would wait for a writer
        raise ConfigError("it is not a regular file")
    with path.open("rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise ConfigError(f"it is larger than {LARGEST >> 20} MiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError("it is not UTF-8") from None


def to_dict(config: Any) -> dict[str, Any]:
    """The dictionary that `parse` converts back to `config`; serialisable as JSON (lists become tuples again)."""
    return asdict(config)

"""What a model is made of, as plain dataclasses, and how dictionaries become them.

A `ModelConfig` stands in the header of every checkpoint and under `[model]` of a training config. Unknown keys and wrong
types are refused with their path; nothing is guessed.
"""

from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from annotated_types import Gt, Interval, MinLen

from liif_cli.errors import LiifError

T = TypeVar("T")
Width = Annotated[int, Interval(ge=1, le=4096)]
Depth = Annotated[int, Interval(ge=1, le=1024)]
Positive = Annotated[float, Gt(0)]


class ConfigError(LiifError):
    """A dictionary that does not describe what it should. The caller says in which file it stood."""


@dataclass(frozen=True)
class EDSRConfig:
    """EDSR without up-sampler (Lim et al. 2017). EDSR-baseline: 64 features, 16 residual blocks, no residual scaling."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    name: Literal["edsr"] = "edsr"
    features: Width = 64
    blocks: Depth = 16
    residual_scale: float = 1.0


@dataclass(frozen=True)
class RDNConfig:
    """RDN without up-sampler (Zhang et al. 2018). RDN "B": 64 features, 16 blocks of 8 convolutions, growth 64."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    name: Literal["rdn"] = "rdn"
    features: Width = 64
    blocks: Depth = 16
    layers: Depth = 8
    growth: Width = 64


@dataclass(frozen=True)
class LIIFConfig:
    """The LIIF decoder (paper, section 3): widths of the hidden layers, and its three parts, each of which can be off."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    name: Literal["liif"] = "liif"
    hidden: Annotated[tuple[Width, ...], MinLen(1)] = (256, 256, 256, 256)
    local_ensemble: bool = True
    feature_unfolding: bool = True
    cell_decoding: bool = True


@dataclass(frozen=True)
class GatedConfig:
    """Gated residual blocks of three 3x3 convolutions, the encoder of `light`."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    name: Literal["gated"] = "gated"
    features: Width = 48
    blocks: Annotated[int, Interval(ge=2, le=1024)] = 6


@dataclass(frozen=True)
class FourierConfig:
    """Damped separable Fourier series per latent code, the decoder of `light`. frequencies: multiples of the base per axis."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    name: Literal["fourier"] = "fourier"
    frequencies: Annotated[int, Interval(ge=1, le=16)] = 3


@dataclass(frozen=True)
class ModelConfig:
    """A whole model. The network sees `(x - mean) / std` of RGB in [0, 1]; what it returns is mapped back with the same."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    encoder: EDSRConfig | RDNConfig | GatedConfig = EDSRConfig()
    decoder: LIIFConfig | FourierConfig = LIIFConfig()
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[Positive, Positive, Positive] = (0.5, 0.5, 0.5)


def parse(cls: type[T], data: object) -> T:
    """Build the dataclass `cls` from a dictionary (of JSON or TOML), strictly.

    Raises `ConfigError` that names every offending key by its path, e.g. `model.encoder.blocks: Input should be ...`.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(cls).validate_python(data)
    except ValidationError as error:
        places = (
            f"{'.'.join(str(part) for part in problem['loc']) or 'config'}: {problem['msg']}"
            for problem in error.errors(include_url=False)
        )
        raise ConfigError("; ".join(places)) from None


def to_dict(config: Any) -> dict[str, Any]:
    """The dictionary that `parse` turns back into `config`; fit for JSON (tuples come back from lists)."""
    return asdict(config)

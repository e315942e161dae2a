"""The table of encoders and decoders; a model's config, which combines theirs; and the named architectures."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import torch
from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from liif_cli.models.decoders.fourier import Fourier, FourierConfig
from liif_cli.models.decoders.liif import LIIF, LIIFConfig
from liif_cli.models.decoders.lte import LTE, LTEConfig
from liif_cli.models.decoders.metasr import MetaSR, MetaSRConfig
from liif_cli.models.decoders.upsampler import UpSampler, UpSamplerConfig
from liif_cli.models.encoders.edsr import EDSR, EDSRConfig
from liif_cli.models.encoders.gated import GatedConfig, GatedResNet
from liif_cli.models.encoders.rdn import RDN, RDNConfig
from liif_cli.models.interfaces import Decoder, Encoder, Part
from liif_cli.models.schema import PartConfig, Positive

ENCODERS: dict[str, type[Encoder]] = {
    "edsr": EDSR,
    "rdn": RDN,
    "gated": GatedResNet,
}
DECODERS: dict[str, type[Decoder]] = {
    "liif": LIIF,
    "fourier": Fourier,
    "lte": LTE,
    "metasr": MetaSR,
    "upsampler": UpSampler,
}


@dataclass(frozen=True)
class OneOf:
    """For pydantic: the config of one of `parts`, selected by its `name`; without a name, that of `default`."""

    parts: Mapping[str, type[Part]]
    default: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Called at each `schema.parse`, so that parts registered later are known too."""
        choices = {name: handler.generate_schema(part.Config) for name, part in self.parts.items()}
        union = core_schema.tagged_union_schema(choices, discriminator="name", from_attributes=True)
        return core_schema.no_info_before_validator_function(self._named, union)

    def _named(self, value: Any) -> Any:
        return {"name": self.default, **value} if isinstance(value, Mapping) else value


@dataclass(frozen=True)
class ModelConfig:
    """A whole model's config. The network's input is `(x - mean) / std` of RGB in [0, 1]; its output is mapped back likewise.

    It is in the header of every checkpoint and under `[model]` in a training config.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "allow_inf_nan": False}

    encoder: Annotated[PartConfig, OneOf(ENCODERS, "edsr")] = field(default_factory=EDSRConfig)
    decoder: Annotated[PartConfig, OneOf(DECODERS, "liif")] = field(default_factory=LIIFConfig)
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[Positive, Positive, Positive] = (0.5, 0.5, 0.5)


def only_scale(config: PartConfig) -> float | None:
    """The scale of a decoder that renders only one, otherwise None."""
    with torch.device("meta"):
        lowest, highest = DECODERS[config.name].build(config, 1).scales
    return lowest if lowest == highest else None


PRESETS: dict[str, ModelConfig] = {
    "edsr-baseline-liif": ModelConfig(EDSRConfig(), LIIFConfig()),
    "edsr-baseline-liif-c": ModelConfig(EDSRConfig(), LIIFConfig(cell_decoding=False)),
    "edsr-baseline-liif-u": ModelConfig(EDSRConfig(), LIIFConfig(feature_unfolding=False)),
    "edsr-baseline-liif-e": ModelConfig(EDSRConfig(), LIIFConfig(local_ensemble=False)),
    "edsr-baseline-liif-d": ModelConfig(EDSRConfig(), LIIFConfig(hidden=(256, 256))),
    "rdn-liif": ModelConfig(RDNConfig(), LIIFConfig()),
    "edsr-baseline-metasr": ModelConfig(EDSRConfig(), MetaSRConfig()),
    "rdn-metasr": ModelConfig(RDNConfig(), MetaSRConfig()),
    "edsr-baseline-x2": ModelConfig(EDSRConfig(), UpSamplerConfig(scale=2)),
    "edsr-baseline-x3": ModelConfig(EDSRConfig(), UpSamplerConfig(scale=3)),
    "edsr-baseline-x4": ModelConfig(EDSRConfig(), UpSamplerConfig(scale=4)),
    "edsr-baseline-x8": ModelConfig(EDSRConfig(), UpSamplerConfig(scale=8)),
    "rdn-x2": ModelConfig(RDNConfig(), UpSamplerConfig(scale=2, layout="rdn")),
    "rdn-x3": ModelConfig(RDNConfig(), UpSamplerConfig(scale=3, layout="rdn")),
    "rdn-x4": ModelConfig(RDNConfig(), UpSamplerConfig(scale=4, layout="rdn")),
    "edsr-baseline-lte": ModelConfig(EDSRConfig(), LTEConfig()),
    "light": ModelConfig(GatedConfig(), FourierConfig()),
    "light-large": ModelConfig(GatedConfig(features=64, blocks=10), FourierConfig()),
}

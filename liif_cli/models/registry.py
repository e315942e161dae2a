"""Which encoders and decoders there are, and the models that have a name: one line each."""

from typing import Any

from liif_cli.models.decoders.fourier import Fourier
from liif_cli.models.decoders.liif import LIIF
from liif_cli.models.encoders.edsr import EDSR
from liif_cli.models.encoders.gated import GatedResNet
from liif_cli.models.encoders.rdn import RDN
from liif_cli.models.schema import EDSRConfig, FourierConfig, GatedConfig, LIIFConfig, ModelConfig, RDNConfig

ENCODERS: dict[str, Any] = {"edsr": EDSR, "rdn": RDN, "gated": GatedResNet}
DECODERS: dict[str, Any] = {"liif": LIIF, "fourier": Fourier}

PRESETS: dict[str, ModelConfig] = {
    "edsr-baseline-liif": ModelConfig(EDSRConfig(), LIIFConfig()),
    "edsr-baseline-liif-c": ModelConfig(EDSRConfig(), LIIFConfig(cell_decoding=False)),
    "edsr-baseline-liif-u": ModelConfig(EDSRConfig(), LIIFConfig(feature_unfolding=False)),
    "edsr-baseline-liif-e": ModelConfig(EDSRConfig(), LIIFConfig(local_ensemble=False)),
    "edsr-baseline-liif-d": ModelConfig(EDSRConfig(), LIIFConfig(hidden=(256, 256))),
    "rdn-liif": ModelConfig(RDNConfig(), LIIFConfig()),
    "light": ModelConfig(GatedConfig(), FourierConfig()),
    "light-large": ModelConfig(GatedConfig(features=64, blocks=10), FourierConfig()),
}

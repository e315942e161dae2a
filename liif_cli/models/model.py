"""A super-resolution model: an encoder, a decoder, and their normalisation."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from liif_cli.coords import Axis, Grid
from liif_cli.errors import CheckpointError
from liif_cli.machine.memory import keep_freed
from liif_cli.machine.precision import fast_bf16_cpu, fast_fp16_cpu
from liif_cli.models.finite import all_finite
from liif_cli.models.interfaces import Decoder, Encoder
from liif_cli.models.registry import DECODERS, ENCODERS, ModelConfig


class SRModel(nn.Module):
    """An encoder and a decoder. Holds no state between calls; images and colours are RGB in [0, 1], normalised internally."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder: Encoder = ENCODERS[config.encoder.name].build(config.encoder)
        self.decoder: Decoder = DECODERS[config.decoder.name].build(config.decoder, self.encoder.out_channels)
        self.register_buffer("mean", torch.tensor(config.mean), persistent=False)
        self.register_buffer("std", torch.tensor(config.std), persistent=False)

    @classmethod
    def from_tensors(cls, config: ModelConfig, tensors: Mapping[str, Tensor]) -> "SRModel":
        """A model from parameters by the authors' names, which are not copied; convolutions get the channels-last layout.

        Raises `CheckpointError` like `load`.
        """
        with torch.device("meta"):  # no memory or random numbers for parameters that are replaced right away
            model = cls(config)
        model.load(tensors, assign=True)
        model.mean, model.std = torch.tensor(config.mean), torch.tensor(config.std)
        return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    @property
    def halo(self) -> int | None:
        """LR pixels around a tile that affect its output; None: all, so an image is never cut into tiles."""
        radius = self.encoder.receptive_radius
        return None if radius is None else radius + self.decoder.halo

    @property
    def alignment(self) -> int:
        """Encoded windows begin and end at multiples of this number of LR pixels, or at the image's end."""
        return self.encoder.alignment

    @property
    def dtypes(self) -> frozenset[torch.dtype]:
        """The dtypes in which it can compute."""
        return self.decoder.dtypes

    def supports(self, grid: Grid) -> str | None:
        """None, or the reason why a grid cannot be rendered."""
        return self.decoder.supports(grid)

    def normalise(self, rgb: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> the encoder's input."""
        return (rgb - self.mean.view(3, 1, 1)) / self.std.view(3, 1, 1)

    def denormalise(self, colours: Tensor) -> Tensor:
        """(..., 3), the decoder's output -> RGB, nominally in [0, 1], not clamped."""
        return colours * self.std + self.mean

    @property
    def bytes_per_pixel(self) -> int:
        """The most bytes per LR pixel that are in use at once while a tile is encoded: the encoder's feature maps, or features
        and codes, including 16-bit copies of the codes."""
        codes = self.decoder.prepare_bytes(torch.float32) + self.decoder.bytes_per_code(torch.bfloat16)
        return max(4 * self.encoder.live_channels, 4 * self.encoder.out_channels + codes)

    @property
    def code_bytes(self) -> int:
        """Bytes per LR pixel of a field in float32."""
        return self.decoder.bytes_per_code(torch.float32)

    def scratch_bytes(self, chunk: int | None = None) -> int:
        """The most bytes that rendering needs in addition to its result. chunk: output pixels per chunk."""
        return self.decoder.scratch_bytes(chunk)

    def encode(
        self,
        image: Tensor,
        origin: tuple[int, int] = (0, 0),
        size: tuple[int, int] | None = None,
        dtype: torch.dtype | None = None,
    ) -> Any:
        """Image (B, 3, h, w) in [0, 1], a tile at `origin` (y, x) of an image of `size` (default: the tile's) -> its field.

        dtype: of the decoder's computations (default: the model's own). With 16 bits, the encoder's layers after the first and
        the codes are also computed in 16 bits if that is fast and does not overflow.
        """
        # `contiguous` would not copy a single image with the strides of a rotated array, which oneDNN does not accept.
        pixels = self.normalise(image).clone(memory_format=torch.channels_last)
        return self.decoder.prepare(self._features(pixels, dtype), pixels, origin, size, dtype)

    def _features(self, pixels: Tensor, dtype: torch.dtype | None) -> Tensor:
        keep_freed()
        features: Tensor
        half = self._half(dtype, pixels.device.type)
        if half:
            with torch.autocast(pixels.device.type, half, cache_enabled=False):
                features = self.encoder.deep(self._shallow(pixels)).to(half)
            if all_finite(features):
                return features
        features = self.encoder.deep(self._shallow(pixels))
        return features

    def _shallow(self, pixels: Tensor) -> Tensor:
        """The encoder's first layers. Callers must not keep a reference, so that `deep` can free the memory."""
        with torch.autocast(pixels.device.type, enabled=False):
            return self.encoder.shallow(pixels)

    def _half(self, dtype: torch.dtype | None, kind: str) -> torch.dtype | None:
        """The encoder's 16-bit dtype on a `kind` of device if the decoder computes in `dtype`; None for float32.

        Of the encoder's safe dtypes: fp16 if it is fast, otherwise bf16 if `dtype` is bf16 and it is fast.
        """
        if dtype not in (torch.bfloat16, torch.float16):
            return None
        safe, gpu, cpu = self.encoder.safe_dtypes, kind == "cuda", kind == "cpu"
        if torch.float16 in safe and (gpu or (cpu and fast_fp16_cpu())):
            return torch.float16
        if dtype == torch.bfloat16 and torch.bfloat16 in safe and (gpu or (cpu and fast_bf16_cpu())):
            return torch.bfloat16
        return None

    def query(self, field: Any, position: Tensor, cell: Tensor) -> Tensor:
        """RGB (B, Q, 3), not clamped, at positions (B, Q, 2) float64 with cells (B, Q, 2), both in LR pixels, (y, x)."""
        return self.denormalise(self.decoder.query(field, position, cell))

    def bind(self, field: Any, rows: Axis, columns: Axis) -> Any:
        """The field bound to the cell of the two axes, once per tile and output; it renders these axes and any parts of
        them."""
        return self.decoder.bind(field, (rows.cell, columns.cell))

    def render(self, field: Any, rows: Axis, columns: Axis, chunk: int | None = None) -> Tensor:
        """RGB (B, len(rows), len(columns), 3) float32, not clamped, of a regular grid.

        field: from `bind`. chunk: pixels per chunk (None: the decoder's choice); colours do not depend on it.
        """
        colours = self.decoder.render(field, rows, columns, chunk)
        lines = colours.flatten(2)  # torch is slow if the last axis has only 3 values
        std, mean = (values.repeat(len(columns)) for values in (self.std, self.mean))
        return torch.addcmul(mean, lines, std, out=lines).view(colours.shape)

    def forward(self, image: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
        """RGB (B, Q, 3), not clamped, of images (B, 3, h, w) in [0, 1] at coords (B, Q, 2) in [-1, 1] with cells (B, Q, 2).

        The interface of the paper: cells are in coords too, so a pixel of an H x W output has the cell (2 / H, 2 / W).
        """
        size = torch.tensor(image.shape[2:], dtype=torch.float64, device=image.device)
        position = (coord.double() + 1) * size / 2 - 0.5
        return self.query(self.encode(image), position, cell.double() * size / 2)

    def export(self) -> dict[str, Tensor]:
        """Parameters by the authors' names: `encoder.*` (without this prefix if the decoder is an up-sampling module), and
        those of the decoder without `decoder.` (`imnet.*`)."""
        return {self._exported(name): tensor for name, tensor in self.state_dict().items()}

    def completed(self, other: "SRModel") -> dict[str, Tensor]:
        """The parameters, by the authors' names, with which this model computes the same as `other`.

        `other` must have the same architecture, or fewer blocks if the encoder can be deepened; otherwise, `load` refuses the
        result.
        """
        parts = {
            "encoder": self.encoder.completed(other.encoder.state_dict()),
            "decoder": other.decoder.state_dict(),
        }
        return {self._exported(f"{part}.{name}"): each for part, state in parts.items() for name, each in state.items()}

    def _exported(self, name: str) -> str:
        """The authors' name of the parameter `name` of `state_dict`."""
        if name.startswith("encoder."):
            return self.decoder.encoder_prefix + name.removeprefix("encoder.")
        return name.removeprefix("decoder.")

    def load(self, tensors: Mapping[str, Tensor], *, assign: bool = False) -> None:
        """Load parameters by the authors' names, all or none. assign: keep the tensors themselves instead of copies.

        Raises `CheckpointError` if a name is missing or unknown, or if a shape or a value (NaN, inf) is wrong.
        """
        own = self.export()
        _check_names(set(own), set(tensors))
        for name, tensor in tensors.items():
            if tensor.shape != own[name].shape:
                raise CheckpointError(
                    f"tensor {name} has the shape {_shape(tensor)}, but its config needs {_shape(own[name])}"
                )
            if not tensor.is_meta and not all_finite(tensor):
                raise CheckpointError(f"tensor {name} has NaN or infinite values")
        self.load_state_dict({name: tensors[self._exported(name)] for name in self.state_dict()}, assign=assign)


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _check_names(own: set[str], given: set[str]) -> None:
    for names, what in ((own - given, "lacks"), (given - own, "has the unknown")):
        if names:
            others = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise CheckpointError(f"the checkpoint {what} tensor {min(names)}{others}")

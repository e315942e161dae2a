"""The contract of encoders and decoders: their methods, and the facts that they declare.

Rendering, planning and training use only these interfaces, never a concrete class or its internals. A new encoder or decoder is
one file, with its config, and one line in `registry`; `tests/models/test_battery.py` covers all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from liif_cli.coords import Axis, Grid
from liif_cli.models.finite import all_finite
from liif_cli.models.schema import PartConfig

CHUNK = 65536  # queries per call in `render_by_query`


@dataclass(frozen=True)
class Field:
    """The data of a tile that queries read; a decoder may extend it.

    codes: one latent code per LR pixel of the tile, (B, h, w, D) unless the decoder lays them out otherwise. origin: (y, x) of
    the tile's first code in the whole image. size: (height, width) of the whole image, not of the tile; queries clamp to it.
    """

    codes: Tensor
    origin: tuple[int, int]
    size: tuple[int, int]

    @property
    def extent(self) -> tuple[int, int]:
        """(height, width) of the tile in latent codes."""
        return self.codes.shape[1], self.codes.shape[2]

    @property
    def latent(self) -> Tensor:
        """The codes as (B, h, w, D)."""
        return self.codes

    @property
    def bytes(self) -> int:
        """The bytes of its tensors."""
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, Tensor))

    def is_finite(self) -> bool:
        """Whether all values that queries read are finite."""
        return all_finite(self.codes)


class Part(nn.Module):
    """An encoder or a decoder.

    Config: the class of its config, whose fields are the constructor's arguments. tiny: a config for tests, which has every
    part of a real one but only a few thousand parameters.
    """

    Config: ClassVar[type[PartConfig]]
    tiny: ClassVar[PartConfig]

    @classmethod
    def build(cls, config: PartConfig, *arguments: Any) -> Self:
        """The network of `config`, with random parameters."""
        return cls(*arguments, **{key: value for key, value in vars(config).items() if key != "name"})


class Encoder(Part):
    """Normalised image (B, 3, H, W) -> features (B, out_channels, H, W), at the image's resolution.

    receptive_radius: the largest distance in pixels at which an input pixel can affect an output pixel; None if it reads the
    whole image, which is then never cut into tiles. alignment: tiles begin at multiples of this number of pixels (windowed
    attention). live_channels: the most values per pixel that are in memory at once. safe_dtypes: the 16-bit types in which
    `deep` was measured to be accurate enough.
    """

    out_channels: int
    receptive_radius: int | None
    alignment: int = 1
    live_channels: int
    safe_dtypes: frozenset[torch.dtype] = frozenset()

    def completed(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Extend the state of a shallower network of this kind to a state of this network that computes the same.

        tensors: by parameter name. The state of an equally deep network is returned unchanged, and so is any state if this
        encoder cannot be deepened.
        """
        return dict(tensors)

    def shallow(self, image: Tensor) -> Tensor:
        """The layers that are always computed in float32; default: none."""
        return image

    def deep(self, shallow: Tensor) -> Tensor:
        """Features from the result of `shallow`; in 16 bits under torch's autocast."""
        raise NotImplementedError

    def forward(self, image: Tensor) -> Tensor:
        """Features from an image: `shallow`, then `deep`."""
        return self.deep(self.shallow(image))


class Decoder(Part):
    """Features -> a field; a field -> colours. Queries are independent, so chunking does not change the colours.

    The constructor's first argument is the number of feature channels. halo: the number of codes that a query reads below its
    lower code and above the next one. scales: the range of scales in training. dtypes: the types in which it can compute.
    whole_patches: whether `patches` is cheap enough for training on all pixels of a patch. encoder_prefix: the prefix of the
    encoder's parameter names in files.
    """

    halo: int
    scales: tuple[float, float] = (1.0, 4.0)
    dtypes: frozenset[torch.dtype] = frozenset({torch.float32, torch.bfloat16, torch.float16})
    whole_patches: bool = False
    encoder_prefix: str = "encoder."

    def prepare(
        self,
        features: Tensor,
        image: Tensor,
        origin: tuple[int, int] = (0, 0),
        size: tuple[int, int] | None = None,
        dtype: torch.dtype | None = None,
    ) -> Field:
        """Compute the field of a tile, once per tile.

        features: (B, C, h, w). image: (B, 3, h, w), normalised. origin: (y, x) of the tile in the whole image. size: (height,
        width) of the whole image; default: the tile's. dtype: the type to compute in; default: that of the features.
        """
        raise NotImplementedError

    def bind(self, field: Any, cell: tuple[float, float]) -> Any:
        """Prepare a field for pixels with this cell, (y, x) in LR pixels, once per tile and output; `render` takes the
        result."""
        return field

    def query(self, field: Any, position: Tensor, cell: Tensor) -> Tensor:
        """Colours at any positions, with gradients, also for `position` and `cell`.

        position: (B, Q, 2) float64, (y, x) in LR pixels of the whole image (code i lies at i). cell: (B, Q, 2) in LR pixels;
        for a bound field, its own cell. Returns (B, Q, 3), normalised, not clamped.
        """
        raise NotImplementedError

    def render(self, field: Any, rows: Axis, columns: Axis, queries: int | None = None) -> Tensor:
        """Colours of a regular grid, (B, len(rows), len(columns), 3) float32, normalised, not clamped, equal to `query`.

        field: bound to the grid's cell. queries: pixels per chunk (None: the decoder's choice); colours do not depend on it. No
        gradients. Override it only for speed.
        """
        return render_by_query(self, field, rows, columns, queries)

    def patches(self, field: Any, side: Tensor, largest: int) -> Tensor:
        """All pixels of square outputs with `side` (B,) pixels per side over whole square images, with gradients.

        Returns (B, largest, largest, 3), normalised; zero outside each output.
        """
        index, height = torch.arange(largest, device=side.device), field.extent[0]
        axis = ((2 * index + 1) * height).double() / (2 * side).unsqueeze(1) - 0.5  # (B, largest)
        position = torch.stack(
            [axis.unsqueeze(2).expand(-1, -1, largest), axis.unsqueeze(1).expand(-1, largest, -1)], -1
        )
        cell = (height / side.double()).view(-1, 1, 1).expand(-1, largest**2, 2)
        colours = self.query(field, position.flatten(1, 2), cell).view(len(side), largest, largest, -1)
        inside = index < side.unsqueeze(1)
        return colours * (inside.unsqueeze(2) & inside.unsqueeze(1)).unsqueeze(-1)

    def supports(self, grid: Grid) -> str | None:
        """None, or the reason why this grid cannot be rendered, as a clause: "it renders only ×2"."""
        return None

    def bytes_per_code(self, dtype: torch.dtype) -> int:
        """Bytes per LR pixel of a field computed in `dtype`."""
        raise NotImplementedError

    def prepare_bytes(self, dtype: torch.dtype) -> int:
        """The most bytes per LR pixel that `prepare` needs besides the features, including its field; default: the field."""
        return self.bytes_per_code(dtype)

    def scratch_bytes(self, queries: int | None = None) -> int:
        """The most bytes that `render` needs besides its result and the field."""
        raise NotImplementedError


@torch.no_grad()
def render_by_query(decoder: Decoder, field: Any, rows: Axis, columns: Axis, queries: int | None = None) -> Tensor:
    """`Decoder.render` for any decoder: calls its `query` in chunks of `queries` pixels."""
    device = field.codes.device
    y, x = (torch.from_numpy(axis.positions()).to(device) for axis in (rows, columns))
    cell = torch.tensor([rows.cell, columns.cell], dtype=torch.float64, device=device)
    batch, total = len(field.codes), len(rows) * len(columns)
    out = torch.empty(batch, total, 3, device=device)
    for start in range(0, total, queries or CHUNK):
        index = torch.arange(start, min(start + (queries or CHUNK), total), device=device)
        position = torch.stack([y[index // len(columns)], x[index % len(columns)]], -1).expand(batch, -1, -1)
        out[:, index] = decoder.query(field, position, cell.expand_as(position)).float()
    return out.view(batch, len(rows), len(columns), 3)

"""What encoders and decoders give to each other."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Field:
    """What queries read: the first layer's share of each latent code of a tile.

    codes: (B, h, w, width of the first layer). origin: (y, x) of the tile's first code in the whole image. size: (height,
    width) of the whole image, to which codes are clamped; it is the image's, never the tile's.
    """

    codes: Tensor
    origin: tuple[int, int]
    size: tuple[int, int]

    @property
    def extent(self) -> tuple[int, int]:
        """(height, width) of the tile in latent codes."""
        return self.codes.shape[1], self.codes.shape[2]

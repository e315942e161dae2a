"""Size-varied ground truths (paper, section 5.3): whole square images at LxL, and truths of many sizes up to HxH."""

from typing import cast

import numpy as np
from numpy.typing import NDArray

from liif_cli.images.resize import resample
from liif_cli.training.pairs import Pairs, Pixels, turn
from liif_cli.training.sources import Pictures


class Squares(Pairs):
    """Pairs of whole images: the input is always L pixels per side, the truth of image i of n has L + (H - L) i / (n - 1).

    sides: (L, H). resized: every truth is then resized to H, as up-sampling modules need it; what it lost stays lost. Images
    are the central squares of what the folders hold, reduced by Pillow's bicubic. Augmentation is left-right flips alone.
    """

    crops = False

    def __init__(
        self,
        pictures: Pictures,
        sides: tuple[int, int],
        queries: int,
        augment: bool = True,
        seed: int = 0,
        resized: bool = False,
    ) -> None:
        super().__init__(pictures, sides[0], (1.0, sides[1] / sides[0]), queries, augment, seed=seed)
        self.sides, self.resized = sides, resized

    def side(self, picture: int) -> int:
        """Pixels per side of the truth of a picture, by its place among all."""
        low, high = self.sides
        return round(low + (high - low) * picture / (len(self.pictures) - 1)) if len(self.pictures) > 1 else high

    def images(self, picture: int) -> tuple[Pixels, Pixels]:
        """Input (L, L, 3) and truth of a picture."""
        pixels = self.pictures[picture]
        side = min(pixels.shape[:2])
        top, left = ((n - side) // 2 for n in pixels.shape[:2])
        square = pixels[top : top + side, left : left + side]
        truth = _shrunk(square, self.side(picture))
        return _shrunk(square, self.sides[0]), _shrunk(truth, self.sides[1]) if self.resized else truth

    def pair(self, number: int) -> tuple[Pixels, Pixels, NDArray[np.int64], int]:
        """See `Pairs`."""
        low, truth, rng = self._flipped(number)
        index = rng.choice(len(truth) ** 2, self.queries, replace=False, shuffle=False)
        return low, truth.reshape(-1, 3)[index], index, len(truth)

    def whole(self, number: int) -> tuple[Pixels, Pixels, int]:
        """See `Pairs`."""
        low, truth, _ = self._flipped(number)
        canvas = np.zeros((self.largest, self.largest, 3), np.uint8)
        canvas[: len(truth), : len(truth)] = truth
        return low, canvas, len(truth)

    def _flipped(self, number: int) -> tuple[Pixels, Pixels, np.random.Generator]:
        draw, rng = self.draw(number)
        low, truth = (turn(image, (False, draw.flips[1], False)) for image in self.images(draw.picture))
        return low, truth, rng


def _shrunk(square: Pixels, side: int) -> Pixels:
    return square if len(square) == side else cast(Pixels, resample(np.ascontiguousarray(square), side, side))

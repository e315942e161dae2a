"""Size-varied ground truths (paper, section 5.3): whole square LR images of LxL pixels, HR images of sizes up to HxH."""

from typing import cast

import numpy as np
from numpy.typing import NDArray

from liif_cli.images.resize import resample
from liif_cli.training.pairs import Pairs, Pixels, turn
from liif_cli.training.sources import ImageFolders


class Squares(Pairs):
    """Pairs of whole images. LR always has L pixels per side; HR of image i of n has L + (H - L) i / (n - 1).

    sides: (L, H). resized: HR is then resized to H pixels per side, because up-sampling modules need one size; this adds no
    detail. Each image is cropped to its central square and downsampled with Pillow's bicubic filter. Augmentation consists of
    left-right flips only.
    """

    crops = False

    def __init__(
        self,
        images: ImageFolders,
        sides: tuple[int, int],
        queries: int,
        augment: bool = True,
        seed: int = 0,
        resized: bool = False,
    ) -> None:
        super().__init__(images, sides[0], (1.0, sides[1] / sides[0]), queries, augment, seed=seed)
        self.sides, self.resized = sides, resized

    def side(self, image: int) -> int:
        """Pixels per side of HR for the image with this index."""
        low, high = self.sides
        return round(low + (high - low) * image / (len(self.images) - 1)) if len(self.images) > 1 else high

    def square(self, image: int) -> tuple[Pixels, Pixels]:
        """LR (L, L, 3) and HR of the image with this index."""
        pixels = self.images[image]
        side = min(pixels.shape[:2])
        top, left = ((n - side) // 2 for n in pixels.shape[:2])
        square = pixels[top : top + side, left : left + side]
        hr = _shrunk(square, self.side(image))
        return _shrunk(square, self.sides[0]), _shrunk(hr, self.sides[1]) if self.resized else hr

    def pair(self, number: int) -> tuple[Pixels, Pixels, NDArray[np.int64], int]:
        """See `Pairs`."""
        lr, hr, rng = self._flipped(number)
        index = rng.choice(len(hr) ** 2, self.queries, replace=False, shuffle=False)
        return lr, hr.reshape(-1, 3)[index], index, len(hr)

    def whole(self, number: int) -> tuple[Pixels, Pixels, int]:
        """See `Pairs`."""
        lr, hr, _ = self._flipped(number)
        canvas = np.zeros((self.largest, self.largest, 3), np.uint8)
        canvas[: len(hr), : len(hr)] = hr
        return lr, canvas, len(hr)

    def _flipped(self, number: int) -> tuple[Pixels, Pixels, np.random.Generator]:
        draw, rng = self.draw(number)
        lr, hr = (turn(pixels, (False, draw.flips[1], False)) for pixels in self.square(draw.image))
        return lr, hr, rng


def _shrunk(square: Pixels, side: int) -> Pixels:
    return square if len(square) == side else cast(Pixels, resample(np.ascontiguousarray(square), side, side))

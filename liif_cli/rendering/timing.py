"""Plans and times of one image, for progress, `-v` and benchmarks."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from liif_cli.rendering.plan import Plan

FIRST = 2**16  # output pixels to decode before the speed is known
PACE = 0.5  # seconds between two progress updates


@dataclass
class RenderStats:
    """Plans and times, updated during rendering.

    plans: one per group of grids. tiles: the number of encoded tiles. encode, decode: seconds. encoded: the input pixels,
    with halos, of `encode`. decoded: the output pixels of `decode`. Both count a pixel once per field. begun: when the encoding
    of the current tile began (`time.perf_counter`), None between tiles.
    """

    plans: list[Plan] = field(default_factory=list)
    tiles: int = 0
    encode: float = 0.0
    decode: float = 0.0
    encoded: int = 0
    decoded: int = 0
    begun: float | None = None

    @property
    def planned(self) -> int:
        """The number of planned tiles; more are encoded if memory runs out."""
        return sum(plan.count for plan in self.plans)

    def band(self, most: int, fields: int = 1) -> int:
        """The number of output pixels to decode at once: at most `most`, and few enough for regular progress updates.

        fields: the number of fields from which each pixel is computed.
        """
        if not self.decode:
            return min(FIRST, most)
        return min(most, max(FIRST // 64, int(PACE * self.decoded / self.decode / fields)))

    @contextmanager
    def encoding(self) -> Iterator[None]:
        """Counts the time of a block as encoding one tile."""
        self.begun = started = time.perf_counter()
        yield
        self.encode += time.perf_counter() - started
        self.tiles, self.begun = self.tiles + 1, None

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """Counts the time of a block as decoding."""
        started = time.perf_counter()
        yield
        self.decode += time.perf_counter() - started

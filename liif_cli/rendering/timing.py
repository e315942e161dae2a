"""Plans and times of one image, for progress, `-v` and benchmarks."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from liif_cli.rendering.plan import Plan

FIRST = 2**16  # output pixels to decode before the speed is known
PACE = 0.5  # seconds between two progress updates


@dataclass
class Tally:
    """plans: one per group of grids. tiles: the number of encoded tiles. encode, decode: seconds. encoded, decoded: the pixels
    of these seconds, of the input with halos and of the output, once for each field. begun: when the tile that is being encoded
    was begun, None in between."""

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
        """Output pixels to decode at once, `most` or so few that progress is seen; each is computed once for every field."""
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

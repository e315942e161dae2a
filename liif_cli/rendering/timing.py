"""Plans and times of one image, for progress, `-v` and benchmarks."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from liif_cli.rendering.plan import Plan


@dataclass
class Tally:
    """plans: one per group of grids. tiles: the number of encoded tiles. encode, decode: seconds."""

    plans: list[Plan] = field(default_factory=list)
    tiles: int = 0
    encode: float = 0.0
    decode: float = 0.0

    @property
    def planned(self) -> int:
        """The number of planned tiles; more are encoded if memory runs out."""
        return sum(plan.count for plan in self.plans)

    @contextmanager
    def encoding(self) -> Iterator[None]:
        """Counts the time of a block as encoding one tile."""
        started = time.perf_counter()
        yield
        self.encode += time.perf_counter() - started
        self.tiles += 1

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """Counts the time of a block as decoding."""
        started = time.perf_counter()
        yield
        self.decode += time.perf_counter() - started

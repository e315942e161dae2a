"""What was planned for a picture and how long its parts took: for progress, `-v` and benchmarks."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from liif_cli.rendering.plan import Plan


@dataclass
class Tally:
    """plans: how the picture was cut, one for each group of grids. tiles: that were encoded. encode, decode: seconds."""

    plans: list[Plan] = field(default_factory=list)
    tiles: int = 0
    encode: float = 0.0
    decode: float = 0.0

    @property
    def planned(self) -> int:
        """Tiles that the plans have; more may be encoded where memory ran short."""
        return sum(plan.count for plan in self.plans)

    @contextmanager
    def encoding(self) -> Iterator[None]:
        """The time of its block is encoding, of one tile."""
        started = time.perf_counter()
        yield
        self.encode += time.perf_counter() - started
        self.tiles += 1

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """The time of its block is decoding."""
        started = time.perf_counter()
        yield
        self.decode += time.perf_counter() - started

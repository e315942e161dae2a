"""Scores methods on a benchmark."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liif_cli.evaluation.benchmarks import Benchmark
from liif_cli.evaluation.methods import Method
from liif_cli.evaluation.protocols import LowFrom, Pair, Protocol, protocol_named
from liif_cli.evaluation.scores import Row, Score
from liif_cli.images.degrade import CLEAN, Degradation


@dataclass(frozen=True)
class Shown:
    """One measured result: the method, its output (H, W, 3) float, the pair it was made from, and its score.

    degraded: how the LR image was degraded, "" if it was not.
    """

    dataset: str
    image: Path
    scale: float
    method: str
    pair: Pair
    result: NDArray[np.floating[Any]]
    score: Score
    degraded: str = ""


Key = tuple[int, float, str]
"""Index of the image, scale and method."""


def evaluate(
    methods: Sequence[Method],
    dataset: Benchmark,
    scales: Sequence[float] | None = None,
    protocol: Protocol | None = None,
    *,
    low_from: LowFrom | None = None,
    degradation: Degradation = CLEAN,
    on_result: Callable[[Shown], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Row]:
    """Score `methods` on every image of `dataset` at each of `scales` by `protocol` (defaults: those of the set).

    low_from: overrides how the protocol makes LR images; the rows are then not `standard`. degradation: applied to the LR
    images, with seeds derived from the file names; such rows are not `standard` either. on_result: called with every result.
    progress: called with (done, total). In an initialised `torch.distributed` group, every process measures its share of the
    images, and all return the same rows. Raises InputError for images that cannot be read.
    """
    protocol = protocol or protocol_named(dataset.protocol)
    run = _Run(methods, dataset, tuple(scales or dataset.scales), protocol, low_from, degradation, on_result)
    rank, size = _rank_and_size()
    mine = range(rank, len(dataset.images), size)
    found: dict[Key, Score] = {}
    for done, index in enumerate(mine):
        if progress:
            progress(done, len(mine))
        found |= run.score_image(index)
    if progress:
        progress(len(mine), len(mine))
    return run.rows(_gather(found))


@dataclass(frozen=True)
class _Run:
    methods: Sequence[Method]
    dataset: Benchmark
    scales: tuple[float, ...]
    protocol: Protocol
    low_from: LowFrom | None
    degradation: Degradation
    on_result: Callable[[Shown], None] | None

    def score_image(self, index: int) -> dict[Key, Score]:
        """The scores of one image."""
        image = self.dataset.images[index]
        high = self.dataset.high_image(image)
        found: dict[Key, Score] = {}
        for scale in self.scales:
            if not self.protocol.takes(high.shape[0], high.shape[1], scale):
                continue
            pair = self._pair(image, high, scale)
            for method in self.methods:
                if method.takes(scale):
                    found[index, scale, method.name] = self._score(image, scale, pair, method)
        return found

    def _standard_source(self, scale: float) -> LowFrom:
        """How LR images of this set are made by default."""
        return "files" if self.dataset.sides else self.protocol.low_from(scale)

    def _pair(self, image: Path, high: NDArray[np.uint8], scale: float) -> Pair:
        source = self.low_from or self._standard_source(scale)
        low = self.dataset.low_image(image, scale) if source == "files" else None
        pair = self.protocol.pair(high, scale, source, low)
        return replace(pair, low=self.degradation.apply(pair.low, image.name))

    def _score(self, image: Path, scale: float, pair: Pair, method: Method) -> Score:
        start = time.perf_counter()
        result = method.upscale(pair.low, pair.high.shape[0], pair.high.shape[1])
        seconds = time.perf_counter() - start
        score = Score(image.name, *self.protocol.score(result, pair.high, scale), seconds)
        if self.on_result:
            degraded = self.degradation.label
            self.on_result(Shown(self.dataset.name, image, scale, method.name, pair, result, score, degraded))
        return score

    def rows(self, found: dict[Key, Score]) -> list[Row]:
        """A row per scale and method that supports it, in the requested order."""
        rows = []
        for scale in self.scales:
            for method in self.methods:
                if method.takes(scale):
                    keys = ((index, scale, method.name) for index in range(len(self.dataset.images)))
                    scores = tuple(found[key] for key in keys if key in found)
                    rows.append(self._row(scale, method, scores))
        return rows

    def _row(self, scale: float, method: Method, scores: tuple[Score, ...]) -> Row:
        degraded = self.degradation.label
        standard = self.low_from in (None, self._standard_source(scale)) and not degraded
        return Row(self.dataset.name, scale, method.name, self.protocol.name, standard, scores, degraded)


def _rank_and_size() -> tuple[int, int]:
    """This process's rank and the number of processes."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def _gather(found: dict[Key, Score]) -> dict[Key, Score]:
    """The scores of all processes."""
    from torch import distributed

    if _rank_and_size()[1] == 1:
        return found
    parts: list[Any] = [None] * _rank_and_size()[1]
    distributed.all_gather_object(parts, found)
    return {key: score for part in parts for key, score in part.items()}

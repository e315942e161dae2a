"""An image with cached encodings: any region at any scale, and the colours at any positions.

Its tiles are fixed, so results depend neither on earlier calls nor on the number of threads.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from liif_cli.coords import Grid
from liif_cli.errors import OutOfMemory
from liif_cli.machine.devices import exact_float32, free_memory
from liif_cli.machine.memory import format_bytes, give_back
from liif_cli.rendering.channels import network_input
from liif_cli.rendering.encoded import Encoding, to_tensor
from liif_cli.rendering.plan import SMALLEST, Plan, check_supported, tile_bytes
from liif_cli.rendering.renderer import Renderer
from liif_cli.rendering.rows import Store, render_rows
from liif_cli.rendering.tiles import Tile

Pixels = NDArray[Any]
SIDE = 512  # LR pixels per side of a tile: larger tiles would encode more than a small region needs
HALOS = 4  # the minimum side of a tile, in halos: smaller tiles would encode mostly their surroundings
KEPT_SHARE = 0.25  # the share of free memory for cached encodings


class Cache:
    """Encodings by tile. Beyond `limit` bytes, the least recently used are dropped. Several threads may use it at once."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._lock = Lock()
        self._kept: OrderedDict[Tile, Future[Encoding | None]] = OrderedDict()

    def get(self, tile: Tile, make: Callable[[], Encoding | None]) -> Encoding | None:
        """The tile's encoding. If it is not cached, `make` is called, once even if several threads need it.

        None if memory ran out. Raises the exceptions of `make`.
        """
        with self._lock:
            future = self._kept.get(tile)
            ours = future is None
            if future is None:
                future = self._kept[tile] = Future()
            self._kept.move_to_end(tile)
        if ours:
            self._make(tile, future, make)
        return future.result()

    def _make(self, tile: Tile, future: "Future[Encoding | None]", make: Callable[[], Encoding | None]) -> None:
        try:
            encoding = make()
        except BaseException as error:
            self._drop([tile])
            future.set_exception(error)
            return
        future.set_result(encoding)
        self._drop(self._excess() if encoding else self._all())

    def _all(self) -> list[Tile]:
        with self._lock:
            return list(self._kept)

    def _excess(self) -> list[Tile]:
        """The tiles to drop, the least recently used first."""
        with self._lock:
            done = [(tile, future.result()) for tile, future in self._kept.items() if _succeeded(future)]
        total, dropped = self.bytes, []
        for tile, encoding in done:
            if total <= self.limit:
                break
            total -= encoding.bytes if encoding else 0
            dropped.append(tile)
        return dropped

    def _drop(self, tiles: Sequence[Tile]) -> None:
        with self._lock:
            for tile in tiles:
                self._kept.pop(tile, None)

    @property
    def bytes(self) -> int:
        """Bytes of all cached encodings."""
        with self._lock:
            found = [future.result() for future in self._kept.values() if _succeeded(future)]
        return sum(encoding.bytes for encoding in found if encoding)


def _succeeded(future: "Future[Encoding | None]") -> bool:
    return future.done() and future.exception() is None


@dataclass(frozen=True)
class Selection(Plan):
    """A plan without the tiles that have no pixel of the grids."""

    grids: tuple[Grid, ...] = ()

    def tiles(self) -> Iterator[Tile]:
        """The tiles, row by row."""
        for tile in super().tiles():
            if any(all(tile.part_of(grid, self.whole).shape) for grid in self.grids):
                yield tile

    @property
    def count(self) -> int:
        """The number of tiles."""
        return sum(1 for _ in self.tiles())


@dataclass
class CachedRenderer(Renderer):
    """A renderer of one image with fixed tiles, whose encodings are cached.

    size: (height, width) of the image; images of another size are rendered without the cache.
    """

    size: tuple[int, int] = (0, 0)
    fixed: Plan | None = None
    cache: Cache | None = None

    def plan(self, size: tuple[int, int], grids: Sequence[Grid], sample_bytes: int, **options: Any) -> Plan:
        """See `Renderer.plan`; for the image itself, those of the fixed tiles that the grids need."""
        if self.fixed is None or size != self.size:
            return super().plan(size, grids, sample_bytes, **options)
        check_supported(self.model, grids)
        return Selection(self.fixed.whole, self.fixed.side, self.fixed.peak, (), tuple(grids))

    def _encode(self, image: Pixels, tile: Tile) -> Encoding | None:
        if self.cache is None or (image.shape[0], image.shape[1]) != self.size:
            return super()._encode(image, tile)
        return self.cache.get(tile, lambda: self._encode_and_tidy(image, tile))

    def _encode_and_tidy(self, image: Pixels, tile: Tile) -> Encoding | None:
        encoding = super()._encode(image, tile)
        give_back()
        return encoding

    def _tidy(self) -> None:
        """Does nothing: encodings are cached, and returning memory after every view takes longer than rendering it."""


@dataclass
class Canvas:
    """An image and a model, with cached encodings.

    pixels: (H, W, C), as for `render_rows`. choices: a renderer with the model and its options. kept: bytes of encodings to
    cache; None: a quarter of the free memory; 0: none, and each output has its own tiles.
    """

    pixels: Pixels
    choices: Renderer
    kept: int | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)"""
        return self.pixels.shape[0], self.pixels.shape[1]

    def __post_init__(self) -> None:
        free = free_memory(self.choices.device)
        self.cache = Cache(int(free * KEPT_SHARE) if self.kept is None else self.kept)
        self.fixed = self._tiles(free // 2)

    @cached_property
    def source(self) -> Pixels:
        """The network's input, (H, W, 3 or 4)."""
        return network_input(self.pixels)

    def _tiles(self, budget: int) -> Plan:
        """The fixed tiles: the largest that need at most `budget` bytes, otherwise the smallest."""
        model, (height, width) = self.choices.model, self.size
        whole, halo = Tile(0, height, 0, width), model.halo
        side = max(self.size) if halo is None else min(max(SIDE, HALOS * halo), max(self.size))
        turns = 2 * len(self.choices.turns)
        while halo is not None and side > SMALLEST and tile_bytes(model, self.size, whole, side, turns) > budget:
            side = max(SMALLEST, side * 7 // 8)
        return Plan(whole, side, tile_bytes(model, self.size, whole, side, turns))

    def renderer(self) -> Renderer:
        """A renderer for one call, with its own notes."""
        own = self.choices
        arguments = (own.model, own.device, own.precision, own.self_ensemble, own.chunk)
        if self.kept == 0:
            return Renderer(*arguments)
        return CachedRenderer(*arguments, size=self.size, fixed=self.fixed, cache=self.cache)

    def render(self, grid: Grid, store: Store | None = None) -> tuple[Pixels, tuple[str, ...]]:
        """The pixels of a grid, (h, w, C), and notes for the user. store: see `render_rows`.

        Raises `UsageError` if the model does not support the grid, `OutOfMemory` and `DeviceError`.
        """
        renderer = self.renderer()
        rows = render_rows(renderer, self.pixels, [grid], stores=[store] if store else ())
        return np.concatenate([part for _, part in rows]), tuple(renderer.notes)

    def _encodings(self) -> Iterator[tuple[Tile, Encoding]]:
        """All tiles, encoded. Raises `OutOfMemory`."""
        renderer = CachedRenderer(
            *(self.choices.model, self.choices.device, self.choices.precision),
            size=self.size,
            fixed=self.fixed,
            cache=self.cache,
        )
        for tile in self.fixed.tiles():
            yield tile, self._encoding(renderer, tile)

    def _encoding(self, renderer: Renderer, tile: Tile) -> Encoding:
        encoding = renderer._encode(self.source, tile)
        if encoding is None:
            raise OutOfMemory("cannot encode the image: out of memory", hint="close other programs, or use the CPU")
        return encoding

    def latent(self) -> Tensor:
        """The latent codes, (H, W, D) float32 on the CPU. Raises `OutOfMemory` if they do not fit."""
        out: Tensor | None = None
        for tile, encoding in self._encodings():
            field, window = encoding.fields[0], encoding.window
            codes = field.latent[0]
            if out is None:
                out = self._room(codes.shape[-1])
            top, left = tile.top - window.top, tile.left - window.left
            out[tile.top : tile.bottom, tile.left : tile.right] = codes[
                top : top + tile.height, left : left + tile.width
            ].float()
        assert out is not None
        return out

    def _room(self, depth: int) -> Tensor:
        needed = 4 * depth * self.size[0] * self.size[1]
        if needed > free_memory(torch.device("cpu")):
            raise OutOfMemory(f"cannot return the latent codes: they need {format_bytes(needed)}, more than is free")
        return torch.empty(*self.size, depth)

    def query(self, position: Tensor, cell: Tensor) -> Tensor:
        """RGB (Q, 3) float32 on the CPU, not clamped. position, cell: (Q, 2) float64 in LR pixels, (y, x).

        Raises `OutOfMemory`.
        """
        out = torch.empty(len(position), 3)
        code = position.floor()
        row, column = (code[:, i].clamp(0, self.size[i] - 1) for i in (0, 1))
        renderer, model = self.renderer(), self.choices.model
        for tile in self.fixed.tiles():
            inside = (row >= tile.top) & (row < tile.bottom) & (column >= tile.left) & (column < tile.right)
            if not inside.any():
                continue
            field = self._encoding(renderer, tile).fields[0]
            at, size = (values[inside].unsqueeze(0).to(self.choices.device) for values in (position, cell))
            with exact_float32(self.choices.device), torch.inference_mode():
                out[inside] = model.query(field, at, size)[0].float().cpu()
        return out

    def query_with_gradients(self, position: Tensor, cell: Tensor) -> Tensor:
        """As `query`, but in fp32, on the device of `position`, with gradients with respect to `position`, `cell` and the
        model's parameters, and without the cache."""
        model, low, high = self.choices.model, position.detach().amin(0), position.detach().amax(0)
        edges = [
            (int(low[i].floor().clamp(0, n - 1)), int(high[i].floor().clamp(0, n - 1)) + 1)
            for i, n in enumerate(self.size)
        ]
        window = Tile(*edges[0], *edges[1]).window(model.halo, self.size, model.alignment)
        part = self.source[window.top : window.bottom, window.left : window.right, :3]
        with exact_float32(self.choices.device):
            field = model.encode(to_tensor(part).to(self.choices.device), (window.top, window.left), self.size)
            at, size = (values.to(self.choices.device).unsqueeze(0) for values in (position, cell))
            return model.query(field, at, size)[0].to(position.device, torch.float32)

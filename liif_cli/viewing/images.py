"""The open images: their pixels, their cached encodings by model, and rendering by the network or a filter."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import pyvips
from numpy.typing import NDArray
from PIL import Image

from liif_cli.coords import Axis, Grid
from liif_cli.errors import InputError, OutOfMemory, UsageError
from liif_cli.images import read
from liif_cli.images.levels import as_floats, quantize
from liif_cli.images.picture import Header, Picture
from liif_cli.images.resize import reach
from liif_cli.machine.devices import choose_device
from liif_cli.models.checkpoints import Checkpoint
from liif_cli.models.model import SRModel
from liif_cli.models.restore import between, counterpart, needed_counterpart
from liif_cli.models.store import find
from liif_cli.rendering.canvas import Canvas
from liif_cli.rendering.renderer import Renderer, precision_for
from liif_cli.rendering.sizes import Cell
from liif_cli.rendering.tiles import Tile
from liif_cli.viewing.iiif import Refused
from liif_cli.viewing.large import Windows, shifted, shrinks, windows

Pixels = NDArray[Any]
T = TypeVar("T")
Method = Literal["network", "bicubic", "lanczos"]
METHODS: tuple[Method, ...] = ("network", "bicubic", "lanczos")
PIXELS_SHARE = 0.5  # of the memory, for the pixels of an image


@dataclass(frozen=True)
class Look:
    """How an image is enlarged.

    model: its name. method: the network, or one of Pillow's filters. cell: the cell size passed to the decoder. restore: the
    restoration strength, 0 to 1.
    """

    model: str
    method: Method = "network"
    cell: Cell = field(default_factory=Cell)
    restore: float = 0.0


class Models:
    """The models that clients can choose by name, loaded on first use. Raises the exceptions of `store.find`."""

    def __init__(self, names: list[str], device: str = "auto") -> None:
        self._checkpoints: dict[str, Checkpoint] = {}
        for name in names:
            checkpoint = find(name)
            self._checkpoints[checkpoint.name] = checkpoint
        self._device, self._lock = device, threading.Lock()
        self._loaded: OrderedDict[tuple[str, float], SRModel] = OrderedDict()

    @property
    def names(self) -> list[str]:
        """The names, the default first."""
        return list(self._checkpoints)

    def revision(self, name: str) -> str:
        """Text that changes if the model's file is replaced."""
        stat = self._checkpoints[name].path.stat()
        return f"{stat.st_size}-{stat.st_mtime_ns}"

    def restores(self, name: str) -> bool:
        """Whether the model has a counterpart, so that it can restore."""
        return counterpart(self._checkpoints[name]) is not None

    def load(self, name: str, strength: float = 0.0) -> SRModel:
        """A model on its device, with a restoration strength of 0 to 1.

        Raises `UsageError` if the model cannot restore, and the exceptions of loading.
        """
        with self._lock:
            if (name, strength) not in self._loaded:
                self._loaded[name, strength] = self._load(name, strength)
                if len(self._loaded) > len(self._checkpoints) + 4:  # the page's slider produces many strengths
                    self._loaded.popitem(last=False)
            self._loaded.move_to_end((name, strength))
            return self._loaded[name, strength]

    def _load(self, name: str, strength: float) -> SRModel:
        checkpoint, device = self._checkpoints[name], choose_device(self._device)
        plain = self._loaded.get((name, 0.0)) or checkpoint.load(device)
        return between(plain, needed_counterpart(checkpoint).load(device), strength) if strength else plain

    def renderer(self, look: Look) -> Renderer:
        """A renderer for outputs with 8 bits per sample. Raises as `load`."""
        model = self.load(look.model, look.restore)
        device = next(model.parameters()).device
        return Renderer(model, device, precision_for(model, "auto", device, 8))


class OpenImage:
    """A decoded image, in sRGB, and its encodings by model and strength, each cached up to `kept` bytes."""

    def __init__(self, picture: Picture, kept: int) -> None:
        self.pixels = picture.pixels
        self._kept, self._lock = kept, threading.Lock()
        self._canvases: OrderedDict[tuple[str, float], Canvas] = OrderedDict()

    @property
    def bytes(self) -> int:
        """The bytes of memory that it holds."""
        with self._lock:
            canvases = list(self._canvases.values())
        return self.pixels.nbytes + sum(canvas.cache.bytes for canvas in canvases)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def forget(self) -> None:
        """Drop the encodings of all models except the most recently used one."""
        with self._lock:
            while len(self._canvases) > 1:
                self._canvases.popitem(last=False)

    @cached_property
    def plain(self) -> Pixels:
        """The pixels with 8 bits per sample."""
        return self.pixels if self.pixels.dtype == np.uint8 else quantize(as_floats(self.pixels), np.uint8)

    def render(self, grid: Grid, look: Look, models: Models) -> Pixels:
        """The pixels of a grid, (h, w, C) uint8. Raises `UsageError`, `OutOfMemory`, `DeviceError`."""
        if look.method != "network":
            return filtered(self.plain, grid, look.method)
        pixels, _ = self._canvas(look, models).render(look.cell.over(grid), _eight_bits)
        return pixels

    def _canvas(self, look: Look, models: Models) -> Canvas:
        key = look.model, look.restore
        with self._lock:
            if key not in self._canvases:
                self._canvases[key] = Canvas(self.pixels, models.renderer(look), self._kept)
            self._canvases.move_to_end(key)
            return self._canvases[key]


class LargeImage:
    """An image that does not fit into memory; see `large`."""

    def __init__(self, parts: Windows, kept: int) -> None:
        self._parts, self._kept = parts, kept
        self.size, self.forget = parts.size, parts.forget

    @property
    def bytes(self) -> int:
        """The bytes of memory that it holds."""
        return self._parts.bytes

    def render(self, grid: Grid, look: Look, models: Models) -> Pixels:
        """See `OpenImage.render`."""
        if shrinks(grid):
            return self._parts.shrunk(grid)
        if look.method == "network":
            over, key = look.cell.over(grid), (look.model, look.restore)
            return self._parts.render(over, key, models.renderer(look), self._kept // 4)
        rows, columns = (_window(axis, _edges(axis)) for axis in (grid.rows, grid.columns))
        window = Tile(*rows, *columns)
        return filtered(self._parts.part(window), shifted(grid, window), look.method)


def _eight_bits(rows: NDArray[np.float32]) -> Pixels:
    return quantize(rows, np.uint8)


def filtered(pixels: Pixels, grid: Grid, method: Method) -> Pixels:
    """The pixels of a grid, (h, w, C) uint8, computed with one of Pillow's filters. pixels: (H, W, C) uint8."""
    chosen = Image.Resampling.BICUBIC if method == "bicubic" else Image.Resampling.LANCZOS
    (top, bottom), (left, right) = _edges(grid.rows), _edges(grid.columns)
    rows, columns = (
        _window(axis, edges) for axis, edges in ((grid.rows, (top, bottom)), (grid.columns, (left, right)))
    )
    part = pixels[rows[0] : rows[1], columns[0] : columns[1]]
    image = Image.fromarray(np.ascontiguousarray(part[..., 0] if part.shape[2] == 1 else part))
    box = (left - columns[0], top - rows[0], right - columns[0], bottom - rows[0])
    out = np.asarray(image.resize((len(grid.columns), len(grid.rows)), chosen, box))
    return out[..., None] if out.ndim == 2 else out


def _edges(axis: Axis) -> tuple[float, float]:
    """The (start, end) of the axis' output pixels, in input pixels."""
    begin, end = (axis.offset + edge * axis.extent / axis.count for edge in (axis.start, axis.stop))
    return max(0.0, begin), min(float(axis.size), end)


def _window(axis: Axis, edges: tuple[float, float]) -> tuple[int, int]:
    """The (start, end) of the whole input pixels that the filter reads."""
    margin = reach(axis.extent, axis.count, "lanczos")
    return max(0, int(edges[0]) - margin), min(axis.size, int(edges[1]) + margin + 1)


Key = tuple[str, int, int]


class Images:
    """The open images, in at most `memory` bytes: the least recently used ones are closed."""

    def __init__(self, models: Models, memory: int) -> None:
        self.models, self.memory = models, memory
        self._lock, self._opening = threading.Lock(), threading.Lock()
        self._open: OrderedDict[Key, OpenImage | LargeImage] = OrderedDict()
        self._headers: OrderedDict[Key, Header] = OrderedDict()

    def header(self, path: Path) -> Header:
        """The header of an image. Raises `Refused` (404) if the file is missing or not an image."""
        key = version(path)
        with self._lock:
            known = self._headers.get(key)
        if known is None:
            known = _refusing(lambda: read.probe(path))
            with self._lock:
                self._headers[key] = known
                if len(self._headers) > 4096:
                    self._headers.popitem(last=False)
        return known

    def render(self, path: Path, grid: Grid, look: Look) -> Pixels:
        """The pixels of a grid over the image in `path`, (h, w, C) uint8. Raises `Refused`."""
        image = self._get(path)
        if (grid.rows.size, grid.columns.size) != image.size:
            raise Refused(404, "the image has changed; try again")
        pixels = _refusing(lambda: image.render(grid, look, self.models))
        self._within_memory()
        return pixels

    def _get(self, path: Path) -> "OpenImage | LargeImage":
        key = version(path)
        with self._lock:
            image = self._open.get(key)
        if image is None:
            with self._opening:  # one at a time, because free memory is checked before the pixels are decoded
                with self._lock:
                    image = self._open.get(key)
                if image is None:
                    image = self._decode(path, key)
        with self._lock:
            if key in self._open:
                self._open.move_to_end(key)
        return image

    def _decode(self, path: Path, key: Key) -> "OpenImage | LargeImage":
        header = self.header(path)
        needed = header.width * header.height * header.channels * (2 if header.bits > 8 else 1)
        image = self._large(path, header) if needed > self.memory * PIXELS_SHARE else self._whole(path, needed)
        with self._lock:
            self._open[key] = image
        return image

    def _whole(self, path: Path, needed: int) -> OpenImage:
        self._within_memory(needed)
        return OpenImage(_refusing(lambda: read.read(path, to_srgb=True)), int(self.memory * (1 - PIXELS_SHARE)))

    def _large(self, path: Path, header: Header) -> LargeImage:
        parts = _refusing(lambda: windows(path, header))
        if parts is None:
            size = f"{header.width}x{header.height}"
            raise Refused(404, f"the {size} image is too large for the server's memory, and not a tiled TIFF")
        return LargeImage(parts, int(self.memory * (1 - PIXELS_SHARE)))

    def _within_memory(self, more: int = 0) -> None:
        """Close images until `more` bytes are free. If `more` is 0, the last image stays open."""
        with self._lock:
            total = more + sum(image.bytes for image in self._open.values())
            while total > self.memory and len(self._open) > (0 if more else 1):
                _, image = self._open.popitem(last=False)
                total -= image.bytes
            if total > self.memory and self._open:
                next(iter(self._open.values())).forget()


def version(path: Path) -> Key:
    """A file's path, size and modification time in ns. Raises `Refused` (404) if it does not exist."""
    try:
        stat = path.stat()
    except OSError:
        raise Refused(404, "there is no such image") from None
    return str(path), stat.st_size, stat.st_mtime_ns


def _refusing(work: Callable[[], T]) -> T:
    """The result of `work`. Turns the library's errors into `Refused`, without naming the server's folders."""
    try:
        return work()
    except (InputError, pyvips.Error):
        raise Refused(404, "the file cannot be decoded as an image") from None
    except UsageError as error:
        raise Refused(400, str(error)) from None
    except (OutOfMemory, MemoryError):
        raise Refused(503, "the server is out of memory") from None


def encoded(pixels: Pixels, mirrored: bool, turn: int, quality: str, form: str) -> bytes:
    """A file of pixels (h, w, C) uint8 in a IIIF quality and format, mirrored and then rotated clockwise by `turn` degrees."""
    pixels = pixels[:, ::-1] if mirrored else pixels
    pixels = np.ascontiguousarray(np.rot90(pixels, -turn // 90))
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    if form == "jpg" and image.mode in ("LA", "RGBA"):
        image = _on_white(image)
    if quality in ("gray", "bitonal"):
        image = image.convert("LA" if "A" in image.getbands() and quality == "gray" else "L")
    elif quality == "color" and image.mode in ("L", "LA"):
        image = image.convert("RGBA" if image.mode == "LA" else "RGB")
    if quality == "bitonal":
        image = image.point([0] * 128 + [255] * 128)
        image = image.convert("1") if form == "png" else image
    return _file(image, form)


def _on_white(image: Image.Image) -> Image.Image:
    plain = Image.new(image.mode[:-1], image.size, "white")
    plain.paste(image.convert(plain.mode), mask=image.getchannel("A"))
    return plain


def _png(pixels: Pixels) -> bytes:
    height, width = pixels.shape[:2]
    bands = pixels.size // (height * width)
    image = pyvips.Image.new_from_memory(np.ascontiguousarray(pixels).data, width, height, bands, "uchar")
    kind = "b-w" if bands < 3 else "srgb"
    return bytes(image.copy(interpretation=kind).pngsave_buffer(compression=2, filter="up"))


def _file(image: Image.Image, form: str) -> bytes:
    from io import BytesIO

    options: dict[str, Any] = {
        "png": {"compress_level": 1},
        "jpg": {"quality": 92, "subsampling": 0},
        "webp": {"quality": 90, "method": 0},
    }[form]
    if form == "webp" and image.mode not in ("RGB", "RGBA"):
        image = image.convert("RGBA" if "A" in image.getbands() else "RGB")
    if form == "png" and image.mode != "1":  # libvips is faster, and its files are smaller
        return _png(np.asarray(image))
    out = BytesIO()
    image.save(out, {"jpg": "JPEG"}.get(form, form.upper()), **options)
    return out.getvalue()

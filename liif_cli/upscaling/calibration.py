"""Measures how fast a model is on this machine. Takes about half a second."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from liif_cli.coords import Grid
from liif_cli.images.formats.base import Format
from liif_cli.images.resize import resample
from liif_cli.images.write import Writer
from liif_cli.machine.memory import resident
from liif_cli.models.checkpoints import Checkpoint
from liif_cli.rendering.encoded import Encoding
from liif_cli.rendering.renderer import Renderer
from liif_cli.rendering.tiles import Tile
from liif_cli.upscaling.speeds import ENOUGH, Measured, Speed, process_age, recall, remember
from liif_cli.upscaling.upscaler import Upscaler

T = TypeVar("T")
SMALLEST, LARGEST = 16, 256  # LR pixels per side of the test images
PATIENCE, TIMES = 0.3, 4  # seconds for one measurement, and how often it is repeated at most
SCALE = 4  # for models of arbitrary scale


def calibrate(upscaler: Upscaler, bits: int, form: Format, strength: float = 0.0) -> Speed:
    """Measure the speed of a model for outputs with `bits` bits per sample in a file format. strength: of restoration.

    Raises `DeviceError` and the exceptions of loading the model.
    """
    renderer = upscaler.renderer(bits, strength)
    start, program = process_age(), resident()
    Encoding(renderer, smooth(SMALLEST), Tile(0, SMALLEST, 0, SMALLEST))  # the first call is slow: it is a warm-up
    encode, encoding = _encode(renderer)
    return described(renderer, start, program, encode, _decode(encoding), {form.name: _file(form, bits)})


def measured_speed(upscaler: Upscaler, network: Checkpoint, bits: int, form: Format) -> Speed:
    """As `calibrate`, and store the speed in the cache. network: the checkpoint of the network to measure."""
    speed = calibrate(upscaler, bits, form, _strength(upscaler, network))
    before = recall(network, upscaler.options, bits)
    speed = replace(speed, file=(before.file if before else {}) | speed.file)
    _remember(upscaler, network, bits, speed)
    return speed


def learn(upscaler: Upscaler, network: Checkpoint, bits: int, measured: Measured) -> None:
    """Store the speed that a run measured in the cache, if it ran long enough to be meaningful."""
    speed = recall(network, upscaler.options, bits)
    if speed is None and measured.enough:
        speed = described(upscaler.renderer(bits, _strength(upscaler, network)), *measured.loaded, 0.0, 0.0, {})
    if speed is not None and speed != (learned := measured.onto(speed)):
        _remember(upscaler, network, bits, learned)


def _strength(upscaler: Upscaler, network: Checkpoint) -> float:
    """The strength at which an upscaler renders with this network."""
    return float(network != upscaler.checkpoint)


def _remember(upscaler: Upscaler, network: Checkpoint, bits: int, speed: Speed) -> None:
    """Store a speed, except of a fixed-scale model: a `Speed` cannot tell which grids such a model refuses."""
    if network.only_scale is None:
        remember(network, upscaler.options, bits, speed)


def described(
    renderer: Renderer, start: float, program: int, encode: float, decode: float, file: dict[str, float]
) -> Speed:
    """A `Speed` of the given measurements, completed with the properties of the renderer's model."""
    model = renderer.model
    return Speed(
        device=str(renderer.device),
        encode=encode,
        decode=decode,
        start=start,
        program=program,
        halo=model.halo,
        alignment=model.alignment,
        bytes_per_pixel=model.bytes_per_pixel,
        code_bytes=model.code_bytes,
        scratch=model.scratch_bytes(renderer.chunk),
        file=file,
    )


def smooth(side: int) -> NDArray[Any]:
    """A smooth random image (side, side, 3) uint8, which compresses roughly like a photograph."""
    rough = np.random.default_rng(0).integers(0, 256, (side // 8, side // 8, 3), np.uint8)
    return resample(rough, side, side, "bicubic").copy()


def _encode(renderer: Renderer) -> tuple[float, Encoding]:
    """Seconds per input pixel and field, and the encoding of an image that was large enough to measure."""
    side, seconds, encoding = SMALLEST, 0.0, None
    while encoding is None or (seconds < ENOUGH and side < LARGEST):
        side *= 2
        image, whole = smooth(side), Tile(0, side, 0, side)
        seconds, encoding = _timed(partial(Encoding, renderer, image, whole))
    return seconds / (side * side * len(encoding.fields)), encoding


def _decode(encoding: Encoding) -> float:
    """Seconds per output pixel and field."""
    lowest, highest = encoding.choices.model.decoder.scales
    side = int((lowest if lowest == highest else SCALE) * encoding.size[0])
    grid, rows, seconds = Grid.whole(encoding.size, (side, side)), 1, 0.0
    while seconds < ENOUGH and rows < side:
        rows = min(4 * rows, side)
        part = Grid(grid.rows.part(0, rows), grid.columns)
        seconds, _ = _timed(lambda: list(encoding.bands(part)))  # noqa: B023 (called at once)
    return seconds / (rows * side * len(encoding.fields))


def _file(form: Format, bits: int) -> float:
    """Seconds per pixel to finish the rows and write a file of a format."""
    depth, names = (np.uint16 if bits > 8 else np.uint8), count()
    pixels = smooth(LARGEST).astype(np.float32) / 255

    def write() -> None:
        with Writer(Path(folder) / str(next(names)), form, LARGEST, LARGEST, 3, depth) as writer:
            writer.write(pixels)

    with tempfile.TemporaryDirectory(prefix="liif-") as folder:
        write()
        seconds, _ = _timed(write)
    return seconds / LARGEST**2


def _timed(call: Callable[[], T]) -> tuple[float, T]:
    """(seconds, result) of a call: the minimum of a few runs, because other programs can slow a short run several times over.

    A call that takes longer than `PATIENCE` runs only once.
    """
    least, spent = float("inf"), 0.0
    while spent < PATIENCE:
        started = time.perf_counter()
        result = call()
        seconds = time.perf_counter() - started
        least, spent = min(least, seconds), spent + max(seconds, PATIENCE / TIMES)
    return least, result

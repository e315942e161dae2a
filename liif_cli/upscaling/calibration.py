"""Measures how fast a model is on this machine, within about half a second."""

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
from liif_cli.rendering.encoded import Encoding
from liif_cli.rendering.renderer import Renderer
from liif_cli.rendering.tiles import Tile
from liif_cli.upscaling.speeds import ENOUGH, Measured, Speed, process_age, recall, remember
from liif_cli.upscaling.upscaler import Upscaler

T = TypeVar("T")
SMALLEST, LARGEST = 16, 256  # LR pixels per side of what is measured on
PATIENCE, TIMES = 0.3, 4  # seconds for one measurement, and how often it is made within them at most
SCALE = 4  # of a model that has no scale of its own


def calibrate(upscaler: Upscaler, bits: int, form: Format) -> Speed:
    """The speed of a model for outputs with `bits` bits per sample, in a file format.

    Raises what loading the model raises, and `DeviceError`.
    """
    renderer = upscaler.renderer(bits)
    start, program = process_age(), resident()
    Encoding(renderer, smooth(SMALLEST), Tile(0, SMALLEST, 0, SMALLEST))  # the first call prepares much
    encode, encoding = _encode(renderer)
    return described(renderer, start, program, encode, _decode(encoding), {form.name: _file(form, bits)})


def measured_speed(upscaler: Upscaler, bits: int, form: Format) -> Speed:
    """The speed as `calibrate` finds it, and remembered. Raises as `calibrate`."""
    speed = calibrate(upscaler, bits, form)
    before = recall(upscaler.checkpoint, upscaler.options, bits) if upscaler.checkpoint else None
    speed = replace(speed, file=(before.file if before else {}) | speed.file)
    _remember(upscaler, bits, speed)
    return speed


def learn(upscaler: Upscaler, bits: int, measured: Measured) -> None:
    """Remember what a run measured, if it took long enough."""
    assert upscaler.checkpoint is not None
    speed = recall(upscaler.checkpoint, upscaler.options, bits)
    if speed is None and measured.enough:
        speed = described(upscaler.renderer(bits), *measured.loaded, 0.0, 0.0, {})
    if speed is not None and speed != (learned := measured.onto(speed)):
        _remember(upscaler, bits, learned)


def _remember(upscaler: Upscaler, bits: int, speed: Speed) -> None:
    """Not of models of one scale, which refuse grids for a reason that a speed does not know."""
    if upscaler.checkpoint is not None and upscaler.checkpoint.only_scale is None:
        remember(upscaler.checkpoint, upscaler.options, bits, speed)


def described(
    renderer: Renderer, start: float, program: int, encode: float, decode: float, file: dict[str, float]
) -> Speed:
    """A speed with what the renderer's model says of itself."""
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
    """An image (side, side, 3) uint8 that is somewhat like a photograph."""
    rough = np.random.default_rng(0).integers(0, 256, (side // 8, side // 8, 3), np.uint8)
    return resample(rough, side, side, "bicubic").copy()


def _encode(renderer: Renderer) -> tuple[float, Encoding]:
    """Seconds per pixel and field, and the encoding of an image that was large enough to measure."""
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
    """Seconds per pixel to finish and write a file of a format."""
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
    """The least of a few times, unless one takes long: other programs make a short one many times as long. And the result."""
    least, spent = float("inf"), 0.0
    while spent < PATIENCE:
        started = time.perf_counter()
        result = call()
        seconds = time.perf_counter() - started
        least, spent = min(least, seconds), spent + max(seconds, PATIENCE / TIMES)
    return least, result

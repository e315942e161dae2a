"""PGM and PPM of any depth, plain and raw (Netpbm's manual pages pgm(5) and ppm(5)); PBM by Pillow.

Implemented here because Pillow reads 16-bit PPM with 8 bits.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, BinaryIO

from liif_cli.errors import InputError
from liif_cli.images.formats.base import Format, Loaded, from_pillow
from liif_cli.images.picture import Metadata
from liif_cli.images.source import Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

_HEAD = re.compile(
    rb"P([2356])(?:\s|#[^\n]*\n)+(\d{1,10})(?:\s|#[^\n]*\n)+(\d{1,10})(?:\s|#[^\n]*\n)+(\d{1,5})(?:#[^\n]*\n)?\s"
)


def header(data: bytes) -> tuple[int, int, int, int] | None:
    """(width, height, channels, largest value) of a PGM or PPM from its first bytes; None for PBM. Raises InputError."""
    if data[:2] in (b"P1", b"P4"):
        return None
    found = _HEAD.match(data)
    if found is None:
        raise InputError("the PPM header is broken")
    width, height, top = (int(found[i]) for i in (2, 3, 4))
    if not (width and height and 0 < top < 65536):
        raise InputError(f"the PPM header is broken: {width}x{height}, largest value {top}")
    return width, height, 3 if found[1] in b"36" else 1, top


def read(data: bytes) -> NDArray[Any]:
    """The pixels of a PGM or PPM file, (H, W, 1 or 3) uint8 or uint16, scaled to full range.

    data: the whole file. Raises InputError if samples are missing or invalid.
    """
    import numpy as np

    facts = header(data)
    found = _HEAD.match(data)
    assert facts is not None
    assert found is not None
    width, height, channels, top = facts
    count = width * height * channels
    samples: NDArray[Any]
    if found[1] in b"23":
        samples = _plain(data[found.end() :], count)
    else:
        kind = np.dtype(">u2" if top > 255 else "u1")
        samples = np.frombuffer(data, kind, min(count, (len(data) - found.end()) // kind.itemsize), found.end())
    if samples.size < count:
        raise InputError(f"the file ends early: {samples.size:,} of {count:,} samples")
    full = 65535 if top > 255 else 255
    if top != full:
        samples = (np.minimum(samples, top).astype(np.uint64) * (2 * full) + top) // (2 * top)
    return samples.astype(np.uint16 if top > 255 else np.uint8).reshape(height, width, channels)


def _plain(data: bytes, count: int) -> NDArray[Any]:
    """The first `count` samples of a plain file, as uint32. Raises InputError if one is not a number of at most five digits."""
    import numpy as np

    words = re.sub(rb"#[^\n]*", b"", data).split(None, count)[:count]
    if any(len(word) > 5 or not word.isdigit() for word in words):
        raise InputError("the samples are not numbers from 0 to 65535")
    return np.array(words, dtype=np.uint32)


def load_netpbm(source: Source, file: BinaryIO, _: int) -> Loaded:
    """A PBM, PGM or PPM. Raises InputError if its header is broken; `decode` does if samples are missing."""
    facts = header(file.read(2**16))
    if facts is None:
        return from_pillow(source, file, "PPM")
    width, height, channels, top = facts

    def decode() -> NDArray[Any]:
        with source.open() as again:
            return read(again.read())

    return Loaded(width, height, channels, Metadata(bits=16 if top > 255 else 8), decode)


FORMAT = Format(
    name="ppm",
    label="PPM",
    variants="1 to 16 bits, plain and raw",
    kinds=("PBM", "PGM", "PPM"),
    suffixes=(".ppm", ".pgm", ".pbm", ".pnm"),
    sniff=lambda head: head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace(),
    load=load_netpbm,
)

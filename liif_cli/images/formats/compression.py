"""Estimates the quality setting, 1 to 100, with which a lossy file was compressed, from its quantisers.

The scales are those of libjpeg, libwebp and libavif. For a file by another encoder, the result is the setting of that library
that quantises about as strongly.
"""

import math
from collections.abc import Iterator, Sequence

# ITU-T T.81, table K.1: the luma quantisation steps at quality 50, in row-major order.
_STEPS = """16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"""
ZIGZAG = sorted(((y, x) for y in range(8) for x in range(8)), key=lambda p: (sum(p), p[0] if sum(p) % 2 else p[1]))
LUMA_STEPS = [int(step) for step in _STEPS.split()]


def quantisation_tables(segment: bytes) -> Iterator[tuple[int, list[int]]]:
    """(table number, 64 steps in row-major order) of each complete table in a DQT segment's payload."""
    while segment:
        size, number = (2 if segment[0] >> 4 else 1), segment[0] & 15
        table, segment = segment[1 : 1 + 64 * size], segment[1 + 64 * size :]
        if len(table) < 64 * size:
            return
        steps = (int.from_bytes(table[i : i + size]) for i in range(0, 64 * size, size))
        yield number, [step for _, step in sorted(zip(ZIGZAG, steps, strict=True))]


def jpeg_quality(luma: Sequence[int]) -> int | None:
    """The libjpeg quality whose luma table is nearest to this one, in logarithms of the steps; None if it is not a valid table.

    luma: 64 steps in row-major order.
    """
    if len(luma) != 64 or min(luma) < 1:
        return None
    return min(range(1, 101), key=lambda quality: (_distance(luma, quality), -quality))


def _distance(table: Sequence[int], quality: int) -> float:
    usual = scaled(LUMA_STEPS, quality)
    return sum(abs(math.log(min(step, 255) / other)) for step, other in zip(table, usual, strict=True))


def scaled(steps: Sequence[int], quality: int) -> list[int]:
    """The quantisation table of a quality, 1 to 100, from that of quality 50: scaled as in libjpeg, integers from 1 to 255."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return [min(max((step * percent + 50) // 100, 1), 255) for step in steps]


def webp_quality(frame: bytes) -> int | None:
    """The approximate quality with which a lossy WebP was saved. frame: the payload of its `VP8 ` chunk (RFC 6386, section 9).

    Inverts libwebp's `VP8SetSegmentParams` at the mean of the segments' quantisers, because libwebp varies them around the
    quality according to the content. None if the frame is truncated or not a key frame.
    """
    if len(frame) < 30 or frame[0] & 1 or frame[3:6] != b"\x9d\x01\x2a":
        return None
    index = _mean_quantiser(_Bools(frame[10:]))
    level = (1 - index / 127) ** 3  # libwebp takes the cube root of this linear quality
    return round(100 * (1.5 * level if level < 0.5 else (1 + level) / 2))


def _mean_quantiser(bools: "_Bools") -> float:
    """The mean quantiser index, 0 to 127, of a key frame's segments."""
    bools.number(2)  # colour space, clamping
    absolute, segments = 0, [0]
    if bools.number(1):
        with_map, with_data = bools.number(1), bools.number(1)
        if with_data:
            absolute = bools.number(1)
            segments = [bools.optional(7, signed=True) for _ in range(4)]
            for _ in range(4):
                bools.optional(6, signed=True)  # loop filters
        for _ in range(3 * with_map):
            bools.optional(8)
    bools.number(1 + 6 + 3)  # loop filter
    if bools.number(1) and bools.number(1):
        for _ in range(8):
            bools.optional(6, signed=True)
    bools.number(2)  # partitions
    base = 0 if absolute else bools.number(7)
    return sum(min(max(base + segment, 0), 127) for segment in segments) / len(segments)


class _Bools:
    """VP8's arithmetic decoder (RFC 6386, section 7.3), for bits whose two values are equally probable."""

    def __init__(self, data: bytes) -> None:
        self.data = iter(data[2:])
        self.value, self.range, self.bits = int.from_bytes(data[:2]), 255, 0

    def number(self, bits: int) -> int:
        """An unsigned number of `bits` bits, most significant bit first."""
        value = 0
        for _ in range(bits):
            value = 2 * value + self._bit()
        return value

    def optional(self, bits: int, signed: bool = False) -> int:
        """A flag and, if it is set, a number of `bits` bits, followed by its sign if `signed`; 0 if the flag is not set."""
        if not self.number(1):
            return 0
        value = self.number(bits)
        return -value if signed and self.number(1) else value

    def _bit(self) -> int:
        split = 1 + (((self.range - 1) * 128) >> 8)
        bit = int(self.value >= split << 8)
        self.value, self.range = (self.value - (split << 8), self.range - split) if bit else (self.value, split)
        while self.range < 128:
            self.value, self.range, self.bits = self.value << 1, self.range << 1, self.bits + 1
            if self.bits == 8:
                self.value, self.bits = self.value | next(self.data, 0), 0
        return bit


def av1_quality(obus: bytes) -> int | None:
    """The approximate quality, 1 to 100, of a still AV1 image, by libavif's formula from the base quantiser index.

    obus: the sequence and frame headers (AV1 specification, 5.5 and 5.9). None if the image is lossless, or if its headers are
    not the reduced ones of still images.
    """
    found: dict[int, bytes] = {}
    for kind, body in _units(obus):
        found.setdefault(kind, body)
    header = found.get(6) or found.get(3)  # a frame, or its header alone
    if 1 not in found or not header:
        return None
    index = _base_quantiser(_Bits(found[1]), _Bits(header))
    return None if not index else max(1, round(100 * (1 - index / 255)))


def av1_is_limited(obus: bytes) -> bool:
    """Whether the samples of an AV1 image have limited range, from `color_range` in its sequence header (AV1, 5.5.2).

    obus: begins with the sequence header. False if there is none, or if it carries timing information.
    """
    bits = next((_Bits(body) for kind, body in _units(obus) if kind == 1), None)
    if bits is None:
        return False
    profile, _, reduced = bits.number(3), bits.number(1), bits.number(1)
    if not reduced:
        return _full_header_is_limited(bits, profile)
    bits.number(5)
    _skip_sizes(bits, reduced=True)
    return _color_range(bits, profile)


def _full_header_is_limited(bits: "_Bits", profile: int) -> bool:
    """Whether `color_range` is limited in a sequence header that is not reduced; False if it carries timing information."""
    if bits.number(1):
        return False
    delayed = bits.number(1)
    for _ in range(bits.number(5) + 1):
        bits.number(12)
        if bits.number(5) > 7:
            bits.number(1)
        if delayed and bits.number(1):
            bits.number(4)
    _skip_sizes(bits, reduced=False)
    return _color_range(bits, profile)


def _skip_sizes(bits: "_Bits", *, reduced: bool) -> None:
    """Skip the fields from `frame_width_bits_minus_1` up to `color_config`."""
    width, height = bits.number(4) + 1, bits.number(4) + 1
    bits.number(width + height)
    if not reduced and bits.number(1):  # frame ids
        bits.number(7)
    bits.number(3)
    if not reduced:
        bits.number(4)
        if bits.number(1):  # order hints
            bits.number(2)
            hints = 3
        else:
            hints = 0
        if (bits.number(1) or bits.number(1)) and not bits.number(1):  # screen content tools, integer motion vectors
            bits.number(1)
        bits.number(hints)
    bits.number(3)


def _color_range(bits: "_Bits", profile: int) -> bool:
    """Whether `color_range` in `color_config` is 0, which means limited range (AV1, 5.5.2)."""
    deep = bits.number(1)
    if profile == 2 and deep:
        bits.number(1)
    gray = bits.number(1) if profile != 1 else 0
    codes = (bits.number(8), bits.number(8), bits.number(8)) if bits.number(1) else (2, 2, 2)
    if not gray and codes == (1, 13, 0):
        return False  # sRGB always has full range
    return bits.number(1) == 0


def _units(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, payload) of each open bitstream unit (OBU); the last payload may be truncated."""
    while len(data) > 1 and data[0] & 2:  # only the last unit of an item may omit its size
        kind, first = data[0] >> 3 & 15, 2 if data[0] & 4 else 1
        length = next((n for n, byte in enumerate(data[first : first + 8], 1) if byte < 128), 8)
        size = sum((byte & 127) << 7 * n for n, byte in enumerate(data[first : first + length]))  # LEB128
        yield kind, data[first + length : first + length + size]
        data = data[first + length + size :]


def _base_quantiser(sequence: "_Bits", frame: "_Bits") -> int | None:
    """`base_q_idx`, 0 to 255; None if the headers are not the reduced ones of a still image."""
    if sequence.number(5) & 1 == 0:  # profile, still_picture, reduced_still_picture_header
        return None
    sequence.number(5)
    sizes = sequence.number(4) + 1, sequence.number(4) + 1
    width, height = (sequence.number(bits) + 1 for bits in sizes)
    large = sequence.number(1)  # superblocks of 128 pixels
    sequence.number(2)
    superres = sequence.number(1)
    frame.number(1)
    screen_content = frame.number(1)
    frame.number(screen_content)  # force_integer_mv
    if superres and frame.number(1):
        return None
    if frame.number(1):  # a separate render size
        frame.number(32)
    frame.number(screen_content)  # allow_intrabc
    return frame.number(8) if _skip_tiles(frame, width, height, large) else None


def _skip_tiles(frame: "_Bits", width: int, height: int, large: int) -> bool:
    """Skip `tile_info` (AV1, 5.9.15). Returns False if the tiles are not uniformly spaced."""
    side = 128 if large else 64
    columns, rows = (-(-8 * -(-n // 8) // side) for n in (width, height))
    least = _log2(4096 // side, columns)
    least_all = max(least, _log2(4096 * 2304 // side**2, rows * columns))
    if not frame.number(1):
        return False
    across = _increments(frame, least, _log2(1, min(columns, 64)))
    down = _increments(frame, max(least_all - across, 0), _log2(1, min(rows, 64)))
    if across + down:
        frame.number(across + down + 2)
    return True


def _log2(block: int, target: int) -> int:
    return next(k for k in range(32) if block << k >= target)


def _increments(frame: "_Bits", value: int, most: int) -> int:
    while value < most and frame.number(1):
        value += 1
    return value


class _Bits:
    """Reads bits, most significant first; zeros beyond the end."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def number(self, bits: int) -> int:
        """An unsigned number of `bits` bits."""
        value = 0
        for at in range(self.at, self.at + bits):
            byte = self.data[at // 8] if at // 8 < len(self.data) else 0
            value = 2 * value + (byte >> (7 - at % 8) & 1)
        self.at += bits
        return value

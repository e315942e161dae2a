"""Reads the colour space and the name of ICC profiles, and builds small profiles (ICC.1:2022)."""

import struct
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from liif_cli.images.picture import Metadata

D50 = np.array([0.9642, 1.0, 0.8249])
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
D65 = (0.3127, 0.3290)
PRIMARIES = {
    1: (0.640, 0.330, 0.300, 0.600, 0.150, 0.060),
    5: (0.640, 0.330, 0.290, 0.600, 0.150, 0.060),
    6: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    12: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
}
"""x and y of red, green and blue by code point (ITU-T H.273, table 2). The white point of all of them is D65."""
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
BT709_CURVE = (1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
CURVES: dict[int, tuple[float, ...]] = {
    **dict.fromkeys((1, 6, 14, 15), BT709_CURVE), 4: (2.2,), 5: (2.8,), 8: (1.0,), 13: SRGB_CURVE,
}  # fmt: skip
"""Parameters of ICC's parametric curve by code point (ITU-T H.273, table 3). One parameter: a power; five: type 3."""
HDR = {16: "PQ", 18: "HLG"}
"""The code points of HDR transfer characteristics."""


def space(profile: bytes) -> str:
    """The device colour space ("RGB", "GRAY", "CMYK", ...); "" if the profile is truncated or invalid."""
    if len(profile) < 132 or profile[36:40] != b"acsp" or int.from_bytes(profile[:4]) > len(profile):
        return ""  # libvips would silently use sRGB instead of a broken profile
    tags = [profile[at : at + 12] for at in range(132, 132 + 12 * min(1000, int.from_bytes(profile[128:132])), 12)]
    if any(int.from_bytes(t[4:8]) + int.from_bytes(t[8:12]) > len(profile) or len(t) < 12 for t in tags):
        return ""
    return profile[16:20].decode("latin-1").strip()


def name(profile: bytes) -> str:
    """The profile's description, or "" if there is no readable one."""
    count = int.from_bytes(profile[128:132])
    for at in range(132, 132 + 12 * min(count, 100), 12):
        if profile[at : at + 4] == b"desc":
            start, size = int.from_bytes(profile[at + 4 : at + 8]), int.from_bytes(profile[at + 8 : at + 12])
            return _description(profile[start : start + size])
    return ""


def _description(data: bytes) -> str:
    if data[:4] == b"desc":
        return data[12 : 12 + int.from_bytes(data[8:12])].rstrip(b"\0").decode("latin-1")
    if data[:4] == b"mluc" and len(data) >= 28:
        size, start = int.from_bytes(data[20:24]), int.from_bytes(data[24:28])
        return data[start : start + size].decode("utf-16-be", "replace").rstrip("\0")
    return ""


def from_gamma(gamma: float | None, chroma: tuple[float, ...] | None, *, gray: bool) -> bytes | None:
    """The profile for PNG's gAMA and cHRM chunks; None if they are close to sRGB.

    gamma: gAMA's value (0.45455 for a gamma of 2.2), None for sRGB's curve. chroma: x and y of white, red, green and blue,
    None for sRGB's. gray: make a grayscale profile.
    """
    usual = (*D65, *PRIMARIES[1])
    same_curve = gamma is None or abs(gamma - 1 / 2.2) < 0.005
    same_chroma = gray or chroma is None or max(abs(a - b) for a, b in zip(chroma, usual, strict=True)) < 0.005
    if same_curve and same_chroma:
        return None
    curve = SRGB_CURVE if gamma is None else (1 / gamma,)
    values = chroma if chroma is not None and min(chroma[1::2]) > 0 else usual
    said = f"gamma {1 / gamma:.4g}" if gamma is not None else "sRGB's curve, primaries from cHRM"
    return built(said, values[2:], (values[0], values[1]), curve, gray=gray)


def settle_cicp(metadata: Metadata) -> tuple[Metadata, tuple[str, ...]]:
    """The metadata with `cicp` converted to a profile if possible, and notes. The code points of sRGB and HDR are kept."""
    primaries, transfer, matrix, _ = metadata.cicp or b"\2\2\0\1"
    if transfer in HDR:
        note = f"the image is HDR ({HDR[transfer]}): its values are upscaled without conversion"
        return metadata, (note,)
    if (primaries, transfer, matrix) == (1, 13, 0):
        return replace(metadata, icc=None), ()
    if (primaries, transfer) == (2, 2):
        return replace(metadata, cicp=None), ()  # "unspecified"
    if primaries not in PRIMARIES or transfer not in CURVES or matrix != 0:
        return replace(metadata, cicp=None), (
            f"ignored an unsupported CICP colour description ({primaries}/{transfer}/{matrix})",
        )
    made = built(f"H.273 {primaries}/{transfer}", PRIMARIES[primaries], D65, CURVES[transfer])
    return replace(metadata, icc=made, cicp=None), ("converted the CICP colour description to an ICC profile",)


def built(
    said: str, primaries: tuple[float, ...], white: tuple[float, float], curve: tuple[float, ...], *, gray: bool = False
) -> bytes:
    """An ICC version 4 display profile.

    said: its description. primaries: x and y of red, green and blue. white: x and y of the white point. curve: parameters as in
    `CURVES`. gray: make a grayscale profile.
    """
    shape = _parametric(curve)
    tags = {b"desc": _text(said), b"cprt": _text("CC0"), b"wtpt": _xyz(D50), b"chad": _chad(white)}
    if gray:
        tags[b"kTRC"] = shape
    else:
        columns = colorants(primaries, white).T
        tags.update({n: _xyz(c) for n, c in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)})
        tags.update(dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), shape))
    return _assembled(tags, b"GRAY" if gray else b"RGB ")


def colorants(primaries: tuple[float, ...], white: tuple[float, float]) -> NDArray[np.float64]:
    """The 3x3 matrix of XYZ (rows) of red, green and blue (columns), adapted from the white point to D50 (Bradford)."""
    xyz = np.array([[x / y, 1, (1 - x - y) / y] for x, y in zip(primaries[::2], primaries[1::2], strict=True)]).T
    scaled = xyz * np.linalg.solve(xyz, _white(white))
    adapted: NDArray[np.float64] = _adaptation(white) @ scaled
    return adapted


def _white(white: tuple[float, float]) -> NDArray[np.float64]:
    x, y = white
    return np.array([x / y, 1, (1 - x - y) / y])


def _adaptation(white: tuple[float, float]) -> NDArray[np.float64]:
    ratio = (BRADFORD @ D50) / (BRADFORD @ _white(white))
    matrix: NDArray[np.float64] = np.linalg.inv(BRADFORD) @ np.diag(ratio) @ BRADFORD
    return matrix


def _fixed(values: NDArray[np.float64] | tuple[float, ...]) -> bytes:
    return b"".join(struct.pack(">i", round(float(v) * 65536)) for v in np.ravel(np.asarray(values)))


def _xyz(values: NDArray[np.float64]) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(values)


def _chad(white: tuple[float, float]) -> bytes:
    return b"sf32\0\0\0\0" + _fixed(_adaptation(white))


def _parametric(curve: tuple[float, ...]) -> bytes:
    kind = 3 if len(curve) == 5 else 0
    return b"para\0\0\0\0" + struct.pack(">HH", kind, 0) + _fixed(curve)


def _text(text: str) -> bytes:
    data = text.encode("utf-16-be")
    return b"mluc\0\0\0\0" + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(data), 28) + data


def _assembled(tags: dict[bytes, bytes], kind: bytes) -> bytes:
    at = 128 + 4 + 12 * len(tags)
    table, body = len(tags).to_bytes(4), b""
    for tag, data in tags.items():
        table += tag + (at + len(body)).to_bytes(4) + len(data).to_bytes(4)
        body += data + b"\0" * (-len(data) % 4)
    size = (128 + len(table) + len(body)).to_bytes(4)
    head = size + bytes(4) + b"\x04\x30\0\0mntr" + kind + b"XYZ " + struct.pack(">6H", 2026, 1, 1, 0, 0, 0)
    head += b"acsp" + bytes(28) + _fixed(D50)
    return head.ljust(128, b"\0") + table + body

"""Converts between a profile's tone curve and the one that the network was trained on, sRGB's.

If the profile's tone curve is close to sRGB's (gamma 2.2, Display P3, Adobe RGB), the network upscales the stored values and
the profile is copied. If it differs strongly (linear light, gamma 1.8, dot gain), each channel is converted to sRGB's curve
for the network and converted back afterwards. Primaries do not change, so no colour is clipped. CMYK becomes sRGB.
"""

from typing import Any

import numpy as np
import pyvips
from numpy.typing import NDArray

from liif_cli.images import icc

FAR = 0.07
"""A tone curve differs strongly from sRGB's if it deviates by more than this share of the coded range."""
KNOTS = 4096


def srgb_coded(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """sRGB's coded values in [0, 1] of linear light, which is clipped to [0, 1] (IEC 61966-2-1)."""
    linear = np.clip(linear, 0, 1)
    coded: NDArray[np.float64] = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return coded


def tone_curve(profile: bytes) -> NDArray[np.float64]:
    """The sRGB-coded values of 4,096 evenly spaced grays of an RGB or GRAY profile, float64, rising from 0 to 1.

    Raises pyvips.Error if lcms cannot use the profile.
    """
    bands = 3 if icc.space(profile) == "RGB" else 1
    ramp = np.rint(np.linspace(0, 65535, KNOTS)).astype(np.uint16)
    image = pyvips.Image.new_from_array(np.repeat(ramp[None, :, None], bands, axis=2))
    image = with_profile(image.copy(interpretation="rgb16" if bands == 3 else "grey16"), profile)
    lightness = image.icc_import(pcs="lab", intent="relative", embedded=True)[0].numpy().reshape(-1).astype(np.float64)
    light = np.where(lightness > 8, ((lightness + 16) / 116) ** 3, lightness / 903.3)
    curve = np.maximum.accumulate(srgb_coded(light)) + np.arange(KNOTS) * 1e-9
    rising: NDArray[np.float64] = (curve - curve[0]) / (curve[-1] - curve[0])
    return rising


def far_curve(profile: bytes) -> NDArray[np.float64] | None:
    """The `tone_curve` if it differs strongly from sRGB's, otherwise None."""
    curve = tone_curve(profile)
    return curve if float(np.abs(curve - np.linspace(0, 1, KNOTS)).max()) > FAR else None


def to_network(pixels: NDArray[Any], curve: NDArray[np.float64]) -> NDArray[np.uint16]:
    """Stored pixels (H, W, C), uint8 or uint16, converted to sRGB's tone curve, as uint16.

    curve: the profile's `tone_curve`. Alpha (C = 2, 4) is only scaled to 16 bits.
    """
    top = int(np.iinfo(pixels.dtype).max)
    at = np.linspace(0, 1, top + 1)
    table = np.rint(np.interp(at, np.linspace(0, 1, len(curve)), curve) * 65535).astype(np.uint16)
    out: NDArray[np.uint16] = table[pixels]
    if pixels.shape[2] in (2, 4):
        out[..., -1] = pixels[..., -1].astype(np.uint16) * (65535 // top)
    return out


def from_network(rows: NDArray[Any], curve: NDArray[np.float64]) -> NDArray[np.float32]:
    """The inverse of `to_network` for float rows (h, w, C) in [0, 1], float32; alpha does not change."""
    out: NDArray[np.float32] = np.interp(rows, curve, np.linspace(0, 1, len(curve))).astype(np.float32)
    if rows.shape[2] in (2, 4):
        out[..., -1] = rows[..., -1]
    return out


def curved(rows: NDArray[Any], curve: NDArray[np.float64]) -> NDArray[np.float32]:
    """Float rows (h, w, C) in [0, 1] mapped by a curve with evenly spaced knots, float32; alpha (C = 2, 4) does not change."""
    out: NDArray[np.float32] = np.interp(rows, np.linspace(0, 1, len(curve)), curve).astype(np.float32)
    if rows.shape[2] in (2, 4):
        out[..., -1] = rows[..., -1]
    return out


def with_profile(image: Any, profile: bytes) -> Any:
    """A copy of a pyvips image with the profile attached."""
    image = image.copy()
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    return image


def to_srgb(image: Any, profile: bytes | None) -> tuple[Any, bytes]:
    """An RGB or CMYK pyvips image converted to sRGB at the same depth, and sRGB's profile.

    Perceptual intent with black point compensation. Without a profile, libvips' own CMYK profile is used. Raises pyvips.Error
    if the profile cannot be used.
    """
    deep = image.format == "ushort"
    options = {"embedded": True} if profile else {"input_profile": "cmyk"}
    if profile:
        image = with_profile(image, profile)
    image = image.icc_transform(
        "srgb", intent="perceptual", black_point_compensation=True, depth=16 if deep else 8, **options
    )
    return image, bytes(image.get("icc-profile-data"))

"""`degradations.photo` for a batch of patches on their own device: blur, kernels, noise, JPEG.

The order and the shares of the degradations are the same, but patches are blurred after downsampling, and WebP, the Hamming
kernel and intermediate sizes are not simulated. JPEG is the lossy half of the codec: conversion to YCbCr, optional chroma
subsampling, 8x8 DCT, quantisation with the tables of a quality, and back.
"""

import math
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from liif_cli.images.formats.compression import LUMA_STEPS
from liif_cli.training.degradations import (
    BLURRED,
    CLEAN,
    COMPRESSED,
    HALVED,
    MOZJPEG,
    MOZJPEG_STEPS,
    NOISE,
    NOISY,
    QUALITY,
    SHOT,
    SIGMA,
    TWICE,
)
from liif_cli.training.pairs import GOLDEN, MASK, scramble

BLOCK = 8

# ITU-T T.81, table K.2
CHROMA = """17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99
99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99"""


@cache
def tables(device: torch.device) -> Tensor:
    """The tables of quality 50, (2, 2, 8, 8) float32: standard and mozjpeg, luma and chroma."""
    chroma = [int(step) for step in CHROMA.split()]
    return torch.tensor([LUMA_STEPS, chroma, MOZJPEG_STEPS, MOZJPEG_STEPS], dtype=torch.float32, device=device).view(
        2, 2, 8, 8
    )


def quantisers(base: Tensor, quality: Tensor) -> Tensor:
    """The tables (..., 8, 8) of qualities (...), scaled from those of quality 50 as in libjpeg: integers from 1 to 255."""
    percent = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality).floor()[..., None, None]
    return ((base * percent + 50) / 100).floor().clamp(1, 255)


def dct(device: torch.device) -> Tensor:
    """The orthonormal 8-point DCT-II as a matrix, (frequency, sample) float32."""
    k, n = torch.arange(BLOCK, device=device).unsqueeze(1), torch.arange(BLOCK, device=device)
    matrix = torch.cos(math.pi * (2 * n + 1) * k / (2 * BLOCK)) * math.sqrt(2 / BLOCK)
    matrix[0] /= math.sqrt(2)
    return matrix


def quantised(plane: Tensor, table: Tensor) -> Tensor:
    """(B, N, N) of levels around 0, N a multiple of 8, quantised by tables (B, 8, 8) and dequantised."""
    transform = dct(plane.device)
    batch, height, width = plane.shape
    blocks = plane.view(batch, height // BLOCK, BLOCK, width // BLOCK, BLOCK).transpose(
        2, 3
    )  # (B, rows, columns, 8, 8)
    steps = table[:, None, None]
    kept = ((transform @ blocks @ transform.T) / steps).round() * steps
    back: Tensor = transform.T @ kept @ transform
    return back.transpose(2, 3).reshape(batch, height, width)


def jpeg(levels: Tensor, quality: Tensor, halved: Tensor, mozjpeg: Tensor) -> Tensor:
    """(B, 3, N, N) of whole levels, N a multiple of 16, after JPEG compression.

    quality: (B,), from 1 to 100. halved: (B,) bool, chroma at half the size (4:2:0). mozjpeg: (B,) bool, use its tables.
    """
    r, g, b = levels.unbind(1)
    luma = (0.299 * r + 0.587 * g + 0.114 * b).round()
    blue, red = ((0.564334 * (b - luma)), (0.713267 * (r - luma)))
    chroma = torch.stack([blue, red], 1).round()
    base = tables(levels.device)[mozjpeg.long()]
    fine = quantisers(base, quality[:, None])
    luma = quantised(luma - 128, fine[:, 0]).round().clamp(-128, 127) + 128
    small = F.avg_pool2d(chroma, 2).round()
    whole = quantised(chroma.flatten(0, 1), fine[:, 1].repeat_interleave(2, 0)).view_as(chroma)
    half = quantised(small.flatten(0, 1), fine[:, 1].repeat_interleave(2, 0)).view_as(small).round().clamp(-128, 127)
    half = F.interpolate(half, scale_factor=2, mode="bilinear")  # libjpeg's "fancy upsampling": weights 3/4 and 1/4
    blue, red = torch.where(halved.view(-1, 1, 1, 1), half, whole).round().clamp(-128, 127).unbind(1)
    rgb = torch.stack([luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue], 1)
    return rgb.round().clamp(0, 255)


def compressed(levels: Tensor, some: Tensor, chance: Tensor) -> Tensor:
    """(B, 3, L, L) after JPEG compression where `some` (B,) is set.

    chance: (B, 6) in [0, 1), chooses the quality, 4:2:0, the tables and the origin of the blocks, because a patch may be
    anywhere in its image.
    """
    batch, _, size, _ = levels.shape
    room = -(-(size + BLOCK - 1) // (2 * BLOCK)) * 2 * BLOCK
    reach = torch.arange(room, device=levels.device)
    top, left = ((chance[:, i] * BLOCK).long() for i in (3, 4))
    y, x = ((reach - first[:, None]).clamp(0, size - 1) for first in (top, left))
    images = torch.arange(batch, device=levels.device)
    canvas = levels.permute(0, 2, 3, 1)[images[:, None, None], y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2)
    quality = (QUALITY[0] + (QUALITY[1] - QUALITY[0]) * chance[:, 0]).floor()
    made = jpeg(canvas, quality, chance[:, 1] < HALVED, chance[:, 2] < MOZJPEG).permute(0, 2, 3, 1)
    y, x = (torch.arange(size, device=levels.device) + first[:, None] for first in (top, left))
    back = made[images[:, None, None], y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2)
    return torch.where(some.view(-1, 1, 1, 1), back, levels)


def blurred(levels: Tensor, some: Tensor, sigma: Tensor) -> Tensor:
    """(B, 3, L, L), blurred where `some` (B,) is set by a Gaussian of `sigma` (B,) pixels; edges are repeated."""
    reach = torch.arange(-4, 5, device=levels.device)
    taps = torch.exp(-0.5 * (reach / sigma[:, None]).square())
    taps = taps / taps.sum(1, keepdim=True)
    batch, colours, size, _ = levels.shape
    weight = taps.repeat_interleave(colours, 0)
    flat = F.pad(levels.reshape(1, batch * colours, size, size), (4, 4, 4, 4), mode="replicate")
    flat = F.conv2d(flat, weight[:, None, :, None], groups=batch * colours)
    flat = F.conv2d(flat, weight[:, None, None, :], groups=batch * colours)
    return torch.where(some.view(-1, 1, 1, 1), flat.view_as(levels), levels)


def noisy(levels: Tensor, some: Tensor, chance: Tensor, key: Tensor) -> Tensor:
    """(B, 3, L, L) with Gaussian noise where `some` (B,) is set.

    The noise is gray or coloured; for half of the patches, part of its variance grows with the level (Poisson noise). It
    follows from `chance` (B, 3) in [0, 1) and the pairs' keys (B,).
    """
    size = math.prod(levels.shape[1:])
    radius, angle = hashed(key, 2 * size, 1000).view(-1, 2, *levels.shape[1:]).unbind(1)
    coloured = (-2 * (1 - radius).log()).sqrt() * torch.cos(2 * math.pi * angle)  # Box-Muller transform
    normal = torch.where((chance[:, 0] < 0.5).view(-1, 1, 1, 1), coloured, coloured[:, :1])
    variance = (NOISE * chance[:, 1]).square().view(-1, 1, 1, 1)
    shot = SHOT * (2 * chance[:, 2] - 1).view(-1, 1, 1, 1) * levels
    variance = torch.where((chance[:, 2] < 0.5).view(-1, 1, 1, 1), variance, 0.5 * variance + shot)
    return torch.where(some.view(-1, 1, 1, 1), (levels + variance.sqrt() * normal).round().clamp(0, 255), levels)


def hashed(key: Tensor, count: int, first: int = 0) -> Tensor:
    """Uniform values (B, count) in [0, 1), float32: a pure function of the keys (B,) and of columns from `first` on."""
    places = scramble(torch.arange(first + 1, first + count + 1, device=key.device) * GOLDEN & MASK)
    return (scramble(scramble(key)[:, None] ^ places) >> 8).float() / 2**24


def photo(lr: Tensor, clean: Tensor, key: Tensor) -> Tensor:
    """Most patches of `lr` degraded, the others from `clean`: (B, 3, L, L) float32 of whole levels.

    lr: downsampled by various kernels. clean: the same by Pillow's bicubic. key: (B,) int64, from which all random choices
    follow.
    """
    chance = hashed(key, 21)
    out = blurred(lr, chance[:, 0] < BLURRED, SIGMA[0] + (SIGMA[1] - SIGMA[0]) * chance[:, 1]).round()
    out = noisy(out, chance[:, 2] < NOISY, chance[:, 3:6], key)
    out = compressed(out, chance[:, 6] < COMPRESSED, chance[:, 7:13])
    out = compressed(out, chance[:, 13] < TWICE, chance[:, 14:20])
    return torch.where((chance[:, 20] < CLEAN).view(-1, 1, 1, 1), clean, out)
